"""Two traces of one model, tensor by tensor: equal bits, as far apart as is proved possible, or
further.

Each execution is within its bound of the exact values from the numbers that it began with, which
are known. So two executions are no further apart than both bounds and the exact values together.
Besides, each trace is judged on its own numbers, node by node (refine judge), so that a fault is
seen where it happens and not only where it is large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.numbers.enclosure import FloatArray, Interval, add_up, point
from encoders.numbers.formats import round_array
from onnx_import.errors import ModelError, UnsupportedModel
from onnx_import.graph import Array, Graph
from refine.bounds.evaluated import values_at
from refine.bounds.network import InputBox, Known, network_bounds
from refine.everyday.beyond import furthest_beyond
from refine.everyday.judging import Overstep, judge
from refine.traces.recording import Read
from refine.traces.trace import Line, Trace

_FEW = 2**12  # numbers of a graph that are bounded one by one, back to the inputs
_CAST = 1.0 + 2.0**-50  # of a difference that is rounded once
_WHOLE = 2**53  # whole numbers up to which float64 holds every one


class Status(Enum):
    """What is known of one tensor in two traces."""

    EQUAL = "equal bits"
    WITHIN = "within"
    OUTSIDE = "OUTSIDE"
    CARRIED = "outside by what it reads"
    OPEN = "no bound"
    UNSEEN = "no values"


@dataclass(frozen=True)
class Beside:
    """One tensor in both traces. Of the element at `index`, which takes the most of its bound, the
    numbers `first` and `second`, how far they are apart at most or at least (`apart`), how far they
    may be, and the quotient. `alone` are the traces, 0 and 1, that are outside of their own bound
    on their own numbers, with what oversteps it; None where nothing is known."""

    line: Line
    status: Status
    apart: float | None = None
    allowed: float | None = None
    index: tuple[int, ...] = ()
    first: float | None = None
    second: float | None = None
    alone: Mapping[int, Overstep] | None = None

    @property
    def share(self) -> float | None:
        """Which part of the bound is taken; above 1 is outside of it."""
        if self.apart is None or self.allowed is None:
            return None
        if self.apart == 0.0:
            return 0.0
        return self.apart / self.allowed if self.allowed > 0.0 else np.inf


@dataclass(frozen=True)
class Comparison:
    """Two traces, tensor by tensor in the order of the runs and of the model. `unlike` are inputs
    that were not the same; `refused` says why the model has no meaning here, and so no bounds."""

    first: Trace
    second: Trace
    contracts: tuple[RuntimeContract, RuntimeContract] | None
    rows: tuple[Beside, ...]
    unlike: tuple[str, ...]
    refused: str = ""

    @property
    def outside(self) -> tuple[Beside, ...]:
        """What no two executions of the contracts give, the earliest first; what is outside only
        as it reads such numbers is left out."""
        return tuple(r for r in self.rows if r.status is Status.OUTSIDE)

    @property
    def parting(self) -> Beside | None:
        """The first tensor that was computed and has other bits."""
        return next((r for r in self.rows if r.status is not Status.EQUAL), None)

    @property
    def open(self) -> tuple[Beside, ...]:
        """Tensors with other bits of which nothing is known."""
        return tuple(r for r in self.rows if r.status in (Status.OPEN, Status.UNSEEN))

    @property
    def closest(self) -> Beside | None:
        """Of those within their bound, the one that takes the most of it."""
        held = [r for r in self.rows if r.status is Status.WITHIN and r.share is not None]
        return max(held, key=lambda r: r.share or 0.0, default=None)


def compare(
    first: Trace,
    second: Trace,
    read: Read | None,
    contracts: tuple[RuntimeContract, RuntimeContract],
    *,
    tell: Callable[[str], None] = lambda stage: None,
) -> Comparison:
    """`contracts` are those that the first and the second trace are held to; `read` gives the
    model, None where there is none, and then bits alone are compared.

    Raises ModelError for traces that have nothing in common, or are of another model.
    """
    runs = min(first.runs, second.runs)
    rows: list[Beside] = []
    unlike: list[str] = []
    refused = ""
    for run in range(runs):
        tell(f"comparing run {run + 1} of {runs}")
        ours, theirs = first.of(run), second.of(run)
        pairs = {t: (a, theirs[t]) for t, a in ours.items() if t in theirs}
        computed = {t: p for t, p in pairs.items() if not p[0].is_input and not p[1].is_input}
        for t, (a, b) in computed.items():
            if a.shape != b.shape:
                raise ModelError(
                    f"'{t}' has shape {list(a.shape)} in one trace and {list(b.shape)} in the other"
                )
        inputs = {t: p for t, p in pairs.items() if p[0].is_input and p[1].is_input}
        unlike += [
            t
            for t, (a, b) in inputs.items()
            if a.bits != b.bits and t not in unlike and (run == 0 or t not in first.fed)
        ]
        try:
            rows += _of_run(run, (first, second), computed, read, contracts)
        except UnsupportedModel as error:
            refused = str(error)
            rows += _of_run(run, (first, second), computed, None, contracts)
    if not rows:
        raise ModelError("the two traces have no tensor in common")
    known = None if read is None else contracts
    return Comparison(first, second, known, tuple(rows), tuple(unlike), refused)


def _of_run(
    run: int,
    traces: tuple[Trace, Trace],
    pairs: Mapping[str, tuple[Line, Line]],
    read: Read | None,
    contracts: tuple[RuntimeContract, RuntimeContract],
) -> list[Beside]:
    joint: Mapping[str, FloatArray] = {}
    alone: list[Mapping[str, Overstep]] = [{}, {}]
    if read is not None and any(a.bits != b.bits for a, b in pairs.values()):
        given = traces[0].received(run), traces[1].received(run)
        first = read(given[0])
        graphs = first, first if _same(*given) else read(given[1])
        for graph, trace in zip(graphs, traces, strict=True):
            _require_shapes(graph, trace.of(run).values())
        if all(t in x for g, x in zip(graphs, given, strict=True) for t in g.inputs):
            joint = joint_bounds(graphs, given, contracts)
            alone = [
                _oversteps(graphs[k], given[k], [p[k] for p in pairs.values()], contracts[k])
                for k in range(2)
            ]
    rows: list[Beside] = []
    broken = False
    for t, (a, b) in pairs.items():
        row = _beside(t, a, b, joint, alone)
        if row.status is Status.OUTSIDE and broken and not row.alone:
            row = replace(row, status=Status.CARRIED)
        broken |= row.status is Status.OUTSIDE
        rows.append(row)
    return rows


def _same(first: Mapping[str, Array], second: Mapping[str, Array]) -> bool:
    """Were both given the same bits?"""
    return first.keys() == second.keys() and all(
        x.dtype == second[t].dtype and x.tobytes() == second[t].tobytes() for t, x in first.items()
    )


def _require_shapes(graph: Graph, lines: Iterable[Line]) -> None:
    """Raises ModelError where a trace is not of this model."""
    for line in lines:
        kind = graph.types.get(line.tensor)
        if kind is not None and kind.shape != line.shape:
            raise ModelError(
                f"'{line.tensor}' has shape {list(line.shape)} in a trace and {list(kind.shape)} "
                "in the model: is it another one that ran?"
            )


def joint_bounds(
    graphs: tuple[Graph, Graph],
    given: tuple[Mapping[str, Array], Mapping[str, Array]],
    contracts: tuple[RuntimeContract, RuntimeContract],
) -> Mapping[str, FloatArray]:
    """How far two executions may be apart in every tensor, each of its graph, from its inputs,
    under its contract. The graphs differ in the numbers of constants at most. Nothing is known
    where a number that was given is not finite.

    Raises UnsupportedModel, naming the node, for what has no meaning.
    """
    sides: list[tuple[Mapping[str, FloatArray], Mapping[str, Interval]]] = []
    for k, graph in enumerate(graphs):
        box = {t: np.asarray(given[k][t], np.float64) for t in graph.inputs}
        same = graph is graphs[0] and contracts[k] == contracts[0]
        if k == 1 and same and all(np.array_equal(x, given[0][t]) for t, x in box.items()):
            sides.append(sides[0])
            continue
        if not all(np.all(np.isfinite(x)) for x in box.values()):
            return {}
        errors = {}
        for t, x in box.items():
            kind = graph.types[t].dtype
            kept = round_array(x, contracts[k].format_of(kind)) if kind.is_float else x
            errors[t] = np.abs(kept - x) * _CAST
        whole = InputBox({t: point(x) for t, x in box.items()}, errors)
        few = sum(graph.types[t].size for n in graph.order for t in n.outputs if t) <= _FEW
        known = Known(values_at(graph, whole.values), {})
        maps = network_bounds(graph, whole, contracts[k], backward=few, known=known).maps
        sides.append((maps.errors, maps.values))
    (first, here), (second, there) = sides
    found = {}
    with np.errstate(all="ignore"):
        for t in first:
            if t in second and t in here and t in there:
                total = add_up(first[t], second[t])
                if here is not there:
                    total = add_up(total, _furthest(here[t], there[t]))
                total = np.where(np.isnan(total), np.inf, total)
                found[t] = np.broadcast_to(total, graphs[0].types[t].shape)
    return found


def _furthest(a: Interval, b: Interval) -> FloatArray:
    """How far two numbers may be apart, one from each."""
    return np.maximum(np.maximum(add_up(a.hi, -b.lo), add_up(b.hi, -a.lo)), 0.0)


def _oversteps(
    graph: Graph, given: Mapping[str, Array], lines: Sequence[Line], contract: RuntimeContract
) -> Mapping[str, Overstep]:
    """By tensor, what is outside of a contract on the trace's own numbers."""
    shown = {e.tensor: e.values[None] for e in lines if e.values is not None}
    received = {t: given[t][None] for t in graph.inputs}
    judged = judge(graph, received, shown, [contract])
    return {o.tensor: o for j in judged.judgements for o in j.oversteps}


def _beside(
    tensor: str,
    a: Line,
    b: Line,
    joint: Mapping[str, FloatArray],
    alone: Sequence[Mapping[str, Overstep]],
) -> Beside:
    wrong = {k: found[tensor] for k, found in enumerate(alone) if tensor in found}
    if a.bits == b.bits and a.dtype == b.dtype:
        return Beside(a, Status.OUTSIDE if wrong else Status.EQUAL, alone=wrong)
    allowed = joint.get(tensor)
    if a.values is None or b.values is None:
        return _by_ranges(a, b, allowed)
    if not (_held(a.values) and _held(b.values)):
        return Beside(a, Status.OUTSIDE if wrong else Status.OPEN, alone=wrong)
    x, y = a.values.astype(np.float64), b.values.astype(np.float64)
    if np.array_equal(x, y) and not wrong:  # zeros of two signs
        return Beside(a, Status.WITHIN, apart=0.0, allowed=0.0, alone=wrong)
    if allowed is None or not np.any(np.isfinite(allowed)):
        return Beside(a, Status.OUTSIDE if wrong else Status.OPEN, alone=wrong)
    beyond = furthest_beyond(Interval(y, y), allowed, x) or furthest_beyond(
        Interval(x, x), allowed, y
    )
    with np.errstate(all="ignore"):
        apart = np.abs(x - y)
        part = np.where(apart == 0, 0.0, apart / allowed)
        part = np.where(np.isfinite(allowed), np.where(np.isnan(part), np.inf, part), -1.0)
    at = tuple(int(i) for i in np.unravel_index(int(np.argmax(part)), part.shape))
    status = Status.OUTSIDE if beyond is not None or wrong else Status.WITHIN
    if status is Status.WITHIN and np.any(~np.isfinite(allowed) & (x != y)):
        status = Status.OPEN
    return Beside(
        a,
        status,
        apart=float(apart[at]),
        allowed=float(allowed[at]),
        index=at,
        first=float(x[at]),
        second=float(y[at]),
        alone=wrong,
    )


def _held(values: Array) -> bool:
    """Is every number of the array one of float64? Integers beyond 2^53 may not be."""
    if values.dtype.kind not in "iu":
        return True
    return not values.size or (int(np.min(values)) >= -_WHOLE and int(np.max(values)) <= _WHOLE)


def _by_ranges(a: Line, b: Line, allowed: FloatArray | None) -> Beside:
    """Two arrays whose smallest numbers, or largest, are further apart than any two elements may
    be are outside of the bound; no more is known without the numbers."""
    if allowed is None or not np.all(np.isfinite(allowed)) or not allowed.size:
        return Beside(a, Status.UNSEEN)
    most = float(np.max(allowed))
    if (a.nans or a.infinities) or (b.nans or b.infinities):
        return Beside(a, Status.OUTSIDE, apart=np.inf, allowed=most)
    ends = ((a.low, b.low), (a.high, b.high))
    least = [abs(x - y) / _CAST for x, y in ends if x is not None and y is not None]
    if least and max(least) > most:
        return Beside(a, Status.OUTSIDE, apart=max(least), allowed=most)
    return Beside(a, Status.UNSEEN, allowed=most)
