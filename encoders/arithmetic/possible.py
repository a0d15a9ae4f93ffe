"""Which numbers each element of a tensor may be: below 0, 0, above 0, an infinity, NaN.

Ranges of real values cannot say that a divisor is as near to 0 as it likes and never 0, or that a
value is an infinity but no NaN. This keeps, element by element, one range of what is negative and
one of what is positive, each with the infinity where that is possible, and whether the element may
be 0 or NaN. An array of zeros in every field is the number 0, so that what is padded stays right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.values import E, Movement
from encoders.numbers.enclosure import SMALLEST, BoolArray, FloatArray


@dataclass(frozen=True, eq=False)
class Possible:
    """What each element may be, arrays (samples, *tensor shape).

    Magnitudes of negative numbers lie in [`below_least`, `below_most`], those of positive ones in
    [`above_least`, `above_most`]; where the larger end is 0 there are none, and the smaller one is
    0, too. `nonzero` says that it is not 0, `nan` that it may be NaN. An element that may be
    nothing at all stands for what no execution comes to.
    """

    below_least: FloatArray
    below_most: FloatArray
    above_least: FloatArray
    above_most: FloatArray
    nonzero: BoolArray
    nan: BoolArray

    @classmethod
    def within(cls, lo: FloatArray, hi: FloatArray, least: float) -> Possible:
        """Every number from lo to hi, of a format whose smallest positive one is `least`; an end
        that is NaN says nothing, and of lo > hi there is none."""
        lo = np.where(np.isnan(lo), -np.inf, lo)
        hi = np.where(np.isnan(hi), np.inf, hi)
        lo, hi = np.broadcast_arrays(lo, hi)
        some = lo <= hi
        below, above = some & (lo < 0), some & (hi > 0)
        return cls(
            np.where(below, np.maximum(-hi, least), 0.0),
            np.where(below, -lo, 0.0),
            np.where(above, np.maximum(lo, least), 0.0),
            np.where(above, hi, 0.0),
            ~(some & (lo <= 0) & (hi >= 0)),
            np.zeros(lo.shape, bool),
        )

    @classmethod
    def anything(cls, shape: tuple[int, ...], *, nan: bool) -> Possible:
        """Every number, and NaN if that is said."""
        every = np.full(shape, np.inf)
        least = np.full(shape, SMALLEST)
        return cls(least, every, least, every, np.zeros(shape, bool), np.full(shape, nan))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.nan.shape

    @property
    def below(self) -> BoolArray:
        """May it be negative?"""
        return np.greater(self.below_most, 0)

    @property
    def above(self) -> BoolArray:
        """May it be positive?"""
        return np.greater(self.above_most, 0)

    @property
    def zero(self) -> BoolArray:
        """May it be 0?"""
        return ~self.nonzero

    @property
    def some(self) -> BoolArray:
        """May it be a number at all?"""
        return self.below | self.above | self.zero

    @property
    def lo(self) -> FloatArray:
        """The least number that it may be; +∞ where it is none."""
        other = np.where(self.zero, 0.0, np.where(self.above, self.above_least, np.inf))
        return np.where(self.below, -self.below_most, other)

    @property
    def hi(self) -> FloatArray:
        """The largest number that it may be; −∞ where it is none."""
        other = np.where(self.zero, 0.0, np.where(self.below, -self.below_least, -np.inf))
        return np.where(self.above, self.above_most, other)

    @property
    def any(self) -> BoolArray:
        """May it be anything?"""
        return self.some | self.nan

    @property
    def infinite(self) -> BoolArray:
        """May it be an infinity?"""
        return self.falls | self.rises

    @property
    def falls(self) -> BoolArray:
        """May it be −∞?"""
        return np.equal(self.below_most, np.inf)

    @property
    def rises(self) -> BoolArray:
        """May it be +∞?"""
        return np.equal(self.above_most, np.inf)

    def moved(self, f: Movement) -> Possible:
        return Possible(
            f(self.below_least),
            f(self.below_most),
            f(self.above_least),
            f(self.above_most),
            f(self.nonzero),
            f(self.nan),
        )

    def joined(self, others: Sequence[Possible], axis: int) -> Possible:
        every = (self, *others)
        samples = max(p.shape[0] for p in every)
        return Possible(
            _joined([p.below_least for p in every], samples, axis),
            _joined([p.below_most for p in every], samples, axis),
            _joined([p.above_least for p in every], samples, axis),
            _joined([p.above_most for p in every], samples, axis),
            _joined([p.nonzero for p in every], samples, axis),
            _joined([p.nan for p in every], samples, axis),
        )

    def negated(self) -> Possible:
        """What −x may be."""
        return replace(
            self,
            below_least=self.above_least,
            below_most=self.above_most,
            above_least=self.below_least,
            above_most=self.below_most,
        )

    def absolute(self) -> Possible:
        """What |x| may be."""
        turned = replace(self, below_least=np.zeros(self.shape), below_most=np.zeros(self.shape))
        mirrored = replace(
            self.negated(), below_least=turned.below_least, below_most=turned.below_most
        )
        return turned.either(mirrored)

    def either(self, other: Possible) -> Possible:
        """What it is that is one of both."""
        below = _hull((self.below_least, self.below_most), (other.below_least, other.below_most))
        above = _hull((self.above_least, self.above_most), (other.above_least, other.above_most))
        return Possible(*below, *above, self.nonzero & other.nonzero, self.nan | other.nan)

    def both(self, other: Possible) -> Possible:
        """What it is of which both are known."""
        below = _common((self.below_least, self.below_most), (other.below_least, other.below_most))
        above = _common((self.above_least, self.above_most), (other.above_least, other.above_most))
        return Possible(*below, *above, self.nonzero | other.nonzero, self.nan & other.nan)

    def where(self, condition: BoolArray) -> Possible:
        """The same where the condition is met, nothing elsewhere."""
        return Possible(
            np.where(condition, self.below_least, 0.0),
            np.where(condition, self.below_most, 0.0),
            np.where(condition, self.above_least, 0.0),
            np.where(condition, self.above_most, 0.0),
            self.nonzero | ~condition,
            self.nan & condition,
        )

    def or_nan(self, nan: BoolArray) -> Possible:
        """The same, or NaN where that is said."""
        whole = self.where(np.ones(np.broadcast_shapes(self.shape, nan.shape), bool))
        return replace(whole, nan=whole.nan | nan)

    def sample(self, k: int) -> Possible:
        """One of the samples alone."""
        return self.moved(lambda array: array[k : k + 1])

    def of_any_sample(self) -> Possible:
        """What it is in one of the samples, as one sample."""
        found = self.sample(0)
        for k in range(1, self.shape[0]):
            found = found.either(self.sample(k))
        return found


Range: TypeAlias = tuple[FloatArray, FloatArray]


def _hull(a: Range, b: Range) -> Range:
    none_a, none_b = a[1] == 0, b[1] == 0
    least = np.where(none_a, b[0], np.where(none_b, a[0], np.minimum(a[0], b[0])))
    return least, np.maximum(a[1], b[1])


def _common(a: Range, b: Range) -> Range:
    least, most = np.maximum(a[0], b[0]), np.minimum(a[1], b[1])
    some = (least <= most) & (most > 0)
    return np.where(some, least, 0.0), np.where(some, most, 0.0)


def _joined(column: Sequence[npt.NDArray[E]], samples: int, axis: int) -> npt.NDArray[E]:
    """One after the other; along the axis of samples, each as it is."""
    full = [np.broadcast_to(v, (samples, *v.shape[1:])) if axis else v for v in column]
    return np.concatenate(full, axis=axis)
