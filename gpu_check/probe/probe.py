"""What one runtime does with the nodes of one graph, found out by running them.

For every sum: the tree is revealed at the node's own shape from chosen inputs, then the schedule is
the first candidate whose emulation reproduces the runtime bit for bit on random inputs, with random
weights and with the model's own. What no candidate reproduces stays open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt

from encoders.contract.contract import (
    AnyOrder,
    BiasPlacement,
    Contraction,
    FactorRounding,
    OpenSchedule,
    Order,
    Reduction,
    RuntimeContract,
    Schedule,
    Sequential,
)
from encoders.contract.orders import named_order
from encoders.contract.presets import IEEE_ANY
from encoders.numbers.formats import FloatFormat
from encoders.program import Step, program_of
from encoders.scheduling import reduction_at
from gpu_check.emulator.emulator import emulate_step
from gpu_check.emulator.terms import NoTerms, sums_of, terms_of
from gpu_check.probe.modes import Flushes
from gpu_check.probe.reveal import NotATree, revealed
from gpu_check.runtimes.kernels import Kernels, Run
from gpu_check.runtimes.ort_server import placed as at_boundary
from gpu_check.runtimes.runtimes import RuntimeUnavailable
from onnx_import.graph import Array, DType, Graph, Node

FloatArray = npt.NDArray[np.float64]

OPEN = Schedule(IEEE_ANY.order, IEEE_ANY.contraction, IEEE_ANY.bias)
_ALIGNMENT = 23  # bits, of every tensor core that is known


@dataclass(frozen=True)
class Factors:
    """What a runtime leaves of the factors of matrix products: the format, None for all."""

    format: FloatFormat | None = None
    rounding: FactorRounding = FactorRounding.ANY

    @property
    def open(self) -> Schedule:
        """What is allowed where no schedule was found; short factors may meet tensor cores."""
        return OPEN if self.format is None else replace(OPEN, order=AnyOrder(_ALIGNMENT))


WHOLE = Factors()
ABSENT = "it is not in the file, so the runtime computes something else in its place"
_PINNED = RuntimeContract("probe", Sequential(), Contraction.NEVER)
_OFFSETS = (0, 1, 3, 4, 8)  # floats past a boundary of 64 bytes, where an input may begin
_MOVED = 16  # runs that are repeated with inputs elsewhere in memory
_COPIES = 7  # rows of a batch: no multiple of a vector
_LENGTHY = 2**22  # multiply-adds per input above which fewer inputs are replayed


@dataclass(frozen=True)
class Finding:
    """What was found of one node's sums: a schedule, pinned where all of `replayed` inputs were
    reproduced bit for bit; `note` says why it is open.

    `changed_by_batch`: rows have other bits among copies of themselves than alone;
    `changed_by_position`: and so have such copies among themselves. None: not tried.
    """

    node: Node
    place: Reduction
    schedule: Schedule
    replayed: int
    note: str = ""
    changed_by_threads: bool = False
    changed_by_batch: bool | None = None
    changed_by_position: bool | None = None

    @property
    def pinned(self) -> bool:
        return self.schedule.pinned


def probe_sums(
    graph: Graph,
    kernels: Kernels,
    flushes: Flushes,
    *,
    samples: int = 32,
    seed: int = 0,
    nodes: Sequence[Node] | None = None,
    threaded: Kernels | None = None,
    factors: Factors = WHOLE,
) -> Iterator[Finding]:
    """One finding per node (of those given) that adds up products or numbers."""
    program = program_of(graph)
    for node in graph.order if nodes is None else nodes:
        step = program.step(node)
        place = reduction_at(step.site)
        if place.terms is None:
            continue
        if node.name in kernels.absent:
            yield Finding(node, place, factors.open, 0, ABSENT)
            continue
        try:
            yield _Probe(
                graph, step, kernels, flushes=flushes, samples=samples, seed=seed, factors=factors
            ).finding(place, threaded)
        except (NoTerms, NotATree, OpenSchedule, RuntimeUnavailable) as error:
            yield Finding(node, place, factors.open, 0, str(error))


def held_in_file(
    graph: Graph, finding: Finding, whole: Mapping[str, Array], flushes: Flushes, factors: Factors
) -> Finding:
    """The finding, open if the node gives other bits where it stands than it gave alone.

    `whole` has arrays (samples, *shape) of the tensors that the runtime showed, running the file.
    """
    node = finding.node
    read = [t for t in node.inputs if t and not graph.is_constant(t)]
    if not finding.pinned or not all(t in whole for t in (*read, node.outputs[0])):
        return finding
    s = finding.schedule
    contract = _pinned(flushes, factors)
    contract = replace(contract, order=s.order, contraction=s.contraction, bias=s.bias)
    with np.errstate(all="ignore"):
        computed, *_ = emulate_step(program_of(graph).step(node), whole, contract)
    given = whole[node.outputs[0]]
    if same_bits(np.asarray(np.broadcast_to(computed, given.shape)), given):
        return finding
    note = "it is computed otherwise in its file than alone"
    return replace(finding, schedule=factors.open, replayed=0, note=note)


def _pinned(flushes: Flushes, factors: Factors) -> RuntimeContract:
    return replace(
        _PINNED,
        results=flushes.results,
        operands=flushes.operands,
        factor_format=factors.format,
        factor_rounding=factors.rounding,
    )


class _Probe:
    """One node under examination."""

    def __init__(
        self,
        graph: Graph,
        step: Step,
        kernels: Kernels,
        *,
        flushes: Flushes,
        samples: int,
        seed: int,
        factors: Factors,
    ) -> None:
        self.graph, self.step, self.kernels = graph, step, kernels
        self.node, self.site, self.factors = step.node, step.site, factors
        self.contract = _pinned(flushes, factors)
        self.rng = np.random.default_rng(seed)
        self.samples = max(4, min(samples, samples * _LENGTHY // max(self._work(), 1)))
        if self.site.outputs[0].dtype is not DType.FLOAT32:
            raise NoTerms(f"sums of {self.site.outputs[0].dtype.value} are not revealed")
        self.terms, self.sums = terms_of(step), sums_of(step)

    def _work(self) -> int:
        return self.site.outputs[0].size * (reduction_at(self.site).terms or 1)

    def finding(self, place: Reduction, threaded: Kernels | None) -> Finding:
        order = self._order()
        runs = [*self._runs(random=True), *self._runs(random=False)]
        changed = threaded is not None and self._changes(runs, threaded)
        batch, position = self._among_copies(runs)
        found = self._reproduced(order, runs)
        note = f"its order ({order.describe()}) does not reproduce it on random inputs"
        if found is not None and self._moves(runs[:_MOVED]):
            found, note = None, "its bits change with where its input lies in memory"
        return Finding(
            self.node,
            place,
            schedule=self.factors.open if found is None else found,
            replayed=len(runs),
            note=note if found is None else "",
            changed_by_threads=changed,
            changed_by_batch=batch,
            changed_by_position=position,
        )

    def _moves(self, runs: Sequence[_Run]) -> bool:
        """Are other bits given where the numbers of the user lie elsewhere in memory?"""
        theirs = {t for t in self._inputs() if _is_given(self.graph, t)}
        kernels: dict[int, Run] = {}
        for run in runs:
            if id(run.step) not in kernels:
                kernels[id(run.step)] = self._again(run)
            for offset in _OFFSETS if theirs & run.inputs.keys() else ():
                moved = {t: placed(v, offset) for t, v in run.inputs.items() if t in theirs}
                if not same_bits(kernels[id(run.step)]({**run.inputs, **moved}), run.result):
                    return True
        return False

    def _again(self, run: _Run, kernels: Kernels | None = None) -> Run:
        return (kernels or self.kernels).kernel(self.node, run.step.constants)

    def _changes(self, runs: Sequence[_Run], other: Kernels) -> bool:
        """Does another setting of the runtime give other bits?"""
        kernels: dict[int, Run] = {}
        for run in runs:
            if id(run.step) not in kernels:
                kernels[id(run.step)] = self._again(run, other)
            if not same_bits(kernels[id(run.step)](run.inputs), run.result):
                return True
        return False

    def _among_copies(self, runs: Sequence[_Run]) -> tuple[bool | None, bool | None]:
        """Has a batch of copies other bits than one alone, and have its rows among themselves?"""
        node, types = self.node, self.graph.types
        first, others = node.inputs[0], [t for t in node.inputs[1:] if t]
        if self.graph.is_constant(first) or len(self._shape(first)) < 2:
            return None, None
        if not self.sums.batched(self.site) or self.kernels.varying & set(others):
            return None, None
        ends = (first, node.outputs[0])
        longer = {t: (_COPIES * types[t].shape[0], *types[t].shape[1:]) for t in ends}
        wider = {t: replace(types[t], shape=shape) for t, shape in longer.items()}
        graph = replace(self.graph, types={**types, **wider})
        kernels: dict[int, Run] = {}
        batch = position = False
        for run in runs:
            if id(run.step) not in kernels:
                kernels[id(run.step)] = self._again(run, self.kernels.on(graph))
            copies = np.concatenate([run.inputs[first]] * _COPIES)
            try:
                result = kernels[id(run.step)]({**run.inputs, first: copies})
            except RuntimeUnavailable:
                return None, None
            rows = result.reshape(_COPIES, *run.result.shape)
            batch |= not all(same_bits(row, run.result) for row in rows)
            position |= not all(same_bits(row, rows[0]) for row in rows)
        return batch, position

    def _order(self) -> Order:
        """The tree of one output element, all of whose terms are there and are distinct."""
        terms = self.terms
        variable = next(k for k, p in enumerate(terms.factors) if p in self.site.variable)
        reads = terms.reads[variable]
        place = next((o for o in range(reads.shape[1]) if _distinct(reads[:, o])), None)
        if place is None:
            raise NoTerms("every sum includes padding or repeats a number")
        ones = {t: np.ones(self._shape(t), np.float32) for t in self._inputs()}
        if terms.bias is not None:
            bias = self.node.inputs[terms.bias]
            ones[bias] = np.zeros(self._shape(bias), np.float32)
        name = self.node.inputs[terms.factors[variable]]
        fixed = {t: v for t, v in ones.items() if self.graph.is_constant(t)}
        run = self.kernels.kernel(self.node, {**self._parameters(), **fixed})
        free = {t: v for t, v in ones.items() if t not in fixed}
        scale = float(len(reads)) if self.sums.mean else 1.0

        def total(mask: FloatArray) -> float:
            values = np.zeros(self._shape(name), np.float32)
            values.reshape(-1)[reads[:, place]] = mask
            got = run({**free, name: values})
            counted = float(got.reshape(-1)[place]) * scale
            if not np.isfinite(counted):
                raise NotATree("numbers large enough to find its order overflow there")
            return round(counted)

        return named_order(revealed(total, len(reads)))

    def _runs(self, random: bool) -> list[_Run]:
        """Random inputs with what the runtime makes of them, with random weights or its own."""
        own = {t for t in self._inputs() if self.graph.is_constant(t)}
        if not random and not own:
            return []
        held = {t: self._random(t) if random else self.graph.held(t) for t in own}
        run = self.kernels.kernel(self.node, {**self._parameters(), **held})
        step = self.step.holding(held)
        found = []
        for _ in range(self.samples):
            inputs = {t: self._random(t) for t in self._inputs() if t not in own}
            found.append(_Run(step, inputs, run(inputs)))
        return found

    def _reproduced(self, order: Order, runs: Sequence[_Run]) -> Schedule | None:
        placements = [BiasPlacement.LAST]
        if self.terms.bias is not None:
            placements += [BiasPlacement.AFTER_FIRST_BLOCK, BiasPlacement.FIRST]
        products = len(self.terms.factors) == 2
        fused = [Contraction.ALWAYS, Contraction.NEVER] if products else [Contraction.NEVER]
        for contraction, bias in product(fused, placements):
            contract = replace(self.contract, order=order, contraction=contraction, bias=bias)
            if self._reproduces(contract, runs[:1]) and self._reproduces(contract, runs):
                return contract.schedule
        return None

    def _reproduces(self, contract: RuntimeContract, runs: Sequence[_Run]) -> bool:
        groups: dict[int, list[_Run]] = {}
        for run in runs:
            groups.setdefault(id(run.step), []).append(run)
        return all(same_bits(*_both(group, contract)) for group in groups.values())

    def _inputs(self) -> list[str]:
        """Floating-point inputs, without repetition."""
        names = dict.fromkeys(t for t in self.node.inputs if t)
        return [t for t in names if self.graph.types[t].dtype.is_float]

    def _parameters(self) -> dict[str, Array]:
        """Inputs that are not numbers to add up (axes and the like)."""
        return {
            t: self.graph.constants[t]
            for t in self.node.inputs
            if t and self.graph.is_constant(t) and not self.graph.types[t].dtype.is_float
        }

    def _shape(self, tensor: str) -> tuple[int, ...]:
        return self.graph.types[tensor].shape

    def _random(self, tensor: str) -> Array:
        """Numbers of both signs and several binades, some of them zero."""
        shape = self._shape(tensor)
        values = self.rng.standard_normal(shape) * 2.0 ** self.rng.integers(-6, 3, shape)
        zero = self.rng.random(shape) < self.rng.choice((0.0, 0.3))
        return np.where(zero, 0.0, values).astype(np.float32)


@dataclass(frozen=True)
class _Run:
    step: Step
    inputs: Mapping[str, Array]
    result: Array


def _both(runs: Sequence[_Run], contract: RuntimeContract) -> tuple[Array, Array]:
    """What a contract gives and what the runtime gave, stacked."""
    stacked = {t: np.stack([r.inputs[t] for r in runs]) for t in runs[0].inputs}
    computed, *_ = emulate_step(runs[0].step, stacked, contract)
    given = np.stack([r.result for r in runs])
    return np.asarray(np.broadcast_to(computed, given.shape)), given


def same_bits(a: Array, b: Array) -> bool:
    """Equal numbers; zeros of either sign are one number, and so are NaNs."""
    return bool(np.array_equal(a, b, equal_nan=True))


def placed(values: Array, offset: int) -> Array:
    """The same numbers, so many of them past a boundary of 64 bytes in memory."""
    return at_boundary(values, offset * values.itemsize)


def _is_given(graph: Graph, tensor: str) -> bool:
    """Is this tensor the user's, or may it lie where one of the user's does: is it one of these
    with another shape?"""
    writers = program_of(graph).writers
    reached = [tensor]
    while reached:
        name = reached.pop()
        if name in graph.inputs:
            return True
        if name in writers and writers[name].operator.movement:
            reached += writers[name].reads
    return False


def _distinct(reads: npt.NDArray[np.intp]) -> bool:
    return bool(np.all(reads >= 0)) and len(np.unique(reads)) == len(reads)
