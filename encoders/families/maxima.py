"""The largest or smallest of several numbers: Max, Min, pooling, reductions.

Every output element chooses among operands, each given by the position of an input and an index
into it. Minima are maxima of negated numbers, which is all that `sign` says.

With j the operand whose lower end is highest and G how far any other may rise above it, the
maximum is x_j up to G; in any case differences of maxima lie between the least and the largest
difference of the operands (lemmas `maximum-difference`, `maximum-dominant`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, moved
from encoders.arithmetic.values import E, Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.gathering import Index, gathered_part
from encoders.lemmas.carrying import FOLLOWED, LEADER
from encoders.lemmas.choices import EXTREME
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, apply, exactly_zero
from encoders.lemmas.ranges.placing import (
    extreme_range,
    range_moved,
    range_of,
    range_taken,
    ranges_joined,
    stored_range,
)
from encoders.lemmas.ranges.range import Range
from encoders.numbers.enclosure import (
    UNIT,
    FloatArray,
    Interval,
    add_up,
    dot_up,
    inner_up,
    multiply_up,
)
from encoders.numbers.leaning import Ordered
from encoders.operator import (
    Contribution,
    DifferenceMap,
    Field,
    Moved,
    Operator,
    RoundingBound,
    Site,
    ValueMap,
)
from encoders.rounding.rounding_bounds import exact_unless_flushed, rounder, stored_loss
from encoders.traits import Absorbing, Absorption


@dataclass(frozen=True)
class Operand:
    """One of the numbers to choose from, for every output element: an input and where in it.

    −1 in the index says that this output element has no such operand.
    """

    position: int
    index: Index


def _stacked(operands: Sequence[Operand]) -> Index:
    """Where all operands stand, of shape (operands, *output)."""
    return np.stack([c.index for c in operands])


def _all_there(stack: Index) -> Index:
    """Absent operands replaced by the first that is there, which changes no maximum."""
    if np.all(stack >= 0):
        return stack
    first = np.take_along_axis(stack, np.argmax(stack >= 0, axis=0)[None], axis=0)
    return np.where(stack < 0, first, stack)


def _filled(operands: Sequence[Operand]) -> list[tuple[int, Index]]:
    """Positions and indices, one by one."""
    stack = _all_there(_stacked(operands))
    return [(c.position, index) for c, index in zip(operands, stack, strict=True)]


def _in_a_row(values: npt.NDArray[E]) -> npt.NDArray[E]:
    """(k, *in) → (k, in): once, where what is moved may have to be copied."""
    return np.ascontiguousarray(values.reshape(values.shape[0], -1))


def real_extreme(
    operands: Sequence[Operand],
    inputs: Inputs[ObjectArray],
    field: Field,
    sign: float,
) -> ObjectArray:
    """The largest (sign > 0) or smallest of the operands, exact, of the output's shape."""
    rows = {p: _in_a_row(inputs[p]) for p in {c.position for c in operands}}

    def one(operand: tuple[int, Index]) -> ObjectArray:
        position, index = operand
        values = rows[position][:, index]
        return values if sign > 0 else np.asarray(-values)

    best = reduce(field.maximum, map(one, _filled(operands)))
    return best if sign > 0 else np.asarray(-best)


def runtime_extreme(
    operands: Sequence[Operand],
    inputs: Inputs[V],
    arithmetic: Arithmetic[V],
    sign: float,
) -> V:
    """The largest (sign > 0) or smallest of the operands as a runtime finds it, one after the
    other."""
    choose = arithmetic.maximum if sign > 0 else arithmetic.minimum
    rows = {p: moved(inputs[p], _in_a_row) for p in {c.position for c in operands}}

    def one(operand: tuple[int, Index]) -> V:
        position, index = operand
        return moved(rows[position], lambda v: v[:, index])

    return reduce(choose, map(one, _filled(operands)))


def _ranges(
    site: Site, operands: Sequence[Operand], stack: Index, ranges: Sequence[Interval], sign: float
) -> tuple[FloatArray, FloatArray]:
    """Lower and upper ends of sign·operand, of shape (operands, *output)."""
    known = dict(zip(site.variable, ranges, strict=True))
    for position, constant in enumerate(site.constants):
        if constant is not None:
            exact = np.asarray(constant, np.float64)
            known[position] = Interval(exact, exact)
    lo, hi = np.empty(stack.shape), np.empty(stack.shape)
    positions = _positions(operands)
    for position in np.unique(positions).tolist():
        own = positions == position
        lo[own] = known[position].lo.reshape(-1)[stack[own]]
        hi[own] = known[position].hi.reshape(-1)[stack[own]]
    lo, hi = (lo, hi) if sign > 0 else (-hi, -lo)
    absent = stack < 0
    return np.where(absent, -np.inf, lo), np.where(absent, -np.inf, hi)


def _positions(operands: Sequence[Operand]) -> Index:
    return np.array([c.position for c in operands], np.intp)


def _errors(
    site: Site, operands: Sequence[Operand], stack: Index, errors: Sequence[Radius]
) -> Radius:
    """Of shape (operands, *output); of an operand that is absent it is another's."""
    flat = [e.moved(lambda v: v.reshape(-1)) for e in errors]
    stored = exactly_zero(EXACT, (1,))
    every = flat[0].joined([*flat[1:], stored], axis=0)
    starts = np.cumsum([0, *(error.shape[0] for error in flat)])
    places = np.full(stack.shape, starts[-1])
    positions, present = _positions(operands), _all_there(stack)
    for position, start in zip(site.variable, starts.tolist(), strict=False):
        own = positions == position
        places[own] = start + present[own]
    return every.taken(places)


def _range(
    site: Site, operands: Sequence[Operand], stack: Index, ranges: Sequence[Interval], sign: float
) -> Range:
    """Of the largest or the smallest operand, one that is absent being another."""
    known = {i: range_of(x) for i, x in zip(site.variable, ranges, strict=True)}
    for position, constant in enumerate(site.constants):
        if constant is not None:
            known[position] = stored_range(np.asarray(constant, np.float64))
    flat = {i: range_moved(x, lambda v: v.reshape(-1)) for i, x in known.items()}
    starts = np.cumsum([0, *(x.shape[0] for x in flat.values())])
    places, positions = _all_there(stack).copy(), _positions(operands)
    for position, start in zip(flat, starts.tolist(), strict=False):
        places[positions == position] += start
    return extreme_range(range_taken(ranges_joined(list(flat.values())), places), sign > 0)


@dataclass(frozen=True)
class _Leader:
    """The operand with the highest lower end, and the highest upper end among the others."""

    place: Index
    lo: FloatArray
    hi: FloatArray
    rival: FloatArray


def _leader(lo: FloatArray, hi: FloatArray) -> _Leader:
    place = np.argmax(lo, axis=0)
    chosen = np.arange(len(lo)).reshape(-1, *(1,) * place.ndim) == place
    rival = np.max(np.where(chosen, -np.inf, hi), axis=0)
    return _Leader(place, np.max(lo, axis=0), _at(hi, place), rival)


def _at(values: FloatArray, place: Index) -> FloatArray:
    return np.asarray(np.take_along_axis(values, place[None], axis=0)[0])


@dataclass(frozen=True)
class _Places:
    """Where in the variable inputs the chosen operands stand; −1 where not in this one."""

    index: tuple[Index, ...]
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, site: Site, operands: Sequence[Operand], stack: Index, place: Index) -> _Places:
        positions = _positions(operands)

        def index(position: int) -> Index:
            chosen = np.take_along_axis(stack, place[None], axis=0)
            return np.where(positions[place] == position, chosen, -1)

        shapes = tuple(site.type_of(position).shape for position in site.variable)
        return cls(tuple(map(index, site.variable)), shapes)

    def carried(self, c: FloatArray) -> tuple[FloatArray | None, ...]:
        """Functionals of the chosen operands as functionals of the variable inputs."""
        pairs = zip(self.index, self.shapes, strict=True)
        return tuple(gathered_part(index, shape).adjoint(c) for index, shape in pairs)


def extreme_values(
    site: Site, operands: Sequence[Operand], ranges: Sequence[Interval], sign: float
) -> ValueMap:
    """Below: the leader itself. Above: the chord of max(leader, highest rival) over its range.

    Adding up functionals that fall on one element errs by at most γ of their number; that and the
    rounding of a product are charged at the leader's largest magnitude.
    """
    stack = _stacked(operands)
    lo, hi = _ranges(site, operands, stack, ranges, sign)
    leader = _leader(lo, hi)
    low, high, rival = leader.lo, leader.hi, leader.rival
    dominant = rival <= low
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        slope = (high - rival) / (high - low)
    slope = np.where(np.isfinite(slope), np.clip(slope, 0.0, 1.0), 0.0)
    slope = np.where(dominant, 1.0, np.where(high > rival, slope, 0.0))
    at_low = add_up(np.maximum(low, rival), multiply_up(-slope, low))
    at_high = add_up(np.maximum(high, rival), multiply_up(-slope, high))
    over = np.where(dominant, 0.0, np.maximum(at_low, at_high))
    over = np.where(np.isnan(over), np.inf, over)
    # a stored leader has no coefficient to carry it: its value goes into the constant
    stored = np.isin(
        leader.place, [k for k, c in enumerate(operands) if c.position not in site.variable]
    )
    over = np.where(stored, add_up(over, multiply_up(slope, high)), over)
    under = np.where(stored, low, 0.0)
    largest = np.maximum(np.abs(low), np.abs(high))
    largest = np.where(np.isfinite(largest), largest, np.finfo(np.float64).max)
    places = _Places.of(site, operands, stack, leader.place)
    charge = multiply_up(largest, (4.0 + 2.0 * len(operands) * low.size) * UNIT)

    def backward(c: FloatArray) -> Contribution:
        signed = sign * c
        up, down = np.maximum(signed, 0.0), np.minimum(signed, 0.0)
        coefficients = sign * (up * slope + down)
        constant = add_up(add_up(inner_up(up, over), inner_up(down, under)), dot_up(c, charge))
        return Contribution(places.carried(coefficients), constant)

    return ValueMap(_range(site, operands, stack, ranges, sign), backward)


def extreme_differences(
    site: Site,
    operands: Sequence[Operand],
    ranges: Sequence[Interval],
    errors: Sequence[Radius],
    sign: float,
) -> DifferenceMap:
    """Follows the leader where no rival can rise far above it, else forgets where d came from."""
    stack = _stacked(operands)
    moved = _errors(site, operands, stack, errors)
    absent = stack < 0
    each = np.where(absent, 0.0, moved.bound) if np.any(absent) else moved.bound
    lo, hi = _ranges(site, operands, stack, ranges, sign)
    lo, hi = -add_up(-lo, each), add_up(hi, each)
    leader = _leader(lo, hi)
    possible = (hi >= leader.lo) & ~absent
    below = np.max(np.where(possible, -np.inf, hi), axis=0)
    worst = apply(
        EXTREME,
        e=moved.worst(axis=0, where=possible),
        rival=np.where(below > -np.inf, below, leader.lo),
        low=leader.lo,
    )
    radius = worst.bound
    low, rival = leader.lo, leader.rival
    gap = np.maximum(add_up(rival, -low), 0.0)
    gap = np.where(np.isnan(gap), np.inf, gap)
    if isinstance(ranges[0], Ordered) and site.variable == (0,) and not _positions(operands).any():
        known = (gap > 0) & (radius > 0) & ~np.any(np.isnan(lo) | np.isnan(hi), axis=0)
        told = _exceeding(ranges[0], stack, sign=sign, place=leader.place, asked=possible & known)
        better = known & (told < gap)  # of what is above the leader: of it less the leader, that is
        low, rival = np.where(better, 0.0, low), np.where(better, told, rival)
        gap = np.where(better, told, gap)
    follow = (gap < radius) | (gap == 0)
    own = moved.moved(lambda v: _at(v, leader.place))
    near = apply(LEADER, low=low, rival=rival)
    near = near + own.times(2.0 * len(operands) * gap.size * UNIT)
    remainder = apply(FOLLOWED, m=follow.astype(np.float64), r=worst, q=near)
    places = _Places.of(site, operands, stack, leader.place)

    def backward(c: FloatArray) -> Moved:
        kept = np.where(follow, c, 0.0)
        return Moved(places.carried(kept), remainder.weighed(c))

    return DifferenceMap(worst, backward)


def _exceeding(
    x: Ordered, stack: Index, *, sign: float, place: Index, asked: npt.NDArray[np.bool_]
) -> FloatArray:
    """How far any other operand that is asked about may exceed the chosen one of a maximum (be
    below it, of a minimum), of real and of run-time values: at least 0."""
    chosen = np.take_along_axis(stack, place[None], axis=0)
    others = asked & (stack >= 0) & (stack != chosen)
    beyond = np.zeros(stack.shape)
    if np.any(others):
        ends = stack[others], np.broadcast_to(chosen, stack.shape)[others]
        beyond[others] = x.above(*(ends if sign > 0 else ends[::-1]))
    most: FloatArray = np.max(np.maximum(beyond, 0.0), axis=0)
    return np.where(np.isnan(most), np.inf, most)


def extreme_rounding(site: Site, result: Interval, contract: RuntimeContract) -> RoundingBound:
    """Exact, but for stored operands that are rounded and for flushed subnormals."""
    if not site.outputs[0].dtype.is_float:
        return RoundingBound(exactly_zero(EXACT, site.outputs[0].shape))
    plain = exact_unless_flushed(site, result, contract)
    r = rounder(site, contract)
    lost = exactly_zero(EXACT, ())
    for constant in site.constants:
        if constant is not None and np.asarray(constant).dtype.kind not in "iub":
            lost = lost.or_else(stored_loss(r, np.asarray(constant, np.float64)).worst())
    bound = replace(plain, radius=plain.radius + lost)
    return bound.using("maximum-plane", "maximum-leader", "maximum-difference")


def extreme_operator(
    name: str,
    since: int,
    operands: Callable[[Site], list[Operand]],
    sign: float,
    check: Callable[[Site], None],
) -> Operator:
    """An operator whose result is the largest (sign 1) or smallest (sign −1) of the operands."""

    def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
        return (real_extreme(operands(site), inputs, field, sign),)

    def runtime(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        return (runtime_extreme(operands(site), inputs, arithmetic, sign),)

    def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
        return extreme_values(site, operands(site), ranges, sign)

    def differences(
        site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
    ) -> DifferenceMap:
        return extreme_differences(site, operands(site), ranges, errors, sign)

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
    ) -> RoundingBound:
        return extreme_rounding(site, result, contract)

    return Operator(
        name,
        since,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        followed=(runtime,),
        check=check,
        absorbs=Absorbing(Absorption.ALIKE),
    )
