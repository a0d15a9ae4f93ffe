"""Does a runtime honour a contract on one model? Node by node, on the runtime's own numbers.

Every node is judged on the inputs that the runtime itself gave it, so one fault does not hide the
next. Where the contract pins the bits the emulation must give the same ones; elsewhere the result
must lie within the contract's rounding error of the exact value. So must what the runtime computes
in one step where the file has one node and the graph several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np

from encoders.arithmetic.exact_fields import Balls, enclosure
from encoders.arithmetic.numpy_arithmetic import Carrier
from encoders.contract.contract import (
    BiasPlacement,
    Contraction,
    FactorRounding,
    Normalization,
    OpenSchedule,
    RuntimeContract,
    Subnormals,
)
from encoders.contract.functions import CORRECTLY_ROUNDED
from encoders.numbers.enclosure import FloatArray, point
from encoders.numbers.formats import (
    BFLOAT16,
    BINARY16,
    BINARY32,
    BINARY64,
    FORMAT_OF_DTYPE,
)
from encoders.program import Step, program_of
from encoders.scheduling import contract_at, reduction_at
from gpu_check.conformance.regions import Bound, Region, finite, region_behind
from gpu_check.emulator.emulator import emulate_step, truncates_constants
from gpu_check.emulator.exact import evaluate_exact
from gpu_check.probe.modes import Flushes, probe_flushes, product_bits
from gpu_check.probe.probe import Finding, probe_sums
from gpu_check.probe.probed_contract import FULL_BITS, SHORT_FACTORS, probe_factors
from gpu_check.runtimes.runtimes import RuntimeUnavailable
from gpu_check.runtimes.tensors import Machine, comparable
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Array, DType, Graph, Node


@dataclass(frozen=True)
class Depth:
    """How much is done: on how many samples nodes are evaluated exactly, the multiply-adds of a
    node that still is, whether the schedule of a node that diverges is guessed, and what is said of
    a node that is larger."""

    enclosed: int
    largest: int
    guessing: bool
    limit: str


THOROUGH = Depth(4, 2**18, True, "it is too large to be evaluated exactly")
BRIEF = Depth(1, 2**13, False, "too large for a quick look")


class How(Enum):
    """How a node was judged."""

    BITS = "bit for bit"
    ENCLOSURE = "within its rounding error"
    THROUGH = "compared with what it leads to"
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
    """One node: how it was judged, on how many numbers, and its first divergence if any; `note`
    says why it was not compared, or behind which node it was."""

    node: Node
    how: How
    numbers: int
    divergence: Divergence | None = None
    note: str = ""


@dataclass(frozen=True)
class WrongMode:
    """A field of the contract that small experiments on the runtime refute."""

    field: str
    stated: str
    found: str


@dataclass(frozen=True, repr=False)
class Conformance:
    """The outcome for one runtime, contract and model; `bool()` is true where the contract is
    honoured and something was compared."""

    runtime: str
    contract: RuntimeContract
    samples: int
    nodes: tuple[NodeCheck, ...]
    modes: tuple[WrongMode, ...]

    def __repr__(self) -> str:
        seen = f"{len(self.compared)} of {len(self.nodes)} nodes compared"
        broken = [f"{n.node.describe()} diverges" for n in self.divergences[:1]]
        broken += [f"{m.field} is {m.found}" for m in self.modes]
        answer = "; ".join(broken) or ("honoured" if self else "nothing seen")
        return f"<{self.contract.name} on {self.runtime}: {answer}; {seen}>"

    @property
    def divergences(self) -> tuple[NodeCheck, ...]:
        """Nodes that break the contract, the first in topological order first."""
        return tuple(n for n in self.nodes if n.divergence is not None)

    @property
    def conforms(self) -> bool:
        """Was no number seen that the contract forbids?"""
        return not self.divergences and not self.modes

    def __bool__(self) -> bool:
        return self.conforms and bool(self.compared)

    @property
    def compared(self) -> tuple[NodeCheck, ...]:
        """Nodes that were compared, alone or with what they lead to."""
        return tuple(n for n in self.nodes if n.how is not How.UNSEEN)


def conformance(
    graph: Graph,
    machine: Machine,
    contract: RuntimeContract,
    *,
    samples: Sequence[Mapping[str, Array]],
    tell: Callable[[str], None] = lambda text: None,
    depth: Depth = THOROUGH,
    bound: Bound | None = None,
    seen: Callable[[NodeCheck], None] = lambda check: None,
) -> Conformance:
    """Run the samples (arrays of the inputs' shapes and types) and judge every node on them.

    `seen` is told of every node that has been judged, as far as it alone can be.
    `bound` is needed where several nodes stand between tensors that the runtime shows.
    Raises RuntimeUnavailable if the runtime cannot run the model, UnsupportedModel, naming the
    node, for what has no meaning and so nothing that a runtime could be held to.
    """
    _ = program_of(graph).checked
    tell("probing modes")
    flushes = probe_flushes(machine.kernels)
    modes = [*_wrong_formats(graph, contract), *_wrong_modes(machine, contract, flushes)]
    nodes: tuple[NodeCheck, ...] = ()
    if not any(m.field in ("format", "exact") for m in modes):
        tell("running the samples")
        shown = machine.tensors(samples)
        given = {name: np.stack([s[name] for s in samples]) for name in graph.inputs}
        values = {**given, **shown}
        judge = _Judge(
            graph, machine, contract, flushes=flushes, values=values, depth=depth, bound=bound
        )
        nodes = tuple(judge.checks(tell, seen))
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
        *,
        flushes: Flushes,
        values: Mapping[str, Carrier],
        depth: Depth,
        bound: Bound | None,
    ) -> None:
        self.graph, self.machine, self.contract = graph, machine, contract
        self.flushes, self.depth, self.bound = flushes, depth, bound
        self.absent = machine.kernels.absent
        self.reached: dict[str, str] = {}
        self.shown = frozenset(values)
        self.values = dict(values)

    def checks(
        self, tell: Callable[[str], None], seen: Callable[[NodeCheck], None]
    ) -> Iterator[NodeCheck]:
        found = []
        for step in program_of(self.graph).steps:
            tell(f"comparing {step.node.describe()}")
            found.append(self._check(step))
            seen(found[-1])
        for check in found:
            name = check.node.name
            if check.how is How.UNSEEN and name in self.reached:
                yield replace(check, how=How.THROUGH, note=f"at {self.reached[name]}")
            else:
                yield check

    def _check(self, step: Step) -> NodeCheck:
        known = all(t in self.values for t in step.reads)
        computed = self._computed(step) if known else None
        if computed is not None:
            for t, values in computed.items():
                self.values.setdefault(t, values.astype(self.graph.types[t].dtype.numpy))
        shown = [t for t in step.writes if t in self.shown]
        if not shown:
            return NodeCheck(step.node, How.UNSEEN, 0, note="the runtime does not show it")
        return (
            self._enclosed(step, shown) if computed is None else self._equal(step, shown, computed)
        )

    def _computed(self, step: Step) -> Mapping[str, Carrier] | None:
        """What the contract gives, None where it allows more than one thing."""
        if step.operator.functions and self.contract.functions != CORRECTLY_ROUNDED:
            return None
        try:
            results = emulate_step(step, self.values, self.contract)
        except OpenSchedule:
            return None
        return dict(zip(step.writes, results, strict=True))

    def _equal(
        self, step: Step, shown: Sequence[str], computed: Mapping[str, Carrier]
    ) -> NodeCheck:
        node = step.node
        numbers = sum(self.values[t].size for t in shown)
        if not numbers:
            return NodeCheck(node, How.UNSEEN, 0, note="it gives no numbers")
        regions = [region_behind(self.graph, node, t, self.shown) for t in shown]
        for t, region in zip(shown, regions, strict=True):
            found = _first_difference(computed[t], self.values[t])
            if found is not None and (self._otherwise(region) or self._truncates_operands(region)):
                return self._enclosed(step, shown)
            if found is not None:
                place, expected, given = found
                self._reach(node, regions)
                fields, guess = self._guess(step, computed_at=t)
                divergence = Divergence(place[0], place[1:], given, expected, fields, guess)
                return NodeCheck(node, How.BITS, numbers, divergence)
        self._reach(node, regions)
        return NodeCheck(node, How.BITS, numbers)

    def _otherwise(self, region: Region) -> bool:
        """May it be computed by other formulas than the emulator's, one kernel for many nodes?"""
        steps = region.program.steps
        absent = not self.absent.isdisjoint(step.name for step in steps)
        return absent or any(step.operator.formulas > 1 for step in steps)

    def _truncates_operands(self, region: Region) -> bool:
        """May it be computed with other constants, in float32, than the emulator's?"""
        return any(
            all(t in self.values for t in step.reads)
            and truncates_constants(step, self.values, self.contract)
            for step in region.program.steps
        )

    def _reach(self, node: Node, regions: Sequence[Region]) -> None:
        """What stands before a node that is compared is compared with it."""
        for name in frozenset().union(*(region.inner for region in regions)):
            self.reached.setdefault(name, node.describe())

    def _enclosed(self, step: Step, shown: Sequence[str]) -> NodeCheck:
        """|given − exact| ≤ what the contract allows, for a few samples; from the nearest tensors
        before the node that the runtime shows."""
        node = step.node
        if not all(comparable(self.graph.types[t].dtype) for t in shown):
            return NodeCheck(node, How.UNSEEN, 0, note="indices and truth values are not compared")
        whole = [region_behind(self.graph, node, t, self.shown) for t in shown]
        if sum(region.work for region in whole) > self.depth.largest:
            return NodeCheck(node, How.UNSEEN, 0, note=self.depth.limit)
        if not all(t in self.shown for region in whole for t in region.graph.inputs):
            return NodeCheck(node, How.UNSEEN, 0, note="what it reads is not shown")
        count = min(self.depth.enclosed, len(self.values[shown[0]]))
        numbers, why = 0, "what it reads overflows"
        for k, region in product(range(count), whole):
            held = {t: np.asarray(self.values[t][k], np.float64) for t in region.graph.inputs}
            if not finite(held):
                continue  # an overflow before this node: its own bound speaks of finite inputs
            with np.errstate(all="ignore"):
                radius = self._radius(step, region, held)
            if radius is None or not np.any(np.isfinite(radius)):
                why = "no bound is known of what it is computed with"
                continue
            numbers += int(np.sum(np.isfinite(radius)))
            field = Balls()
            exact = evaluate_exact(region.graph, held, field)[region.output]
            given = np.asarray(self.values[region.output][k], np.float64)
            with field.working():
                found = _first_outside(given, exact, radius)
            if found is not None:
                place, expected, value = found
                self._reach(node, whole)
                fields, guess = self._exceeding(region)
                divergence = Divergence(k, place, value, expected, fields, guess)
                return NodeCheck(node, How.ENCLOSURE, numbers, divergence)
        if not numbers:
            return NodeCheck(node, How.UNSEEN, 0, note=why)
        self._reach(node, whole)
        return NodeCheck(node, How.ENCLOSURE, numbers)

    def _radius(
        self, step: Step, region: Region, held: Mapping[str, FloatArray]
    ) -> FloatArray | None:
        """How far the contract lets the region's output be from its exact value."""
        if region.inner:
            if self.bound is None:
                return None
            try:
                return self.bound(region.graph, held, self.contract)[region.output]
            except UnsupportedModel:
                return None
        operator, site = step.operator, step.site
        ranges = [point(held[t]) for t in step.reads]
        result = operator.values(site, ranges).range
        return operator.rounding(
            site, ranges, result, contract_at(site, self.contract)
        ).radius.bound

    def _exceeding(self, region: Region) -> tuple[tuple[str, ...], str]:
        """The same of a number that lies too far from the exact one."""
        if not self.depth.guessing:
            return (), "not looked for"
        used = dict.fromkeys(f for s in region.program.steps for f in s.operator.functions)
        functions = tuple(f"functions.{f.name}" for f in used)
        with_them = f", with those of {len(region.inner)} nodes before it," if region.inner else ""
        guess = f"its error{with_them} exceeds what the contract allows"
        return functions or ("order", "fma"), guess

    def _guess(self, step: Step, computed_at: str) -> tuple[tuple[str, ...], str]:
        """Which fields would have to change, and how the node seems to be computed."""
        if not self.depth.guessing:
            return (), "not looked for"
        here = contract_at(step.site, self.contract)
        finding = self._finding(step)
        if finding is not None and finding.pinned:
            fields = self._blamed(step, here, finding, computed_at)
            if fields:
                return fields, finding.schedule.describe()
        for field, changed in _repairs(here):
            if self._reproduces(step, changed, computed_at):
                return (field,), f"as with {field} changed: {changed.describe()}"
        if finding is not None and finding.note:
            return ("order",), finding.note
        return (), "no change of one field of the contract reproduces it"

    def _finding(self, step: Step) -> Finding | None:
        if reduction_at(step.site).terms is None:
            return None
        try:
            kernels = self.machine.kernels
            found = probe_sums(
                self.graph,
                kernels,
                self.flushes,
                nodes=(step.node,),
                factors=probe_factors(kernels),
            )
            return next(iter(found), None)
        except RuntimeUnavailable:
            return None

    def _blamed(
        self, step: Step, here: RuntimeContract, finding: Finding, output: str
    ) -> tuple[str, ...]:
        """The fields of the schedule found without which it does not give these numbers."""
        found = finding.schedule
        changed = replace(here, order=found.order, contraction=found.contraction, bias=found.bias)
        if not self._reproduces(step, changed, output):
            return ()
        fields = []
        stated: tuple[tuple[str, dict[str, Any]], ...] = (
            ("bias", {"bias": here.bias}),
            ("order", {"order": here.order}),
            ("fma", {"contraction": here.contraction}),
        )
        for field, kept in stated:
            trial = replace(changed, **kept)
            if self._reproduces(step, trial, output):
                changed = trial
            else:
                fields.append(field)
        return tuple(fields)

    def _reproduces(self, step: Step, contract: RuntimeContract, output: str) -> bool:
        try:
            computed = emulate_step(step, self.values, contract)[step.writes.index(output)]
        except ValueError:
            return False
        return _first_difference(computed, self.values[output]) is None


def _repairs(here: RuntimeContract) -> Iterator[tuple[str, RuntimeContract]]:
    """The contract with one field changed."""
    for contraction in (Contraction.ALWAYS, Contraction.NEVER):
        yield "fma", replace(here, contraction=contraction)
    for formula in (f for f in Normalization if f is not Normalization.EITHER):
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
        try:
            lo, hi = enclosure(exact[place])
        except ValueError:  # there is no exact value here
            continue
        low, high = lo - Fraction(allowed), hi + Fraction(allowed)
        if not np.isfinite(value):
            return place, float(lo), value
        if not low <= Fraction(value) <= high:
            return place, float(low if Fraction(value) < low else high), value
    return None
