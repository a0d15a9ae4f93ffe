"""Relative precision of an operator's run-time semantics, followed step by step (Olver 1978).

`RelativeArithmetic` reads an operator's `runtime` as `ErrorArithmetic` does, and keeps beside the
absolute error of every value its relative precision, and what is lost absolutely beside that.
Precisions of factors add up; a sum of two numbers of one sign has the worse of theirs; a rounding
adds u, and what a subnormal result loses is lost absolutely. None of that asks how large the
numbers are, which is why it is tight where absolute errors are hopeless: products, powers and sums
of positive numbers. Where a sum has both signs nothing is known but its absolute error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from encoders.arithmetic.runtime import Relation
from encoders.arithmetic.slices import Slices
from encoders.contract.contract import Contraction
from encoders.functions.exp import EXP
from encoders.functions.function import Function
from encoders.functions.sigmoid import SIGMOID
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, apply, exactly_zero, nothing_known, stacked
from encoders.lemmas.ways.relative import (
    EXPONENTIAL,
    EXTREME,
    IN_ULPS,
    LOST_PRODUCT,
    LOST_QUOTIENT,
    LOST_ROOT,
    LOST_STEP,
    LOST_SUM,
    OFF,
    POWER,
    PRODUCT,
    ROOT,
    ROUNDED,
    SUM,
    SUM_ANY_ORDER,
    SUM_OF_EXACT,
)
from encoders.numbers.enclosure import BoolArray, FloatArray, Interval, add_down, add_up
from encoders.rounding.error_arithmetic import ErrorArithmetic, interval_product
from encoders.rounding.proportions import Proportion, least_magnitude
from encoders.rounding.tracked import (
    Tracked,
    is_power_of_two,
    is_zero,
    is_zero_product,
    largest_of,
)
from onnx_import.graph import Array

_LARGEST_STACK = 2**22
_MARGIN = 4.0  # so far above the smallest normal number what a function computes stays normal
_STEADY = (EXP, SIGMOID)
"""Functions whose logarithm has slopes between −1 and 1."""


@dataclass(frozen=True)
class RelativeArithmetic:
    """Arithmetic on `Proportion` values under one format and contract.

    `errors` follows absolute errors. With `any_order` additions that follow each other may be done
    in any order, whatever order they are asked for in, and products may be fused with them. With
    `normal` no operand or result is below the normal range, as somebody else has to show.
    """

    errors: ErrorArithmetic
    any_order: bool
    normal: bool = False

    def constant(self, values: Array) -> Proportion:
        return Proportion.absolutely(self.errors.constant(values))

    def stored(self, values: Array) -> Proportion:
        """The exact stored numbers; their way to the compute format is their error."""
        return Proportion.absolutely(self.errors.stored(values))

    def add(self, a: Proportion, b: Proportion) -> Proportion:
        return self._sum(a, b, self.errors.add(a.tracked, b.tracked))

    def subtract(self, a: Proportion, b: Proportion) -> Proportion:
        """Never a part of a longer sum, for that has additions alone."""
        tracked = self.errors.subtract(a.tracked, b.tracked)
        return self._rounded_sum(self._read(a), self._read(_negated(b)), tracked)

    def _sum(self, a: Proportion, b: Proportion, tracked: Tracked) -> Proportion:
        a, b = self._read(a), self._read(b)
        if not self.any_order:
            return self._rounded_sum(a, b, tracked)
        additions = a.additions + b.additions + 1
        leaves = _sum_of_precisions(a.leaves, b.leaves, a.ideal, b.ideal)
        parts = a.parts + b.parts
        ideal = _with_signs(tracked.ideal, *_one_sign(a.ideal, b.ideal))
        if additions == 1:  # nothing is left open
            found = self._rounded_sum(a, b, tracked)
            return Proportion(found.tracked, found.precision, found.lost, leaves, parts, additions)
        return self._in_any_order(leaves, parts, additions, ideal, tracked.largest)

    def _in_any_order(
        self, leaves: Radius, parts: Radius, additions: int, ideal: Interval, largest: float
    ) -> Proportion:
        """The sum of leaves of one sign. What is lost of them may turn the sign of one about, so
        that even what is fused to a normal product can become subnormal."""
        r = self.errors.rounder
        precision = apply(SUM_ANY_ORDER, g=leaves, m=float(additions), r=self._rounding(ideal))
        loses = np.zeros(parts.shape)
        if not (r.exact or self.normal):
            fuses = self.errors.contract.contraction is not Contraction.NEVER
            loses = np.where(fuses & (parts.bound > 0), r.underflow, 0.0)
            loses = np.full(parts.shape, r.smallest_normal) if r.flush_results else loses
        lost = apply(LOST_SUM, h=parts, m=float(additions), u=self._unit, E=loses)
        error = apply(OFF, g=precision, h=lost, size=ideal.magnitude)
        with np.errstate(over="ignore", invalid="ignore"):
            reached = largest_of(add_up(ideal.magnitude, error.bound))
        tracked = Tracked(ideal, error, max(largest, reached))
        return Proportion(tracked, precision, lost, leaves, parts, additions)

    def _rounded_sum(self, a: Proportion, b: Proportion, tracked: Tracked) -> Proportion:
        tracked = _signed(tracked, *_one_sign(a.ideal, b.ideal))
        moved = _sum_of_two(a, b)
        rounds = ~(is_zero(a.tracked) | is_zero(b.tracked))
        return self._rounded(moved, a.lost + b.lost, tracked, rounds, sums=True)

    def multiply(self, a: Proportion, b: Proportion) -> Proportion:
        tracked = _signed(self.errors.multiply(a.tracked, b.tracked), *_product_signs(a, b))
        rounds = ~(is_power_of_two(a.tracked) | is_power_of_two(b.tracked))
        exact = self._exact_product(a, b)
        return self._rounded(exact.precision, exact.lost, tracked, rounds)

    def multiply_add(self, a: Proportion, b: Proportion, c: Proportion) -> Proportion:
        """Where it may be fused or not, the worse of both."""
        tracked = self.errors.multiply_add(a.tracked, b.tracked, c.tracked)
        contraction = self.errors.contract.contraction
        if self.any_order or contraction is Contraction.NEVER:
            return self._sum(self.multiply(a, b), c, tracked)
        fused = self._fused(a, b, c, tracked)
        if contraction is Contraction.ALWAYS:
            return fused
        apart = self._sum(self.multiply(a, b), c, tracked)
        precision = apart.precision.or_else(fused.precision)
        return Proportion.of(tracked, precision, apart.lost.or_else(fused.lost))

    def _fused(self, a: Proportion, b: Proportion, c: Proportion, tracked: Tracked) -> Proportion:
        product, c = self._exact_product(a, b), self._read(c)
        tracked = _signed(tracked, *_one_sign(product.ideal, c.ideal))
        lost = product.lost + c.lost
        return self._rounded(_sum_of_two(product, c), lost, tracked, np.ones((), np.bool_))

    def chain(
        self, pairs: Sequence[tuple[Proportion, Proportion]], start: Proportion | None
    ) -> Proportion | None:
        """A chain of multiply-adds, each term of which is charged with every addition; None for
        short or very large ones, which are stepped through."""
        shape = np.broadcast_shapes(
            pairs[0][0].shape, pairs[0][1].shape, *(() if start is None else (start.shape,))
        )
        size = math.prod(shape) * len(pairs)
        if len(pairs) < 4 or size > _LARGEST_STACK:
            return None
        if isinstance(pairs, Slices):
            a, b = pairs.stacked()
        elif all(left is right for left, right in pairs):
            a = b = _stacked([left for left, _ in pairs])
        else:
            a, b = (_stacked([pair[i] for pair in pairs]) for i in (0, 1))
        fused = not self.any_order and self.errors.contract.contraction is Contraction.ALWAYS
        products = self._exact_product(a, b)
        if fused:  # what is rounded may be as small as a product
            lost = self._lost(products.precision, products.lost, products.ideal)
            products = Proportion.alone(products.tracked, products.precision, lost)
        else:
            products = self.multiply(a, b)
        terms = products.ideal
        leaves = _worst_of_one_sign(products.precision, terms)
        parts = products.lost.summed(-1)
        total = _with_signs(
            Interval(-_sum_above(-terms.lo), _sum_above(terms.hi)),
            np.all(terms.lo >= 0, axis=-1),
            np.all(terms.hi <= 0, axis=-1),
        )
        additions = len(pairs) - 1 + (1 if fused and start is None else 0)
        largest = max(products.tracked.largest, largest_of(_sum_above(terms.magnitude)))
        if start is not None:
            begun = self._read(start)
            leaves = _sum_of_precisions(leaves, begun.leaves, total, begun.ideal)
            parts = parts + begun.parts
            both = _one_sign(total, begun.ideal)
            total = Interval(add_down(total.lo, begun.ideal.lo), add_up(total.hi, begun.ideal.hi))
            total = _with_signs(total, *both)
            additions += 1 + begun.additions
            largest = max(largest, begun.tracked.largest)
        total = total.move(lambda v: np.broadcast_to(v, shape))
        found = self._in_any_order(leaves.on(shape), parts.on(shape), additions, total, largest)
        if self.any_order:
            return found
        return Proportion.alone(found.tracked, found.precision, found.lost)

    def divide(self, a: Proportion, b: Proportion) -> Proportion:
        tracked = _signed(self.errors.divide(a.tracked, b.tracked), *_product_signs(a, b))
        x, y = self._read(a), self._read(b)
        below = y.absorbed
        zero = np.broadcast_to(is_zero(a.tracked), tracked.shape).astype(np.float64)
        moved = apply(PRODUCT, g=x.precision, h=below, zero=zero)
        lost = apply(LOST_QUOTIENT, e=x.lost, g=below, low=least_magnitude(y.ideal))
        return self._rounded(moved, lost, tracked, ~is_power_of_two(b.tracked))

    def sqrt(self, a: Proportion) -> Proportion:
        """Roots of numbers of a format are in its normal range."""
        tracked = self.errors.sqrt(a.tracked)
        x = self._read(a)
        whole = x.absorbed
        if whole.largest < np.inf:
            x = Proportion.of(x.tracked, whole, exactly_zero(EXACT, x.shape))
        with np.errstate(over="ignore", invalid="ignore"):
            near = np.where(x.lost.bound > 0, np.sqrt(x.lost.bound) * (1 + 2.0**-50), 0.0)
            near = np.where(near > 0, np.maximum(near, 2.0**-510), near)
        lost = apply(LOST_ROOT, e=x.lost, R=near)
        least = np.maximum(x.tracked.computed.lo, x.least)
        defined = np.asarray((x.ideal.lo >= 0.0) & (least >= 0.0))
        if not defined.all():
            return Proportion.absolutely(tracked)
        moved = apply(ROOT, g=x.precision)
        return self._rounded(moved, lost, tracked, np.ones((), np.bool_), sums=True)

    def maximum(self, a: Proportion, b: Proportion) -> Proportion:
        tracked = self.errors.maximum(a.tracked, b.tracked)
        x, y = self._read(a), self._read(b)
        moved = apply(EXTREME, g=x.precision, h=y.precision)
        lost = x.lost.or_else(y.lost)
        return self._rounded(moved, lost, tracked, np.zeros((), np.bool_), sums=True)

    def minimum(self, a: Proportion, b: Proportion) -> Proportion:
        return self.negate(self.maximum(self.negate(a), self.negate(b)))

    def negate(self, a: Proportion) -> Proportion:
        return _negated(self._read(a))

    def absolute(self, a: Proportion) -> Proportion:
        x = self._read(a)
        return Proportion.of(self.errors.absolute(a.tracked), x.precision, x.lost)

    def function(self, f: Function, a: Proportion) -> Proportion:
        tracked = self.errors.function(f, a.tracked)
        own = self._accuracy(f)
        if f not in _STEADY or own is None:
            return Proportion.absolutely(tracked)
        error, r = a.tracked.error, self.errors.rounder
        if r.flush_operands and not r.exact:
            error = error + r.operand_loss(a.tracked.computed)
        return self._of_function(f, apply(EXPONENTIAL, e=error), own, tracked)

    def power(self, f: Function, a: Proportion, exponent: float, ideal: Interval) -> Proportion:
        """A power with an exact exponent, of real values in a range, computed by one function."""
        x, own = self._read(a).absorbed, self._accuracy(f)
        unknown = Tracked(ideal, nothing_known(ideal.shape), largest_of(ideal.magnitude))
        if own is None:
            return Proportion.absolutely(unknown)
        return self._of_function(f, apply(POWER, g=x, N=abs(exponent)), own, unknown)

    def _of_function(self, f: Function, moved: Radius, own: Radius, tracked: Tracked) -> Proportion:
        """A result of a function that moved on computed arguments, and has the precision `own`
        where it is normal."""
        r = self.errors.rounder
        exact = r.exact or self.normal
        lost = apply(
            LOST_STEP,
            g=moved,
            h=exactly_zero(EXACT, tracked.shape),
            d=0.5,
            low=least_magnitude(tracked.ideal),
            size=tracked.ideal.magnitude,
            least=0.0 if exact else _MARGIN * r.smallest_normal,
            E=0.0 if exact else self._small_results(f),
        )
        return Proportion.of(tracked, moved + own.on(tracked.shape), lost)

    def _small_results(self, f: Function) -> float:
        """What a function errs by in results below `_MARGIN` times the smallest normal number,
        where an ulp is at most twice the smallest one."""
        r, ulps = self.errors.rounder, self.errors.contract.functions.accuracy(f).ulps
        own = 4.0 * max(0.0 if ulps is None else ulps, 1.0)
        own *= max(float(r.format.smallest_subnormal), 2.0**-1074)
        return own + (2.0 * r.smallest_normal if r.flush_results else 0.0)

    def _accuracy(self, f: Function) -> Radius | None:
        """What a function costs in the normal range, None where that is only known absolutely."""
        accuracy, r = self.errors.contract.functions.accuracy(f), self.errors.rounder
        if r.exact:
            return exactly_zero(EXACT, ())
        if accuracy.ulps is None or (accuracy.flushes and not r.flush_results):
            return None
        if accuracy.is_rounding:
            return apply(ROUNDED, u=r.unit, w=1.0)
        relative = 2.0 * r.unit * accuracy.ulps
        return apply(IN_ULPS, D=relative) if relative <= 0.5 else None

    def floor(self, a: Proportion) -> Proportion:
        return Proportion.absolutely(self.errors.floor(a.tracked))

    def nearest(self, a: Proportion) -> Proportion:
        return Proportion.absolutely(self.errors.nearest(a.tracked))

    def compare(self, relation: Relation, a: Proportion, b: Proportion) -> Proportion:
        return Proportion.absolutely(self.errors.compare(relation, a.tracked, b.tracked))

    def select(self, condition: Proportion, a: Proportion, b: Proportion) -> Proportion:
        found = self.errors.select(condition.tracked, a.tracked, b.tracked)
        return Proportion.absolutely(found)

    def converted(self, a: Proportion) -> Proportion:
        """A number of a wider format, rounded once to this one."""
        unknown = Tracked(a.ideal, nothing_known(a.shape), a.tracked.largest)
        return self._rounded(a.precision, a.lost, unknown, np.ones((), np.bool_))

    def between(self, a: Proportion, low: float, high: float) -> Proportion:
        """The same value, whose real value lies there."""
        ideal = Interval(np.maximum(a.ideal.lo, low), np.minimum(a.ideal.hi, high))
        return replace(a, tracked=replace(a.tracked, ideal=ideal))

    @property
    def _unit(self) -> float:
        r = self.errors.rounder
        return 0.0 if r.exact else r.unit

    def _rounding(self, ideal: Interval, rounds: BoolArray | None = None) -> Radius:
        """Of a rounding to nearest in the normal range, where there is one."""
        where = np.ones(ideal.shape) if rounds is None else np.broadcast_to(rounds, ideal.shape)
        return apply(ROUNDED, u=self._unit, w=where.astype(np.float64))

    def _read(self, a: Proportion) -> Proportion:
        """An operand as it is read: a subnormal one may be lost."""
        r = self.errors.rounder
        if r.exact or self.normal or not r.flush_operands:
            return a
        flushed = r.operand_loss(a.tracked.computed)
        if not np.any(flushed.bound):
            return a
        lost, parts = a.lost + flushed, a.parts + flushed
        return Proportion(a.tracked, a.precision, lost, a.leaves, parts, a.additions)

    def _exact_product(self, a: Proportion, b: Proportion) -> Proportion:
        """Before it is rounded; nothing is said of its absolute error."""
        x, y = self._read(a), self._read(b)
        zero = is_zero_product(a.tracked, b.tracked).astype(np.float64)
        precision = apply(PRODUCT, g=x.precision, h=y.precision, zero=zero)
        lost = apply(
            LOST_PRODUCT,
            e=x.lost,
            f=y.lost,
            g=x.precision,
            h=y.precision,
            X=x.ideal.magnitude,
            Y=y.ideal.magnitude,
            P=_grown(x),
            Q=_grown(y),
        )
        ideal = _with_signs(interval_product(a.ideal, b.ideal), *_product_signs(a, b))
        tracked = Tracked(ideal, nothing_known(ideal.shape), largest_of(ideal.magnitude))
        return Proportion.alone(tracked, precision, lost)

    def _rounded(
        self,
        moved: Radius,
        lost: Radius,
        tracked: Tracked,
        rounds: BoolArray,
        *,
        sums: bool = False,
    ) -> Proportion:
        """A result that moved on computed operands and is rounded then; of `sums` subnormal
        results are exact."""
        own = self._rounding(tracked.ideal, rounds)
        kept = self._lost(moved, lost, tracked.ideal, sums=sums)
        return Proportion.of(tracked, moved + own, kept)

    def _lost(
        self,
        moved: Radius,
        lost: Radius,
        ideal: Interval,
        *,
        sums: bool = False,
    ) -> Radius:
        """What a result is off by beside its precision once it is rounded."""
        r = self.errors.rounder
        exact = r.exact or self.normal or (sums and not r.flush_results)
        return apply(
            LOST_STEP,
            g=moved,
            h=lost,
            d=self._unit,
            low=least_magnitude(ideal),
            size=ideal.magnitude,
            least=0.0 if exact else r.smallest_normal,
            E=0.0 if exact else r.underflow,
        )


def _grown(a: Proportion) -> FloatArray:
    """At least the magnitude of what has this precision."""
    g = a.precision.bound
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        most = a.ideal.magnitude * (1.0 + 2.0**-48) / (1.0 - g)
    return np.where(g < 1.0, most, np.inf)


def _negated(a: Proportion) -> Proportion:
    ideal = Interval(-a.ideal.hi, -a.ideal.lo)
    tracked = Tracked(ideal, a.tracked.error, a.tracked.largest)
    return Proportion.alone(tracked, a.precision, a.lost)


def _sum_of_precisions(g: Radius, h: Radius, x: Interval, y: Interval) -> Radius:
    return apply(SUM, g=g, h=h, lo=x.lo, hi=x.hi, lo2=y.lo, hi2=y.hi)


def _sum_of_two(a: Proportion, b: Proportion) -> Radius:
    """Of a sum that is no part of a longer one, before it is rounded."""
    found = _sum_of_precisions(a.precision, b.precision, a.ideal, b.ideal)
    if found.largest < np.inf:
        return found
    return found.and_also(apply(SUM_OF_EXACT, g=a.precision, h=b.precision))


def _worst_of_one_sign(precision: Radius, terms: Interval) -> Radius:
    """The worst along the last axis, where all terms there have one sign."""
    lo, hi = np.min(terms.lo, axis=-1), np.max(terms.hi, axis=-1)
    worst = precision.worst(axis=-1)
    return _sum_of_precisions(worst, worst, Interval(lo, hi), Interval(lo, hi))


def _one_sign(x: Interval, y: Interval) -> tuple[BoolArray, BoolArray]:
    """Where both are at least 0, and where both are at most 0."""
    return np.asarray((x.lo >= 0) & (y.lo >= 0)), np.asarray((x.hi <= 0) & (y.hi <= 0))


def _product_signs(a: Proportion, b: Proportion) -> tuple[BoolArray, BoolArray]:
    """Where products or quotients are at least 0, and where at most 0: a square always is."""
    x, y = a.ideal, b.ideal
    if a is b:
        return np.ones(a.shape, np.bool_), np.zeros(a.shape, np.bool_)
    up, down = _one_sign(x, y)
    across = ((x.lo >= 0) & (y.hi <= 0)) | ((x.hi <= 0) & (y.lo >= 0))
    return np.asarray(up | down), np.asarray(across)


def _with_signs(x: Interval, up: BoolArray, down: BoolArray) -> Interval:
    """The range, of numbers that are at least 0 here, and at most 0 there."""
    return Interval(
        np.where(up, np.maximum(x.lo, 0.0), x.lo), np.where(down, np.minimum(x.hi, 0.0), x.hi)
    )


def _signed(tracked: Tracked, up: BoolArray, down: BoolArray) -> Tracked:
    return Tracked(_with_signs(tracked.ideal, up, down), tracked.error, tracked.largest)


def _sum_above(a: FloatArray) -> FloatArray:
    """An upper bound on the sums along the last axis."""
    up = np.sum(np.maximum(a, 0.0), axis=-1)
    down = np.sum(np.maximum(-a, 0.0), axis=-1)
    terms = a.shape[-1]
    slack = (up + down) * ((2 * terms + 8) * 2.0**-53)
    return np.asarray(up - down + slack + np.where(slack > 0, 2.0**-1070, 0.0))


def _stacked(terms: Sequence[Proportion]) -> Proportion:
    def together(tensors: Sequence[FloatArray]) -> FloatArray:
        return np.stack(tensors, axis=-1)

    ideal = Interval(together([t.ideal.lo for t in terms]), together([t.ideal.hi for t in terms]))
    error = stacked([t.tracked.error for t in terms])
    tracked = Tracked(ideal, error, max(t.tracked.largest for t in terms))
    precision, lost = stacked([t.precision for t in terms]), stacked([t.lost for t in terms])
    return Proportion.alone(tracked, precision, lost)
