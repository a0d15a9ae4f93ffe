"""Gaps between two formulas of one number: bounded together, where apart each would be relaxed.

A tanh form beside an erf form of Gelu differ by far less than either bends. Where a gap is a scalar
formula of one tensor, element by element, it is expanded around the middle of each of many small
intervals, as a power series over balls whose last coefficient holds over the whole interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import flint
import numpy as np

from encoders.arithmetic.exact_fields import object_array
from encoders.arithmetic.series_field import SeriesField
from encoders.contract.presets import EXACT
from encoders.functions.accuracy import Transcendental
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.program import Step, program_of
from gpu_check.emulator.exact import evaluate_real
from onnx_import.graph import Graph, build_graph
from onnx_import.passes.normalize import without_dead
from refine.bounds.joint.finding import is_scalar
from refine.bounds.network import InputBox, network_bounds
from refine.pair.joined import Joined

_ORDER = 5  # of the series, the last coefficient included
_CELLS = 512
_MOST = 6  # largest exponent of a range [-2^k, 2^k] that is looked at


@dataclass(frozen=True)
class Curve:
    """A gap and the tensor that it is a formula of; the formula as a graph of one number."""

    gap: str
    of: str
    graph: Graph


def has_curves(both: Joined) -> bool:
    """Is some gap a formula of one number that has a power series?"""
    return any(both.once(_Cells(curve.gap, 0)) is not None for curve in both.once(_curves))


def gap_ranges(
    both: Joined, graph: Graph, box: InputBox, tick: Callable[[], None]
) -> Mapping[str, Interval]:
    """Ranges of gaps over a box, where they are formulas of one number. `graph` is that of `both`,
    as it is bounded."""
    curves = both.once(_curves)
    if not curves or all(np.array_equal(x.lo, x.hi) for x in box.values.values()):
        return {}
    part = _part(graph, tuple(dict.fromkeys(c.of for c in curves)))
    values = network_bounds(part, box, EXACT, tick=tick).maps.values
    found: dict[str, Interval] = {}
    for curve in curves:
        x = values[curve.of]
        largest = float(np.max(x.magnitude, initial=0.0))
        exponent = int(np.ceil(np.log2(max(largest, 0.5)))) if np.isfinite(largest) else _MOST + 1
        if exponent > _MOST:
            continue
        cells = both.once(_Cells(curve.gap, exponent))
        if cells is not None:
            most = _over(cells, 2.0**exponent, x)
            most = most.reshape(graph.types[curve.gap].shape)
            found[curve.gap] = Interval(-most, most)
    return found


@dataclass(frozen=True)
class _Cells:
    """Bounds on the magnitude of a gap over equal parts of [-2^k, 2^k]; None where its formula has
    no power series."""

    gap: str
    exponent: int

    def __call__(self, both: Joined) -> FloatArray | None:
        (curve,) = (c for c in both.once(_curves) if c.gap == self.gap)
        edge = 2.0**self.exponent
        width = edge / _CELLS  # half that of a cell: exact
        middles = np.asarray(-edge + width * (2 * np.arange(_CELLS) + 1), np.float64)
        try:
            return _bounded(curve, middles, width)
        except (Transcendental, ArithmeticError, TypeError, ValueError):
            return None


def _bounded(curve: Curve, middles: FloatArray, width: float) -> FloatArray:
    half, ends = flint.arb(width), flint.arb(0, width)
    at = [_series(curve.graph, [flint.arb(m) for m in middles])]
    at.append(_series(curve.graph, [flint.arb(m) + ends for m in middles]))
    most = np.zeros(len(middles))
    for k, (point, whole) in enumerate(zip(*at, strict=True)):
        total = abs(whole[_ORDER - 1]) * half ** (_ORDER - 1)
        for power in range(_ORDER - 1):
            total = total + abs(point[power]) * half**power
        most[k] = float(total.upper()) * (1 + 2.0**-40)
    return np.where(np.isfinite(most), most, np.inf)


def _series(graph: Graph, middles: list[flint.arb]) -> list[flint.arb_series]:
    """The gap around each number, as a power series."""
    shape = graph.types[graph.inputs[0]].shape
    field = SeriesField(_ORDER)
    numbers = [field.around(m) for m in middles]
    given = object_array(numbers, (len(middles), *shape))
    made = evaluate_real(graph, {graph.inputs[0]: given}, field)[graph.outputs[0]]
    return [flint.arb_series(v, prec=_ORDER) for v in made.ravel().tolist()]


def _over(cells: FloatArray, edge: float, x: Interval) -> FloatArray:
    """The largest bound of the cells that each range of x touches."""
    count = len(cells)
    scale = count / (2.0 * edge)
    first = np.clip(np.floor((x.lo + edge) * scale) - 1, 0, count - 1).astype(np.intp)
    last = np.clip(np.ceil((x.hi + edge) * scale) + 1, 0, count - 1).astype(np.intp)
    most = [np.max(cells[a : b + 1]) for a, b in zip(first.ravel(), last.ravel(), strict=True)]
    return np.array(most, np.float64).reshape(x.lo.shape)


def _curves(both: Joined) -> tuple[Curve, ...]:
    found = (_curve(both.graph, change.gap) for change in both.changes)
    return tuple(c for c in found if c is not None)


def _curve(graph: Graph, gap: str) -> Curve | None:
    """The formula back to the one tensor that a gap comes of, element by element."""
    program = program_of(graph)
    place = {t: i for i, s in enumerate(program.steps) for t in s.writes}
    fixed = _fixed(graph)
    open_ends, names = {gap}, list[str]()
    while not names or len(open_ends) > 1:
        tensor = max(open_ends, key=lambda t: place.get(t, -1))
        step = program.writers.get(tensor)
        if step is None or not (is_scalar(step, graph, fixed) or _reshapes(step)):
            return None
        names.append(step.name)
        names += (name for t in step.reads for name in fixed.get(t, ()))
        open_ends = (open_ends - {tensor}) | {t for t in step.reads if t not in fixed}
    (of,) = open_ends
    if any(not graph.types[t].dtype.is_float for t in (gap, of)):
        return None
    nodes = tuple(
        replace(n, op="Identity", inputs=n.inputs[:1], attributes={})
        if _reshapes(program.step(n))
        else n
        for n in graph.order
        if n.name in names
    )
    touched = {t for n in nodes for t in (*n.inputs, *n.outputs) if t and not graph.is_constant(t)}
    one = (1,) * max(len(graph.types[t].shape) for t in touched)
    types = {
        t: graph.types[t] if t in fixed else replace(graph.types[t], shape=one) for t in touched
    }
    constants = {t: graph.constants[t] for n in nodes for t in n.inputs if graph.is_constant(t)}
    types |= {t: graph.types[t] for t in constants}
    return Curve(gap, of, build_graph(nodes, types, constants, inputs=(of,), outputs=(gap,)))


def _fixed(graph: Graph) -> Mapping[str, tuple[str, ...]]:
    """Numbers that are computed of constants alone, and the nodes that compute each."""
    found: dict[str, tuple[str, ...]] = {}
    for step in program_of(graph).steps:
        small = all(kind.size == 1 for kind in step.site.outputs)
        if small and all(t in found for t in step.reads):
            before = dict.fromkeys(name for t in step.reads for name in found[t])
            found |= dict.fromkeys(step.writes, (*before, step.name))
    return found


def _reshapes(step: Step) -> bool:
    return step.operator.likeness.reshapes and step.site.variable == (0,)


def _part(graph: Graph, ends: tuple[str, ...]) -> Graph:
    """The graph as far as some of its tensors."""
    nodes = without_dead(graph.order, ends)
    return build_graph(nodes, graph.types, graph.constants, inputs=graph.inputs, outputs=ends)
