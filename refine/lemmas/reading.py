"""Lemmas of `encoders/lemmas` read as Z3 terms: the text that is checked on numbers is proved."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

import z3

from encoders.lemmas import library
from encoders.lemmas.lemma import Lemma as Stated
from encoders.lemmas.lemma import not_negative
from encoders.lemmas.reading.exact import Exact, made_finite
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
    text,
)
from refine.lemmas.lemma import Argument, Lemma, nonnegative, schema
from refine.proof.z3_solver import Fact, Query
from refine.proof.z3_solver import Formula as Z3Formula
from refine.proof.z3_solver import Term as Z3Term
from refine.results.obligation import Kind, Obligation


@dataclass
class Reading:
    """Z3 terms of one lemma, each built once; a quotient gets a name, with what defines it."""

    known: dict[int, Z3Term] = field(default_factory=dict)
    quotients: list[Fact] = field(default_factory=list)
    opaque: dict[str, Formula] = field(default_factory=dict)

    def of(self, term: Term) -> Z3Term:
        if id(term) not in self.known:
            self.known[id(term)] = self._of(term)
        return self.known[id(term)]

    def _of(self, term: Term) -> Z3Term:
        match term:
            case Number(value):
                return z3.RealVal(str(value))
            case Parameter(name=name):
                return z3.Real(name)
            case Sum(a, b):
                return self.of(a) + self.of(b)
            case Difference(a, b):
                return self.of(a) - self.of(b)
            case Product(a, b):
                return self.of(a) * self.of(b)
            case Quotient(a, b):
                return self._quotient(term, a, b)
            case Magnitude(a):
                return z3.If(self.of(a) >= 0, self.of(a), -self.of(a))
            case Larger(a, b):
                return z3.If(self.of(a) >= self.of(b), self.of(a), self.of(b))
            case Smaller(a, b):
                return z3.If(self.of(a) <= self.of(b), self.of(a), self.of(b))
            case Chosen(condition, a, b):
                return z3.If(self.formula(condition), self.of(a), self.of(b))
        raise TypeError(f"a {type(term).__name__} is no term")

    def _quotient(self, whole: Term, a: Term, b: Term) -> Z3Term:
        if isinstance(b, Number) and b.value:
            return self.of(a) / self.of(b)
        name = z3.Real(f"quotient{len(self.quotients)}")
        top, bottom = self.of(a), self.of(b)
        said = f"w = {text(whole)} where {text(b)} is not 0"
        self.quotients.append(Fact(said, z3.Implies(bottom != 0, name * bottom == top)))
        return name

    def _opaque(self, word: str, formula: Formula) -> Z3Formula:
        """Nothing is known of it but that it is the same wherever it stands."""
        alike = {n: f for n, f in self.opaque.items() if n.startswith(word)}
        same = [name for name, known in alike.items() if text(known) == text(formula)]
        name = same[0] if same else f"{word}{len(alike)}"
        self.opaque.setdefault(name, formula)
        return z3.Bool(name)

    def formula(self, formula: Formula) -> Z3Formula:
        match formula:
            case AtMost(Magnitude(a), b) if isinstance(a, Term):
                return z3.And(self.of(a) <= self.of(b), -self.of(b) <= self.of(a))
            case AtMost(a, b):
                return self.of(a) <= self.of(b)
            case Below(a, b):
                return self.of(a) < self.of(b)
            case Equal(a, b):
                return self.of(a) == self.of(b)
            case PowerOfTwo():
                return self._opaque("power_of_two", formula)
            case Whole():
                return self._opaque("whole", formula)
            case Both(p, q):
                return z3.And(self.formula(p), self.formula(q))
            case Either(Not(p), q):
                return z3.Implies(self.formula(p), self.formula(q))
            case Either(p, q):
                return z3.Or(self.formula(p), self.formula(q))
            case Not(p):
                return z3.Not(self.formula(p))
        raise TypeError(f"a {type(formula).__name__} is no formula")

    def fact(self, formula: Formula) -> Fact:
        return Fact(text(formula), self.formula(formula))


def argument(stated: Stated) -> Argument:
    """Signs, hypotheses and what is assumed imply what the lemma concludes."""
    reading = Reading()
    signs = []
    if positive := [p for p in stated.read if not p.signed]:
        named = ", ".join(p.shown for p in positive)
        signs.append(nonnegative(f"{named} ≥ 0", *map(reading.of, positive)))
    hypotheses = [reading.fact(f) for f in (*stated.hypotheses, *stated.assumed)]
    goals = [reading.fact(f) for f in stated.conclusions]
    goal = Fact(", ".join(g.text for g in goals), z3.And(*(g.formula for g in goals)))
    steps = tuple(reading.fact(f) for f in stated.by_way_of)
    return Argument((*signs, *reading.quotients, *hypotheses), goal, steps)


def instance(obligation: Obligation) -> Query | None:
    """That the hypotheses of an applied lemma hold of the numbers at its worst element, and that
    the radius taken is at least the lemma's; None of what is no application.

    All of it is closed: a solver has only to compute. An infinite number is a large one
    (`made_finite`), and where an infinite radius was taken nothing is to be shown unless a
    hypothesis was not.
    """
    here = obligation.application
    if here is None or here.lemma is None:
        return None
    lemma, reading = here.lemma, Reading()
    numbers = {p.name: n for p, n in zip(lemma.read, here.numbers, strict=True)}
    exact = made_finite(lemma, numbers)
    given = [
        Fact(f"{p.shown} = {float(numbers[p.name])!r}", reading.of(p) == _rational(exact[p.name]))
        for p in lemma.read
    ]
    bounded = math.isfinite(here.bound)
    claimed = bounded or here.failed is not None
    shown = [*not_negative(lemma), *lemma.hypotheses] if claimed else []
    shown += [lemma.radius <= Number(Fraction(here.bound))] if bounded else []
    goals = [reading.fact(f) for f in shown]
    kinds = [z3.Bool(n) == Exact(exact).holds(f) for n, f in reading.opaque.items()]
    given += [Fact("what is a power of two, or whole", z3.And(*kinds))] if kinds else []
    said = "; ".join(g.text for g in goals) or "nothing"
    goal = Fact(said, z3.And(*(g.formula for g in goals)))
    return Query(
        obligation.name,
        Kind.INSTANCE,
        (*given, *reading.quotients),
        goal,
        node=obligation.node,
        logic="QF_NRA",
    )


def _rational(exact: Fraction) -> Z3Term:
    return z3.RealVal(str(exact))


def read(stated: Stated) -> Lemma:
    """A lemma of the library that Z3 proves."""
    return schema(stated.name, stated.statement, stated.source, lambda: argument(stated))


LEMMAS: tuple[Lemma, ...] = tuple(read(stated) for stated in library.LEMMAS)
