"""Real numbers as terms in a normal form: equal terms are one and the same object of the pool.

A term is an affine combination c + Σ c_k·a_k of atoms with rational coefficients. An atom is a
variable, a product of powers, a maximum, a choice, a function of a term, or a sum too long to be
spread out, known by its digest. What operators mean is said by their own real semantics, executed
in these numbers: layouts, broadcasting, windows, axes and defaults are settled before a term is
made, and an operator and what it is written out as give the same one. Laws that are used, each
where all quotients, roots and logarithms that are written exist:

- a field's, but that a product of two sums is not multiplied out, only one of a sum and a constant,
  √2 say; what all terms of a sum share is taken out of it where it is a factor;
- √x·√x = x, √(c·x) = √c·√x for c > 0, exp(Σ c·a) = Π exp(a)^c, log(exp(a)·x) = a + log x;
- max as a set: no order, no repetition, nested ones joined; max(l, min(x, h)) = min(max(x, l), h)
  for l ≤ h, and = min(x, h) where x ≥ l;
- a choice by a < b or a ≤ b between two terms whose difference is a multiple of b − a is a maximum
  or a minimum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

import flint
import numpy as np

Parts: TypeAlias = tuple[tuple[int, flint.fmpq], ...]  # atoms in ascending order, none with 0
Factors: TypeAlias = dict[int, flint.fmpq]  # exponents of atoms, none 0

ZERO, ONE = flint.fmpq(0), flint.fmpq(1)
_SHARED = 600  # terms of a sum, up to which a common factor is looked for


class TermsTooLarge(ArithmeticError):
    """Terms would take more work than is allowed."""


@dataclass(eq=False)
class Pool:
    """Atoms and terms by what they are made of, and how much work is `left`.

    `sums` has the sum that an atom stands for, `members` of what one is the largest. `tick` is
    called often and may raise to stop.
    """

    left: int
    tick: Callable[[], None]
    atoms: dict[Any, int] = field(default_factory=dict)
    made_of: list[Any] = field(default_factory=list)
    sums: dict[int, Term] = field(default_factory=dict)
    members: dict[int, tuple[Term, ...]] = field(default_factory=dict)
    terms: dict[tuple[int, ...], int] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)

    def spend(self, work: int) -> None:
        """Raises TermsTooLarge once so many terms have been touched."""
        self.left -= work
        if self.left < 0:
            raise TermsTooLarge
        self.tick()

    def atom(self, *made_of: Any) -> int:
        """The number of an atom: the same one for equal makings."""
        return self._numbered(made_of, made_of)

    def fresh(self) -> Term:
        """A variable like no other."""
        return self.single(self.atom("variable", len(self.made_of)))

    def single(self, atom: int, factor: flint.fmpq = ONE) -> Term:
        return Term(self, ZERO, ((atom, factor),))

    def number(self, value: flint.fmpq) -> Term:
        return Term(self, value, ())

    def sum_atom(self, term: Term) -> int:
        """The atom that stands for a sum as it is."""
        atom = self.atom("sum", term.number)
        self.sums[atom] = term
        return atom

    def product(self, powers: Parts) -> int:
        """The atom that is a product of powers."""
        return self._numbered(("product", *_flat(powers)), ("product", powers))

    def _numbered(self, key: Any, made_of: Any) -> int:
        found = self.atoms.get(key)
        if found is None:
            found = self.atoms[key] = len(self.made_of)
            self.made_of.append(made_of)
        return found

    def signed_size(self, value: int) -> int:
        """A small whole number for any, with its sign: different ones for different sizes."""
        size = self.sizes.setdefault(abs(value), len(self.sizes) + 1)
        return size if value > 0 else -size


class Term:
    """c + Σ c_k·a_k: `constant` and `parts`."""

    __slots__ = ("_content", "_number", "constant", "parts", "pool")

    def __init__(self, pool: Pool, constant: flint.fmpq, parts: Parts) -> None:
        self.pool, self.constant, self.parts = pool, constant, parts
        self._number: int | None = None
        self._content: tuple[flint.fmpq, int] | None = None

    @property
    def number(self) -> int:
        """Equal for equal terms of the pool, and for no others."""
        if self._number is None:
            terms = self.pool.terms
            key = int(self.constant.p), int(self.constant.q), *_flat(self.parts)
            self._number = terms.setdefault(key, len(terms))
        return self._number

    @property
    def content(self) -> tuple[flint.fmpq, int]:
        """c and a where the term, no number, is c·a; a sum is an atom too."""
        if self._content is None:
            if len(self.parts) == 1 and self.constant == 0:
                atom, c = self.parts[0]
            else:
                c = self.parts[0][1]
                atom = self.pool.sum_atom(self.scaled(1 / c))
            self._content = c, atom
        return self._content

    def __add__(self, other: Any) -> Term:
        if isinstance(other, np.ndarray):
            return NotImplemented  # of every element, says numpy
        b: Term = self._lifted(other)
        if not b.parts:
            return Term(self.pool, self.constant + b.constant, self.parts)
        if not self.parts:
            return Term(self.pool, self.constant + b.constant, b.parts)
        self.pool.spend(len(self.parts) + len(b.parts))
        total = dict(self.parts)
        for atom, factor in b.parts:
            total[atom] = total.get(atom, ZERO) + factor
        return Term(self.pool, self.constant + b.constant, in_order(total))

    def scaled(self, factor: flint.fmpq) -> Term:
        """The multiple of it."""
        if factor == 1:
            return self
        if factor == 0:
            return self.pool.number(ZERO)
        return Term(
            self.pool, self.constant * factor, tuple((a, c * factor) for a, c in self.parts)
        )

    def __mul__(self, other: Any) -> Term:
        if isinstance(other, np.ndarray):
            return NotImplemented
        b: Term = self._lifted(other)
        if not b.parts:
            return self.scaled(b.constant)
        if not self.parts:
            return b.scaled(self.constant)
        self.pool.spend(4)
        (c, factors), (d, more) = factors_of(self), factors_of(b)
        return monomial(self.pool, c * d, _together(factors, more, ONE))

    def __truediv__(self, other: Any) -> Term:
        if isinstance(other, np.ndarray):
            return NotImplemented
        b: Term = self._lifted(other)
        if not b.parts:
            if b.constant == 0:
                raise ZeroDivisionError("division by zero")
            return self.scaled(1 / b.constant)
        self.pool.spend(4)
        d, more = factors_of(b)
        if not self.parts and self.constant == 0:
            return self
        c, factors = factors_of(self)
        return monomial(self.pool, c / d, _together(factors, more, -ONE))

    def __neg__(self) -> Term:
        return self.scaled(-ONE)

    def __sub__(self, other: Any) -> Term:
        if isinstance(other, np.ndarray):
            return NotImplemented
        return self + self._lifted(other).scaled(-ONE)

    def __radd__(self, other: Any) -> Term:
        result: Term = self + other
        return result

    def __rmul__(self, other: Any) -> Term:
        result: Term = self * other
        return result

    def __rsub__(self, other: Any) -> Term:
        result: Term = self.scaled(-ONE) + other
        return result

    def __rtruediv__(self, other: Any) -> Term:
        one: Term = self.pool.number(ONE) / self
        result: Term = one * other
        return result

    def _lifted(self, other: Any) -> Term:
        if isinstance(other, Term):
            return other
        if isinstance(other, flint.fmpq):
            return self.pool.number(other)
        value = Fraction(other)
        return self.pool.number(flint.fmpq(value.numerator, value.denominator))


def _flat(parts: Parts) -> Iterator[int]:
    """What parts consist of; rational numbers are slow to find in tables."""
    for atom, c in parts:
        yield atom
        yield int(c.p)
        yield int(c.q)


def factors_of(term: Term) -> tuple[flint.fmpq, Factors]:
    """The term as a number times a product of powers."""
    pool = term.pool
    if not term.parts:
        return term.constant, {}
    if len(term.parts) == 1 and term.constant == 0:
        atom, factor = term.parts[0]
        return factor, _powers(pool, atom)
    shared = _shared(term)
    if shared:
        rest = pool.number(ZERO)
        for atom, factor in term.parts:
            powers = _together(_powers(pool, atom), shared, -ONE)
            rest = rest + monomial(pool, factor, powers)
        factor, factors = factors_of(rest)
        return factor, _together(factors, shared, ONE)
    leading = term.parts[0][1]
    return leading, {pool.sum_atom(term.scaled(1 / leading)): ONE}


def monomial(pool: Pool, factor: flint.fmpq, factors: Mapping[int, flint.fmpq]) -> Term:
    """A number times powers of atoms."""
    todo, powers = list(factors.items()), dict[int, flint.fmpq]()
    while todo:
        atom, power = todo.pop()
        made_of = pool.made_of[atom]
        power += powers.pop(atom, ZERO)
        if power == 0:
            continue
        if made_of[0] == "product" and power.q == 1:
            todo += [(a, p * power) for a, p in made_of[1]]
        elif made_of[0] == "number":
            whole = power.p // power.q
            factor *= flint.fmpq(made_of[1]) ** int(whole)
            if power != whole:
                powers[atom] = power - whole
        else:
            powers[atom] = power
    if not powers or factor == 0:
        return pool.number(factor)
    if len(powers) == 1:
        ((atom, power),) = powers.items()
        if power == 1:
            whole_sum = pool.sums.get(atom)
            return pool.single(atom, factor) if whole_sum is None else whole_sum.scaled(factor)
    spread = _spread_out(pool, factor, powers)
    if spread is not None:
        return spread
    return pool.single(pool.product(tuple(sorted(powers.items()))), factor)


def is_constant(pool: Pool, atom: int) -> bool:
    """Does the atom stand for one number, not rational, whatever the variables are?"""
    return pool.made_of[atom][0] in ("number", "e", "pi")


def _spread_out(pool: Pool, factor: flint.fmpq, powers: Factors) -> Term | None:
    """A constant times a sum that is not long, as the sum of its products; else None."""
    (*others,) = (atom for atom in powers if not is_constant(pool, atom))
    if len(others) != 1 or others[0] not in pool.sums or powers[others[0]] != 1:
        return None
    whole = pool.sums[others[0]]
    if len(whole.parts) > _SHARED:
        return None
    pool.spend(len(whole.parts) + 1)
    constant = {atom: power for atom, power in powers.items() if atom != others[0]}
    made = [monomial(pool, factor * whole.constant, constant)]
    made += [
        monomial(pool, factor * c, _together(_powers(pool, atom), constant, ONE))
        for atom, c in whole.parts
    ]
    known, total = ZERO, dict[int, flint.fmpq]()
    for term in made:
        known += term.constant
        for atom, c in term.parts:
            total[atom] = total.get(atom, ZERO) + c
    return Term(pool, known, in_order(total))


def _powers(pool: Pool, atom: int) -> Factors:
    made_of = pool.made_of[atom]
    return dict(made_of[1]) if made_of[0] == "product" else {atom: ONE}


def _together(a: Factors, b: Factors, sign: flint.fmpq) -> Factors:
    total = dict(a)
    for atom, power in b.items():
        total[atom] = total.get(atom, ZERO) + sign * power
    return {atom: power for atom, power in total.items() if power != 0}


def _shared(term: Term) -> Factors:
    """Powers that every term of a sum has as a factor."""
    if term.constant != 0 or not 2 <= len(term.parts) <= _SHARED:
        return {}
    common: Factors | None = None
    for atom, _ in term.parts:
        powers = _powers(term.pool, atom)
        if common is None:
            common = powers
        else:
            common = {a: min(p, powers[a]) for a, p in common.items() if a in powers}
        if not common:
            return {}
    term.pool.spend(len(term.parts))
    return common or {}


def in_order(total: Mapping[int, flint.fmpq]) -> Parts:
    """Coefficients by atom as parts."""
    return tuple(sorted((atom, c) for atom, c in total.items() if c != 0))


def members_of(pool: Pool, term: Term) -> tuple[Term, ...] | None:
    """Of what a term is the largest, if it is a maximum and nothing more."""
    if term.constant != 0 or len(term.parts) != 1 or term.parts[0][1] != 1:
        return None
    return pool.members.get(term.parts[0][0])
