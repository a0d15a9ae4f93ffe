"""Real numbers as formulas: quotients of polynomials in the inputs and in unknowns.

An unknown stands for what no polynomial is: √e, exp(m), max(e, 0), sin e, … of a formula that was
met before. Two formulas are the same real number, wherever all divisors are not zero and all roots
and logarithms exist, if one can be turned into the other by the laws of a field, by √e·√e = e, by
exp(a + b) = exp(a)·exp(b), and by max(c·e, 0) = c·max(e, 0) for c > 0. That is decided exactly for
the formulas as they are held here; what other laws would show equal stays different.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray, Rationals, fraction, object_array
from encoders.arithmetic.runtime import Relation
from encoders.functions.function import Function
from onnx_import.graph import Array

Monomial = tuple[tuple[int, Fraction], ...]  # unknowns in ascending order, exponents not 0
Polynomial = dict[Monomial, Fraction]  # coefficients not 0

_WORK = 2_000_000  # products of terms in one computation
_ONE: Polynomial = {(): Fraction(1)}


class TooLarge(ArithmeticError):
    """A formula has more terms than are worth the time."""


@dataclass
class _Unknowns:
    """What the unknowns of one computation stand for.

    `squares` holds e for an unknown that is √e, `exponents` for one that is exp(e); `table` finds
    an unknown by what it was made of.
    """

    most: int
    tick: Callable[[], None]
    left: int = _WORK
    count: int = 0
    squares: dict[int, Formula] = field(default_factory=dict)
    exponents: dict[int, Formula] = field(default_factory=dict)
    table: dict[Any, list[tuple[tuple[Formula, ...], int]]] = field(default_factory=dict)

    def spend(self, terms: int) -> None:
        """Raises TooLarge once so many products of terms have been formed."""
        self.left -= terms
        if self.left < 0:
            raise TooLarge
        self.tick()

    def fresh(self) -> int:
        self.count += 1
        return self.count - 1

    def of(self, kind: Any, arguments: tuple[Formula, ...]) -> int:
        """The unknown kind(arguments): the same one for equal arguments."""
        entries = self.table.setdefault(kind, [])
        for known, unknown in entries:
            self.spend(1)
            if all(a.same(b) for a, b in zip(known, arguments, strict=True)):
                return unknown
        entries.append((arguments, self.fresh()))
        return entries[-1][1]


@dataclass(frozen=True, eq=False)
class Formula:
    """top / bottom, two polynomials."""

    unknowns: _Unknowns
    top: Polynomial
    bottom: Polynomial

    def same(self, other: Formula) -> bool:
        """Are both equal wherever both are defined, as far as the laws above tell?"""
        if self.bottom == other.bottom:
            return self.top == other.top
        return self._times(self.top, other.bottom) == self._times(other.top, self.bottom)

    @property
    def constant(self) -> Fraction | None:
        """The number that this is, if it is one."""
        if not self.top:
            return Fraction(0)
        return self.top.get(()) if self.bottom == _ONE and set(self.top) == {()} else None

    def _times(self, a: Polynomial, b: Polynomial) -> Polynomial:
        if len(a) * len(b) > 16 * self.unknowns.most:
            raise TooLarge
        self.unknowns.spend(len(a) * len(b))
        product: Polynomial = {}
        for m, c in a.items():
            for n, d in b.items():
                for monomial, e in self._reduced(_joined(m, n)).items():
                    _add(product, monomial, c * d * e)
        return product

    def _reduced(self, monomial: Monomial) -> Polynomial:
        """Squares of square roots of polynomials expanded."""
        for unknown, power in monomial:
            square = self._squared(unknown) if power >= 2 else None
            if square is not None:
                rest = _joined(monomial, ((unknown, Fraction(-2)),))
                return self._times(square, {rest: Fraction(1)})
        return {monomial: Fraction(1)}

    def _squared(self, unknown: int) -> Polynomial | None:
        """e, if the unknown is the root of a polynomial e."""
        e = self.unknowns.squares.get(unknown)
        return e.top if e is not None and e.bottom == _ONE else None

    def _of(self, top: Polynomial, bottom: Polynomial) -> Formula:
        if max(len(top), len(bottom)) > self.unknowns.most:
            raise TooLarge
        if not bottom:
            raise ZeroDivisionError("division by zero")
        if not top:
            return Formula(self.unknowns, {}, _ONE)
        if len(bottom) == 1:
            ((monomial, c),) = bottom.items()
            roots = tuple((u, Fraction(1)) for u, _ in monomial if self._squared(u) is not None)
            if roots:  # p/√e = p·√e/e
                above, below = self._times(top, {roots: c}), self._times(bottom, {roots: c})
                return self._of(above, below)
            inverse = {tuple((u, -p) for u, p in monomial): 1 / c}
            return Formula(self.unknowns, self._times(top, inverse), _ONE)
        return Formula(self.unknowns, top, bottom)

    def __add__(self, other: Any) -> Formula:
        b = self._lifted(other)
        if self.bottom == b.bottom:
            return self._of(_sum(self.top, b.top), self.bottom)
        top = _sum(self._times(self.top, b.bottom), self._times(b.top, self.bottom))
        return self._of(top, self._times(self.bottom, b.bottom))

    def __mul__(self, other: Any) -> Formula:
        b = self._lifted(other)
        if self.bottom == b.top:
            return self._of(self.top, b.bottom)
        if b.bottom == self.top:
            return self._of(b.top, self.bottom)
        return self._of(self._times(self.top, b.top), self._times(self.bottom, b.bottom))

    def __truediv__(self, other: Any) -> Formula:
        b = self._lifted(other)
        return self * Formula(self.unknowns, b.bottom, b.top) if b.top else self._of(_ONE, {})

    def __neg__(self) -> Formula:
        return Formula(self.unknowns, {m: -c for m, c in self.top.items()}, self.bottom)

    def __sub__(self, other: Any) -> Formula:
        return self + (-self._lifted(other))

    def __radd__(self, other: Any) -> Formula:
        return self + self._lifted(other)

    def __rmul__(self, other: Any) -> Formula:
        return self * self._lifted(other)

    def __rsub__(self, other: Any) -> Formula:
        return self._lifted(other) - self

    def __rtruediv__(self, other: Any) -> Formula:
        return self._lifted(other) / self

    def _lifted(self, other: Any) -> Formula:
        if isinstance(other, Formula):
            return other
        return number(self.unknowns, Fraction(other))


def number(unknowns: _Unknowns, value: Fraction) -> Formula:
    """A rational number as a formula without unknowns."""
    return Formula(unknowns, {(): value} if value else {}, _ONE)


class AlgebraicField:
    """`Field` of formulas of at most `most` terms, of which products take so much `work` together;
    beyond that, operations raise TooLarge."""

    def __init__(
        self, most: int = 400, tick: Callable[[], None] = lambda: None, work: int = _WORK
    ) -> None:
        """`tick` is called often and may raise to stop."""
        self._unknowns = _Unknowns(most, tick, work)

    @contextmanager
    def working(self) -> Iterator[None]:
        yield

    def variables(self, shape: tuple[int, ...]) -> ObjectArray:
        """An array of inputs, with a sample axis of length 1."""
        size = int(np.prod(shape))
        return object_array((self._unknown(self._unknowns.fresh()) for _ in range(size)), shape)[
            np.newaxis
        ]

    def constant(self, values: Array) -> ObjectArray:
        rational = Rationals().constant(values)
        return self._each(lambda v: number(self._unknowns, fraction(v)), rational)

    def number(self, value: Fraction) -> Formula:
        return number(self._unknowns, value)

    def maximum(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return self._each(lambda x, y: y + self._positive_part(x - y), a, b)

    def sqrt(self, a: ObjectArray) -> ObjectArray:
        return self._each(self._root, a)

    def pi(self) -> Formula:
        return self._unknown(self._unknowns.of("pi", ()))

    def function(self, f: Function, a: ObjectArray) -> ObjectArray:
        if f.algebraic is not None:
            return self._each(partial(f.algebraic, self), a)
        return self._each(lambda x: self._applied(f, x), a)

    def floor(self, a: ObjectArray) -> ObjectArray:
        return self._each(lambda x: self._applied("floor", x), a)

    def nearest(self, a: ObjectArray) -> ObjectArray:
        return self._each(lambda x: self._applied("nearest", x), a)

    def compare(self, relation: Relation, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return self._each(lambda x, y: self._compared(relation, x - y), a, b)

    def select(self, condition: ObjectArray, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return self._each(self._selected, condition, a, b)

    def matmul(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return np.asarray(np.matmul(a, b), dtype=object)

    def _each(self, f: Callable[..., Formula], *arrays: ObjectArray) -> ObjectArray:
        together = np.broadcast_arrays(*arrays)
        items = zip(*(x.ravel().tolist() for x in together), strict=True)
        return object_array((f(*item) for item in items), together[0].shape)

    def _unknown(self, unknown: int) -> Formula:
        return Formula(self._unknowns, {((unknown, Fraction(1)),): Fraction(1)}, _ONE)

    def _applied(self, kind: Any, *arguments: Formula) -> Formula:
        return self._unknown(self._unknowns.of(kind, arguments))

    def _positive_part(self, x: Formula) -> Formula:
        """max(x, 0), from that of a formula whose first coefficient is 1."""
        known = x.constant
        if known is not None:
            return number(self._unknowns, max(known, Fraction(0)))
        scale = x.top[min(x.top)]
        part = self._applied("positive part", x / scale)
        return scale * part if scale > 0 else -scale * part + x

    def _root(self, x: Formula) -> Formula:
        known = x.constant
        if known == 0:
            return x
        unknown = self._unknowns.of("root", (x,))
        self._unknowns.squares[unknown] = x
        return self._unknown(unknown)

    def exponential(self, x: Formula) -> Formula:
        """exp(Σ c·m) = Π exp(m)^c: one unknown for each monomial m."""
        if x.bottom != _ONE:
            return self._applied("exp", x)
        result = number(self._unknowns, Fraction(1))
        for monomial, c in x.top.items():
            base = Formula(self._unknowns, {monomial: Fraction(1)}, _ONE)
            unknown = self._unknowns.of("exp", (base,))
            self._unknowns.exponents[unknown] = base
            power = ((unknown, c),)
            result = result * Formula(self._unknowns, {power: Fraction(1)}, _ONE)
        return result

    def logarithm(self, x: Formula) -> Formula:
        """log(p / q) = log|p| − log|q|."""
        top = self._log_of(x.top)
        return top if x.bottom == _ONE else top - self._log_of(x.bottom)

    def _log_of(self, p: Polynomial) -> Formula:
        """log|p|, of which exponentials that all terms share are taken out."""
        result = number(self._unknowns, Fraction(0))
        for unknown, e in self._unknowns.exponents.items():
            shared = min((dict(m).get(unknown, Fraction(0)) for m in p), default=Fraction(0))
            if shared:
                result = result + e * shared
                p = {_joined(m, ((unknown, -shared),)): c for m, c in p.items()}
        if p == _ONE:
            return result
        return result + self._applied("log", Formula(self._unknowns, p, _ONE))

    def _compared(self, relation: Relation, x: Formula) -> Formula:
        known = x.constant
        if known is None:
            return self._applied(relation, x)
        holds = {
            Relation.LESS: known < 0,
            Relation.AT_MOST: known <= 0,
            Relation.EQUAL: known == 0,
        }
        return number(self._unknowns, Fraction(int(holds[relation])))

    def _selected(self, condition: Formula, a: Formula, b: Formula) -> Formula:
        known = condition.constant
        if known is not None:
            return a if known != 0 else b
        if a.same(b):
            return a
        return self._applied("select", condition, a, b)


def _joined(a: Monomial, b: Monomial) -> Monomial:
    if not a or not b:
        return a or b
    powers = dict(a)
    for unknown, power in b:
        powers[unknown] = powers.get(unknown, Fraction(0)) + power
    return tuple(sorted((u, p) for u, p in powers.items() if p))


def _add(polynomial: Polynomial, monomial: Monomial, c: Fraction) -> None:
    total = polynomial.get(monomial, Fraction(0)) + c
    if total:
        polynomial[monomial] = total
    else:
        polynomial.pop(monomial, None)


def _sum(a: Polynomial, b: Polynomial) -> Polynomial:
    total = dict(a)
    for monomial, c in b.items():
        _add(total, monomial, c)
    return total
