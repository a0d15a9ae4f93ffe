"""Does a runtime honour a contract on one model? Node by node, on the runtime's own numbers.

Every node is judged on the inputs that the runtime itself gave it, so one fault does not hide the
next. Where the contract pins the bits the emulation must give the same ones; elsewhere the result
must lie within the contract's rounding error of the exact value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np

from encoders.contract import (
    BiasPlacement,
    Contraction,
    FactorRounding,
    Normalization,
    OpenSchedule,
    RuntimeContract,
    Subnormals,
)
from encoders.enclosure import FloatArray, point
from encoders.exact_fields import Balls, enclosure
from encoders.formats import (
    BFLOAT16,
    BINARY16,
    BINARY32,
    BINARY64,
    FORMAT_OF_DTYPE,
)
from encoders.functions import CORRECTLY_ROUNDED
from encoders.numpy_arithmetic import Carrier
from encoders.operator import site_of
from encoders.registry import lookup
from encoders.scheduling import contract_at, reduction_at
from gpu_check.emulator import emulate_node
from gpu_check.modes import Flushes, probe_flushes, product_bits
from gpu_check.probe import Finding, probe_sums
from gpu_check.probed_contract import FULL_BITS, SHORT_FACTORS, probe_factors
from gpu_check.runtimes import RuntimeUnavailable
from gpu_check.tensors import Machine, comparable
from onnx_import.graph import Array, DType, Graph, Node


@dataclass(frozen=True)
class Depth:
    """How much is done: on how many samples nodes are evaluated exactly, the multiply-adds of a
    node that still is, and whether the schedule of a node that diverges is guessed."""

    enclosed: int
    largest: int
    guessing: bool


THOROUGH = Depth(4, 2**18, True)
BRIEF = Depth(1, 2**13, False)


class How(Enum):
    """How a node was judged."""

    BITS = "bit for bit"
    ENCLOSURE = "within its rounding error"
    UNSEEN = "not compared"


@dataclass(frozen=True)
class Divergence:
    """One number that the contract does not allow: where, what the runtime gave, what the contract
    gives (the emulated number, or the nearest one allowed), which fields of the contract would
    have to change, and what was found out about the node."""

    sample: int
    index: tuple[int, ...]
    given: float
    expected: float
    fields: tuple[str, ...]
    guess: str


@dataclass(frozen=True)
class NodeCheck:
    """One node: how it was judged, on how many numbers, and its first divergence if any."""

    node: Node
    how: How
    numbers: int
    divergence: Divergence | None = None


@dataclass(frozen=True)
class WrongMode:
    """A field of the contract that small experiments on the runtime refute."""

    field: str
    stated: str
    found: str


@dataclass(frozen=True)
class Conformance:
    """The outcome for one runtime, contract and model."""

    runtime: str
    contract: RuntimeContract
    samples: int
    nodes: tuple[NodeCheck, ...]
    modes: tuple[WrongMode, ...]

    @property
    def divergences(self) -> tuple[NodeCheck, ...]:
        """Nodes that break the contract, the first in topological order first."""
        return tuple(n for n in self.nodes if n.divergence is not None)

    @property
    def conforms(self) -> bool:
        return not self.divergences and not self.modes

    @property
    def compared(self) -> bool:
        return any(n.how is not How.UNSEEN for n in self.nodes)


def conformance(
    graph: Graph,
    machine: Machine,
    contract: RuntimeContract,
    samples: Sequence[Mapping[str, Array]],
    tell: Callable[[str], None] = lambda text: None,
    depth: Depth = THOROUGH,
) -> Conformance:
    """Run the samples (arrays of the inputs' shapes and types) and judge every node on them.

    Raises RuntimeUnavailable if the runtime cannot run the model.
    """
    tell("probing modes")
    flushes = probe_flushes(machine.kernels)
    modes = [*_wrong_formats(graph, contract), *_wrong_modes(machine, contract, flushes)]
    nodes: tuple[NodeCheck, ...] = ()
    if not any(m.field in ("format", "exact") for m in modes):
        tell("running the samples")
        shown = machine.tensors(samples)
        given = {name: np.stack([s[name] for s in samples]) for name in graph.inputs}
        judge = _Judge(graph, machine, contract, flushes, {**given, **shown}, depth)
        nodes = tuple(judge.checks(tell))
    return Conformance(machine.describe(), contract, len(samples), nodes, tuple(modes))


def _wrong_formats(graph: Graph, contract: RuntimeContract) -> Iterator[WrongMode]:
    if contract.exact:
        yield WrongMode("exact", "nothing is rounded", "floating-point arithmetic")
    elif contract.compute_format is not None:
        stated = contract.compute_format
        types = {graph.types[t].dtype for node in graph.order for t in node.outputs if t}
        own = sorted(d.value for d in types if d.is_float and FORMAT_OF_DTYPE[d] != stated)
        if own:
            yield WrongMode("format", stated.name, f"the model's own types ({', '.join(own)})")


def _wrong_modes(
    machine: Machine, contract: RuntimeContract, flushes: Flushes
) -> Iterator[WrongMode]:
    for field, stated, found in (
        ("subnormal_results", contract.results, flushes.results),
        ("subnormal_operands", contract.operands, flushes.operands),
    ):
        if stated not in (Subnormals.EITHER, found):
            yield WrongMode(field, stated.value, found.value)
    bits = product_bits(machine.kernels)
    short = contract.shorter_than(DType.FLOAT32)
    expected = FULL_BITS if short is None else short.precision
    whole = bits == FULL_BITS and contract.factor_rounding is FactorRounding.ANY
    if bits != expected and not whole:
        yield WrongMode("factors", _kept(expected), _kept(bits))


def _kept(bits: int) -> str:
    """How many bits the factors of matrix products keep, with the format that has so many."""
    known = f", as in {SHORT_FACTORS[bits].name}" if bits in SHORT_FACTORS else ""
    return f"{bits} bits of each factor{known}"


class _Judge:
    """All nodes of a graph on one batch; `values` holds what the runtime showed."""

    def __init__(
        self,
        graph: Graph,
        machine: Machine,
        contract: RuntimeContract,
        flushes: Flushes,
        values: Mapping[str, Carrier],
        depth: Depth,
    ) -> None:
        self.graph, self.machine, self.contract = graph, machine, contract
        self.flushes, self.depth = flushes, depth
        self.shown = frozenset(values)
        self.values = dict(values)

    def checks(self, tell: Callable[[str], None]) -> Iterator[NodeCheck]:
        for node in self.graph.order:
            tell(f"comparing {node.describe()}")
            yield self._check(node)

    def _check(self, node: Node) -> NodeCheck:
        if not all(t in self.values for t in self._read(node)):
            return NodeCheck(node, How.UNSEEN, 0)
        try:
            computed = emulate_node(self.graph, node, self.values, self.contract)
        except OpenSchedule:
            computed = None
        unpinned = lookup(node).functions and self.contract.functions != CORRECTLY_ROUNDED
        shown = [t for t in node.outputs if t and t in self.shown]
        if computed is not None:
            for t in node.outputs:
                if t:
                    self.values.setdefault(t, computed[t].astype(self.graph.types[t].dtype.numpy))
        if not shown:
            return NodeCheck(node, How.UNSEEN, 0)
        if computed is None or unpinned:
            return self._enclosed(node, shown[0])
        numbers = sum(self.values[t].size for t in shown)
        for t in shown:
            found = _first_difference(computed[t], self.values[t])
            if found is not None:
                place, expected, given = found
                fields, guess = self._guess(node, computed_at=t)
                divergence = Divergence(place[0], place[1:], given, expected, fields, guess)
                return NodeCheck(node, How.BITS, numbers, divergence)
        return NodeCheck(node, How.BITS, numbers)

    def _read(self, node: Node) -> list[str]:
        return [t for t in node.inputs if t and not self.graph.is_constant(t)]

    def _enclosed(self, node: Node, output: str) -> NodeCheck:
        """|given − exact| ≤ the node's rounding error, for a few samples."""
        operator, site = lookup(node), site_of(self.graph, node)
        comparable_type = comparable(self.graph.types[output].dtype)
        if operator.work(site) > self.depth.largest or not comparable_type:
            return NodeCheck(node, How.UNSEEN, 0)
        here, field = contract_at(site, self.contract), Balls()
        reads = self._read(node)
        count = min(self.depth.enclosed, len(self.values[output]))
        numbers = 0
        for k in range(count):
            if not all(np.all(np.isfinite(_wide(self.values[t][k]))) for t in reads):
                continue  # an overflow before this node: its own bound speaks of finite inputs
            numbers += self.values[output][k].size
            held = {t: np.asarray(self.values[t][k], np.float64) for t in reads}
            ranges = [point(held[node.inputs[i]]) for i in site.variable]
            result = operator.values(site, ranges).image
            radius = operator.rounding(site, ranges, result, here).radius
            with field.working():
                arguments = [
                    None
                    if not t
                    else field.constant(self.graph.constants[t] if t not in held else held[t])
                    for t in node.inputs
                ]
                exact = operator.real(site, arguments, field)[0]
                given = np.asarray(self.values[output][k], np.float64)
                found = _first_outside(given, exact, radius)
            if found is not None:
                place, expected, value = found
                fields, guess = self._guess(node, None)
                divergence = Divergence(k, place, value, expected, fields, guess)
                return NodeCheck(node, How.ENCLOSURE, numbers, divergence)
        return NodeCheck(node, How.ENCLOSURE if numbers else How.UNSEEN, numbers)

    def _guess(self, node: Node, computed_at: str | None) -> tuple[tuple[str, ...], str]:
        """Which fields would have to change, and how the node seems to be computed."""
        if not self.depth.guessing:
            return (), "not looked for"
        here = contract_at(site_of(self.graph, node), self.contract)
        if computed_at is None:
            functions = tuple(f"functions.{f.value}" for f in lookup(node).functions)
            return functions or ("order", "fma"), "its error exceeds what the contract allows"
        finding = self._finding(node)
        if finding is not None and finding.pinned:
            fields = self._blamed(node, here, finding, computed_at)
            if fields:
                return fields, finding.schedule.describe()
        for field, changed in _repairs(here):
            if self._reproduces(node, changed, computed_at):
                return (field,), f"as with {field} changed: {changed.describe()}"
        if finding is not None and finding.note:
            return ("order",), finding.note
        return (), "no change of one field of the contract reproduces it"

    def _finding(self, node: Node) -> Finding | None:
        if reduction_at(site_of(self.graph, node)).terms is None:
            return None
        try:
            kernels = self.machine.kernels
            found = probe_sums(
                self.graph, kernels, self.flushes, nodes=(node,), factors=probe_factors(kernels)
            )
            return next(iter(found), None)
        except RuntimeUnavailable:
            return None

    def _blamed(
        self, node: Node, here: RuntimeContract, finding: Finding, output: str
    ) -> tuple[str, ...]:
        """The fields of the schedule found without which it does not give these numbers."""
        found = finding.schedule
        changed = replace(here, order=found.order, contraction=found.contraction, bias=found.bias)
        if not self._reproduces(node, changed, output):
            return ()
        fields = []
        stated: tuple[tuple[str, dict[str, Any]], ...] = (
            ("bias", {"bias": here.bias}),
            ("order", {"order": here.order}),
            ("fma", {"contraction": here.contraction}),
        )
        for field, kept in stated:
            trial = replace(changed, **kept)
            if self._reproduces(node, trial, output):
                changed = trial
            else:
                fields.append(field)
        return tuple(fields)

    def _reproduces(self, node: Node, contract: RuntimeContract, output: str) -> bool:
        try:
            computed = emulate_node(self.graph, node, self.values, contract)[output]
        except ValueError:
            return False
        return _first_difference(computed, self.values[output]) is None


def _repairs(here: RuntimeContract) -> Iterator[tuple[str, RuntimeContract]]:
    """The contract with one field changed."""
    for contraction in (Contraction.ALWAYS, Contraction.NEVER):
        yield "fma", replace(here, contraction=contraction)
    for formula in (Normalization.FOLDED, Normalization.DIRECT):
        yield "normalization", replace(here, normalization=formula)
    for placement in (BiasPlacement.LAST, BiasPlacement.AFTER_FIRST_BLOCK, BiasPlacement.FIRST):
        yield "bias", replace(here, bias=placement)
    for choice in (Subnormals.KEEP, Subnormals.FLUSH):
        yield "subnormal_results", replace(here, results=choice)
        yield "subnormal_operands", replace(here, operands=choice)
    if here.factor_format is not None:
        for rounding in (FactorRounding.NEAREST, FactorRounding.TRUNCATE):
            yield "factor_rounding", replace(here, factor_rounding=rounding)
    for wide in (None, BINARY32, BINARY64):
        yield "accumulation", replace(here, accumulation=wide)
    for short in (None, BINARY16, BFLOAT16):
        yield "weights", replace(here, stored_format=short)


def _wide(values: Carrier) -> Carrier:
    return np.asarray(values, np.float64)


def _first_difference(
    computed: Carrier, given: Carrier
) -> tuple[tuple[int, ...], float, float] | None:
    """The first place where two arrays hold different numbers; NaN equals NaN, −0 equals 0."""
    expected = np.broadcast_to(computed, given.shape)
    wide = [np.asarray(v, np.float64) for v in (expected, given)]
    different = ~((wide[0] == wide[1]) | (np.isnan(wide[0]) & np.isnan(wide[1])))
    if not different.any():
        return None
    place = tuple(int(i) for i in np.argwhere(different)[0])
    return place, float(wide[0][place]), float(wide[1][place])


def _first_outside(
    given: FloatArray, exact: Any, radius: FloatArray
) -> tuple[tuple[int, ...], float, float] | None:
    """The first number that is certainly further than `radius` from the exact one of the sample."""
    for place in np.ndindex(given.shape):
        allowed = float(radius[place])
        if not np.isfinite(allowed):
            continue
        value = float(given[place])
        lo, hi = enclosure(exact[(0, *place)])
        low, high = lo - Fraction(allowed), hi + Fraction(allowed)
        if not np.isfinite(value):
            return place, float(lo), value
        if not low <= Fraction(value) <= high:
            return place, float(low if Fraction(value) < low else high), value
    return None
