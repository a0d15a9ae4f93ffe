"""Whether a graph can give NaN, by what every element may be, in whatever order it is rounded.

A gradient behind a mask is no NaN because two things hang together: where a condition is true the
cotangent is 0, and there, too, the divisor is 1. So conditions are told apart. A sample of
`Possible` stands for a truth value of each condition of interest *at the place of an element*:
operators that act element by element keep samples apart, broadcasting carries them along, since an
element of the smaller tensor stands for all places that it goes to, and every other operator reads
what an element may be in any of them. In a case, what is compared is what it is there: where n = 0
is true n is 0, and elsewhere it is not.

Cases are told apart around one step at a time, the first that can give a NaN that it did not read.
What is known of a tensor after each is common to all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.possible import Possible
from encoders.arithmetic.runtime import Relation
from encoders.arithmetic.values import E
from encoders.contract.contract import (
    RuntimeContract,
    Subnormals,
)
from encoders.program import Program, Step, program_of
from encoders.rounding.possible_arithmetic import PossibleArithmetic
from encoders.scheduling import contract_at
from onnx_import.graph import Array, Graph
from refine.bounds.local.possible_steps import PossibleSteps, PossibleTensors, covers

_CONDITIONS = 5  # that are told apart at once
_NUMBERS = 2**22  # of all tensors in all cases, and of multiply-adds
_ROUNDS = 24


def never_nan(
    graph: Graph, given: Mapping[str, tuple[Array, Array]], contract: RuntimeContract
) -> Mapping[str, Possible] | None:
    """What each output may be, none of it NaN, for inputs between two ends, in every execution that
    the contract allows; None where that is not shown."""
    return outputs_without_nan(graph, possible_tensors(graph, given, contract))


def outputs_without_nan(graph: Graph, found: PossibleTensors) -> Mapping[str, Possible] | None:
    """What `possible_tensors` found of the outputs, if none of them may be NaN."""
    if not found:
        return None
    outputs = {t: found[t] for t in graph.outputs if t in found}
    clean = all(not np.any(p.nan) for p in outputs.values())
    constant = [graph.constants[t] for t in graph.outputs if t not in found]
    kept = all(not np.any(np.isnan(np.asarray(v, np.float64))) for v in constant)
    return outputs if clean and kept else None


def possible_tensors(
    graph: Graph, given: Mapping[str, tuple[Array, Array]], contract: RuntimeContract
) -> PossibleTensors:
    """What each element of every tensor may be, in one sample; nothing is said under contracts
    that do not round to nearest, and of graphs that are too large."""
    program = program_of(graph)
    size = sum(graph.types[t].size for step in program.steps for t in step.writes)
    if not covers(contract) or max(size, program.work) > _NUMBERS:
        return {}
    with np.errstate(all="ignore"):
        return _Search(program, given, contract).settled()


def uniform(contract: RuntimeContract) -> tuple[RuntimeContract, ...]:
    """The contracts that say of numbers below the normal ones what this leaves open, the same for
    all operations."""
    ways = (Subnormals.KEEP, Subnormals.FLUSH)
    results = ways if contract.results is Subnormals.EITHER else (contract.results,)
    operands = ways if contract.operands is Subnormals.EITHER else (contract.operands,)
    return tuple(replace(contract, results=r, operands=o) for r, o in product(results, operands))


@dataclass
class _Search:
    """What is known so far: of each tensor, in one sample, what its elements may be."""

    program: Program
    given: Mapping[str, tuple[Array, Array]]
    contract: RuntimeContract
    known: dict[str, Possible] = field(default_factory=dict)

    @property
    def steps(self) -> PossibleSteps:
        """What steps give of their operands, told apart no further."""
        return PossibleSteps(self.contract)

    def settled(self) -> PossibleTensors:
        """What is known when no case is left to tell apart, or no output may be NaN."""
        graph, tried = self.program.graph, set[str]()
        self._pass(())
        for _ in range(_ROUNDS):
            if not self._nan(t for t in graph.outputs if t in self.known):
                break
            source = next(self._sources(tried), None)
            if source is None:
                break
            tried.add(source.name)
            near = self._conditions(source)
            if near:
                self._pass(near)
        return self.known

    def _sources(self, tried: set[str]) -> Iterator[Step]:
        """Steps that may give NaN, first those that read none."""
        giving = [s for s in self.program.steps if s.name not in tried and self._nan(s.writes)]
        yield from (s for s in giving if not self._nan(s.reads))
        yield from (s for s in giving if self._nan(s.reads) and _by_element(s))

    def _nan(self, tensors: Iterable[str]) -> bool:
        return any(np.any(self.known[t].nan) for t in tensors)

    def _conditions(self, source: Step) -> tuple[Step, ...]:
        """Comparisons, nearest first, that steps which act element by element join to this one."""
        found: list[Step] = []
        seen, waiting = {source.name}, [source]
        while waiting and len(found) < _CONDITIONS:
            step = waiting.pop(0)
            if step.operator.compared is not None:
                found.append(step)
            elif not _by_element(step):
                continue
            around = [self.program.writers.get(t) for t in step.reads]
            beside = [r for t in (*step.reads, *step.writes) for r in self.program.readers(t)]
            for other in (*around, *beside):
                if other is not None and other.name not in seen:
                    seen.add(other.name)
                    waiting.append(other)
        return tuple(found)

    def _pass(self, conditions: Sequence[Step]) -> None:
        """Walks through the graph once, every truth value of the conditions told apart."""
        cases = tuple(product((True, False), repeat=len(conditions)))
        limits = self._limits(conditions, cases)
        chosen = {c.output: [case[k] for case in cases] for k, c in enumerate(conditions)}
        values: dict[str, Possible] = {}

        def keep(tensor: str, found: Possible) -> None:
            if tensor in self.known:
                found = found.both(self.known[tensor])
            if tensor in limits:
                found = found.both(limits[tensor])
            if tensor in chosen:
                found = found.both(_truths(chosen[tensor], found.shape))
            values[tensor] = found
            self.known[tensor] = found.of_any_sample()

        for name in self.program.graph.inputs:
            keep(name, self._input(name))
        for step in self.program.steps:
            reads = {t: values[t] for t in step.reads}
            if not _by_element(step):
                reads = {t: self.known[t] for t in reads}
            for tensor, found in zip(step.writes, self.steps.of(step, reads), strict=True):
                keep(tensor, found)

    def _limits(
        self, conditions: Sequence[Step], cases: Sequence[tuple[bool, ...]]
    ) -> Mapping[str, Possible]:
        """What the operands of the conditions are in each case, as one sample each."""
        found: dict[str, Possible] = {}
        for k, step in enumerate(conditions):
            ways = {truth: dict(self._operands(step, truth)) for truth in (True, False)}
            for tensor in ways[True]:
                whole = [ways[case[k]][tensor] for case in cases]
                limit = whole[0].joined(whole[1:], 0)
                found[tensor] = found[tensor].both(limit) if tensor in found else limit
        return found

    def _operands(self, step: Step, truth: bool) -> Iterator[tuple[str, Possible]]:
        """What each operand of a comparison may be where that is true, or is not, and what that is
        computed from by a sign."""
        asked = step.operator.compared
        assert asked is not None
        here = contract_at(step.site, self.contract)
        kinds = [step.site.type_of(i) for i in range(2)]
        if not all(kind.dtype.is_float for kind in kinds):
            return
        arithmetic = PossibleArithmetic(here.format_of(kinds[0].dtype), here)
        names = step.node.inputs[:2]
        values = [self._operand(step, i) for i in range(2)]
        for position, name in enumerate(names):
            shape = step.site.outputs[0].shape
            if position not in step.site.variable or kinds[position].shape != shape:
                continue
            first = (position == 0) != asked.turned  # is it the left operand of the relation?
            other = values[1 - position].moved(partial(_spread, shape=shape))
            limit = compared(arithmetic, asked.relation, other, first=first, truth=truth)
            yield name, limit
            writer = self.program.writers.get(name)
            while writer is not None and writer.operator.mirrors:
                (name,) = writer.reads
                limit = limit.either(limit.negated())
                yield name, limit
                writer = self.program.writers.get(name)

    def _operand(self, step: Step, position: int) -> Possible:
        constant = step.site.constants[position]
        if constant is None:
            return self.known[step.node.inputs[position]]
        return self.steps.held(constant, step.site.type_of(position), step)

    def _input(self, name: str) -> Possible:
        kind = self.program.graph.types[name]
        lo, hi = (np.asarray(v, np.float64)[np.newaxis] for v in self.given[name])
        if not kind.dtype.is_float:
            return Possible.within(lo, hi, 1.0)
        return Possible.within(
            lo, hi, float(self.contract.format_of(kind.dtype).smallest_subnormal)
        )


def compared(
    arithmetic: PossibleArithmetic,
    relation: Relation,
    other: Possible,
    *,
    first: bool,
    truth: bool,
) -> Possible:
    """What an operand of a comparison may be, given what the other one may be and whether the
    comparison is true; the operand is the first or the second of both."""
    other = arithmetic.read(other)
    least, whole = float(arithmetic.format.smallest_subnormal), np.full(other.shape, np.inf)
    nothing = ~other.any
    if relation is Relation.EQUAL:
        single = other.some & (other.lo == other.hi) & ~other.nan
        if truth:
            allowed = replace(other, nan=np.zeros(other.shape, bool))
        else:
            allowed = Possible.within(-whole, whole, least)
            zero = single & (other.lo == 0)
            allowed = replace(allowed, nonzero=zero, nan=np.ones(other.shape, bool))
    else:
        strict = (relation is Relation.LESS) == truth
        below = first == truth  # is it at most what the other is at most?
        if below:
            high = np.where(other.some, other.hi, np.where(truth, -np.inf, np.inf))
            allowed = Possible.within(-whole, high, least)
            at = strict & (high == 0)
        else:
            low = np.where(other.some, other.lo, np.where(truth, np.inf, -np.inf))
            allowed = Possible.within(low, whole, least)
            at = strict & (low == 0)
        allowed = replace(allowed, nonzero=allowed.nonzero | at)
        free = np.zeros(other.shape, bool) if truth else other.nan
        every = Possible.within(-whole, whole, least)
        allowed = allowed.either(every.where(free))
        allowed = replace(allowed, nan=np.full(other.shape, not truth))
    unread = _unread(arithmetic, allowed, least)
    return unread.where(~nothing)


def _unread(arithmetic: PossibleArithmetic, seen: Possible, least: float) -> Possible:
    """What a number is that is read as one of these."""
    how, tiny = arithmetic.contract.operands, float(arithmetic.format.smallest_normal)
    if how is Subnormals.KEEP:
        return seen
    if how is Subnormals.FLUSH:
        seen = replace(arithmetic.read(seen), nonzero=seen.nonzero)
    whole = np.full(seen.shape, tiny)
    small = Possible.within(-whole, whole, least)
    return seen.either(small.where(seen.zero))


def _spread(array: npt.NDArray[E], shape: tuple[int, ...]) -> npt.NDArray[E]:
    """An array of one sample, broadcast to a shape."""
    return np.broadcast_to(array.reshape(array.shape[1:]), shape)[np.newaxis]


def _truths(truths: Sequence[bool], shape: tuple[int, ...]) -> Possible:
    """A truth value in each sample."""
    rows = np.array(truths, float).reshape(len(truths), *(1,) * (len(shape) - 1))
    exact = np.broadcast_to(rows, (len(truths), *shape[1:]))
    return Possible.within(exact, exact, 1.0)


def _by_element(step: Step) -> bool:
    """Does each element of the result come of one of each operand, broadcast from behind?"""
    operator, site = step.operator, step.site
    if operator.movement:
        return False
    if operator.per_element:
        return True
    alone = [site.type_of(i).shape for i in site.variable] == [site.outputs[0].shape]
    return alone and operator.element is not None
