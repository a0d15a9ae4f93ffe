"""Inputs at which a network may break down: zero denominators, logarithms of nothing, overflow.

Random inputs miss a breakdown that needs a narrow range of inputs. Its edge can be approached
instead: a `Breakdown` is an element of a tensor and a level; where it crosses that level something
changes (a denominator vanishes, a Relu that was never active becomes active). From the nearest of
the random points the element is driven along its derivative, and a crossing is narrowed down to
neighbouring floats. Float64 and unproved: what comes out are inputs to try.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np

from encoders.numbers.enclosure import FloatArray
from encoders.program import program_of
from onnx_import.graph import Graph
from refine.search.evaluation import Hunt, Points
from refine.search.gradients import adjoint, values_at

_STEPS = 16
_TRIED = np.exp2(-np.arange(14.0))  # parts of the way to a corner
_HALVINGS = 64
_PER_NODE = 8


@dataclass(frozen=True)
class Breakdown:
    """Drive `sign`·tensor[element] up, from the best of the samples and at least until it is
    positive; `across` is a sample where it is so already."""

    tensor: str
    element: int
    sign: float
    nearest: int
    across: int | None

    def height(self, every: Mapping[str, FloatArray]) -> FloatArray:
        """`sign`·tensor[element] at each sample, from the values of every tensor; (samples,)."""
        return self.sign * every[self.tensor].reshape(len(every[self.tensor]), -1)[:, self.element]


def breakdowns(graph: Graph, every: Mapping[str, FloatArray]) -> list[Breakdown]:
    """What has not been crossed in `every` (all tensors of some samples), the likeliest first.

    Breakdowns come before mere turns; among each kind, nodes take turns, and of a node's elements
    those come first that are fewest standard deviations away.
    """
    kinds: list[list[Breakdown]] = []
    steps = program_of(graph).steps
    vanishing = ((s, s.operator.breaks.vanishing) for s in steps)
    growing = ((s, s.operator.breaks.growing) for s in steps)
    turning = ((s, s.operator.breaks.turning) for s in steps)
    for places, large, seen in (
        (vanishing, False, True),
        (growing, True, False),
        (turning, False, False),
    ):
        tensors = dict.fromkeys(s.node.inputs[i] for s, i in places if i is not None)
        found = [
            list(_of_tensor(t, every[t], large, seen))
            for t in tensors
            if t in every and len(every[t]) > 1
        ]
        kinds.append([b for turn in zip_longest(*found) for b in turn if b is not None])
    return [*chain(*kinds)]


def _of_tensor(tensor: str, values: FloatArray, large: bool, seen: bool) -> Iterator[Breakdown]:
    flat = np.nan_to_num(values.reshape(len(values), -1))
    low, high = flat.min(axis=0), flat.max(axis=0)
    spread = flat.std(axis=0) + 2.0**-500
    crossed = (low < 0) & (high > 0)
    distance = -high / spread if large else np.minimum(np.abs(low), np.abs(high)) / spread
    distance = np.where(crossed & (not large), -1.0 if seen else np.inf, distance)
    distance = np.where(low == high, np.inf, distance)
    for i in np.argsort(distance, kind="stable")[:_PER_NODE]:
        if distance[i] == np.inf:
            return
        sign = 1.0 if large or high[i] <= 0 else -1.0
        nearest = int(np.argmax(sign * flat[:, i]))
        if crossed[i] and not large:
            yield Breakdown(
                tensor, int(i), 1.0, int(np.argmin(flat[:, i])), int(np.argmax(flat[:, i]))
            )
        else:
            yield Breakdown(tensor, int(i), sign, nearest, None)


def approach(hunt: Hunt, breakdown: Breakdown, points: Points) -> dict[str, FloatArray]:
    """The inputs passed on the way up, and both sides of the first crossing."""
    at = {name: v[breakdown.nearest : breakdown.nearest + 1] for name, v in points.items()}
    passed: list[Points] = [at]
    if breakdown.across is not None:
        other = {name: v[breakdown.across : breakdown.across + 1] for name, v in points.items()}
        passed += _crossing(hunt, breakdown, at, other)
        return _joined(passed)
    height = float(breakdown.height(hunt.real_values(at))[0])
    for _ in range(_STEPS):
        tried = _towards(hunt, at, _uphill(hunt, breakdown, at))
        heights = breakdown.height(hunt.real_values(tried))
        best = int(np.argmax(np.nan_to_num(heights, nan=-np.inf)))
        if not heights[best] > height:
            break
        reached = {name: v[best : best + 1] for name, v in tried.items()}
        if height <= 0 < heights[best]:
            passed += _crossing(hunt, breakdown, at, reached)
        at, height = reached, float(heights[best])
        passed.append(at)
    return _joined(passed)


def _uphill(hunt: Hunt, breakdown: Breakdown, at: Points) -> dict[str, FloatArray]:
    """The corner of the box that the derivative points to."""
    graph, box = hunt.graph, hunt.box
    start = np.zeros(graph.types[breakdown.tensor].size)
    start[breakdown.element] = breakdown.sign
    start = start.reshape(1, *graph.types[breakdown.tensor].shape)
    slopes = adjoint(graph, values_at(hunt.real_values(at), 0), {breakdown.tensor: start})
    corner = {}
    for name, x in at.items():
        slope = slopes.get(name, np.zeros(x.shape))
        corner[name] = np.where(slope > 0, box.hi[name], np.where(slope < 0, box.lo[name], x))
    return corner


def _towards(hunt: Hunt, at: Points, corner: Points) -> dict[str, FloatArray]:
    tried = {}
    for name, x in at.items():
        part = _TRIED.reshape(-1, *(1,) * (x.ndim - 1))
        tried[name] = hunt.box.nearest(name, x + part * (corner[name] - x))
    return tried


def _crossing(hunt: Hunt, breakdown: Breakdown, below: Points, above: Points) -> list[Points]:
    """The ends of a short stretch between two points on which the height changes its sign."""
    low, high = dict(below), dict(above)
    for _ in range(_HALVINGS):
        middle = {n: hunt.box.nearest(n, 0.5 * low[n] + 0.5 * high[n]) for n in low}
        ends = (low, high)
        if any(all(np.array_equal(middle[n], end[n]) for n in low) for end in ends):
            break
        if breakdown.height(hunt.real_values(middle))[0] > 0:
            high = middle
        else:
            low = middle
    return [low, high]


def _joined(points: Sequence[Points]) -> dict[str, FloatArray]:
    return {name: np.concatenate([p[name] for p in points]) for name in points[0]}
