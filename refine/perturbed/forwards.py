"""Forwards: what each tensor of the perturbed network is known to be, given the bits that ran."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.lemmas.backward.rows import ROW_SHARE
from encoders.lemmas.kernel import Radius, any_of, apply, nothing_known
from encoders.lemmas.operations import OPERAND_LOSS
from encoders.numbers.enclosure import Interval, anywhere
from encoders.program import Program, Step, program_of
from encoders.scheduling import contract_at
from encoders.traits import Absorption
from onnx_import.graph import Array, Graph
from refine.perturbed.amounts import (
    flushed_below_size,
    grown,
    is_zero,
    listed,
    sentence,
    slope_rounded,
    why_not,
)
from refine.perturbed.standing import (
    Laid,
    NothingTakesThem,
    Roundings,
    Standing,
    plus,
    refused_arithmetic,
    roundings_of,
    stored,
    times,
    unmoved,
    uses_of,
)


@dataclass
class Forwards:
    """The walk forwards over one program, which finds what can take errors. With `underflow` false,
    underflow is left out of account."""

    graph: Graph
    contract: RuntimeContract
    laid: Laid
    discrete: frozenset[str]
    underflow: bool = True
    standing: dict[str, Standing] = field(default_factory=dict)
    made: dict[str, Standing] = field(default_factory=dict)
    besides: dict[str, Radius] = field(default_factory=dict)
    asked: dict[str, float] = field(default_factory=dict)
    rows: dict[str, int | None] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)
    added: dict[str, tuple[str, ...]] = field(default_factory=dict)
    absolute: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.program: Program = program_of(self.graph).checked
        self.uses = self.graph.once(uses_of)

    def _input(self, tensor: str) -> Standing:
        shape = self.graph.types[tensor].shape
        if self.laid is Laid.WEIGHTS or tensor in self.discrete:
            return Standing(unmoved(shape), why=f"'{tensor}' is an input, kept as it is")
        count, readers = self.uses.get(tensor, (0, ()))
        if count > 1:
            raise NothingTakesThem(
                f"input '{tensor}' is read more than once (by {listed(readers)}), and one change "
                "of it would have to be right for every reading: errors are laid on what is read "
                f"once (strict linearity); keep it exact with --discrete {tensor}"
            )
        return Standing(unmoved(shape), free=True, leaf=True)

    def _constant(self, tensor: str, values: Array) -> Standing:
        kind = self.graph.types[tensor]
        if not kind.dtype.is_float:
            return Standing(unmoved(kind.shape))
        if not np.all(np.isfinite(np.asarray(values, np.float64))):
            why = f"'{tensor}' holds an infinity or NaN"
            return Standing(unmoved(kind.shape), apart=math.inf, why=why)
        apart, lost = stored(values, roundings_of(kind.dtype, self.contract).inner)
        besides = unmoved(kind.shape)
        if np.any(lost) and self.underflow:
            besides = apply(OPERAND_LOSS, lo=-lost, hi=lost, tiny=np.finfo(np.float64).max)
        count, readers = self.uses.get(tensor, (0, ()))
        if self.laid is Laid.INPUTS:
            return Standing(besides, apart=apart, why=f"'{tensor}' is a stored number")
        if tensor in self.discrete:
            return Standing(
                besides, apart=apart, why=f"'{tensor}' is kept exact, as --discrete says"
            )
        if count > 1:
            why = (
                f"each number of '{tensor}' is used {count} times (by {listed(readers)}), and one "
                "change of it would have to be right for each of these sums (strict linearity)"
            )
            return Standing(besides, apart=apart, why=why, shared=True)
        return Standing(besides, free=True, leaf=True)

    def _as_read(self, tensor: str, made: Standing) -> Standing:
        """What is read several times is met to the bit."""
        if not made.free or self.uses.get(tensor, (0, ()))[0] <= 1:
            return made
        return Standing(made.besides, why=f"'{tensor}' is read more than once")

    def _output(self, tensor: str) -> Radius:
        if tensor not in self.standing:
            return unmoved(self.graph.types[tensor].shape)
        found = self.made.get(tensor, self.standing[tensor])
        if not found.free and found.apart != 0.0:
            raise NothingTakesThem(
                f"the errors of output '{tensor}' can be laid on none of the {self.laid.value}: "
                f"{found.why}"
            )
        return found.besides

    # --- forwards ----------------------------------------------------------------------------

    def _forward(self, step: Step) -> Standing:
        """How what a step writes stands, given what it reads."""
        node = step.node.describe()
        names = {i: t for i, t in enumerate(step.node.inputs) if t}
        whole = [t for i, t in names.items() if not step.site.type_of(i).dtype.is_float]
        inexact = next((t for t in whole if not self.standing[t].exact), None)
        if inexact is not None:
            return self._lost(step, self.standing[inexact].why)
        if len(step.writes) > 1:
            return self._lost(step, f"{node}: no rule lays its errors on anything")
        if not step.site.outputs[0].dtype.is_float and step.operator.absorbs is None:
            if len(whole) == len(names):
                return Standing(unmoved(step.site.outputs[0].shape), why=f"{node} is exact")
            return self._lost(step, f"{node} makes other numbers of what is rounded")
        if step.operator.movement:
            return self._alike(step, factor=1.0)
        absorbing = step.operator.absorbs
        if absorbing is None:
            return self._absolutely(step)
        here = contract_at(step.site, self.contract)
        match absorbing.by:
            case Absorption.TERMS:
                return self._terms(step, here)
            case Absorption.FACTORS | Absorption.QUOTIENT:
                return self._factors(step, here)
            case Absorption.ROOT:
                return self._root(step, here)
            case Absorption.ALIKE:
                return self._alike(step, factor=1.0)
            case Absorption.SCALED:
                return self._alike(step, factor=absorbing.factor(step.site))
            case Absorption.CHOSEN:
                return self._chosen(step)
            case Absorption.COMPARED:
                return self._compared(step)
            case Absorption.NUMBER:
                return self._number(step, here)
            case Absorption.MATRIX:
                return self._matrix(step, here)
            case Absorption.CHANNELS:
                return self._channels(step, here)

    def _read(self, step: Step) -> list[Standing]:
        return [self.standing[t] for t in step.node.inputs if t]

    def _lost(self, step: Step, why: str) -> Standing:
        return Standing(unmoved(step.site.outputs[0].shape), apart=math.inf, why=why)

    def _absolutely(self, step: Step) -> Standing:
        """A node of whose rounding only an absolute bound is known, over all finite numbers."""
        node = step.node.describe()
        read = [self.standing[t] for t in step.reads]
        if not all(s.free or s.apart == 0.0 for s in read):
            return self._lost(step, f"{node}: no rule lays its errors on anything")
        here = contract_at(step.site, self.contract)
        kinds = [step.site.type_of(i) for i in step.site.variable]
        if not all(kind.dtype.is_float for kind in kinds):
            return self._lost(step, f"{node}: no rule lays its errors on anything")
        largest = [here.format_of(kind.dtype).largest_number for kind in kinds]
        whole = [
            Interval(np.full(kind.shape, -top), np.full(kind.shape, top))
            for kind, top in zip(kinds, largest, strict=True)
        ]
        operator = step.operator
        with np.errstate(all="ignore"):
            result = operator.values(step.site, whole).range
            besides = operator.rounding(step.site, whole, result, here).radius
            if any(np.any(s.besides.bound) for s in read):
                moved = [s.besides for s in read]
                besides = besides + operator.differences(step.site, whole, moved).radius
        if not np.all(np.isfinite(besides.bound)):
            return self._lost(step, f"{node}: no bound on its rounding holds for every input")
        self.absolute.append(step.node.name)
        return Standing(besides, why=f"{node} rounds, and has no parameters")

    def _rounding(self, step: Step, here: RuntimeContract) -> Roundings:
        return roundings_of(step.site.outputs[0].dtype, here)

    def _carried(self, step: Step, read: Mapping[int, Radius]) -> Radius:
        """What comes beside what is read, by position, in the result."""
        given = [read.get(i, unmoved(step.site.type_of(i).shape)) for i in step.site.variable]
        made = unmoved(step.site.outputs[0].shape)
        if not any(np.any(r.bound) for r in given):
            return made
        whole = [anywhere(r.shape) for r in given]
        with np.errstate(all="ignore"):
            return step.operator.differences(step.site, whole, given).radius

    def _alike(self, step: Step, factor: float) -> Standing:
        """Chosen among what is read, or moved about: off by what that is off by."""
        read = {
            i: self.standing[t]
            for i, t in enumerate(step.node.inputs)
            if t and step.site.type_of(i).dtype.is_float
        }
        shape = step.site.outputs[0].shape
        dtype = step.site.outputs[0].dtype
        if not dtype.is_float or not read:
            return Standing(unmoved(shape))
        here = contract_at(step.site, self.contract)
        rounding = self._rounding(step, here)
        scaled = step.operator.absorbs is not None and (
            step.operator.absorbs.by is Absorption.SCALED
        )
        if step.operator.movement:
            besides = self._carried(step, {i: s.besides for i, s in read.items()})
        else:
            worst = any_of([s.besides.worst() for s in read.values()]).times(factor)
            besides = worst.times(1.0 + 4.0 * rounding.own.unit).on(shape)
            besides = besides + self._least(rounding, shape, products=int(scaled), factor=factor)
        own = rounding.of(2 if slope_rounded(rounding) else 1) if scaled else 0.0
        if all(s.free for s in read.values()):
            return Standing(besides, free=True)
        apart = max(0.0 if s.free else s.apart for s in read.values())
        return Standing(besides, apart=plus(apart, own), why=why_not(list(read.values()), step))

    def _least(
        self, rounding: Roundings, shape: tuple[int, ...], *, products: int, factor: float = 1.0
    ) -> Radius:
        """What underflow and flushing take from one operation with so many products."""
        r, own = rounding.inner, rounding.own
        nothing = unmoved(())
        if r.exact or not self.underflow:
            return nothing.on(shape)
        flushes = self._flushes(rounding)
        flushed = max(r.smallest_normal, own.smallest_normal) if flushes else 0.0
        h = max(r.underflow, own.underflow if rounding.twice else 0.0)
        return apply(
            ROW_SHARE,
            m=0.0,
            u=0.0,
            n=float(products),
            h=h,
            lost=0.0,
            X=flushed_below_size(flushed * max(factor, 1.0)),
        ).on(shape)

    def _flushes(self, rounding: Roundings) -> bool:
        """May subnormal numbers be lost, and does that count?"""
        flushes = any(r.flush_operands or r.flush_results for r in (rounding.inner, rounding.own))
        return flushes and self.underflow and not rounding.inner.exact

    def _terms(self, step: Step, here: RuntimeContract) -> Standing:
        read = {i: self.standing[t] for i, t in enumerate(step.node.inputs) if t}
        shape = step.site.outputs[0].shape
        rounding = self._rounding(step, here)
        carried = self._carried(step, {i: s.besides for i, s in read.items()})
        for i, s in read.items():
            constant = step.site.constant(i)
            if constant is not None and np.any(s.besides.bound):
                carried = carried + s.besides.on(shape)
        assert step.operator.absorbs is not None
        count = step.operator.absorbs.terms_of(step.site) or len(read)
        lost = self._least(rounding, shape, products=0).times(float(3 * count))
        besides = (carried + lost).times(1.0 + 2.0 * count * rounding.own.unit)
        zero = [i for i in read if is_zero(step.site.constant(i))]
        if len(zero) == 1 and len(read) == 2:
            (other,) = (s for i, s in read.items() if i not in zero)
            taken = self._taken([step.node.inputs[zero[0]]], besides)
            return replace(taken, free=other.free, apart=other.apart, why=other.why)
        if not all(s.free for s in read.values()):
            if count == 2 and all(s.free or s.apart == 0.0 for s in read.values()):
                why = why_not(list(read.values()), step)
                return Standing(besides, apart=rounding.of(1), why=why)
            return self._lost(step, sentence(step, read, "a sum moves with each of its terms"))
        return self._taken([step.node.inputs[i] for i in read], besides)

    def _taken(self, tensors: Sequence[str], besides: Radius) -> Standing:
        """A free result; what comes beside goes to a parameter that is added, if there is one."""
        for tensor in tensors:
            shape = self.graph.types[tensor].shape
            if self.standing[tensor].leaf and math.prod(shape) == besides.bound.size:
                if np.any(besides.bound):
                    places = np.arange(besides.bound.size, dtype=np.intp).reshape(shape)
                    self._put(tensor, besides.taken(places))
                return Standing(unmoved(besides.shape), free=True)
        return Standing(besides, free=True)

    def _put(self, tensor: str, besides: Radius) -> None:
        held = self.besides.get(tensor)
        self.besides[tensor] = besides if held is None else held + besides

    def _factors(self, step: Step, here: RuntimeContract) -> Standing:
        read = {i: self.standing[t] for i, t in enumerate(step.node.inputs) if t}
        shape = step.site.outputs[0].shape
        rounding = self._rounding(step, here)
        besides = self._least(rounding, shape, products=1)
        if self._flushes(rounding) or any(np.any(s.besides.bound) for s in read.values()):
            besides = nothing_known(shape)
        if any(s.free for s in read.values()):
            if any(not s.free and not math.isfinite(s.apart) for s in read.values()):
                return self._lost(step, why_not(list(read.values()), step))
            return Standing(besides, free=True)
        apart = rounding.of(1)
        for s in read.values():
            apart = plus(apart, s.apart)
        return Standing(besides, apart=apart, why=why_not(list(read.values()), step))

    def _root(self, step: Step, here: RuntimeContract) -> Standing:
        (read,) = self._read(step)
        shape = step.site.outputs[0].shape
        rounding = self._rounding(step, here)
        besides = read.besides
        if np.any(besides.bound) or self._flushes(rounding):
            besides = nothing_known(shape)
        if read.free:
            return Standing(besides, free=True)
        apart = plus(times(read.apart, 0.5), rounding.of(1))
        return Standing(besides, apart=apart, why=why_not([read], step))

    def _chosen(self, step: Step) -> Standing:
        condition = self.standing[step.node.inputs[0]]
        if not condition.exact:
            return self._lost(step, condition.why)
        read = [self.standing[t] for t in step.node.inputs[1:]]
        shape = step.site.outputs[0].shape
        besides = unmoved(shape)
        if any(np.any(s.besides.bound) for s in read):
            besides = read[0].besides.worst().or_else(read[1].besides.worst()).on(shape)
        here = contract_at(step.site, self.contract)
        besides = besides + self._least(self._rounding(step, here), shape, products=0)
        if all(s.free for s in read):
            return Standing(besides, free=True)
        apart = max(0.0 if s.free else s.apart for s in read)
        return Standing(besides, apart=apart, why=why_not(read, step))

    def _compared(self, step: Step) -> Standing:
        read = self._read(step)
        shape = step.site.outputs[0].shape
        dtype = step.site.type_of(0).dtype
        flushes = dtype.is_float and self._flushes(roundings_of(dtype, self.contract))
        if all(s.exact for s in read) and not flushes:
            return Standing(unmoved(shape), why="what is compared is met to the bit")
        inexact = [s for s in read if not s.exact]
        why = why_not(inexact, step) if inexact else "operands of a comparison may be flushed"
        return self._lost(
            step, f"{step.node.describe()} compares what is not met to the bit: {why}"
        )

    def _number(self, step: Step, here: RuntimeContract) -> Standing:
        shape = step.site.outputs[0].shape
        held = step.operator.values(step.site, ()).range
        rounding = self._rounding(step, here)
        least = float(np.min(held.magnitude, initial=np.inf))
        if least < rounding.own.smallest_normal and not rounding.own.exact:
            return self._lost(step, f"{step.node.describe()} may be below the normal range")
        return Standing(
            unmoved(shape), apart=rounding.of(1), why=f"{step.node.describe()} is rounded"
        )

    def _taker(self, step: Step) -> int | None:
        """The position of the factor of a matrix product that takes its errors."""
        first, second = (self.standing[t] for t in step.node.inputs[:2])
        if second.free and (step.site.constant(1) is not None or not first.free):
            return 1
        return 0 if first.free else 1 if second.free else None

    def _matrix(self, step: Step, here: RuntimeContract) -> Standing:
        names = step.node.inputs
        taker = self._taker(step)
        lost = next((s for s in self._read(step) if s.apart == math.inf), None)
        if lost is not None:
            return self._lost(step, lost.why)
        refusal = refused_arithmetic(here, step.site.outputs[0].dtype)
        if refusal:
            return self._lost(step, f"{step.node.describe()}: {refusal}")
        factors = {i: self.standing[names[i]] for i in (0, 1)}
        if taker is None:
            return self._lost(step, sentence(step, factors, "its errors go to one of its factors"))
        other = factors[1 - taker]
        bias = names[2] if len(names) > 2 and names[2] else None
        nought = names[2] if bias is not None and is_zero(step.site.constant(2)) else None
        bias = None if nought is not None else bias
        if bias is not None and not self.standing[bias].free:
            read = {2: self.standing[bias]}
            return self._lost(step, sentence(step, read, "its bias takes a share of the error"))
        if np.any(factors[taker].besides.bound):
            return self._lost(step, f"'{names[taker]}' holds numbers that may be flushed to 0")
        besides = self._row_besides(step, here, other.besides, 1 - taker, bias)
        assert step.operator.absorbs is not None
        if step.operator.absorbs.scalings(step.site)[1]:
            return Standing(besides, free=True)  # of a scaled bias it would be another amount
        return self._taken([t for t in (bias, nought) if t is not None], besides)

    def _row_besides(
        self,
        step: Step,
        here: RuntimeContract,
        read: Radius,
        position: int,
        bias: str | None,
    ) -> Radius:
        """What a row's error may be beside its share."""
        shape = step.site.outputs[0].shape
        rounding = self._rounding(step, here)
        r = rounding.inner
        tiny = self.underflow and not r.exact
        if self._flushes(rounding):
            flushed = max(r.smallest_normal, rounding.own.smallest_normal)
            read = read + flushed_below_size(flushed).on(read.shape)
        carried = unmoved(shape)
        if np.any(read.bound):
            if len(set(step.site.variable) & {0, 1}) > 1 or position not in step.site.variable:
                return nothing_known(shape)
            carried = self._carried(step, {position: read})
        if bias is not None and np.any(self.standing[bias].besides.bound):
            carried = carried + self.standing[bias].besides.worst().on(shape)
        assert step.operator.sums is not None
        assert step.operator.absorbs is not None
        n = step.operator.sums.extent(step.site).terms
        scalings = sum(step.operator.absorbs.scalings(step.site))
        additions = n if bias is not None else n - 1
        found = apply(
            ROW_SHARE,
            m=float(additions + scalings),
            u=r.unit,
            n=float(n + scalings),
            h=r.underflow if tiny else 0.0,
            lost=r.smallest_normal if tiny and (r.flush_operands or r.flush_results) else 0.0,
            X=carried,
        )
        # each leaf of the sum may have its roundings as factors, in place of one for the row
        found = found.times(grown(times(r.unit, additions + scalings + 1), r.unit))
        scale = step.operator.absorbs.factor(step.site)
        if scale > 1.0:
            found = found.times(scale)
        if rounding.twice:
            found = found.times(1.0 + 2.0 * rounding.own.unit) + self._least(
                rounding, shape, products=1
            )
        return found

    def _channels(self, step: Step, here: RuntimeContract) -> Standing:
        names = step.node.inputs
        read = {i: self.standing[names[i]] for i in range(5)}
        params = {i: read[i] for i in (1, 2, 3)}
        rounding = self._rounding(step, here)
        if not all(s.free for s in params.values()):
            return self._lost(step, sentence(step, params, "a normalisation moves all three"))
        if not read[0].free and not math.isfinite(read[0].apart):
            return self._lost(step, read[0].why)
        if rounding.own.smallest_normal > step.site.real("epsilon", 1e-5):
            return self._lost(step, f"{step.node.describe()}: epsilon underflows in this format")
        if any(np.any(s.besides.bound) for s in (*params.values(), read[4])):
            return self._lost(step, f"{step.node.describe()} has parameters that may be flushed")
        r, tiny = rounding.inner, self.underflow and not rounding.inner.exact
        flushed = rounding.own.smallest_normal if self._flushes(rounding) else 0.0
        seen = read[0].besides + flushed_below_size(flushed).on(read[0].besides.shape)
        gamma = float(np.max(np.abs(step.site.coefficients(1)), initial=1.0))
        besides = apply(
            ROW_SHARE,
            m=4.0,
            u=r.unit,
            n=3.0 * (1.0 + gamma),
            h=max(r.underflow, rounding.own.underflow) if tiny else 0.0,
            lost=flushed * (1.0 + gamma),
            X=self._carried(step, {0: seen}),
        )
        return self._taken([names[2]], besides)
