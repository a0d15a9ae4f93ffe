"""Terms read as rational numbers, formulas decided exactly: what the other readings are held to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from encoders.lemmas.lemma import Lemma
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

_BEYOND = Fraction(2**1024)
"""No float64 reaches it."""


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


def made_finite(lemma: Lemma, numbers: Mapping[str, float | Fraction]) -> dict[str, Fraction]:
    """What a lemma was applied to, each infinite number beyond all formats, and as large as the
    hypotheses ask of it: what is so for every number may be said of a large one."""
    found = {
        n: _BEYOND if v == math.inf else Fraction(max(v, -_BEYOND)) for n, v in numbers.items()
    }
    asked = [part for formula in lemma.hypotheses for part in _conjuncts(formula)]
    for part in (*asked, *asked):  # what one is at least may be raised after it
        match part:
            case AtMost(least, Parameter(name=name)) if numbers[name] == math.inf:
                found[name] = max(found[name], Exact(found).of(least))
    return found


def _conjuncts(formula: Formula) -> Iterator[Formula]:
    if isinstance(formula, Both):
        yield from _conjuncts(formula.left)
        yield from _conjuncts(formula.right)
    else:
        yield formula


def _is_power(x: Fraction) -> bool:
    ends = (x.numerator, x.denominator)
    return x > 0 and all(n & (n - 1) == 0 for n in ends)
