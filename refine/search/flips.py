"""Inputs on both sides of a jump: a threshold, a grid, a change of which element is the largest.

A jump is decided otherwise at run time than over the reals in a stretch of a few floats, which
random inputs miss. It is looked at directly: between two inputs with different outcomes the line is
halved until the outcome changes between neighbours, and floats at all distances from there are
tried. Float64 and unproved: what comes out are inputs to try.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from encoders.numbers.enclosure import FloatArray
from encoders.program import Step, arguments, program_of
from encoders.traits import Discontinuity
from onnx_import.graph import Graph
from refine.search.evaluation import Hunt, Points
from refine.search.gradients import adjoint, values_at

Values = Mapping[str, FloatArray]

HALVINGS = 56
"""Evaluations over the reals that looking at one jump takes."""

_ALONG = np.exp2(-np.arange(2.0, 54.0, 2.0))  # parts of the line
_ULPS = np.array([1.0, 2.0, 3.0, 5.0, 8.0])
_NEARBY = 24
_REACHES = np.exp2(-np.arange(0.0, 12.0))  # parts of the way to a corner

AROUND = 2 * (1 + len(_ALONG) + len(_ULPS)) + _NEARBY
"""Inputs tried around one jump."""


@dataclass(frozen=True)
class Jump:
    """One element of what a discontinuous node decides; `below` and `above` are samples that
    it parts."""

    step: Step
    element: int
    below: int
    above: int


def jumping(graph: Graph) -> tuple[Step, ...]:
    """The nodes of a graph whose results jump as computed numbers move."""
    floats = {t for t, kind in graph.types.items() if kind.dtype.is_float}
    return tuple(
        step
        for step in program_of(graph).steps
        if not floats.isdisjoint(step.reads)
        and (step.operator.jump is not None or not floats.issuperset(step.writes))
    )


def _read(step: Step, every: Values) -> list[FloatArray]:
    """What the node reads, (samples, *shape) each."""
    found = arguments(step, every, lambda stored, _: np.asarray(stored, np.float64)[None])
    return [np.asarray(v, np.float64) for v in found if v is not None]


def outcomes(step: Step, every: Values) -> FloatArray:
    """What the node decides, (samples, elements): numbers that change where its result jumps."""
    if step.operator.jump is Discontinuity.COMPARISON:
        a, b = _read(step, every)
        rank = max(a.ndim, b.ndim)
        a, b = (v.reshape(v.shape[0], *(1,) * (rank - v.ndim), *v.shape[1:]) for v in (a, b))
        decided = np.sign(a - b)
    elif step.operator.jump is Discontinuity.OWN_GRID:
        x, *_ = _read(step, every)
        axes = tuple(range(1, x.ndim))
        low = np.minimum(np.min(x, axis=axes, keepdims=True), 0.0)
        width = np.maximum(np.max(x, axis=axes, keepdims=True), 0.0) - low
        scale = np.where(width > 0, width / 255.0, 1.0)
        decided = np.rint(x / scale) + np.rint(-low / scale)
    else:
        decided = np.asarray(every[step.output], np.float64)
    return np.nan_to_num(decided.reshape(len(decided), -1))


def jumps(hunt: Hunt, sample: Points, rng: np.random.Generator, most: int) -> list[Jump]:
    """Jumps that random pairs of the samples lie on either side of, nodes taking turns."""
    every = hunt.real_values(sample)
    turns: list[list[Jump]] = []
    for step in jumping(hunt.graph):
        decided = outcomes(step, every)
        if len(decided) < 2:
            continue
        live = np.flatnonzero(np.any(decided != decided[:1], axis=0))
        some = rng.permutation(live)[:most]
        found = []
        for k in range(most if len(some) else 0):
            column = decided[:, some[k % len(some)]]
            below = int(rng.integers(len(column)))
            others = np.flatnonzero(column != column[below])
            found.append(Jump(step, int(some[k % len(some)]), below, int(rng.choice(others))))
        turns.append(found)
    return [turn[k] for k in range(most) for turn in turns if k < len(turn)][:most]


def beyond(hunt: Hunt, sample: Points, most: int) -> dict[str, FloatArray]:
    """Inputs driven towards jumps that no sample crosses: the two sides of a comparison, or the two
    largest elements of an axis, are brought together along their derivative."""
    graph, every = hunt.graph, hunt.real_values(sample)
    driven: list[Points] = []
    for step in jumping(graph):
        pairs = _apart(graph, step, every)
        for at, starts in pairs[: max(most - len(driven), 0)]:
            x = {name: v[at : at + 1] for name, v in sample.items()}
            slopes = adjoint(graph, values_at(hunt.real_values(x), 0), starts)
            driven.append(_towards(hunt, x, slopes))
    if not driven:
        return {name: v[:0] for name, v in sample.items()}
    return {name: np.concatenate([d[name] for d in driven]) for name in sample}


def _apart(graph: Graph, step: Step, every: Values) -> list[tuple[int, dict[str, FloatArray]]]:
    """For elements that no sample parts: the nearest sample, and the functional to drive up."""
    found: list[tuple[int, dict[str, FloatArray]]] = []
    node, jump, decided = step.node, step.operator.jump, outcomes(step, every)
    same = np.flatnonzero(np.all(decided == decided[:1], axis=0))[:4]
    if jump is Discontinuity.COMPARISON and len(same):
        a, b = _read(step, every)
        shape = graph.types[node.outputs[0]].shape
        gap = np.broadcast_to(a - b, (len(decided), *shape)).reshape(len(decided), -1)
        for element in same:
            nearest = int(np.argmin(np.abs(gap[:, element])))
            up = -1.0 if gap[nearest, element] > 0 else 1.0
            starts: dict[str, FloatArray] = {}
            for tensor, sign in zip(node.inputs[:2], (up, -up), strict=True):
                if not graph.is_constant(tensor):
                    own = graph.types[tensor].shape
                    place = np.broadcast_to(
                        np.arange(int(np.prod(own))).reshape(own), shape
                    ).reshape(-1)[element]
                    start = starts.setdefault(tensor, np.zeros((1, *own)))
                    start.reshape(-1)[place] += sign
            found.append((nearest, starts))
    elif jump in (Discontinuity.LARGEST, Discontinuity.SMALLEST) and len(same):
        sign = 1.0 if jump is Discontinuity.LARGEST else -1.0
        tensor = node.inputs[0]
        own = graph.types[tensor].shape
        flat = every[tensor].reshape(len(decided), -1) * sign
        axis = step.site.integer("axis", 0)
        rows = np.moveaxis(np.arange(flat.shape[1]).reshape(own), axis, -1)
        rows = rows.reshape(-1, rows.shape[-1])
        for element in same:
            values = flat[:, rows[element]]
            order = np.sort(values, axis=1)
            nearest = int(np.argmin(order[:, -1] - order[:, -2])) if rows.shape[1] > 1 else 0
            ranked = rows[element][np.argsort(values[nearest])]
            for rival in ranked[-3:-1]:
                start = np.zeros((1, *own))
                start.reshape(-1)[rival] = sign
                start.reshape(-1)[ranked[-1]] -= sign
                found.append((nearest, {tensor: start}))
    elif jump is Discontinuity.STEP:
        tensor = node.inputs[0]
        if graph.is_constant(tensor):
            return found
        flat = every[tensor].reshape(len(decided), -1)
        for element in same:
            for sign in (1.0, -1.0):
                start = np.zeros((1, *graph.types[tensor].shape))
                start.reshape(-1)[element] = sign
                found.append((int(np.argmax(sign * flat[:, element])), {tensor: start}))
    return found


def _towards(hunt: Hunt, x: Points, slopes: Values) -> dict[str, FloatArray]:
    """x, and inputs on the way to the corner where the functional is largest."""
    moved = {}
    for name, value in x.items():
        slope = slopes.get(name, np.zeros(value.shape))
        lo, hi = hunt.box.lo[name], hunt.box.hi[name]
        corner = np.where(slope > 0, hi, np.where(slope < 0, lo, value))
        part = np.concatenate([[0.0], _REACHES]).reshape(-1, *(1,) * (value.ndim - 1))
        moved[name] = hunt.box.nearest(name, value + part * (corner - value))
    return moved


def around(
    hunt: Hunt, found: list[Jump], sample: Points, rng: np.random.Generator
) -> dict[str, FloatArray]:
    """`AROUND` inputs at and near the place where each jump is crossed."""
    low = {name: v[[s.below for s in found]] for name, v in sample.items()}
    high = {name: v[[s.above for s in found]] for name, v in sample.items()}
    rows = np.arange(len(found))
    kept = _decided(hunt, found, low)[rows]
    first, width = np.zeros(len(found)), np.ones(len(found))

    def line(part: FloatArray) -> dict[str, FloatArray]:
        made = {}
        for name, a in low.items():
            share = part.reshape(-1, *(1,) * (a.ndim - 1))
            made[name] = hunt.box.nearest(name, a + share * (high[name] - a))
        return made

    for _ in range(HALVINGS):
        width *= 0.5
        same = _decided(hunt, found, line(first + width)) == kept
        first = np.where(same, first + width, first)
    ends = (first, first + width)
    tried = [line(np.clip(e, 0.0, 1.0)) for e in ends]
    for part in _ALONG:
        tried += [line(np.clip(first + s * part, 0.0, 1.0)) for s in (1.0, -1.0)]
    at = line(np.clip(ends[1], 0.0, 1.0))
    for ulps in (*_ULPS, *-_ULPS):
        tried.append(_moved(hunt, at, {n: np.full(v.shape, ulps) for n, v in at.items()}))
    for _ in range(_NEARBY):
        noise = {}
        for n, v in at.items():
            chosen = rng.random(v.shape) < rng.uniform(0.05, 1.0)
            noise[n] = np.where(chosen, rng.integers(-6, 7, v.shape), 0).astype(np.float64)
        tried.append(_moved(hunt, at, noise))
    return {name: np.concatenate([t[name] for t in tried]) for name in low}


def _decided(hunt: Hunt, found: list[Jump], points: Points) -> FloatArray:
    """The outcome of jump i at point i."""
    every = hunt.real_values(points)
    result = np.zeros(len(found))
    nodes: dict[str, npt.NDArray[np.intp]] = {}
    for k, jump in enumerate(found):
        nodes.setdefault(jump.step.name, np.zeros(0, np.intp))
        nodes[jump.step.name] = np.append(nodes[jump.step.name], k)
    for which in nodes.values():
        decided = outcomes(found[which[0]].step, every)
        elements = np.array([found[k].element for k in which])
        result[which] = decided[which, elements] if len(decided) > 1 else decided[0, elements]
    return result


def _moved(hunt: Hunt, at: Points, ulps: Values) -> dict[str, FloatArray]:
    """The points moved by so many ulps in each element."""
    moved = {}
    for name, x in at.items():
        unit = 2.0 * float(hunt.box.formats[name].unit_roundoff)
        moved[name] = hunt.box.nearest(name, x + ulps[name] * unit * np.abs(x))
    return moved
