"""Nonlinear functions of one variable applied element by element.

An operator gives linear bounds of f over a range, and a secant with a remainder for its
differences; these helpers turn them into the maps that bounds are built on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from encoders.lemmas.kernel import Radius
from encoders.numbers.enclosure import (
    UNIT,
    BoolArray,
    FloatArray,
    Interval,
    add_up,
    dot_up,
    inner_up,
    multiply_up,
)
from encoders.operator import (
    Carry,
    Contribution,
    DifferenceMap,
    FreeSlopes,
    LinearBounds,
    SlopeChoice,
    ValueMap,
)


@dataclass(frozen=True)
class Secant:
    """f(x̂) − f(x) = `slope`·(x̂ − x) + r with |r| ≤ `remainder`, element by element."""

    slope: FloatArray
    remainder: FloatArray


def secant_of_slopes(low: FloatArray, high: FloatArray, error: FloatArray) -> Secant:
    """The mean-value step: f(x̂) − f(x) = s·d with s in [low, high] and |d| ≤ `error`."""
    middle = 0.5 * low + 0.5 * high
    spread = np.maximum(add_up(high, -middle), add_up(middle, -low))
    return Secant(middle, multiply_up(spread, error))


def elementwise_values(range_: Interval, bounds: LinearBounds, x: Interval) -> ValueMap:
    """Real values through linear bounds."""
    return through_linear_bounds(range_, lambda: bounds, x)


def through_linear_bounds(
    range_: Interval,
    bounds_of: Callable[[], LinearBounds],
    x: Interval,
    choice: FreeSlopes | None = None,
) -> ValueMap:
    """Real values in a range, functionals of f(x) pulled back through its linear bounds.

    A product c·slope carries a relative error of at most U and the sum of the two of another U
    (one of the two summands is zero), charged at the largest |x|.
    """

    @cache
    def carry() -> Carry:
        bounds = bounds_of()
        slope = np.maximum(np.abs(bounds.low_slope), np.abs(bounds.high_slope))
        charge = multiply_up(multiply_up(slope, _finite(x.magnitude)), 4 * UNIT)

        def coefficients(c: FloatArray) -> tuple[FloatArray, ...]:
            return (c * np.where(c > 0.0, bounds.high_slope, bounds.low_slope),)

        return Carry(coefficients, charge, above=bounds.high, below=bounds.low)

    return ValueMap(range_, lambda c: carry()(c), choice, carry)


def free_slopes(
    bounds_of: Callable[[], LinearBounds], free: BoolArray, x: Interval, below: FloatArray
) -> FreeSlopes:
    """The freedom of a hinge's relaxation: lower bound t·x for any t in [b, 1], and phases.

    f is x for x ≥ 0 and b·x below, with b = `below` ≤ 1 and `low` of the bounds zero. Over inputs
    with x ≥ −e, c·f(x) ≤ (c + β)·x + ((1 − b)·max(c, 0) + β)·e, and over those with x ≤ e,
    c·f(x) ≤ (c·b − β)·x + ((1 − b)·max(c, 0) + β)·e, for any β ≥ 0 (lemma `phase-multiplier`).
    """

    @cache
    def charges() -> tuple[FloatArray, FloatArray]:
        bounds = bounds_of()
        slope = np.maximum(np.maximum(np.abs(bounds.high_slope), np.abs(below)), 1.0)
        unit = multiply_up(_finite(x.magnitude), 4 * UNIT)
        return unit, multiply_up(slope, unit)

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
    error: FloatArray,
    unstable: BoolArray | None = None,
    below: FloatArray | float = 0.0,
) -> DifferenceMap:
    """Differences through f: `radius` bounds |f(x̂) − f(x)|, `error` bounds |d|.

    c·(f(x̂) − f(x)) ≤ (c·m)·d + |c|·(remainder + θ·|m|·error), θ the rounding error of c·m.
    `unstable` says where f(x̂) − f(x) = s·d with s anywhere between `below` and 1.
    """
    middle = secant.slope

    @cache
    def charge() -> FloatArray:
        product_error = multiply_up(multiply_up(np.abs(middle), _product_error(middle)), error)
        return add_up(secant.remainder, product_error)

    @cache
    def inexact() -> FloatArray:
        steepest = np.maximum(1.0, np.abs(below))
        return np.where(np.asarray(below) == 0, 0.0, multiply_up(4 * UNIT * steepest, error))

    @cache
    def carry() -> Carry:
        return Carry(lambda c: (c * middle,), charge())

    def backward(c: FloatArray) -> Contribution:
        return carry()(c)

    def fixed(c: FloatArray, share: FloatArray, at: BoolArray) -> Contribution:
        slope = share + (1.0 - share) * below
        cost = dot_up(np.where(at, 0.0, c), charge())
        if np.any(inexact()):  # products of c with 0, ½ and 1 are exact
            cost = add_up(cost, dot_up(np.where(at, c, 0.0), inexact()))
        return Contribution((c * np.where(at, slope, middle),), cost)

    if unstable is None:
        return DifferenceMap(radius, backward, carry=carry)
    return DifferenceMap(radius, backward, unstable, fixed, carry)


def _product_error(middle: FloatArray) -> FloatArray:
    """Relative error of c·middle in float64: none for 0, ½ and 1."""
    exact = (middle == 0.0) | (middle == 0.5) | (np.abs(middle) == 1.0)
    return np.where(exact, 0.0, 2 * UNIT)


def _finite(x: FloatArray) -> FloatArray:
    return np.where(np.isfinite(x), x, np.finfo(np.float64).max)
