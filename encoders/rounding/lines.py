"""Rounding errors of sums as affine functions of what is summed: large where partial sums are.

Half an ulp of the largest partial sum that ranges allow is what every input pays for. Here each
rounding is bounded by a line over the magnitude it has (lemma `rounding-under-line`), which touches
half an ulp at a point of reference, and magnitudes of partial sums are bounded by lines over the
numbers. What the roundings of a sum come to is then affine in the numbers, and functionals of it
are carried back to the network's inputs with those of real values: different sums are seldom at
their largest at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from encoders.lemmas.kernel import Radius, apply, known_at
from encoders.lemmas.products import PRODUCT_ERRORS
from encoders.lemmas.rounding import UNDER_LINE
from encoders.numbers.enclosure import (
    BoolArray,
    FloatArray,
    Interval,
    add_down,
    add_up,
    dot_up,
    gamma,
    inner_up,
    multiply_up,
    sum_up,
)
from encoders.rounding.prefixes import Prefixes
from encoders.rounding.rounding_bounds import Rounder, beyond

_STEEPEST = 2.0**12  # times what rounding errs by, relatively
_AS_MUCH = 0.5  # of what is known: what flat lines have to come to


@dataclass(frozen=True)
class RoundingLines:
    """Of every execution, what a step's elements err by is at most
    `above` + `slopes`·x + `beside`, x being the real numbers that the step reads, of at most `size`
    in magnitude; `slopes` (elements, numbers), `beside` (elements,)."""

    above: Radius
    slopes: FloatArray
    beside: FloatArray
    size: FloatArray

    def moved(
        self,
        rows: Callable[[FloatArray], FloatArray],
        columns: Callable[[FloatArray], FloatArray],
    ) -> RoundingLines:
        """Of fewer elements, and of fewer numbers, where the others are 0."""
        out, read = self.above.shape, self.size.shape
        slopes = columns(self.slopes.reshape(-1, *read))
        slopes = slopes.reshape(len(self.slopes), -1).T
        slopes = rows(slopes.reshape(-1, *out)).reshape(len(slopes), -1).T
        beside = rows(self.beside.reshape(out)).reshape(-1)
        return RoundingLines(self.above.moved(rows), slopes, beside, columns(self.size))

    def carried(self, d: FloatArray) -> tuple[Radius, FloatArray, FloatArray]:
        """Of Σ|d|·η, functionals d (k, *elements): what it costs, coefficients (k, *numbers) of
        real values, and what to add to these, (k,)."""
        weights = np.abs(d).reshape(len(d), -1)
        c = weights @ self.slopes
        rounded = dot_up(weights, np.abs(self.slopes) @ self.size.reshape(-1))
        slack = multiply_up(rounded, gamma(sum(self.slopes.shape) + 8))
        beside = add_up(inner_up(weights, self.beside), slack)
        return self.above.weighed(d), c.reshape(len(d), *self.size.shape), beside


@dataclass(frozen=True)
class Summed:
    """Sums Σ w·x̂ + b: `weights` (elements, numbers) of the real numbers `x` in their order, from
    which run-time numbers are off by `off`, and stored `bias` (elements,); all arrays are flat.
    `error` bounds what the sums err by, of the shape of the result, and `reference` is a point."""

    weights: FloatArray
    x: Interval
    off: FloatArray
    bias: FloatArray
    error: Radius
    reference: FloatArray

    @property
    def alive(self) -> BoolArray:
        """Products that may be other than 0."""
        met = add_up(self.x.magnitude, self.off) > 0
        return np.asarray((self.weights != 0) & met)

    @property
    def beyond(self) -> FloatArray:
        """(elements, 1): by how much a computed partial sum may be off the real one; what the
        error has of operands that are read as 0 is in it."""
        moved = dot_up(np.abs(self.weights), self.off)
        return add_up(moved, self.error.bound.reshape(-1))[:, None]

    @property
    def magnitude(self) -> _Lined:
        """|x| of real numbers, under lines."""
        return _Lined.of(self.x)

    @property
    def ends(self) -> tuple[FloatArray, FloatArray]:
        """The ends of each term."""
        ends = self.weights * self.x.lo, self.weights * self.x.hi
        return np.minimum(*ends), np.maximum(*ends)


@dataclass(frozen=True)
class _Lined:
    """|s| ≤ slope·s + beside for s in a range, and the least that it is."""

    slope: FloatArray
    beside: FloatArray
    least: FloatArray

    @staticmethod
    def of(s: Interval) -> _Lined:
        lo, hi = s.lo, s.hi
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            slope = np.clip((hi + lo) / (hi - lo), -1.0, 1.0)
        slope = np.where(lo >= 0, 1.0, np.where(hi <= 0, -1.0, slope))
        at_hi = add_up(hi, -slope * hi) + np.abs(hi) * 2.0**-51
        at_lo = add_up(-lo, -slope * lo) + np.abs(lo) * 2.0**-51
        beside = np.where((lo >= 0) | (hi <= 0), 0.0, np.maximum(at_hi, at_lo))
        return _Lined(slope, beside, np.maximum(np.maximum(lo, -hi), 0.0))


@dataclass(frozen=True)
class _Under:
    """Each rounding errs by at most `above` + slope·(t − base), t being what it has to round."""

    above: Radius
    slope: FloatArray
    base: FloatArray
    flat: FloatArray


def _under(
    r: Rounder, least: FloatArray, most: FloatArray, there: FloatArray, error: FloatArray
) -> _Under:
    """Of roundings of numbers whose magnitude, from `least` to `most`, and at the point of
    reference `there`, lies within `error` of the one that is computed."""
    base, whole = np.maximum(add_down(least, error), 0.0), beyond(most, error)
    h, v, eta = r.of_product(whole), r.relative, r.underflow
    whole = h.reach
    near = np.minimum(2.0 * r._power(base), np.maximum(whole, base))
    top, at = r._power(whole), there + error
    lined = (near < whole) & (at < top)
    close = r.of_product(np.maximum(near, base))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        steep = (v * near + eta - close.bound) / (near - base) - v
    steep = np.where((at < near) & (steep > 0) & (steep < _STEEPEST * v), steep, 0.0)
    slope = np.where(lined, add_up(v, steep), 0.0)
    above = apply(UNDER_LINE, h=h, near=close, a=base, s=slope, v=v, eta=eta)
    return _Under(above, slope, base, h.bound)


@dataclass(frozen=True)
class _Sums:
    """Lines of all elements, (elements,) radii, and what they would be if they were all flat."""

    above: Radius
    slopes: FloatArray
    beside: FloatArray
    flat: FloatArray


def rounding_lines(
    r: Rounder,
    s: Summed,
    *,
    chained: bool,
    fused: bool,
    bias_first: bool,
    prefixes: Prefixes | None,
    sides: tuple[FloatArray, FloatArray] | None,
) -> RoundingLines | None:
    """Of sums that are added from the first term to the last, if they are `chained`, and fused; in
    any order else. `prefixes` and `sides` are what terms, the bias left out, are known to add up
    to: the first ones, and those above and below 0.

    Elements of which more is known at the point of reference already keep that; None where all are
    such. Lines that would be far lower than that if they were flat count too little, and are not
    used.
    """
    found = _chain(r, s, fused, bias_first, prefixes) if chained else _tree(r, s, sides)
    found = _with_lost(r, s, found)
    known, there = s.error.bound.reshape(-1), s.reference
    line = found.above.bound + found.slopes @ there + found.beside
    better = (line < known) & (found.flat >= known * _AS_MUCH)
    if not np.any(better):
        return None
    at, others = np.flatnonzero(better), np.flatnonzero(~better)
    held = s.error.moved(lambda v: v.reshape(-1))
    parts = [(at, found.above.taken(at)), (others, held.taken(others))]
    slopes = np.where(better[:, None], found.slopes, 0.0)
    beside = np.where(better, found.beside, 0.0)
    return RoundingLines(known_at(s.error.shape, parts), slopes, beside, s.x.magnitude)


def _chain(
    r: Rounder, s: Summed, fused: bool, bias_first: bool, prefixes: Prefixes | None
) -> _Sums:
    """Of sums whose terms are added one after the other, in their order."""
    alive, g = s.alive, s.beyond
    lo, hi = s.ends
    n = lo.shape[1]
    first = s.bias[:, None] if bias_first else np.zeros((len(lo), 1))
    size = np.cumsum(np.maximum(np.abs(lo), np.abs(hi)), axis=1) + np.abs(s.bias)[:, None]
    slack = gamma(2 * n + 8) * size
    lows, highs = np.cumsum(lo, axis=1) + first - slack, np.cumsum(hi, axis=1) + first + slack
    there = np.cumsum(s.weights * s.reference, axis=1) + first
    most = np.maximum(highs, -lows)
    if prefixes is not None and prefixes.fit(lo.shape):
        middle, wide = 0.5 * (highs + lows), 0.5 * (highs - lows)
        begun = Interval(s.bias, s.bias) if bias_first else None
        most = np.minimum(most, prefixes.partial(middle, wide, 2.0 * slack[:, -1], begun))
    if not bias_first:
        last, known = s.bias[:, None], most[:, -1:]
        extra = 2.0**-50 * size[:, -1:]
        lows = np.concatenate([lows, lows[:, -1:] + last - extra], axis=1)
        highs = np.concatenate([highs, highs[:, -1:] + last + extra], axis=1)
        there = np.concatenate([there, there[:, -1:] + last], axis=1)
        alive = np.concatenate([alive, last != 0], axis=1)
        end = np.minimum(np.maximum(highs, -lows)[:, -1:], add_up(known, np.abs(last)))
        most = np.concatenate([most, end], axis=1)
    lined = _Lined.of(Interval(lows, highs))
    least = np.minimum(lined.least, most)
    under = _under(r, least, most, np.minimum(np.abs(there), most), g)
    slope = np.where(alive, under.slope, 0.0)
    each = slope * lined.slope
    after = np.cumsum(each[:, ::-1], axis=1)[:, ::-1]
    started = after[:, 0] if bias_first else after[:, -1]
    beside = np.sum(slope * (lined.beside + g - under.base), axis=1) + started * s.bias
    charged = np.sum(slope * (lined.beside + g + under.base), axis=1)
    charged += np.sum(slope, axis=1) * size[:, -1]
    beside = add_up(beside, multiply_up(charged, gamma(4 * n + 32)))
    flat = np.sum(np.where(alive, under.flat, 0.0), axis=1)
    found = _Sums(_counted(under.above, alive), s.weights * after[:, :n], beside, flat)
    return found if fused else _with_products(r, s, found)


def _tree(r: Rounder, s: Summed, sides: tuple[FloatArray, FloatArray] | None) -> _Sums:
    """Of sums in any order, fused or not."""
    g, (lo, hi) = s.beyond[:, 0], s.ends
    n, size, bias = lo.shape[1], np.abs(s.weights), np.abs(s.bias)
    up, down = np.sum(np.maximum(hi, 0.0), axis=1), np.sum(np.maximum(-lo, 0.0), axis=1)
    whole = np.sum(np.maximum(np.abs(lo), np.abs(hi)), axis=1) + bias
    slack = gamma(2 * n + 16) * whole
    if sides is not None:
        up, down = np.minimum(up, sides[0]), np.minimum(down, sides[1])
    most = np.maximum(up + np.maximum(s.bias, 0.0), down + np.maximum(-s.bias, 0.0)) + slack
    lined = _Lined.of(Interval(lo.sum(axis=1) + s.bias - slack, hi.sum(axis=1) + s.bias + slack))
    x = s.magnitude
    least = np.maximum(0.5 * (size @ x.least + bias + lined.least) - slack, 0.0)
    signed = s.weights @ s.reference + s.bias
    there = 0.5 * (size @ np.abs(s.reference) + bias + np.abs(signed))
    under = _under(r, np.minimum(least, most), most, np.minimum(there, most), g)
    terms = np.count_nonzero(s.alive, axis=1)
    count = (np.maximum(terms - 1, 0) + ((bias > 0) & (terms > 0))).astype(np.float64)
    slope = 0.5 * count * under.slope
    slopes = slope[:, None] * (size * x.slope + s.weights * lined.slope[:, None])
    across = size @ x.beside + bias + lined.beside
    beside = slope * (across + lined.slope * s.bias + 2.0 * (g - under.base))
    charged = slope * (across + bias + 4.0 * whole + 2.0 * (g + under.base))
    beside = add_up(beside, multiply_up(charged, gamma(4 * n + 32)))
    found = _Sums(under.above.times(count), slopes, beside, count * under.flat)
    return _with_products(r, s, found)


def _with_products(r: Rounder, s: Summed, found: _Sums) -> _Sums:
    """And what products are rounded by."""
    size, x, alive = np.abs(s.weights), s.magnitude, s.alive
    error = multiply_up(size, s.off)
    most, there = multiply_up(size, s.x.magnitude), size * np.abs(s.reference)
    under = _under(r, size * x.least * (1.0 - 2.0**-50), most, np.minimum(there, most), error)
    slope = np.where(alive, under.slope, 0.0)
    more = np.sum(slope * (size * x.beside + error - under.base), axis=1)
    charged = np.sum(slope * (size * x.beside + error + under.base + most), axis=1)
    more = add_up(more, multiply_up(charged, gamma(4 * size.shape[1] + 32)))
    return _Sums(
        found.above + _counted(under.above, alive),
        found.slopes + slope * size * x.slope,
        add_up(found.beside, more),
        found.flat + np.sum(np.where(alive, under.flat, 0.0), axis=1),
    )


def _with_lost(r: Rounder, s: Summed, found: _Sums) -> _Sums:
    """And what reading operands as 0, and results that become 0, may lose."""
    if not r.flushed:
        return found
    x, w = r.operand_loss(s.x.inflate(s.off)).bound, r.operand_loss(Interval(s.weights, s.weights))
    off = add_up(multiply_up(np.abs(s.weights), x), multiply_up(w.bound, s.x.magnitude + s.off))
    operations = 2.0 * s.weights.shape[1] + 4.0
    lost = apply(PRODUCT_ERRORS, S=0.0, v=0.0, C=sum_up(off, axis=1), n=operations, eta=r.lost)
    return _Sums(found.above + lost, found.slopes, found.beside, found.flat)


def _counted(above: Radius, alive: BoolArray) -> Radius:
    return above.times(alive.astype(np.float64)).summed(1)
