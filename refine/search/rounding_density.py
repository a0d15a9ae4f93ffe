"""Where in a box rounding acts most.

From one float to the next the error varies as if at random, but how large it gets near a point
varies smoothly: with the magnitudes of the partial sums and with what later layers make of their
errors. Before single ulps are tried, a search had better be where that is large. The density of a
point is the mean error of random neighbours; candidates lie along the derivative of the rounding's
potential, and at random.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from encoders.numbers.enclosure import FloatArray
from refine.bounds.backward import unit_functionals
from refine.search.evaluation import Hunt, Points, element_at
from refine.search.gradients import adjoint, values_at
from refine.search.population import Climbs

NEIGHBOURS = 12
"""Evaluations that the density of one point takes."""

_FRESH = 4  # one place in so many is a random point of the box
_PARENTS = 5  # places from which the next round goes on
_NEARBY = 2.0**-11  # of the width of the box
_PARTS = np.exp2(-np.arange(0.0, 8.0, 2.0))  # of the way to a corner
_TARGETS = 8  # output elements at once
_FINEST = 8.0  # random candidates are 2^-8 of the box away, or more


def densest(
    hunt: Hunt,
    scored: Callable[[Points], Climbs],
    start: Climbs,
    *,
    rng: np.random.Generator,
    places: int,
    rounds: int,
    late: Callable[[], bool],
) -> Climbs:
    """The best points near the densest place found, from `start` and random points, in rounds of
    so many places."""
    tried = _joined([start.points, hunt.box.sample(rng, max(places - len(start), 1))])
    best, nearest, density = start, start, -np.inf
    for _ in range(rounds):
        if late() or best.broken:
            break
        found = scored(_neighbours(hunt, tried, rng))
        levels = found.scores.excess.reshape(-1, NEIGHBOURS).mean(axis=1)
        parents = np.argsort(-levels, kind="stable")[:_PARENTS]
        best = best.joined(found).best(len(start))
        if levels[parents[0]] > density:
            density = float(levels[parents[0]])
            around = np.arange(NEIGHBOURS) + parents[0] * NEIGHBOURS
            nearest = found.at(around).best(len(start))
        element = int(found.scores.place[parents[0] * NEIGHBOURS])
        at = [{name: v[i : i + 1] for name, v in tried.items()} for i in parents]
        fresh = max(places // _FRESH, 1)
        share = max((places - fresh) // (len(at) + 1), 2)
        near = [_around(hunt, x, rng, share) for x in at]
        uphill = _uphill(hunt, at[0], element, rng, share // 2)
        tried = _joined([*near, uphill, hunt.box.sample(rng, fresh)])
    return nearest.joined(best)


def _joined(points: Sequence[Points]) -> dict[str, FloatArray]:
    return {name: np.concatenate([p[name] for p in points]) for name in points[0]}


def _neighbours(hunt: Hunt, points: Points, rng: np.random.Generator) -> dict[str, FloatArray]:
    """`NEIGHBOURS` random points near each."""
    near = {}
    for name, x in points.items():
        width = hunt.box.hi[name] - hunt.box.lo[name]
        every = np.repeat(x, NEIGHBOURS, axis=0)
        near[name] = hunt.box.nearest(
            name, every + _NEARBY * width * rng.uniform(-1.0, 1.0, every.shape)
        )
    return near


def _around(hunt: Hunt, at: Points, rng: np.random.Generator, n: int) -> dict[str, FloatArray]:
    """The point itself, and n − 1 random ones at all distances."""
    tried = {}
    for name, x in at.items():
        rest = (n - 1, *x.shape[1:])
        size = np.exp2(-rng.uniform(0.0, _FINEST, (n - 1, *(1,) * (x.ndim - 1))))
        moved = size * rng.standard_normal(rest) * (rng.random(rest) < 0.5)
        width = hunt.box.hi[name] - hunt.box.lo[name]
        tried[name] = hunt.box.nearest(name, np.concatenate([x, x + width * moved]))
    return tried


def _uphill(
    hunt: Hunt, at: Points, place: int, rng: np.random.Generator, n: int
) -> dict[str, FloatArray]:
    """n points on the way to the corners where the potential of some output elements points."""
    corners = _corners(hunt, at, place, rng)
    count = len(next(iter(corners.values())))
    which = rng.permutation(count * len(_PARTS))[:n]
    tried = {}
    for name, x in at.items():
        parts = _PARTS[which % len(_PARTS)].reshape(-1, *(1,) * (x.ndim - 1))
        tried[name] = hunt.box.nearest(name, x + parts * (corners[name][which // len(_PARTS)] - x))
    return tried


def _corners(hunt: Hunt, at: Points, place: int, rng: np.random.Generator) -> dict[str, FloatArray]:
    """For some elements of one output: the corner to which the derivative of its potential
    Σ |c|·|value| points, c (the derivative by each tensor) held fixed."""
    graph = hunt.graph
    values = values_at(hunt.real_values(at), 0)
    output, element = element_at(graph, place)
    shape, size = graph.types[output].shape, graph.types[output].size
    elements = np.unique([element, *rng.permutation(size)[: _TARGETS - 1]])
    derivative = adjoint(graph, values, {output: unit_functionals(shape, elements)})
    moving = values.keys() - set(graph.inputs)  # an output may be constant
    uphill = adjoint(
        graph,
        values,
        {t: np.abs(c) * np.sign(values[t]) for t, c in derivative.items() if t in moving},
    )
    corners = {}
    for name, x in at.items():
        slope = uphill.get(name, np.zeros((len(elements), *x.shape[1:])))
        lo, hi = hunt.box.lo[name], hunt.box.hi[name]
        corners[name] = np.where(slope > 0, hi, np.where(slope < 0, lo, x))
    return corners
