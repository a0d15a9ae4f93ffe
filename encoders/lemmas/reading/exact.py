"""Terms read as rational numbers, formulas decided exactly: what the other readings are held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

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
    Whole,
)


@dataclass
class Exact:
    """Numbers for parameters, by name, and what follows of terms and formulas."""

    given: Mapping[str, Fraction]
    known: dict[int, Fraction] = field(default_factory=dict)

    def of(self, term: Term) -> Fraction:
        """Raises KeyError for a parameter that is not given, ZeroDivisionError."""
        if id(term) not in self.known:
            self.known[id(term)] = self._of(term)
        return self.known[id(term)]

    def _of(self, term: Term) -> Fraction:
        match term:
            case Number(value):
                return value
            case Parameter(name=name):
                return self.given[name]
            case Sum(a, b):
                return self.of(a) + self.of(b)
            case Difference(a, b):
                return self.of(a) - self.of(b)
            case Product(a, b):
                return self.of(a) * self.of(b)
            case Quotient(a, b):
                return self.of(a) / self.of(b)
            case Magnitude(a):
                return abs(self.of(a))
            case Larger(a, b):
                return max(self.of(a), self.of(b))
            case Smaller(a, b):
                return min(self.of(a), self.of(b))
            case Chosen(condition, a, b):
                return self.of(a) if self.holds(condition) else self.of(b)
        raise TypeError(f"a {type(term).__name__} is no term")

    def holds(self, formula: Formula) -> bool:
        match formula:
            case AtMost(a, b):
                return self.of(a) <= self.of(b)
            case Below(a, b):
                return self.of(a) < self.of(b)
            case Equal(a, b):
                return self.of(a) == self.of(b)
            case PowerOfTwo(a):
                return _is_power(self.of(a))
            case Whole(a):
                return self.of(a).denominator == 1
            case Both(p, q):
                return self.holds(p) and self.holds(q)
            case Either(p, q):
                return self.holds(p) or self.holds(q)
            case Not(p):
                return not self.holds(p)
        raise TypeError(f"a {type(formula).__name__} is no formula")


def _is_power(x: Fraction) -> bool:
    ends = (x.numerator, x.denominator)
    return x > 0 and all(n & (n - 1) == 0 for n in ends)
