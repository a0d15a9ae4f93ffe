"""Step functions and comparisons: discontinuous, so no slope.

Either no jump lies between the real and the run-time argument, shown on the hull of their ranges,
or the whole jump is charged (lemma `step-jump`); where the two arguments are the same number,
nothing is. A runtime that reads subnormal operands as zero may jump there: that is its own
rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from encoders.lemmas.carrying import FOLLOWED, STEP_APART
from encoders.lemmas.choices import STEP_FOLLOWS
from encoders.lemmas.kernel import Radius, apply, enclosed
from encoders.lemmas.operations import JUMP
from encoders.lemmas.ranges.functions import MONOTONE_RANGE
from encoders.lemmas.ranges.making import hull_of
from encoders.lemmas.ranges.placing import range_of
from encoders.lemmas.ranges.range import Range
from encoders.numbers.enclosure import FloatArray, Interval, add_up, dot_up
from encoders.operator import Contribution, DifferenceMap, LinearBounds, Moved, ValueMap
from encoders.relaxations.elementwise import Secant, elementwise_differences, elementwise_values
from encoders.rounding.rounding_bounds import Rounder

LEMMAS = ("step-jump", "secant-step")
Step = Callable[[FloatArray], FloatArray]
Mask = npt.NDArray[np.bool_]


def step_values(step: Step, x: Interval, follows: tuple[float, float] | None) -> ValueMap:
    """Values of a monotone step function; with `follows`, x + low ≤ step(x) ≤ x + high."""
    range_ = enclosed(MONOTONE_RANGE, X=range_of(x), a=step(x.lo), b=step(x.hi))
    zero = np.zeros(x.shape)
    bounds = LinearBounds(zero, range_.lo, zero, range_.hi)
    if follows is not None:
        with np.errstate(invalid="ignore"):
            wide = ~(range_.hi - range_.lo <= 1.0)
        slope = wide.astype(np.float64)
        low, high = np.where(wide, follows[0], range_.lo), np.where(wide, follows[1], range_.hi)
        bounds = LinearBounds(slope, low, slope, high)
    return elementwise_values(range_, bounds, x)


def step_differences(step: Step, x: Interval, given: Radius, apart: float) -> DifferenceMap:
    """Jumps over the hull, or the difference itself up to `apart`, where that is finite: no two
    values of step(x) − x are farther from each other."""
    error = given.bound
    hull = hull_of(x, given)
    low, high = step(hull.lo), step(hull.hi)
    with np.errstate(invalid="ignore"):
        jump = high - low
    jump = np.where(np.isnan(jump), np.inf, jump)
    jump = np.where(error == 0, 0.0, jump)
    one = (jump > apart).astype(np.float64)
    if apart == np.inf:
        jumps = apply(JUMP, lo=low, hi=high, e=given)
        return elementwise_differences(Secant(np.zeros(x.shape), jumps), jumps, given)
    stepped = enclosed(MONOTONE_RANGE, X=hull, a=low, b=high)
    radius = apply(STEP_FOLLOWS, F=stepped, e=given, A=apart)
    near = apply(STEP_APART, e=given, A=apart)
    remainder = apply(FOLLOWED, m=one, r=radius, q=near)
    return elementwise_differences(Secant(one, remainder), radius, given)


def read_jump(step: Step, r: Rounder, x: Interval) -> Radius:
    """What a step function loses where a subnormal argument is read as zero."""
    lost = r.operand_loss(x)
    tiny, zero = np.full(x.shape, r.smallest_normal / 2), np.zeros(x.shape)
    above = apply(JUMP, lo=step(zero), hi=np.where(x.hi > 0, step(tiny), step(zero)), e=lost)
    below = apply(JUMP, lo=np.where(x.lo < 0, step(-tiny), step(zero)), hi=step(zero), e=lost)
    return above.or_else(below)


def without_slope(range_: Range, inputs: int) -> ValueMap:
    """Values known by their range alone."""
    middle = 0.5 * range_.lo + 0.5 * range_.hi
    radius = np.maximum(add_up(range_.hi, -middle), add_up(middle, -range_.lo))

    def backward(c: FloatArray) -> Contribution:
        top = np.sum((c * middle).reshape(c.shape[0], -1), axis=1)
        slack = dot_up(c, add_up(radius, np.abs(middle) * (middle.size * 2.0**-50)))
        return Contribution((None,) * inputs, add_up(top, slack))

    return ValueMap(range_, backward)


def jumping(radius: Radius, inputs: int) -> DifferenceMap:
    """Differences known by their size alone."""
    return DifferenceMap(radius, lambda c: Moved((None,) * inputs, radius.weighed(c)))
