"""Relaxations with several lines on either side, of which functionals choose.

Below any two lines that lie over a function lies no mean of them: with weights 1 − w and w, which
are exact multiples of 2^-10, the mean is a bound as they are. Which is best depends on the
functional (α-CROWN, Xu et al. 2021, for curves that bend).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from encoders.numbers.enclosure import (
    SMALLEST,
    UNIT,
    FloatArray,
    Interval,
    add_up,
    dot_up,
    gamma,
    multiply_up,
)
from encoders.operator import Contribution, FreeLines, LinearBounds

_PARTS = 2.0**10  # a weight is a multiple of one of so many


def free_lines(bounds: tuple[LinearBounds, ...], x: Interval) -> FreeLines:
    """Of these bounds of a function over `x`, element by element; of two at least.

    A mean of two numbers carries two products and a sum, each off by at most U of the larger, and a
    product with it another U: of slopes that is charged at the largest |x|. Sums of n products are
    off by γ(n) of those of their magnitudes at most. What underflows is charged apart.
    """
    count, size = len(bounds), x.lo.size
    sides = [[(b.low_slope, b.low) for b in bounds], [(b.high_slope, b.high) for b in bounds]]
    slopes, offsets = (
        np.concatenate([line[i].reshape(-1) for side in sides for line in side]) for i in (0, 1)
    )
    steepest, farthest = (
        np.max(np.abs(v).reshape(2 * count, *x.shape), axis=0) for v in (slopes, offsets)
    )
    reach = _finite(x.magnitude)
    charge = multiply_up(add_up(multiply_up(steepest, reach), farthest), 8 * UNIT)
    read = (steepest > 0) | (farthest > 0)
    charge = add_up(charge, np.where(read, 8 * SMALLEST * (1.0 + reach), 0.0))  # underflows
    with np.errstate(over="ignore"):
        underflowing = 2 * SMALLEST * (size + float(np.sum(np.where(read, reach, 0.0))))
    columns = np.arange(size).reshape(x.shape)

    @cache
    def rises() -> tuple[FloatArray, FloatArray]:
        """How much steeper and, at 0, higher the next line is; of the last lines it is not read."""
        return np.roll(slopes, -size) - slopes, np.roll(offsets, -size) - offsets

    def chosen(c: FloatArray, at: FloatArray) -> tuple[npt.NDArray[np.intp], FloatArray]:
        """Where the first of two lines stands, and what the second weighs."""
        first, weight = places_of(at, count)
        first *= size
        first += columns
        first += np.where(c > 0.0, count * size, 0)
        return first, weight

    def backward(c: FloatArray, at: FloatArray) -> Contribution:
        first, weight = chosen(c, at)
        rest = 1.0 - weight
        with np.errstate(invalid="ignore"):  # infinite lines bound nothing
            slope, offset = (
                rest * np.take(v, first) + weight * np.take(v, first + size)
                for v in (slopes, offsets)
            )
            flat = np.where(c == 0.0, 0.0, c * offset).reshape(len(c), -1)
        weighed = dot_up(c, charge)
        slack = multiply_up(dot_up(c, farthest), gamma(size + 4))
        slack = add_up(slack, np.where(weighed > 0, underflowing, 0.0))
        constant = add_up(add_up(np.sum(flat, axis=1), slack), weighed)
        return Contribution((c * slope,), np.where(np.isnan(constant), np.inf, constant))

    def met(c: FloatArray, at: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        first, weight = chosen(c, at)
        steeper, higher = (np.take(r, first) for r in rises())
        step = steeper * v + higher
        return np.take(slopes, first) * v + np.take(offsets, first) + weight * step, step

    return FreeLines(bounds, backward, met)


def places_of(at: FloatArray, lines: int) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """The places of the first of two neighbouring lines, and what the second weighs in their mean,
    at `at`, numbers; a NaN stands for 0."""
    exact = np.rint(np.clip(np.nan_to_num(at), 0.0, lines - 1.0) * _PARTS) / _PARTS
    first = np.minimum(exact.astype(np.intp), lines - 2)
    return first, exact - first


def _finite(x: FloatArray) -> FloatArray:
    return np.where(np.isfinite(x), x, np.finfo(np.float64).max)
