"""Floats held against real numbers that are known exactly, or within balls.

Most comparisons are decided by floats next to the exact numbers, rounded so that what passes is
true; the others by rational arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import flint
import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray, enclosure
from encoders.numbers.enclosure import BoolArray, FloatArray


@dataclass(frozen=True)
class Reals:
    """The real values of a tensor at some points, (points, *shape), each in [low, high]: floats
    next to these ends, and the numbers themselves."""

    numbers: ObjectArray
    below_low: FloatArray
    above_low: FloatArray
    below_high: FloatArray
    above_high: FloatArray

    @classmethod
    def of(cls, points: Sequence[Any]) -> Reals:
        """From what `evaluate_exact` gives at each of the points."""
        shape = (len(points), *np.shape(points[0]))
        flat = [number for point in points for number in np.asarray(point).ravel().tolist()]
        numbers = np.empty(shape, dtype=object)
        numbers.reshape(-1)[:] = flat
        floats = np.array([_floats(number) for number in flat]).reshape(*shape, 4)
        return cls(numbers, *np.moveaxis(floats, -1, 0))

    def are_within(self, lo: FloatArray, hi: FloatArray) -> bool:
        return bool(np.all(lo <= self.below_low) and np.all(self.above_high <= hi))

    def near(self, values: FloatArray, limit: FloatArray) -> BoolArray:
        """Where some number of [low, high] is at most `limit` away from the float, exactly.

        Raises OverflowError for a value or a limit that is no number.
        """
        limit = np.broadcast_to(limit, values.shape)
        if not (np.all(np.isfinite(values)) and np.all(np.isfinite(limit))):
            raise OverflowError("this is no number")
        over = _less_up(values, self.below_high)
        under = _less_up(self.above_low, values)
        found = (over <= limit) & (under <= limit)
        for place in zip(*np.nonzero(~found), strict=True):
            low, high = enclosure(self.numbers[place])
            value, most = Fraction(float(values[place])), Fraction(float(limit[place]))
            found[place] = value - high <= most and low - value <= most
        return np.asarray(found)

    def worst_ratio(self, values: FloatArray, limit: FloatArray) -> float:
        """The error of the value that is furthest off, as a share of its limit; 0 of none."""
        limit = np.broadcast_to(limit, values.shape)
        off = np.maximum(values - self.below_low, self.above_high - values)
        ratio = np.divide(off, limit, out=np.zeros(values.shape), where=limit > 0)
        if not ratio.size or not np.max(ratio) > 0:
            return 0.0
        place = np.unravel_index(int(ratio.argmax()), ratio.shape)
        return float(self.error(values, place)) / float(limit[place])

    def error(self, values: FloatArray, place: Any) -> Fraction:
        """How far the float there is from the further end."""
        low, high = enclosure(self.numbers[place])
        value = Fraction(float(values[place]))
        return max(value - low, high - value)


def _less_up(a: FloatArray, b: FloatArray) -> FloatArray:
    """a − b rounded up; a difference of floats is 0 only if they are equal."""
    difference = a - b
    return np.where(difference == 0.0, 0.0, np.nextafter(difference, np.inf))


def _floats(number: flint.arb | flint.fmpq) -> tuple[float, float, float, float]:
    """Floats below and above the low end of what encloses it, and the high end."""
    if isinstance(number, flint.fmpq):
        return 2 * _around(int(number.p), int(number.q))
    low, high = enclosure(number)
    return (*_around(*low.as_integer_ratio()), *_around(*high.as_integer_ratio()))


def _around(numerator: int, denominator: int) -> tuple[float, float]:
    """The greatest float that is at most the quotient, and the least that is at least it."""
    near = numerator / denominator
    p, q = near.as_integer_ratio()
    left, right = p * denominator, numerator * q
    if left == right:
        return near, near
    if left < right:
        return near, math.nextafter(near, math.inf)
    return math.nextafter(near, -math.inf), near
