"""First-order forms over many boxes at once: tight enclosures of what depends on few inputs.

Over the box mid + rad·t, t ∈ [−1, 1]ⁿ, a form says that a quantity is within `radius` of
`centre` + `slope`·t, and within [`lo`, `hi`] (affine arithmetic, Comba & Stolfi 1993, with the
remainder kept as one interval). Dependences on the inputs survive to first order, so enclosures
converge quadratically as boxes shrink, those of differences of near-equal quantities included.

All numbers are float64, and every operation adds to `radius` what its own roundings may have
changed: an operation on coefficients of total magnitude M commits at most some multiple of M·2^-53
and of 2^-1074, of which `_PAD` and `_TINY` are generous upper bounds. What is not finite counts as
unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.arithmetic.approximate_field import approximate_function
from encoders.curves.curves import band_of, range_of
from encoders.functions.function import Function
from encoders.numbers.enclosure import UNIT, BoolArray, FloatArray, Interval, add_down, add_up
from encoders.rounding.error_arithmetic import interval_product, interval_quotient

_PAD = 64.0 * UNIT
_TINY = 2.0**-1060
_UP = 1.0 + 16.0 * UNIT


@dataclass(frozen=True, eq=False)
class Form:
    """One quantity over N boxes of n inputs: `slope` is (n, N), the rest (N,); N = 1 broadcasts."""

    centre: FloatArray
    slope: FloatArray
    radius: FloatArray
    lo: FloatArray
    hi: FloatArray

    @property
    def range(self) -> Interval:
        return Interval(self.lo, self.hi)

    @property
    def spread(self) -> FloatArray:
        """Σ|slope|, rounded up."""
        return np.asarray(np.sum(np.abs(self.slope), axis=0) * (1.0 + len(self.slope) * _PAD))

    @property
    def size(self) -> FloatArray:
        return np.maximum(np.abs(self.lo), np.abs(self.hi))

    def inflate(self, by: FloatArray) -> Form:
        """Everything within `by` of the quantity."""
        if not np.any(by):
            return self
        wider = self.range.inflate(by)
        return Form(self.centre, self.slope, (self.radius + by) * _UP + _TINY, wider.lo, wider.hi)

    def scaled(self, factor: FloatArray, shift: FloatArray, slack: FloatArray) -> Form:
        """factor·self + shift, and anything within `slack` of it."""
        centre, slope = self.centre * factor + shift, self.slope * factor
        size = (np.abs(self.centre) + self.spread) * np.abs(factor) + np.abs(shift)
        radius = self.radius * np.abs(factor) + slack + size * _PAD
        return _form(centre, slope, radius)

    def __neg__(self) -> Form:
        return Form(-self.centre, -self.slope, self.radius, -self.hi, -self.lo)

    def __add__(self, other: Form | int) -> Form:
        if isinstance(other, np.ndarray):
            return NotImplemented
        if isinstance(other, int):
            return self + _number(other, self)
        centre, slope = self.centre + other.centre, self.slope + other.slope
        size = np.abs(self.centre) + np.abs(other.centre) + self.spread + other.spread
        radius = self.radius + other.radius + size * _PAD
        lo, hi = add_down(self.lo, other.lo), add_up(self.hi, other.hi)
        return _form(centre, slope, radius, Interval(lo, hi))

    def __radd__(self, other: int) -> Form:
        return self + other

    def __sub__(self, other: Form | int) -> Form:
        if isinstance(other, np.ndarray):
            return NotImplemented
        return self + (-other)

    def __rsub__(self, other: int) -> Form:
        return -self + other

    def __mul__(self, other: Form | int) -> Form:
        if isinstance(other, np.ndarray):
            return NotImplemented
        if isinstance(other, int):
            return self if other == 1 else self * _number(other, self)
        if other is self:
            return self._squared()
        p, q = self, other
        return p._product(q, interval_product(p.range, q.range))

    def _squared(self) -> Form:
        least = np.maximum(np.maximum(self.lo, -self.hi), 0.0)
        most = np.nextafter(self.size * self.size, np.inf)
        low = np.maximum(np.nextafter(least * least, -np.inf), 0.0)
        return self._product(self, Interval(low, most))

    def _product(self, q: Form, known: Interval) -> Form:
        """t_k² is within ½ of ½; products of different t lie in [−1, 1]."""
        p = self
        same = p.slope * q.slope
        centre = p.centre * q.centre + 0.5 * np.sum(same, axis=0)
        slope = p.centre * q.slope + q.centre * p.slope
        a, b = p.spread, q.spread
        own = np.sum(np.abs(same), axis=0)
        quadratic = np.maximum(a * b - 0.5 * own, 0.0)
        size = (np.abs(p.centre) + a + p.radius) * (np.abs(q.centre) + b + q.radius)
        rest = p.radius * (np.abs(q.centre) + b + q.radius) + q.radius * (np.abs(p.centre) + a)
        pad = size * (_PAD * (len(p.slope) + 4))
        return _form(centre, slope, quadratic + rest + pad, known)

    def __rmul__(self, other: int) -> Form:
        return self * other

    def __truediv__(self, other: Form | int) -> Form:
        if isinstance(other, np.ndarray):
            return NotImplemented
        if isinstance(other, int):
            return self / _number(other, self)
        ratio = interval_quotient(self.range, other.range)
        return _within(self * other.reciprocal(), ratio)

    def __rtruediv__(self, other: int) -> Form:
        inverse = self.reciprocal()
        return inverse if other == 1 else inverse * other

    def reciprocal(self) -> Form:
        """1/x: convex where x > 0, so between a chord and the parallel tangent; odd."""
        sign = np.where(self.hi < 0, -1.0, 1.0)
        low = np.where(sign > 0, self.lo, -self.hi)
        high = np.where(sign > 0, self.hi, -self.lo)
        away = (low > 2.0**-500) & (high < 2.0**500)
        low, high = np.where(away, low, 1.0), np.where(away, high, 1.0)
        fall = 1.0 / (low * high)
        below = 2.0 * np.sqrt(fall) * (1.0 - 8.0 * UNIT)
        above = np.maximum(1.0 / low + fall * low, 1.0 / high + fall * high) * (1.0 + 8.0 * UNIT)
        found = self._on_line(-fall, sign * below, sign * above, away)
        inverse = interval_quotient(Interval(np.ones(1), np.ones(1)), self.range)
        return _within(found, inverse)

    def root(self) -> Form:
        """√x: concave, so between a chord and the parallel tangent."""
        known = (self.lo >= 0) & (self.hi > 2.0**-500) & (self.hi < 2.0**1000)
        low, high = np.where(known, self.lo, 1.0), np.where(known, self.hi, 1.0)
        with np.errstate(invalid="ignore"):
            left, right = np.sqrt(low), np.sqrt(high)
        rise = 1.0 / (left + right)
        above = 0.25 / rise * (1.0 + 8.0 * UNIT)
        below = np.minimum(left - rise * low, right - rise * high)
        below = below - (right + rise * high) * (8.0 * UNIT)
        found = self._on_line(rise, below, above, known)
        range_ = Interval(np.maximum(np.nextafter(left, -np.inf), 0.0), np.nextafter(right, np.inf))
        return _within(found, _where(known, range_))

    def apply(self, function: Function) -> Form:
        """An elementary function, between two parallel linear bounds from ball arithmetic."""
        curve = function.shape
        shape = np.broadcast_shapes(self.lo.shape, self.centre.shape)
        x = self.range.move(lambda v: np.broadcast_to(v, shape))
        range_ = range_of(curve, x)
        with np.errstate(all="ignore"):
            ends = (np.asarray(approximate_function(function, v)) for v in (x.lo, x.hi))
            rise = -np.subtract(*ends) / (x.hi - x.lo)
        rise = np.where(np.isfinite(rise), rise, 0.0)
        band = band_of(curve, x, rise)
        known = np.isfinite(band.lo) & np.isfinite(band.hi)
        found = self._on_line(
            rise, np.where(known, band.lo, 0.0), np.where(known, band.hi, 0.0), known
        )
        return _within(found, range_)

    def _on_line(
        self, slope: FloatArray, one: FloatArray, other: FloatArray, known: BoolArray
    ) -> Form:
        """slope·self + [a number between `one` and `other`] where known, else nothing."""
        middle = 0.5 * one + 0.5 * other
        slack = np.abs(0.5 * other - 0.5 * one) + (np.abs(one) + np.abs(other)) * _PAD
        return self.scaled(slope, middle, np.where(known, slack, np.inf))

    def magnitude(self) -> Form:
        """A form that is nowhere below |self|: exact in sign, else the chord of | · |."""
        low, high = np.minimum(self.lo, 0.0), np.maximum(self.hi, 0.0)
        width = high - low
        with np.errstate(invalid="ignore", divide="ignore"):
            slope = np.where(width > 0, (high + low) / width, 0.0)
        slope = np.where(self.lo >= 0, 1.0, np.where(self.hi <= 0, -1.0, slope))
        height = np.maximum(np.abs(self.lo) - slope * self.lo, np.abs(self.hi) - slope * self.hi)
        height = np.where(np.abs(slope) == 1.0, 0.0, height + self.size * _PAD)
        return self.scaled(slope, height, np.zeros(1))


def variable(index: int, lo: FloatArray, hi: FloatArray) -> Form:
    """Input number `index` over boxes whose sides are lo and hi, both (n, N)."""
    low, high = lo[index], hi[index]
    middle = np.clip(0.5 * low + 0.5 * high, low, high)
    reach = np.maximum(add_up(high, -middle), add_up(middle, -low))
    slope = np.zeros_like(lo)
    slope[index] = reach
    return Form(middle, slope, np.zeros_like(low), low, high)


def _number(value: int, like: Form) -> Form:
    at = np.array([float(value)])
    return exactly(at, len(like.slope))


def exactly(values: FloatArray, inputs: int) -> Form:
    """Known numbers, one per box or one for all."""
    return Form(values, np.zeros((inputs, 1)), np.zeros_like(values), values, values)


def _where(known: BoolArray, range_: Interval) -> Interval:
    return Interval(np.where(known, range_.lo, -np.inf), np.where(known, range_.hi, np.inf))


def _form(
    centre: FloatArray, slope: FloatArray, radius: FloatArray, within: Interval | None = None
) -> Form:
    """A form from coefficients already padded; the better of both enclosures everywhere."""
    with np.errstate(all="ignore"):
        radius = radius * _UP + _TINY
        reach = np.sum(np.abs(slope), axis=0) * (1.0 + len(slope) * _PAD) + radius
        reach = reach * _UP
        lo, hi = add_down(centre, -reach), add_up(centre, reach)
    lost = ~np.isfinite(lo) | ~np.isfinite(hi)
    lo, hi = np.where(lost, -np.inf, lo), np.where(lost, np.inf, hi)
    made = Form(centre, slope, radius, lo, hi)
    return made if within is None and not np.any(lost) else _within(made, within)


def _within(form: Form, known: Interval | None) -> Form:
    """The form, also known to lie in an interval; flat where that says more than its slopes do."""
    if known is None:
        lo, hi = form.lo, form.hi
    else:
        low = np.where(np.isnan(known.lo), -np.inf, known.lo)
        high = np.where(np.isnan(known.hi), np.inf, known.hi)
        lo, hi = np.maximum(form.lo, low), np.minimum(form.hi, high)
    with np.errstate(all="ignore"):
        middle = np.where(np.isfinite(lo) & np.isfinite(hi), 0.5 * lo + 0.5 * hi, 0.0)
        half = np.maximum(add_up(hi, -middle), add_up(middle, -lo))
    flat = ~(form.radius < half) | ~np.isfinite(np.sum(form.slope, axis=0) + form.centre)
    if not np.any(flat):
        return Form(form.centre, form.slope, form.radius, lo, hi)
    return Form(
        np.where(flat, middle, form.centre),
        np.where(flat, 0.0, form.slope),
        np.where(flat, half, form.radius),
        lo,
        hi,
    )


def flat(range_: Interval, inputs: int) -> Form:
    """What is known to lie in an interval, and no more."""
    nothing = np.zeros((inputs, 1))
    infinite = np.full_like(range_.lo, np.inf)
    return _within(Form(np.zeros_like(range_.lo), nothing, infinite, range_.lo, range_.hi), None)


def hull(a: Form, b: Form) -> Form:
    """Around both quantities: their interval hull."""
    range_ = Interval(np.minimum(a.lo, b.lo), np.maximum(a.hi, b.hi))
    return flat(range_, len(a.slope))


def choose(at: BoolArray, a: Form, b: Form) -> Form:
    """a where `at`, else b."""
    return Form(
        np.where(at, a.centre, b.centre),
        np.where(at, a.slope, b.slope),
        np.where(at, a.radius, b.radius),
        np.where(at, a.lo, b.lo),
        np.where(at, a.hi, b.hi),
    )
