"""Hinges: f(x) = x for x ≥ 0 and b·x below, as in Relu (b = 0), LeakyRelu and PRelu.

f = b·x + (1 − b)·relu(x) for every b, so what holds of relu holds of f with these weights: its
linear bounds, its secants and the effect of its phases (lemmas `relu-relaxation`,
`hinge-secant-one`, `hinge-secant-below`, `hinge-secant-half`, `phase-multiplier`). `below` is b,
exact, and broadcasts to the tensor's shape.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from encoders.lemmas.carrying import ALONG_SECANT
from encoders.lemmas.differences import HINGE
from encoders.lemmas.functions import HINGE_LINES
from encoders.lemmas.kernel import Radius, apply, enclosed
from encoders.lemmas.ranges.placing import range_of
from encoders.lemmas.ranges.reals import HINGE_RANGE, RELU_RANGE
from encoders.numbers.enclosure import (
    FloatArray,
    Interval,
    add_up,
    all_in_blocks,
    multiply_up,
    nothing,
    some,
)
from encoders.operator import DifferenceMap, LinearBounds, ValueMap
from encoders.relaxations.elementwise import (
    Secant,
    elementwise_differences,
    free_slopes,
    through_linear_bounds,
)


def hinge_relaxation(below: FloatArray, x: Interval) -> LinearBounds:
    """The triangle relaxation for b ≤ 1: above, the chord; below, b·x or x, whichever cuts off
    less (CROWN)."""
    lo, hi = x.lo, x.hi
    unstable = (lo < 0) & (hi > 0)
    if not np.any(unstable):
        zero, slope = nothing(lo.shape), np.where(lo >= 0, 1.0, below)
        return LinearBounds(slope, zero, slope, zero)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        share = np.where(unstable, hi / (hi - lo), 0.0)
    share = np.clip(np.where(np.isfinite(share), share, 1.0), 0.0, 1.0)
    steep = np.where(share == 0, below, below + (1.0 - below) * share)
    high_slope = np.where(unstable, steep, np.where(lo >= 0, 1.0, below))
    # The line passes above (lo, b·lo) and (hi, hi) whatever the rounding of its slope.
    over_lo = add_up(multiply_up(high_slope, -lo), multiply_up(below, lo))
    over_lo = np.where(high_slope == below, 0.0, over_lo)
    over_hi = add_up(hi, multiply_up(-high_slope, hi))
    # so far above that no reading of the lemma finds the line too low
    size = hi - np.where(high_slope == below, 0.0, (np.abs(high_slope) + np.abs(below)) * lo)
    over = add_up(np.maximum(over_lo, over_hi), 2.0**-50 * size + 2.0**-1070)
    high = np.where(unstable, over, 0.0)
    low_slope = np.where((lo >= 0) | (unstable & (hi > -lo)), 1.0, below)
    return LinearBounds(low_slope, np.zeros_like(lo), high_slope, high)


def hinge_values(below: FloatArray, x: Interval) -> ValueMap:
    """Real values through a hinge with b ≤ 1 everywhere; the lower slope is free in [b, 1]."""
    kink = (x.lo < 0) & (x.hi > 0)
    given = range_of(x)
    if some(below):
        range_ = enclosed(HINGE_RANGE, X=given, b=below)
    else:
        range_ = enclosed(RELU_RANGE, X=given)

    @cache  # not before a functional is pulled back
    def bounds() -> LinearBounds:
        return hinge_relaxation(below, x)

    @cache
    def crossed() -> Radius:
        lines = bounds()
        return apply(
            HINGE_LINES,
            X=given,
            b=below,
            s=lines.high_slope,
            t=lines.high,
            l=lines.low_slope,
        )

    choice = free_slopes(bounds, kink, x, below, crossed=crossed)
    return through_linear_bounds(range_, bounds, x, choice, crossed=crossed)


def hinge_differences(below: FloatArray, x: Interval, given: Radius) -> DifferenceMap:
    """The best of three secants over the hull [l, h] of real and run-time range.

    With slope 1 the remainder is |1 − b| times relu(−x̂) − relu(−x), at most min(e, max(0, −l));
    with slope b it is |1 − b| times relu(x̂) − relu(x), at most min(e, max(0, h)); with slope
    (1 + b)/2 it is |1 − b|·(|x̂| − |x|)/2, at most |1 − b|·e/2.
    """
    error = given.bound
    slope, rest, half = all_in_blocks(_hinge_secants, below, x.lo, x.hi, error)
    remainder = apply(HINGE, X=range_of(x), b=below, m=slope, R=rest, e=given)
    radius = apply(ALONG_SECANT, m=slope, R=remainder, e=given)
    unstable = (half > 0) & (error > 0)
    secant = Secant(slope, remainder, half > 0)
    return elementwise_differences(secant, radius, given, unstable, below)


def _hinge_secants(
    below: FloatArray, lo: FloatArray, hi: FloatArray, error: FloatArray
) -> tuple[FloatArray, ...]:
    """Slopes, remainders, and 1 where the slope is the middle one; lemma `hinge` looks at them."""
    hull = Interval(lo, hi).inflate(error)
    bend = np.where(below == 0, 1.0, np.maximum(add_up(1.0, -below), add_up(below, -1.0)))
    by_one = np.minimum(error, np.maximum(-hull.lo, 0.0))
    by_below = np.minimum(error, np.maximum(hull.hi, 0.0))
    best = np.minimum(by_one, by_below)
    half = best > 0.5 * error
    middle = 0.5 * below + 0.5
    slope = np.where(half, middle, np.where(by_one <= by_below, 1.0, below))
    rest = multiply_up(bend, np.where(half, 0.5 * error, best))
    rounded = half & (below != 0)  # the middle is, to float64
    inexact = multiply_up(2.0**-48 * (np.abs(middle) + 1.0), error)
    rest = np.where(rounded, add_up(rest, inexact), rest)
    # so far rounded up that the reading of the lemma cannot find it less
    rest = add_up(multiply_up(rest, 1.0 + 2.0**-49), np.where(rest > 0, 2.0**-1068, 0.0))
    return slope, rest, half.astype(np.float64)
