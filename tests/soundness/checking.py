"""Bounds held against executions: exact comparisons that give sentences about what is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
from executions import Exact, Machine, Overflow, outcomes

from encoders.contract.contract import RuntimeContract
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import FloatFormat, is_representable
from gpu_check.emulator.emulator import emulate
from onnx_import.graph import Graph, Node
from refine.bounds.network import InputBox, NetworkBounds, network_bounds

EXECUTIONS = 24  # kept per input and tensor; beyond that the extremes and an even choice
Point = dict[str, Any]


@dataclass
class Findings:
    """What a check found: failures, how tight each finite bound was, overflows that happened."""

    failures: list[str] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    overflows: int = 0
    executions: int = 0


def input_box(graph: Graph, lo: Any, hi: Any) -> InputBox:
    """One range, broadcast, for all graph inputs; the runtime gets the same numbers."""

    def full(tensor: str, value: Any) -> Any:
        return np.broadcast_to(np.asarray(value, np.float64), graph.types[tensor].shape).copy()

    return InputBox(
        {t: Interval(full(t, lo), full(t, hi)) for t in graph.inputs},
        {t: np.zeros(graph.types[t].shape) for t in graph.inputs},
    )


def representable(fmt: FloatFormat, lo: float, hi: float) -> list[float]:
    """Every number of a small format from lo to hi."""
    step = fmt.smallest_subnormal
    found, at = [], Fraction(lo)
    while at <= hi:
        if is_representable(at, fmt):
            found.append(float(at))
        at += step
    return found


def every_point(graph: Graph, box: InputBox, fmt: FloatFormat) -> Iterator[Point]:
    """Every input that the runtime can receive."""
    places = [(t, at) for t in graph.inputs for at in np.ndindex(*graph.types[t].shape)]
    choices = [
        representable(fmt, float(box.values[t].lo[at]), float(box.values[t].hi[at]))
        for t, at in places
    ]
    for chosen in product(*choices):
        point = {t: np.empty(graph.types[t].shape, dtype=object) for t in graph.inputs}
        for (t, at), value in zip(places, chosen, strict=True):
            point[t][at] = value
        yield point


def exact_values(graph: Graph, point: Point) -> Point:
    """The real value of every tensor, by the second reading of the operators."""
    tensors = {t: _fractions(v) for t, v in point.items()}
    for node in graph.order:
        found = outcomes(Exact(), graph, node, tensors)
        tensors[node.outputs[0]] = _mapped(lambda o: o[0], found)
    return tensors


class Judge:
    """Bounds of one network as exact numbers, and what breaks them."""

    def __init__(self, graph: Graph, bounds: NetworkBounds, label: str) -> None:
        self.graph, self.label = graph, label
        self.errors = {t: _limits(e) for t, e in bounds.maps.errors.items()}
        self.lows = {t: _limits(v.lo) for t, v in bounds.maps.values.items()}
        self.highs = {t: _limits(v.hi) for t, v in bounds.maps.values.items()}
        self.local = {n.node.name: _limits(n.rounding.radius.bound) for n in bounds.nodes}
        self.worst: dict[str, Any] = {}
        self.found = Findings()

    def fail(self, what: str) -> None:
        if len(self.found.failures) < 5:
            self.found.failures.append(f"{self.label}: {what}")

    def reals(self, exact: Point) -> None:
        """Exact real values lie in their ranges."""
        for tensor, values in exact.items():
            inside = (self.lows[tensor] <= values) & (values <= self.highs[tensor])
            if not np.all(inside):
                at = tuple(np.argwhere(~inside.astype(bool))[0])
                self.fail(f"real {tensor}{at} = {float(values[at])!r} outside its range")

    def error(self, tensor: str, exact: Any, computed: Any, context: object = "") -> None:
        """|computed − exact| within the tensor's budget."""
        error = abs(_fractions(computed) - exact)
        worst = self.worst.get(tensor)
        self.worst[tensor] = error if worst is None else np.maximum(worst, error)
        self._within(f"error of {tensor}", error, self.errors[tensor], context)

    def node(self, name: str, exact: Any, computed: Any, context: object = "") -> None:
        """|computed − f(x̂)| within the node's own rounding bound."""
        error = abs(_fractions(computed) - exact)
        self._within(f"rounding of {name}", error, self.local[name], context)

    def overflow(self, tensor: str) -> None:
        """An execution left the finite numbers here, which a finite bound excludes."""
        self.found.overflows += 1
        if np.all(np.isfinite(self.errors[tensor].astype(np.float64))):
            self.fail(f"overflow at {tensor} under a finite bound")

    def _within(self, what: str, error: Any, limit: Any, context: object) -> None:
        broken = (error > limit).astype(bool)
        if np.any(broken):
            at = tuple(np.argwhere(broken)[0])
            self.fail(
                f"{what}{at} is {float(error[at])!r}, more than {float(limit[at])!r} {context}"
            )

    def finish(self) -> Findings:
        """The findings, with the ratio of the largest bound to the largest error per output."""
        for tensor in self.graph.outputs:
            if tensor in self.worst:
                largest = float(np.max(self.errors[tensor]))
                seen = float(np.max(self.worst[tensor]))
                self.found.ratios[tensor] = (
                    largest / seen if seen else (math.inf if largest else 1.0)
                )
        return self.found


def check_every_execution(
    graph: Graph,
    bounds: NetworkBounds,
    contract: RuntimeContract,
    points: Sequence[tuple[Point, Point]],
    label: str,
    judged: Callable[[Graph, NetworkBounds, str], Judge] = Judge,
) -> Findings:
    """All executions of an any-order contract, on (input, exact values of all tensors)."""
    judge, machine = judged(graph, bounds, label), Machine(contract)
    known: dict[Any, Any] = {}
    for point, exact in points:
        judge.reals(exact)
        _follow(judge, machine, point, exact, known)
    return judge.finish()


def _follow(
    judge: Judge, machine: Machine, point: Point, exact: Point, known: dict[Any, Any]
) -> None:
    """One input: node by node, all executions so far side by side."""
    environments = [point]
    for node in judge.graph.order:
        tensor = node.outputs[0]
        grown = []
        reached: list[Any] = []
        for environment in environments:
            held = {t: environment[t] for t in node.inputs if t in environment}
            key = (node.name, *(tuple(v.ravel()) for v in held.values()))
            if key not in known:
                known[key] = _judged_node(judge, machine, node, held)
            found = known[key]
            if found is None:
                judge.overflow(tensor)
                continue
            reached += [_mapped(lambda o: o[0], found), _mapped(lambda o: o[-1], found)]
            grown += [{**environment, tensor: v} for v in _choices(found)]
        if reached:
            for extreme in (np.minimum.reduce(reached), np.maximum.reduce(reached)):
                judge.error(tensor, exact[tensor], extreme, point)
        environments = grown[:: -(-len(grown) // (2 * EXECUTIONS)) or 1]
    judge.found.executions += len(environments)


def _judged_node(judge: Judge, machine: Machine, node: Node, held: Point) -> Any:
    """All outcomes of a node on run-time inputs, held to its rounding bound; None: overflow."""
    try:
        found = outcomes(machine, judge.graph, node, held)
    except Overflow:
        return None
    real = {t: _fractions(v) for t, v in held.items()}
    ideal = _mapped(lambda o: o[0], outcomes(Exact(), judge.graph, node, real))
    for end in (0, -1):
        judge.node(node.name, ideal, _mapped(lambda o, end=end: o[end], found), held)
    return found


def _choices(found: Any) -> list[Any]:
    """Tensors made of one outcome per element: all, or the extremes and a few in between."""
    flat = found.ravel().tolist()
    total = math.prod(len(o) for o in flat)
    if total <= EXECUTIONS:
        picks = list(product(*flat))
    else:
        picks = [tuple(o[0] for o in flat), tuple(o[-1] for o in flat)]
        picks += [
            tuple(o[-((i >> (k % 16)) & 1)] for k, o in enumerate(flat)) for i in range(1, 12)
        ]
    return [_object_array(p, found.shape) for p in dict.fromkeys(picks)]


def check_emulated(
    graph: Graph,
    bounds: NetworkBounds,
    pinned: RuntimeContract,
    points: Sequence[tuple[Point, Point]],
    label: str,
    carrier: Any = np.float64,
    judged: Callable[[Graph, NetworkBounds, str], Judge] = Judge,
) -> Findings:
    """The emulator's execution of a pinned contract, on (input, exact values of all tensors)."""
    judge = judged(graph, bounds, label)
    stacked = {
        t: np.stack([p[t].astype(np.float64) for p, _ in points]).astype(carrier)
        for t in graph.inputs
    }
    computed = emulate(graph, stacked, pinned, every_tensor=True)
    for i, (point, exact) in enumerate(points):
        judge.reals(exact)
        finite = True
        for node in graph.order:
            tensor = node.outputs[0]
            value = np.asarray(computed[tensor][i]).astype(np.float64)
            finite = finite and bool(np.all(np.isfinite(value)))
            if not finite:
                if np.all(np.isfinite(judge.errors[tensor].astype(np.float64))) and not np.all(
                    np.isfinite(value)
                ):
                    judge.overflow(tensor)
                continue
            judge.error(tensor, exact[tensor], value, point)
    judge.found.executions += len(points)
    return judge.finish()


def bounds_of(
    graph: Graph, box: InputBox, contract: RuntimeContract, backward: bool = True
) -> NetworkBounds:
    return network_bounds(graph, box, contract, backward=backward)


def merged(findings: Mapping[str, Findings]) -> list[str]:
    """All failures."""
    return [failure for found in findings.values() for failure in found.failures]


def _limits(values: Any) -> Any:
    """Float64 bounds as exact numbers; infinities stay floats, which compare with fractions."""
    flat = np.asarray(values, np.float64)
    return _object_array(
        (Fraction(v) if math.isfinite(v) else v for v in flat.ravel().tolist()), flat.shape
    )


def _fractions(values: Any) -> Any:
    array = np.asarray(values)
    return _object_array((Fraction(v) for v in array.ravel().tolist()), array.shape)


def _mapped(f: Any, array: Any) -> Any:
    return _object_array((f(v) for v in array.ravel()), array.shape)


def _object_array(items: Any, shape: tuple[int, ...]) -> Any:
    array = np.empty(shape, dtype=object)
    flat = array.reshape(-1)
    for i, item in enumerate(items):
        flat[i] = item
    return array
