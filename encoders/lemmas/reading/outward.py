"""Outward-rounded operations on numbers and arrays: what terms and formulas are read with.

A number that all elements share is a Python float and is worked with as one; arrays are float64 and
broadcast. Of few numbers each result is the very next one, or exact where arithmetic is; of many it
is within a few roundings. NaN says that nothing is known. Whoever calls silences numpy's warnings.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from encoders.numbers.enclosure import (
    BoolArray,
    FloatArray,
    add_up,
    highest,
    lowest,
    multiply_up,
)

Value: TypeAlias = FloatArray | float
Truth: TypeAlias = BoolArray | bool

_NORMAL = 2.0**-1022
_LARGEST = math.nextafter(math.inf, 0.0)
_FEW = 2**10


@lru_cache(maxsize=256)
def rounded(value: Fraction, toward: float) -> float:
    """The number, or the next one in that direction."""
    nearest = float(value)
    return nearest if Fraction(nearest) == value else math.nextafter(nearest, toward)


def all_of(truth: Truth) -> bool:
    """Does it hold of every element?"""
    return truth if isinstance(truth, bool) else not truth.size or bool(truth.item(truth.argmin()))


def is_power(x: Value) -> Truth:
    """2^k for an integer k."""
    if isinstance(x, float):
        return math.frexp(x)[0] == 0.5
    return np.asarray(np.frexp(x)[0] == 0.5)


def is_whole(x: Value) -> Truth:
    """An integer, or infinite."""
    return np.asarray(np.floor(x) == x)


def plus_up(a: Value, b: Value) -> Value:
    """a + b rounded up; of few numbers the very next one, or the sum where that is exact."""
    if isinstance(a, float) and isinstance(b, float):
        total = a + b
        back = total - a
        # exactly a + b − s (Knuth), NaN where something overflows
        exact = (a - (total - back)) + (b - back) <= 0.0 or total != total
        return total if exact else math.nextafter(total, math.inf)
    s = np.asarray(a + b)
    if s.size > _FEW:
        if not (b if isinstance(b, float) else np.any(b)):
            return np.broadcast_to(a, s.shape)
        if not (a if isinstance(a, float) else np.any(a)):
            return np.broadcast_to(b, s.shape)
        return add_up(a, b)
    near = s - a
    lost = a - (s - near)
    lost += b - near
    return np.where(lost <= 0.0, s, np.nextafter(s, np.inf))


def plus_down(a: Value, b: Value) -> Value:
    """a + b rounded down."""
    return -plus_up(-a, -b)


def minus_up(a: Value, low: Value) -> Value:
    """a − b rounded up, for b ≥ low."""
    return plus_up(a, -low)


def minus_down(a: Value, high: Value) -> Value:
    """a − b rounded down, for b ≤ high."""
    return -plus_up(-a, high)


def times_up(a: Value, b: Value) -> Value:
    """a·b rounded up, for numbers ≥ 0; exact where one is a power of two for all; 0·∞ is 0."""
    if isinstance(a, float):
        if isinstance(b, float):
            if a == 0.0 or b == 0.0:
                return 0.0 if a >= 0.0 and b >= 0.0 else math.nan
            number = a * b
            exact = number >= _NORMAL and (_scales(a) or _scales(b))
            return number if exact else math.nextafter(number, math.inf)
        a, b = b, a
    product = np.asarray(a * b)
    if (_scales(a) or _scales(b)) and lowest(product) >= _NORMAL:
        return product
    if product.size > _FEW:
        return multiply_up(np.asarray(a), b)
    factor = (a != 0.0) & (b != 0.0)
    return np.where(factor, np.nextafter(product, np.inf), 0.0)


def times_down(a: Value, b: Value) -> Value:
    """a·b rounded down, for numbers ≥ 0. What is 2^-1022 may have been rounded up to it."""
    if isinstance(a, float):
        if isinstance(b, float):
            number = a * b
            if _NORMAL < number <= _LARGEST and (_scales(a) or _scales(b)):
                return number
            return number if number == 0.0 else math.nextafter(number, -math.inf)
        a, b = b, a
    product = np.asarray(a * b)
    if (_scales(a) or _scales(b)) and (lowest(product) > _NORMAL and highest(product) <= _LARGEST):
        return product
    return np.maximum(np.nextafter(product, -np.inf), 0.0)


def _scales(x: Value) -> bool:
    """Is it one power of two for all?"""
    if isinstance(x, float):
        return math.frexp(x)[0] == 0.5
    return x.size == 1 and math.frexp(x.item())[0] == 0.5


def product_up(a_up: Value, a_down: Value, b_up: Value, b_down: Value) -> Value:
    """a·b rounded up, for numbers of either sign; NaN where an end is no number."""
    return _largest([a_up * b_up, a_up * b_down, a_down * b_up, a_down * b_down])


def product_down(a_up: Value, a_down: Value, b_up: Value, b_down: Value) -> Value:
    """a·b rounded down."""
    return -_largest([-(a_up * b_up), -(a_up * b_down), -(a_down * b_up), -(a_down * b_down)])


def _largest(corners: list[Value]) -> Value:
    """The next number above the largest, each being correctly rounded."""
    highest = corners[0]
    for corner in corners[1:]:
        highest = larger(highest, corner)
    if isinstance(highest, float):
        return math.nextafter(highest, math.inf)
    return np.nextafter(highest, np.inf)


def over_up(a: Value, low: Value, high: Value) -> Value:
    """a/b rounded up for b in [low, high]; NaN unless low is above 0; 0/b stays 0."""
    if isinstance(a, float) and isinstance(low, float) and isinstance(high, float):
        if not low > 0.0:
            return math.nan
        if a == 0.0:
            return 0.0
        return math.nextafter(a / (low if a >= 0.0 else high), math.inf)
    quotient = np.asarray(a / np.where(np.greater_equal(a, 0.0), low, high))
    up = np.where(np.equal(a, 0.0), 0.0, np.nextafter(quotient, np.inf))
    return np.where(np.greater(low, 0.0), up, np.nan)


def over_down(a: Value, low: Value, high: Value) -> Value:
    """a/b rounded down for b in [low, high]."""
    return -over_up(-a, low, high)


def larger(a: Value, b: Value) -> Value:
    """max(a, b); NaN if one is."""
    if isinstance(a, float) and isinstance(b, float):
        return a if a >= b or a != a else b
    return np.maximum(a, b)


def smaller(a: Value, b: Value) -> Value:
    """min(a, b); NaN if one is."""
    if isinstance(a, float) and isinstance(b, float):
        return a if a <= b or a != a else b
    return np.minimum(a, b)


def magnitude_up(high: Value, low: Value) -> Value:
    """The largest |a| for a in [low, high]."""
    return larger(high, -low)


def magnitude_down(low: Value, high: Value) -> Value:
    """The least |a| for a in [low, high]."""
    return larger(larger(low, -high), 0.0)
