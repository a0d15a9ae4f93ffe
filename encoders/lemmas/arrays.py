"""Terms read as outward-rounded arrays, formulas decided element by element.

`up` and `down` enclose a term; a formula is `surely` true of an element if it is true of every
number in the enclosures: ≤ compares an upper with a lower end. What cannot be decided, a NaN above
all, counts as false. Each term is evaluated once, so that to check π + m·q ≤ E and to take π + m·q
for a bound costs one evaluation. Arrays are float64 and broadcast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

import numpy as np

from encoders.lemmas.terms import (
    AtMost,
    Below,
    Both,
    Chosen,
    Difference,
    Either,
    Equal,
    Formula,
    Larger,
    Magnitude,
    Not,
    Number,
    Parameter,
    PowerOfTwo,
    Product,
    Quotient,
    Smaller,
    Sum,
    Term,
)
from encoders.numbers.enclosure import BoolArray, FloatArray, add_up, multiply_up

_NORMAL = 2.0**-1022
_FEW = 2**10
_MANTISSA = np.int64(0x000F_FFFF_FFFF_FFFF)


@dataclass
class Arrays:
    """Arrays for parameters, by name, and what follows of terms and formulas.

    Parameters are at least 0 unless they are declared to be signed; who asks has checked that, or
    checks it too. The caller silences numpy's warnings.
    """

    given: Mapping[str, FloatArray]
    above: dict[int, FloatArray] = field(default_factory=dict)
    beneath: dict[int, FloatArray] = field(default_factory=dict)

    def up(self, term: Term) -> FloatArray:
        """At least the term's value; NaN where nothing is known."""
        if isinstance(term, Parameter):
            return self.given[term.name]
        if id(term) not in self.above:
            self.above[id(term)] = self._up(term)
        return self.above[id(term)]

    def down(self, term: Term) -> FloatArray:
        """At most the term's value; NaN where nothing is known."""
        if isinstance(term, Parameter):
            return self.given[term.name]
        if id(term) not in self.beneath:
            self.beneath[id(term)] = self._down(term)
        return self.beneath[id(term)]

    def _up(self, term: Term) -> FloatArray:
        match term:
            case Number(value):
                return _rounded(value, np.inf)
            case Sum(a, b):
                return _plus_up(self.up(a), self.up(b))
            case Difference(a, b):
                return _plus_up(self.up(a), -self.down(b))
            case Product(a, b) if a.nonnegative and b.nonnegative:
                return _times_up(self.up(a), self.up(b))
            case Product(a, b):
                return _largest(self._corners(a, b))
            case Quotient(a, b):
                return _over_up(self.up(a), self.down(b), self.up(b))
            case Magnitude(a) if a.nonnegative:
                return self.up(a)
            case Magnitude(a):
                return np.maximum(self.up(a), -self.down(a))
            case Larger(a, b):
                return np.maximum(self.up(a), self.up(b))
            case Smaller(a, b):
                return np.minimum(self.up(a), self.up(b))
            case Chosen(condition, a, b):
                return self._chosen(condition, a, b, self.up, np.maximum)
        raise TypeError(f"a {type(term).__name__} is no term")

    def _down(self, term: Term) -> FloatArray:
        match term:
            case Number(value):
                return _rounded(value, -np.inf)
            case Sum(a, b):
                return -_plus_up(-self.down(a), -self.down(b))
            case Difference(a, b):
                return -_plus_up(-self.down(a), self.up(b))
            case Product(a, b) if a.nonnegative and b.nonnegative:
                return _times_down(self.down(a), self.down(b))
            case Product(a, b):
                return -_largest([-corner for corner in self._corners(a, b)])
            case Quotient(a, b):
                return -_over_up(-self.down(a), self.down(b), self.up(b))
            case Magnitude(a) if a.nonnegative:
                return self.down(a)
            case Magnitude(a):
                return np.maximum(np.maximum(self.down(a), -self.up(a)), 0.0)
            case Larger(a, b):
                return np.maximum(self.down(a), self.down(b))
            case Smaller(a, b):
                return np.minimum(self.down(a), self.down(b))
            case Chosen(condition, a, b):
                return self._chosen(condition, a, b, self.down, np.minimum)
        raise TypeError(f"a {type(term).__name__} is no term")

    def _corners(self, a: Term, b: Term) -> list[FloatArray]:
        ends = [(x, y) for x in (self.up(a), self.down(a)) for y in (self.up(b), self.down(b))]
        return [np.asarray(x * y) for x, y in ends]

    def _chosen(
        self,
        condition: Formula,
        a: Term,
        b: Term,
        end: Callable[[Term], FloatArray],
        either: np.ufunc,
    ) -> FloatArray:
        yes = self.surely(condition)
        if yes.all():
            return end(a)
        no = self._surely_not(condition)
        if no.all():
            return end(b)
        if not (yes | no).all():
            return np.where(yes, end(a), np.where(no, end(b), either(end(a), end(b))))
        return np.where(yes, end(a), end(b))

    def surely(self, formula: Formula) -> BoolArray:
        """Where the formula holds of every number within the enclosures."""
        match formula:
            case AtMost(a, b):
                return np.asarray(self.up(a) <= self.down(b))
            case Below(a, b):
                return np.asarray(self.up(a) < self.down(b))
            case Equal(a, b):
                return np.asarray((self.up(a) <= self.down(b)) & (self.down(a) >= self.up(b)))
            case PowerOfTwo(a):
                low, high = self.down(a), self.up(a)
                return np.asarray(_is_power(high) & (low == high))
            case Both(p, q):
                return np.asarray(self.surely(p) & self.surely(q))
            case Either(p, q):
                return np.asarray(self.surely(p) | self.surely(q))
            case Not(p):
                return self._surely_not(p)
        raise TypeError(f"a {type(formula).__name__} is no formula")

    def _surely_not(self, formula: Formula) -> BoolArray:
        match formula:
            case AtMost(a, b):
                return np.asarray(self.down(a) > self.up(b))
            case Below(a, b):
                return np.asarray(self.down(a) >= self.up(b))
            case Equal(a, b):
                return np.asarray((self.up(a) < self.down(b)) | (self.down(a) > self.up(b)))
            case PowerOfTwo(a):
                low, high = self.down(a), self.up(a)
                return np.asarray(~_is_power(high) & (low == high) & np.isfinite(high))
            case Both(p, q):
                return np.asarray(self._surely_not(p) | self._surely_not(q))
            case Either(p, q):
                return np.asarray(self._surely_not(p) & self._surely_not(q))
            case Not(p):
                return self.surely(p)
        raise TypeError(f"a {type(formula).__name__} is no formula")


@lru_cache(maxsize=256)
def _rounded(value: Fraction, toward: float) -> FloatArray:
    nearest = float(value)
    if Fraction(nearest) == value:
        return np.asarray(nearest)
    return np.asarray(np.nextafter(nearest, toward))


def _is_power(x: FloatArray) -> BoolArray:
    """2^k: no other bit of the mantissa is set (subnormal powers do not count)."""
    bits = np.ascontiguousarray(x).view(np.int64)
    return np.asarray(((bits & _MANTISSA) == 0) & (x >= _NORMAL) & (x < np.inf)).reshape(x.shape)


def _plus_up(a: FloatArray, b: FloatArray) -> FloatArray:
    """a + b rounded up; of few numbers the very next one, or the sum where that is exact."""
    if a.size > _FEW or b.size > _FEW:
        return a if not np.any(b) else b if not np.any(a) else add_up(a, b)
    s = np.asarray(a + b)
    back = s - a
    lost = (a - (s - back)) + (b - back)  # exactly a + b − s (Knuth), unless that overflows
    below = (s == -np.inf) & (a > -np.inf) & (b > -np.inf)  # a number, however small
    return np.where((lost > 0) | below, np.nextafter(s, np.inf), s)


def _scales(x: FloatArray) -> bool:
    return x.size == 1 and bool(_is_power(x).all())


def _times_up(a: FloatArray, b: FloatArray) -> FloatArray:
    """a·b rounded up, for numbers ≥ 0; exact where one is a power of two for all."""
    if _scales(a) or _scales(b):
        product = np.asarray(a * b)
        if not product.size or np.min(product) >= _NORMAL:
            return product
    return multiply_up(a, b)


def _times_down(a: FloatArray, b: FloatArray) -> FloatArray:
    product = np.asarray(a * b)
    # what is 2^-1022 may have been rounded up to it
    if (_scales(a) or _scales(b)) and (not product.size or np.min(product) > _NORMAL):
        return product
    return np.maximum(np.nextafter(product, -np.inf), 0.0)


def _largest(corners: list[FloatArray]) -> FloatArray:
    """The next number above the largest, each being correctly rounded; NaN if one is."""
    highest = corners[0]
    for corner in corners[1:]:
        highest = np.maximum(highest, corner)
    return np.nextafter(highest, np.inf)


def _over_up(a: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """a/b rounded up for b in [low, high]; NaN unless low is above 0; 0/b stays 0."""
    quotient = np.asarray(a / np.where(a >= 0, low, high))
    up = np.where(a == 0, 0.0, np.nextafter(quotient, np.inf))
    return np.where(low > 0, up, np.nan)
