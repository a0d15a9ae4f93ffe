"""Terms read as outward-rounded arrays, formulas decided element by element.

`up` and `down` enclose a term; a formula is `surely` true of an element if it is true of every
number in the enclosures: ≤ compares an upper with a lower end. What cannot be decided, a NaN above
all, counts as false. A term is made into a function of the numbers once, and evaluated once of each
numbers, so that to check π + m·q ≤ E and to take π + m·q for a bound costs one evaluation.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from encoders.lemmas.reading import outward
from encoders.lemmas.reading.outward import Truth, Value
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

Frame: TypeAlias = dict[object, Value]
End: TypeAlias = Callable[[Frame], Value]
Test: TypeAlias = Callable[[Frame], Truth]


@dataclass(frozen=True)
class Reading:
    """Functions of frames, which hold the numbers for parameters by their names, and by other keys
    what was found on the way.

    Parameters are at least 0 unless they are declared to be signed; who asks has checked that, or
    checks it too. The caller silences numpy's warnings.
    """

    ups: dict[Term, End] = field(default_factory=dict)
    downs: dict[Term, End] = field(default_factory=dict)

    def up(self, term: Term) -> End:
        """At least the term's value; NaN where nothing is known."""
        if term not in self.ups:
            self.ups[term] = self._up(term)
        return self.ups[term]

    def down(self, term: Term) -> End:
        """At most the term's value; NaN where nothing is known."""
        if term not in self.downs:
            self.downs[term] = self._down(term)
        return self.downs[term]

    def _up(self, term: Term) -> End:
        match term:
            case Number(value):
                return _constant(outward.rounded(value, np.inf))
            case Parameter(name=name):
                return _given(name)
            case Sum(a, b):
                return _once(outward.plus_up, self.up(a), self.up(b))
            case Difference(a, b):
                return _once(outward.minus_up, self.up(a), self.down(b))
            case Product(a, b) if a.nonnegative and b.nonnegative:
                return _once(outward.times_up, self.up(a), self.up(b))
            case Product(a, b):
                return _once(outward.product_up, *self._corners(a, b))
            case Quotient(a, b):
                return _once(outward.over_up, self.up(a), self.down(b), self.up(b))
            case Magnitude(a) if a.nonnegative:
                return self.up(a)
            case Magnitude(a):
                return _once(outward.magnitude_up, self.up(a), self.down(a))
            case Larger(a, b):
                return _once(outward.larger, self.up(a), self.up(b))
            case Smaller(a, b):
                return _once(outward.smaller, self.up(a), self.up(b))
            case Chosen(condition, a, b):
                return self._chosen(condition, self.up(a), self.up(b), outward.larger)
        raise TypeError(f"a {type(term).__name__} is no term")

    def _down(self, term: Term) -> End:
        match term:
            case Number(value):
                return _constant(outward.rounded(value, -np.inf))
            case Parameter(name=name):
                return _given(name)
            case Sum(a, b):
                return _once(outward.plus_down, self.down(a), self.down(b))
            case Difference(a, b):
                return _once(outward.minus_down, self.down(a), self.up(b))
            case Product(a, b) if a.nonnegative and b.nonnegative:
                return _once(outward.times_down, self.down(a), self.down(b))
            case Product(a, b):
                return _once(outward.product_down, *self._corners(a, b))
            case Quotient(a, b):
                return _once(outward.over_down, self.down(a), self.down(b), self.up(b))
            case Magnitude(a) if a.nonnegative:
                return self.down(a)
            case Magnitude(a):
                return _once(outward.magnitude_down, self.down(a), self.up(a))
            case Larger(a, b):
                return _once(outward.larger, self.down(a), self.down(b))
            case Smaller(a, b):
                return _once(outward.smaller, self.down(a), self.down(b))
            case Chosen(condition, a, b):
                return self._chosen(condition, self.down(a), self.down(b), outward.smaller)
        raise TypeError(f"a {type(term).__name__} is no term")

    def _corners(self, a: Term, b: Term) -> tuple[End, End, End, End]:
        return self.up(a), self.down(a), self.up(b), self.down(b)

    def _chosen(
        self, condition: Formula, a: End, b: End, either: Callable[[Value, Value], Value]
    ) -> End:
        yes_of, no_of = self.surely(condition), self.surely_not(condition)

        def chosen(frame: Frame) -> Value:
            yes = yes_of(frame)
            if outward.all_of(yes):
                return a(frame)
            no = no_of(frame)
            if outward.all_of(no):
                return b(frame)
            if outward.all_of(yes | no):
                return np.where(yes, a(frame), b(frame))
            unclear = either(a(frame), b(frame))
            return np.where(yes, a(frame), np.where(no, b(frame), unclear))

        return _once(chosen)

    def surely(self, formula: Formula) -> Test:
        """Where the formula holds of every number within the enclosures."""
        match formula:
            case AtMost(a, b):
                return _compared(operator.le, self.up(a), self.down(b))
            case Below(a, b):
                return _compared(operator.lt, self.up(a), self.down(b))
            case Equal(a, b):
                return _both(self.surely(a <= b), self.surely(b <= a))
            case PowerOfTwo(a):
                return _all(outward.is_power, self.down(a), self.up(a))
            case Whole(a):
                return _all(outward.is_whole, self.down(a), self.up(a))
            case Both(p, q):
                return _both(self.surely(p), self.surely(q))
            case Either(p, q):
                return _either(self.surely(p), self.surely(q))
            case Not(p):
                return self.surely_not(p)
        raise TypeError(f"a {type(formula).__name__} is no formula")

    def surely_not(self, formula: Formula) -> Test:
        """Where it holds of none of them."""
        match formula:
            case AtMost(a, b):
                return self.surely(b < a)
            case Below(a, b):
                return self.surely(b <= a)
            case Equal(a, b):
                return _either(self.surely(a < b), self.surely(b < a))
            case PowerOfTwo(a):
                return _none(outward.is_power, self.down(a), self.up(a))
            case Whole(a):
                return _none(outward.is_whole, self.down(a), self.up(a))
            case Both(p, q):
                return _either(self.surely_not(p), self.surely_not(q))
            case Either(p, q):
                return _both(self.surely_not(p), self.surely_not(q))
            case Not(p):
                return self.surely(p)
        raise TypeError(f"a {type(formula).__name__} is no formula")


def _constant(value: float) -> End:
    def read(frame: Frame) -> Value:
        return value

    return read


def _given(name: str) -> End:
    def read(frame: Frame) -> Value:
        return frame[name]

    return read


def _once(f: Callable[..., Value], *ends: End) -> End:
    """f of what the ends are in a frame, which remembers it."""
    if len(ends) == 2:
        return _once_of_two(f, *ends)
    key = object()

    def read(frame: Frame) -> Value:
        found = frame.get(key)
        if found is None:
            found = frame[key] = f(*[end(frame) for end in ends]) if ends else f(frame)
        return found

    return read


def _once_of_two(f: Callable[[Value, Value], Value], a: End, b: End) -> End:
    """The same, and quicker: most terms are of two."""
    key = object()

    def read(frame: Frame) -> Value:
        found = frame.get(key)
        if found is None:
            found = frame[key] = f(a(frame), b(frame))
        return found

    return read


def _compared(relation: Callable[[Value, Value], Truth], a: End, b: End) -> Test:
    def read(frame: Frame) -> Truth:
        return relation(a(frame), b(frame))

    return read


def _both(p: Test, q: Test) -> Test:
    def read(frame: Frame) -> Truth:
        return p(frame) & q(frame)

    return read


def _either(p: Test, q: Test) -> Test:
    def read(frame: Frame) -> Truth:
        first = p(frame)
        return first if outward.all_of(first) else first | q(frame)

    return read


def _all(kind: Callable[[Value], Truth], low: End, high: End) -> Test:
    """An enclosure of one number that is of the kind."""

    def read(frame: Frame) -> Truth:
        a = low(frame)
        return kind(a) & (a == high(frame))

    return read


def _none(kind: Callable[[Value], Truth], low: End, high: End) -> Test:
    """An enclosure of one finite number that is none of the kind."""

    def read(frame: Frame) -> Truth:
        a, b = low(frame), high(frame)
        known = (a == b) & np.less(b, np.inf)
        return known & np.logical_not(kind(b))

    return read
