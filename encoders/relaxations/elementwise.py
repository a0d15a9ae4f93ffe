"""Nonlinear functions of one variable applied element by element.

An operator gives linear bounds of f over a range, and a secant with a remainder for its
differences; these helpers turn them into the maps that bounds are built on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from encoders.lemmas.carrying import HELD_COEFFICIENT, SECANT
from encoders.lemmas.kernel import Radius, apply, carried_back
from encoders.lemmas.ranges.range import Range
from encoders.numbers.enclosure import (
    UNIT,
    BoolArray,
    FloatArray,
    Interval,
    add_up,
    dot_up,
    inner_up,
    multiply_up,
    some,
)
from encoders.operator import (
    Carry,
    Contribution,
    DifferenceCarry,
    DifferenceMap,
    FreeSlopes,
    LinearBounds,
    Moved,
    Scaled,
    SlopeChoice,
    ValueMap,
)

_SMALL = 2.0**-500  # numbers above may be divided by one another


@dataclass(frozen=True)
class Secant:
    """f(x̂) − f(x) = `slope`·(x̂ − x) + r with |r| ≤ `remainder`, element by element.

    Where it `scales`, a bound e on |x̂ − x| enters the remainder as a factor alone: r is at most
    remainder/e times |x̂ − x|, whatever that is.
    """

    slope: FloatArray
    remainder: Radius
    scales: BoolArray | None = None


def secant_of_slopes(slopes: Range, given: Radius) -> Secant:
    """The mean-value step: f(x̂) − f(x) = s·d with s in `slopes` and |d| ≤ `given`; slope 0 where
    a slope is unbounded. Where d is 0, so is the difference, with whatever slope."""
    low, high = slopes.lo, slopes.hi
    middle = 0.5 * low + 0.5 * high
    spread = np.maximum(add_up(high, -middle), add_up(middle, -low))
    known = np.isfinite(middle) & np.isfinite(spread)
    if not np.all(known):
        middle, spread = np.where(known, middle, 0.0), np.where(known, spread, np.inf)
    remainder = apply(SECANT, S=slopes, m=middle, sigma=spread, e=given)
    return Secant(middle, remainder, known)


def elementwise_values(range_: Range, bounds: LinearBounds, x: Interval) -> ValueMap:
    """Real values through linear bounds."""
    return through_linear_bounds(range_, lambda: bounds, x)


def through_linear_bounds(
    range_: Range,
    bounds_of: Callable[[], LinearBounds],
    x: Interval,
    choice: FreeSlopes | None = None,
    crossed: Callable[[], Radius] | None = None,
) -> ValueMap:
    """Real values in a range, functionals of f(x) pulled back through its linear bounds, which f
    crosses by no more than `crossed`, or not at all.

    A product c·slope carries a relative error of at most U and the sum of the two of another U
    (one of the two summands is zero), charged at the largest |x|.
    """

    @cache
    def carry() -> Carry:
        bounds = bounds_of()
        slope = np.maximum(np.abs(bounds.low_slope), np.abs(bounds.high_slope))
        charge = multiply_up(multiply_up(slope, _finite(x.magnitude)), 4 * UNIT)
        if crossed is not None:
            charge = add_up(charge, crossed().bound)

        def coefficients(c: FloatArray) -> tuple[FloatArray, ...]:
            return (c * np.where(c > 0.0, bounds.high_slope, bounds.low_slope),)

        return Carry(coefficients, charge, above=bounds.high, below=bounds.low)

    return ValueMap(range_, lambda c: carry()(c), choice, carry)


def free_slopes(
    bounds_of: Callable[[], LinearBounds],
    free: BoolArray,
    x: Interval,
    below: FloatArray,
    *,
    crossed: Callable[[], Radius],
) -> FreeSlopes:
    """The freedom of a hinge's relaxation: lower bound t·x for any t in [b, 1], and phases.

    f is x for x ≥ 0 and b·x below, with b = `below` ≤ 1 and `low` of the bounds zero. Over inputs
    with x ≥ −e, c·f(x) ≤ (c + β)·x + ((1 − b)·max(c, 0) + β)·e, and over those with x ≤ e,
    c·f(x) ≤ (c·b − β)·x + ((1 − b)·max(c, 0) + β)·e, for any β ≥ 0 (lemma `phase-multiplier`).
    `crossed` is as in `through_linear_bounds`.
    """

    @cache
    def charges() -> tuple[FloatArray, FloatArray]:
        bounds = bounds_of()
        slope = np.maximum(np.maximum(np.abs(bounds.high_slope), np.abs(below)), 1.0)
        unit = multiply_up(_finite(x.magnitude), 4 * UNIT)
        return unit, add_up(multiply_up(slope, unit), crossed().bound)

    def backward(c: FloatArray, choice: SlopeChoice) -> Contribution:
        bounds, (unit, charge) = bounds_of(), charges()
        positive, negative = np.maximum(c, 0.0), np.minimum(c, 0.0)
        low = np.where(free, np.clip(choice.low_slope, below, 1.0), bounds.low_slope)
        relaxed = positive * bounds.high_slope + negative * low
        beta = np.maximum(choice.multiplier, 0.0)
        active, inactive = choice.phase > 0, choice.phase < 0
        coefficients = np.where(active, c + beta, np.where(inactive, c * below - beta, relaxed))
        relaxed_part = np.where(choice.phase == 0, positive, 0.0)
        constant = add_up(inner_up(relaxed_part, bounds.high), dot_up(c, charge))
        if np.any(choice.slack):
            step = multiply_up(positive, add_up(1.0, -below))
            confined = np.where(choice.phase == 0, 0.0, add_up(step, beta))
            constant = add_up(constant, dot_up(confined, np.asarray(choice.slack)))
        return Contribution((coefficients,), add_up(constant, dot_up(beta, unit)))

    return FreeSlopes(free, bounds_of, below, backward)


def elementwise_differences(
    secant: Secant,
    radius: Radius,
    given: Radius,
    unstable: BoolArray | None = None,
    below: FloatArray | float = 0.0,
) -> DifferenceMap:
    """Differences through f: `radius` bounds |f(x̂) − f(x)|, `given` bounds |d|.

    c·(f(x̂) − f(x)) is (c·m)·d up to |c|·(remainder + θ·|m|·given), θ the rounding error of c·m.
    `unstable` says where f(x̂) − f(x) = s·d with s anywhere between `below` and 1.
    """
    middle = secant.slope

    @cache
    def around() -> Radius:
        inexact = multiply_up(np.abs(middle), _product_error(middle))
        if not some(inexact):
            return secant.remainder
        return apply(HELD_COEFFICIENT, m=middle, R=secant.remainder, k=inexact, e=given)

    @cache
    def inexact() -> Radius:
        steepest = np.maximum(1.0, np.abs(below))
        return given.times(np.where(np.asarray(below) == 0, 0.0, 4 * UNIT * steepest))

    @cache
    def carry() -> DifferenceCarry:
        return DifferenceCarry(lambda c: (c * middle,), around())

    @cache
    def scaled() -> Scaled:
        error, left = given.bound, secant.remainder
        with np.errstate(all="ignore"):
            share = left.bound / error * (1.0 + 4 * UNIT)
        at = np.asarray(secant.scales) & np.isfinite(share) & (share > _SMALL) & (error > _SMALL)
        off = multiply_up(np.abs(middle), _product_error(middle))
        rest = left.times(np.where(at, 0.0, 1.0)) + given.times(off)
        return Scaled(np.where(at, share, 0.0), left.times(np.where(at, 1.0, 0.0)), rest)

    def backward(c: FloatArray) -> Moved:
        return carry()(c)

    def fixed(c: FloatArray, share: FloatArray, at: BoolArray) -> Moved:
        slope = share + (1.0 - share) * below
        cost = around().weighed(np.where(at, 0.0, c))
        if np.any(below):  # products of c with 0, ½ and 1 are exact
            cost = carried_back((cost, inexact().weighed(np.where(at, c, 0.0))))
        return Moved((c * np.where(at, slope, middle),), cost)

    known = None if secant.scales is None or np.any(below) else scaled
    if unstable is None:
        return DifferenceMap(radius, backward, carry=carry, scaled=known)
    return DifferenceMap(radius, backward, unstable, fixed, carry, known)


def _product_error(middle: FloatArray) -> FloatArray:
    """Relative error of c·middle in float64: none for 0, ½ and 1."""
    exact = (middle == 0.0) | (middle == 0.5) | (np.abs(middle) == 1.0)
    return np.where(exact, 0.0, 2 * UNIT)


def _finite(x: FloatArray) -> FloatArray:
    return np.where(np.isfinite(x), x, np.finfo(np.float64).max)
