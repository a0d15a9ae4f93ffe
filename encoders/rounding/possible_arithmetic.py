"""What operations may give of what each operand may be: `Arithmetic` over `Possible`.

Every operation is bounded by its ends, which are numbers of the format: rounding to nearest is
monotone, so that the rounded ends enclose every rounded result, and what rounds to 0 may be 0.
NaN arises of ∞ − ∞, 0·∞, 0/0, ∞/∞, a root or logarithm of a negative number and of arguments that
a function has no value at, and of NaN.

Sums are those of any order and any placing of the bias, with products fused or not: each partial
sum is a monotone function of its terms, so that it is at most the sum of the positive ones, which
roundings and numbers that are lost below the normal ones make at most (1 + u)^K times larger, K the
number of roundings. Where partial sums may be +∞ and −∞ a sum may be NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from encoders.arithmetic.possible import Possible
from encoders.arithmetic.runtime import Relation
from encoders.arithmetic.slices import Slices
from encoders.contract.contract import Contraction, RuntimeContract, Subnormals
from encoders.curves.curves import range_of
from encoders.functions.function import Function
from encoders.functions.log import LOG
from encoders.numbers.enclosure import BoolArray, FloatArray, Interval, add_up, multiply_up
from encoders.numbers.formats import BINARY32, BINARY64, FloatFormat, round_array
from onnx_import.graph import Array, DType

_EXTRA = 8  # roundings beyond those of a sum's own terms, of zeros that runtimes may add to it


@dataclass(frozen=True)
class PossibleArithmetic:
    """`Arithmetic[Possible]` of one format under one contract, whose sums may be in any order."""

    format: FloatFormat
    contract: RuntimeContract

    def of_type(self, dtype: DType) -> PossibleArithmetic:
        return self.in_format(self.contract.format_of(dtype))

    def in_format(self, fmt: FloatFormat) -> PossibleArithmetic:
        return replace(self, format=fmt)

    def integers(self) -> PossibleArithmetic:
        keep = replace(self.contract, results=Subnormals.KEEP, operands=Subnormals.KEEP)
        return PossibleArithmetic(BINARY64, keep)

    def converted(self, a: Possible) -> Possible:
        with np.errstate(all="ignore"):
            below = self._rounded(-a.below_most), self._rounded(-a.below_least)
            above = self._rounded(a.above_least), self._rounded(a.above_most)
        found = self._within(*below).where(a.below).either(self._within(*above).where(a.above))
        return self._result(found.either(_zeros(a.zero))).or_nan(a.nan)

    def read(self, a: Possible) -> Possible:
        return self._flushed(a, self.contract.operands)

    def constant(self, values: Array) -> Possible:
        """A number that a format of less than float32 does not hold may be either neighbour: some
        runtimes have it in float32."""
        exact = np.asarray(values).astype(np.float64)[np.newaxis]
        near = self._rounded(exact)
        low, high = near, near
        if not self.format.holds(BINARY32):
            low = np.where(near > exact, self._down(exact), near)
            high = np.where(near < exact, self._up(exact), near)
        found = self._within(low, high)
        return found.where(~np.isnan(exact)).or_nan(np.isnan(exact))

    def add(self, a: Possible, b: Possible) -> Possible:
        a, b = self.read(a), self.read(b)
        with np.errstate(all="ignore"):
            nan = (a.falls & b.rises) | (a.rises & b.falls)
            found = self._signed(
                a.below_least + b.below_least, a.below_most + b.below_most, a.below & b.below
            ).negated()
            found = found.either(
                self._signed(
                    a.above_least + b.above_least, a.above_most + b.above_most, a.above & b.above
                )
            )
            for x, y in ((a, b), (b, a)):
                crossed = self._within(
                    self._rounded(x.above_least - y.below_most),
                    self._rounded(x.above_most - y.below_least),
                ).where(x.above & y.below)
                found = found.either(crossed).either(replace(y.where(x.zero), nan=_no(x, y)))
        return self._result(found).or_nan(nan | _carried(a, b))

    def subtract(self, a: Possible, b: Possible) -> Possible:
        return self.add(a, b.negated())

    def multiply(self, a: Possible, b: Possible) -> Possible:
        same = a is b
        a, b = self.read(a), self.read(b)
        with np.errstate(all="ignore"):
            found = self._signed(
                a.above_least * b.above_least, a.above_most * b.above_most, a.above & b.above
            ).either(
                self._signed(
                    a.below_least * b.below_least, a.below_most * b.below_most, a.below & b.below
                )
            )
            if same:
                return self._result(found.either(_zeros(a.zero))).or_nan(a.nan)
            for x, y in ((a, b), (b, a)):
                opposite = self._signed(
                    x.above_least * y.below_least, x.above_most * y.below_most, x.above & y.below
                )
                found = found.either(opposite.negated())
        zero = (a.zero & b.some) | (b.zero & a.some)
        nan = (a.zero & b.infinite) | (b.zero & a.infinite)
        return self._result(found.either(_zeros(zero))).or_nan(nan | _carried(a, b))

    def divide(self, a: Possible, b: Possible) -> Possible:
        a, b = self.read(a), self.read(b)
        found = _zeros(a.zero & (b.below | b.above))
        for x in (a, a.negated()):
            for y in (b, b.negated()):
                positive = self._signed(
                    *_quotient(x.above_least, x.above_most, y.above_least, y.above_most),
                    x.above & y.above,
                )
                found = found.either(positive if (x is a) == (y is b) else positive.negated())
        endless = self._within(np.full((1,) * a.nan.ndim, np.inf), np.inf)
        over = (a.below | a.above) & b.zero  # by a zero of either sign
        found = found.either(endless.where(over)).either(endless.negated().where(over))
        nan = (a.zero & b.zero) | (a.infinite & b.infinite)
        return self._result(found).or_nan(nan | _carried(a, b))

    def sqrt(self, a: Possible) -> Possible:
        a = self.read(a)
        found = self._signed(np.sqrt(a.above_least), np.sqrt(a.above_most), a.above)
        return self._result(found.either(_zeros(a.zero))).or_nan(a.nan | a.below)

    def maximum(self, a: Possible, b: Possible) -> Possible:
        """The other number, too, where one is NaN."""
        a, b = self.read(a), self.read(b)
        both = a.some & b.some
        found = self._within(np.maximum(a.lo, b.lo), np.maximum(a.hi, b.hi)).where(both)
        either = replace(a.either(b), nan=_no(a, b))
        found = found.both(replace(either, nan=np.ones(found.shape, bool)))
        zero = (a.zero & (b.zero | b.below)) | (b.zero & a.below)
        found = replace(found, nonzero=~zero, nan=_no(a, b))
        for x, y in ((a, b), (b, a)):
            found = found.either(replace(x.where(y.nan), nan=_no(x, y)))
        return found.or_nan(_carried(a, b))

    def minimum(self, a: Possible, b: Possible) -> Possible:
        return self.maximum(a.negated(), b.negated()).negated()

    def negate(self, a: Possible) -> Possible:
        return a.negated()

    def absolute(self, a: Possible) -> Possible:
        return a.absolute()

    def floor(self, a: Possible) -> Possible:
        a = self.read(a)
        return self._within(np.floor(a.lo), np.floor(a.hi)).where(a.some).or_nan(a.nan)

    def nearest(self, a: Possible) -> Possible:
        a = self.read(a)
        return self._within(np.rint(a.lo), np.rint(a.hi)).where(a.some).or_nan(a.nan)

    def compare(self, relation: Relation, a: Possible, b: Possible) -> Possible:
        same = a is b  # one number, whatever it is
        a, b = self.read(a), self.read(b)
        some = a.some & b.some
        match relation:
            case Relation.LESS:
                true, false = a.lo < b.hi, a.hi >= b.lo
            case Relation.AT_MOST:
                true, false = a.lo <= b.hi, a.hi > b.lo
            case Relation.EQUAL:
                common = a.both(b)
                true = common.some
                false = (a.lo < a.hi) | (b.lo < b.hi) | (a.lo != b.lo)
        if same:
            strict = relation is Relation.LESS
            true, false = true & (not strict), false & strict
        false = (false & some) | (a.nan & b.any) | (b.nan & a.any)
        return self._truth(true & some, false)

    def _truth(self, true: BoolArray, false: BoolArray) -> Possible:
        one = np.where(true, 1.0, 0.0)
        none = np.zeros(one.shape)
        return Possible(none, none, one, one, ~false, np.zeros(one.shape, bool))

    def select(self, condition: Possible, a: Possible, b: Possible) -> Possible:
        """A copy, which a runtime that flushes where it likes may flush, too."""
        chosen = condition.below | condition.above | condition.nan
        shape = np.broadcast_shapes(condition.shape, a.shape, b.shape)
        found = a.where(np.broadcast_to(chosen, shape)).either(
            b.where(np.broadcast_to(condition.zero, shape))
        )
        either = Subnormals.EITHER in (self.contract.results, self.contract.operands)
        return self._flushed(found, Subnormals.EITHER) if either else found

    def between(self, a: Possible, low: float, high: float) -> Possible:
        """Of powers and their sum in a softmax, where the runtime's are within a factor of 2: the
        scores less the largest of them are at most 0 as they run, too, and that one's power is 1
        but for the accuracy of the exponential."""
        u = float(self.format.unit_roundoff)
        if u > 2.0**-8 or high * u > 2.0**-4:
            return a
        known = self._within(np.full(a.shape, low / 2), np.full(a.shape, high * 2))
        return a.both(replace(known, nan=np.ones(a.shape, bool)))

    def spoiled(self, a: Possible, by: Possible) -> Possible:
        """What is left of both: nothing but NaN where `by` is surely NaN or +∞."""
        fine = by.below | by.zero | (by.above & (by.above_least < np.inf))
        nan = (by.nan | by.rises) & a.any
        return a.where(np.broadcast_to(fine, nan.shape)).or_nan(nan)

    def function(self, f: Function, a: Possible) -> Possible:
        a = self.read(a)
        most = float(self.format.largest_finite)
        below = (-np.minimum(a.below_most, most), -np.minimum(a.below_least, most))
        above = (np.minimum(a.above_least, most), np.minimum(a.above_most, most))
        zero = np.zeros(a.shape)
        found = _nothing(a.shape)
        for (low, high), there in ((below, a.below), (above, a.above), ((zero, zero), a.zero)):
            if np.any(there):
                found = found.either(self._on(f, low, high, there))
        for end, there in ((-np.inf, a.falls), (np.inf, a.rises)):
            limit = np.asarray(f.in_floats(np.array([end])))[0]
            value = self._around(f, np.full(a.shape, limit), np.full(a.shape, limit))
            found = found.either(_or_nan_of(value, np.isnan(limit)).where(there))
        accuracy = self.contract.functions.accuracy(f)
        found = self._result(found)
        found = self._flushed(found, Subnormals.EITHER) if accuracy.flushes else found
        return found.or_nan(a.nan)

    def _on(self, f: Function, low: FloatArray, high: FloatArray, there: BoolArray) -> Possible:
        """On finite arguments of one sign, or on 0."""
        least, most = f.domain or ((0.0, np.inf) if f is LOG else (-np.inf, np.inf))
        inside = there & (high >= least) & (low <= most)
        first = np.where(inside, np.maximum(low, least), max(least, 1.0 if f is LOG else least))
        last = np.where(inside, np.minimum(high, most), first)
        first = np.where(np.isfinite(first), first, 0.0)
        last = np.where(np.isfinite(last), last, 0.0)
        outside = there & ((low < least) | (high > most))
        if f is LOG:
            pole = there & (low <= 0) & (high >= 0)
            first, last = np.maximum(first, 2.0**-1074), np.maximum(last, 2.0**-1074)
            found = self._ends(f, first, last).where(inside & ~pole)
            endless = self._within(np.full(low.shape, -np.inf), np.full(low.shape, -np.inf))
            return found.either(endless.where(pole)).or_nan(there & (low < 0))
        found = self._ends(f, first, last).where(inside)
        return found.either(Possible.anything(low.shape, nan=True).where(outside))

    def _ends(self, f: Function, low: FloatArray, high: FloatArray) -> Possible:
        with np.errstate(all="ignore"):
            reached = range_of(f.shape, Interval(low, high))
        return self._around(f, reached.lo, reached.hi)

    def _around(self, f: Function, low: FloatArray, high: FloatArray) -> Possible:
        """What is computed of values in a range, as accurately as the contract says."""
        accuracy, u = self.contract.functions.accuracy(f), float(self.format.unit_roundoff)
        least, whole = float(self.format.smallest_subnormal), np.full(low.shape, np.inf)
        codomain = f.shape.range(Interval(-whole, whole))
        with np.errstate(all="ignore"):
            if accuracy.ulps is not None:
                off = [add_up(2.0 * accuracy.ulps * u * np.abs(v), accuracy.ulps * least)
                       for v in (low, high)]  # fmt: skip
            else:
                assert accuracy.units is not None
                off = [np.full(low.shape, accuracy.units * u)] * 2
            first = np.where(np.isinf(low), low, low - multiply_up(off[0], 1.0 + 2.0**-40))
            last = np.where(np.isinf(high), high, high + multiply_up(off[1], 1.0 + 2.0**-40))
            more = accuracy.excess * u
            first, last = self._down(first), self._up(last)
            first = np.maximum(first, self._down(codomain.lo - more))
            last = np.minimum(last, self._up(codomain.hi + more))
        return self._within(first, last)

    def multiply_add(self, a: Possible, b: Possible, c: Possible) -> Possible:
        """Fused or not: a product that is not rounded lies between its neighbours."""
        separate = self.add(self.multiply(a, b), c)
        if self.contract.contraction is Contraction.NEVER:
            return separate
        return separate.either(self._total([self._term(a, b), self.read(c)]))

    def _term(self, a: Possible, b: Possible) -> Possible:
        """A product as a sum may add it: one that is not rounded has a sign where it would round
        to 0."""
        found = self.multiply(a, b)
        if self.contract.contraction is Contraction.NEVER:
            return found
        x, y = self.read(a), self.read(b)
        least = np.full((1,) * found.nan.ndim, float(self.format.smallest_subnormal))
        alike = ((x.above & y.above) | (x.below & y.below)) & found.zero
        apart = ((x.above & y.below) | (x.below & y.above)) & found.zero
        found = found.either(self._within(least, least).where(alike))
        return found if a is b else found.either(self._within(-least, -least).where(apart))

    def sum_of_products(
        self, pairs: Sequence[tuple[Possible, Possible]], bias: Possible | None
    ) -> Possible:
        """Σ a_k·b_k (+ bias) in any order, fused or not."""
        square = isinstance(pairs, Slices) and pairs.same
        terms = [self._term(a, a if square else b) for a, b in pairs]
        return self._total([*terms, *([] if bias is None else [self.read(bias)])])

    def sum_of_terms(self, terms: Sequence[Possible]) -> Possible:
        """Σ terms in any order."""
        return self._total([self.read(t) for t in terms])

    def _total(self, terms: Sequence[Possible]) -> Possible:
        if len(terms) == 1:  # which may be added to 0
            return terms[0].either(self._result(terms[0]))
        count = len(terms) + _EXTRA
        shape = np.broadcast_shapes(*(t.shape for t in terms))
        low, high, down, up, floor = (np.zeros(shape) for _ in range(5))
        known, nan, falls, rises = np.ones(shape, bool), *(np.zeros(shape, bool) for _ in range(3))
        least, none = np.zeros(shape, bool), np.zeros(shape, bool)
        with np.errstate(all="ignore"):
            for t in terms:
                low, high = -add_up(-low, -_finite(t.lo)), add_up(high, _finite(t.hi))
                down, up = add_up(down, t.below_most), add_up(up, t.above_most)
                floor = np.where(
                    known := known & ~t.below, np.maximum(floor, np.where(t.zero, 0.0, t.lo)), 0.0
                )
                nan, falls, rises = nan | t.nan, falls | t.falls, rises | t.rises
                least, none = least | t.below | t.above, none | ~t.any
            grown = (1.0 + float(self.format.unit_roundoff)) ** count * (1.0 + 2.0**-40)
            lost = multiply_up(np.full(shape, self._lost() * count), grown)
            down, up = multiply_up(down, grown) + lost, multiply_up(up, grown) + lost
            beyond = float(self.format.largest_finite)
            falls |= (down >= beyond) & (down > lost)
            rises |= (up >= beyond) & (up > lost)
            off = multiply_up(add_up(down, up), (grown - 1.0) * 1.0001) + 2.0 * lost
            first = np.where(falls, -np.inf, np.maximum(low - off, -down))
            last = np.where(rises, np.inf, np.minimum(high + off, up))
            first, last = self._down(first), self._up(last)
            first = np.where(known, np.maximum(first, 0.0), first)
            if self.contract.operands is not Subnormals.KEEP:  # partial sums are read, too
                floor = np.where(floor < float(self.format.smallest_normal), 0.0, floor)
            first = np.where(known, np.maximum(first, floor), first)
        found = self._within(first, last).where(least).either(_zeros(~least))
        return self._result(found).or_nan(nan | (falls & rises)).where(~none)

    def _lost(self) -> float:
        """What one operation may lose to 0, beside its relative error."""
        flushes = (self.contract.results, self.contract.operands) != (Subnormals.KEEP,) * 2
        return float(self.format.smallest_normal if flushes else self.format.smallest_subnormal)

    def _signed(self, least: FloatArray, most: FloatArray, there: BoolArray) -> Possible:
        """The positive numbers between two ends, rounded."""
        with np.errstate(all="ignore"):
            return self._within(self._rounded(least), self._rounded(most)).where(there)

    def _within(self, low: FloatArray, high: FloatArray | float) -> Possible:
        return Possible.within(low, np.asarray(high), float(self.format.smallest_subnormal))

    def _result(self, a: Possible) -> Possible:
        return self._flushed(a, self.contract.results)

    def _flushed(self, a: Possible, how: Subnormals) -> Possible:
        """Where numbers below the normal ones are, or may be, taken for 0."""
        if how is Subnormals.KEEP:
            return a
        tiny = float(self.format.smallest_normal)
        small = (a.below & (a.below_least < tiny)) | (a.above & (a.above_least < tiny))
        found = replace(a, nonzero=a.nonzero & ~small)
        if how is Subnormals.EITHER:
            return found
        below, above = a.below_most >= tiny, a.above_most >= tiny
        return replace(
            found,
            below_least=np.where(below, np.maximum(a.below_least, tiny), 0.0),
            below_most=np.where(below, a.below_most, 0.0),
            above_least=np.where(above, np.maximum(a.above_least, tiny), 0.0),
            above_most=np.where(above, a.above_most, 0.0),
        )

    def _rounded(self, values: FloatArray) -> FloatArray:
        """Numbers of float64 rounded to the format; what was an operation on two numbers of the
        format before is rounded as that operation is (see `NumpyArithmetic`)."""
        if self.format == BINARY64:
            return values
        if self.format == BINARY32:
            return values.astype(np.float32).astype(np.float64)
        return round_array(values, self.format)

    def _up(self, values: FloatArray) -> FloatArray:
        """A number of the format that is no smaller."""
        step = 2.0 * float(self.format.unit_roundoff)
        with np.errstate(all="ignore"):
            more = np.abs(values) * step + float(self.format.smallest_subnormal)
            near = self._rounded(values)
            return np.where(near >= values, near, self._rounded(values + more))

    def _down(self, values: FloatArray) -> FloatArray:
        return -self._up(-values)


def _quotient(
    a_least: FloatArray, a_most: FloatArray, b_least: FloatArray, b_most: FloatArray
) -> tuple[FloatArray, FloatArray]:
    with np.errstate(all="ignore"):
        return a_least / b_most, a_most / b_least


def _finite(ends: FloatArray) -> FloatArray:
    """Ends of a range that may be empty, of which the sum is then nobody's business."""
    return np.where(np.isnan(ends), 0.0, ends)


def _nothing(shape: tuple[int, ...]) -> Possible:
    none = np.zeros(shape)
    return Possible(none, none, none, none, np.ones(shape, bool), np.zeros(shape, bool))


def _zeros(there: BoolArray) -> Possible:
    none = np.zeros(there.shape)
    return Possible(none, none, none, none, ~there, np.zeros(there.shape, bool))


def _or_nan_of(a: Possible, nan: bool) -> Possible:
    return _nothing(a.shape).or_nan(np.ones(a.shape, bool)) if nan else a


def _no(a: Possible, b: Possible) -> BoolArray:
    return np.zeros(np.broadcast_shapes(a.shape, b.shape), bool)


def _carried(a: Possible, b: Possible) -> BoolArray:
    """Where a NaN is read."""
    return (a.nan & b.any) | (b.nan & a.any)
