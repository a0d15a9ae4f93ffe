"""Continuous piecewise linear functions of one variable: LeakyRelu, PRelu, Abs, Clip, HardSigmoid.

f is given by its knots, its slopes between them, and bounds on its values. For any slope s,
f(x) − s·x is linear between knots, so over a range its extremes are at the knots inside and at
the two ends: that gives linear bounds and secant remainders for every s (lemmas
`piecewise-line`, `oscillation-secant`, `relu-difference` with `mean-value-step`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from encoders.lemmas.carrying import OSCILLATION, SECANT
from encoders.lemmas.choices import PIECES
from encoders.lemmas.kernel import Radius, apply, enclosed
from encoders.lemmas.ranges.functions import KNOTS_RANGE, SLOPE_RANGE
from encoders.lemmas.ranges.making import hull_of
from encoders.lemmas.ranges.placing import range_of
from encoders.lemmas.ranges.range import Range
from encoders.numbers.enclosure import FloatArray, Interval, add_up, multiply_up
from encoders.operator import DifferenceMap, LinearBounds, ValueMap
from encoders.relaxations.elementwise import Secant, elementwise_differences, elementwise_values

LEMMAS = ("piecewise-line", "oscillation-secant", "mean-value-step")


@dataclass(frozen=True)
class PiecewiseLinear:
    """`slopes` has one entry more than the sorted `knots`; all broadcast to the tensor's shape.

    The slopes are exact. `value_up(x)` and `value_down(x)` enclose f(x) for float64 x.
    """

    knots: tuple[FloatArray, ...]
    slopes: tuple[FloatArray, ...]
    value_up: Callable[[FloatArray], FloatArray]
    value_down: Callable[[FloatArray], FloatArray]


def hinge(below: FloatArray, above: FloatArray) -> PiecewiseLinear:
    """below·x for x < 0, above·x for x ≥ 0."""

    def up(x: FloatArray) -> FloatArray:
        return multiply_up(np.where(x < 0, below, above), x)

    def down(x: FloatArray) -> FloatArray:
        return -multiply_up(np.where(x < 0, below, above), -x)

    return PiecewiseLinear((np.zeros(()),), (below, above), up, down)


def clamp(low: float, high: float) -> PiecewiseLinear:
    """min(max(x, low), high) for low ≤ high, one of them perhaps infinite."""

    def value(x: FloatArray) -> FloatArray:
        return np.minimum(np.maximum(x, low), high)

    zero, one = np.zeros(()), np.ones(())
    return PiecewiseLinear((np.asarray(low), np.asarray(high)), (zero, one, zero), value, value)


def _offsets(f: PiecewiseLinear, slope: FloatArray, x: Interval) -> tuple[FloatArray, FloatArray]:
    """The least and the largest f(p) − slope·p over the range, bounded outwards."""
    points = [x.lo, x.hi, *(np.clip(k, x.lo, x.hi) for k in f.knots)]
    high = [add_up(f.value_up(p), multiply_up(-slope, p)) for p in points]
    low = [-add_up(-f.value_down(p), multiply_up(slope, p)) for p in points]
    most, least = np.max(high, axis=0), np.min(low, axis=0)
    return np.where(np.isnan(least), -np.inf, least), np.where(np.isnan(most), np.inf, most)


def _active(f: PiecewiseLinear, x: Interval) -> tuple[FloatArray, FloatArray]:
    """The least and the largest slope of f on the range."""
    edges = (np.asarray(-np.inf), *f.knots, np.asarray(np.inf))
    low, high = np.full(x.shape, np.inf), np.full(x.shape, -np.inf)
    for slope, left, right in zip(f.slopes, edges[:-1], edges[1:], strict=True):
        met = ((x.lo <= right) & (x.hi >= left) & (left < right)) & ~(
            ((x.hi == left) | (x.lo == right)) & (x.lo < x.hi)
        )
        low = np.where(met, np.minimum(low, slope), low)
        high = np.where(met, np.maximum(high, slope), high)
    return low, high


def piecewise_range(f: PiecewiseLinear, x: Interval) -> Range:
    """Where f is: its values at both ends and at the knots between them say so."""
    lowest, highest = _offsets(f, np.zeros(x.shape), x)
    return enclosed(KNOTS_RANGE, X=range_of(x), a=lowest, b=highest)


def piecewise_bounds(f: PiecewiseLinear, x: Interval) -> tuple[Range, LinearBounds]:
    """The range, and the best of the slopes on the range and the chords by the value at its
    middle."""
    range_ = piecewise_range(f, x)
    lowest, highest = range_.lo, range_.hi
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        middle = 0.5 * x.lo + 0.5 * x.hi
        ends = (x.lo, x.hi, *(np.clip(k, x.lo, x.hi) for k in f.knots))
        chords = [
            (f.value_up(q) - f.value_up(p)) / (q - p) for p in ends for q in ends if q is not p
        ]
    slopes = [np.zeros(x.shape), *(np.broadcast_to(s, x.shape) for s in f.slopes), *chords]
    best_low = best_high = np.zeros(x.shape)
    low, high = lowest, highest
    with np.errstate(invalid="ignore", over="ignore"):
        for slope in slopes[1:]:
            usable = np.isfinite(slope)
            s = np.where(usable, slope, 0.0)
            least, most = _offsets(f, s, x)
            below = usable & (s * middle + least > best_low * middle + low)
            above = usable & (s * middle + most < best_high * middle + high)
            best_low, low = np.where(below, s, best_low), np.where(below, least, low)
            best_high, high = np.where(above, s, best_high), np.where(above, most, high)
    return range_, LinearBounds(best_low, low, best_high, high)


def piecewise_values(f: PiecewiseLinear, x: Interval) -> ValueMap:
    """Values through f, by its best linear bounds."""
    return elementwise_values(*piecewise_bounds(f, x), x)


def piecewise_secant(f: PiecewiseLinear, x: Interval, given: Radius) -> tuple[Secant, Radius]:
    """The best secant over the hull: a slope met there, or the middle of the extreme ones; and a
    bound on |f(x̂) − f(x)|.

    With slopes in [s−, s+] on the hull, f(x̂) − f(x) = s·d up to max(s+ − s, s − s−)·|d|, and also
    up to the oscillation of f − s·x over the hull.
    """
    error = given.bound
    hull = hull_of(x, given)
    least, most = _active(f, hull)
    candidates: Sequence[FloatArray] = (least, most, 0.5 * least + 0.5 * most)
    slope, remainder = np.zeros(x.shape), np.full(x.shape, np.inf)
    away, under, over = (np.full(x.shape, v) for v in (np.inf, -np.inf, np.inf))
    for s in candidates:
        spread = np.maximum(add_up(most, -s), add_up(s, -least))
        lowest, highest = _offsets(f, s, hull)
        rest = np.minimum(multiply_up(spread, error), add_up(highest, -lowest))
        rest = np.where(spread == 0, 0.0, rest)
        rest = np.where(np.isnan(rest), np.inf, rest)
        better = rest < remainder
        slope, remainder = np.where(better, s, slope), np.where(better, rest, remainder)
        away = np.where(better, spread, away)
        under, over = np.where(better, lowest, under), np.where(better, highest, over)
    steepest = np.maximum(np.abs(least), np.abs(most))
    slopes = enclosed(SLOPE_RANGE, X=hull, a=least, b=most)
    by_slopes = apply(SECANT, S=slopes, m=slope, sigma=away, e=given)
    # f − slope·x is linear between the same knots
    beyond = enclosed(KNOTS_RANGE, X=hull, a=under, b=over)
    by_rest = apply(OSCILLATION, m=slope, F=beyond)
    moved = apply(PIECES, K=steepest, F=piecewise_range(f, hull), e=given)
    return Secant(slope, by_slopes.and_also(by_rest)), moved


def piecewise_differences(f: PiecewiseLinear, x: Interval, given: Radius) -> DifferenceMap:
    """Differences through f, by its best secants."""
    secant, radius = piecewise_secant(f, x, given)
    return elementwise_differences(secant, radius, given)
