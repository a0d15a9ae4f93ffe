"""Relaxations with several lines on either side, of which functionals choose.

Below any two lines that lie over a function lies no mean of them: with weights 1 − w and w, which
are exact multiples of 2^-10, the mean is a bound as they are. Which is best depends on the
functional (α-CROWN, Xu et al. 2021, for curves that bend).
"""

from __future__ import annotations

import numpy as np

from encoders.numbers.enclosure import (
    UNIT,
    FloatArray,
    Interval,
    add_up,
    dot_up,
    inner_up,
    multiply_up,
)
from encoders.operator import Contribution, FreeLines, LinearBounds

_PARTS = 2.0**10  # a weight is a multiple of one of so many


def free_lines(bounds: tuple[LinearBounds, ...], x: Interval) -> FreeLines:
    """Of these bounds of a function over `x`, element by element.

    A mean of two slopes carries two products and a sum, each off by at most U of the steepest, a
    product with it another U, and the sum of the two sides one more; an offset is weighed by a
    product that is off by at most U.
    """
    slopes = [np.abs(s) for b in bounds for s in (b.low_slope, b.high_slope)]
    offsets = [np.abs(h) for b in bounds for h in (b.low, b.high)]
    moved = multiply_up(np.max(slopes, axis=0), _finite(x.magnitude))
    charge = multiply_up(add_up(moved, np.max(offsets, axis=0)), 8 * UNIT)

    def backward(c: FloatArray, over: FloatArray, under: FloatArray) -> Contribution:
        coefficients, constant = np.zeros_like(c), dot_up(c, charge)
        for place, line in enumerate(bounds):
            high = np.maximum(c, 0.0) * weight_of(over, place, len(bounds))
            low = np.minimum(c, 0.0) * weight_of(under, place, len(bounds))
            coefficients += high * line.high_slope + low * line.low_slope
            ends = add_up(inner_up(high, line.high), inner_up(low, line.low))
            constant = add_up(constant, ends)
        return Contribution((coefficients,), constant)

    return FreeLines(bounds, backward)


def weight_of(at: FloatArray, place: int, lines: int) -> FloatArray:
    """What the line at a place weighs in the mean at places `at`, numbers; all weigh 1 together."""
    exact = np.rint(np.clip(at, 0.0, lines - 1.0) * _PARTS) / _PARTS
    return np.maximum(1.0 - np.abs(exact - place), 0.0)


def _finite(x: FloatArray) -> FloatArray:
    return np.where(np.isfinite(x), x, np.finfo(np.float64).max)
