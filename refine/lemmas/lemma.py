"""What a lemma is, and the few words that real-valued lemmas are written in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import z3

from refine.proof.z3_solver import Fact, Formula, Query, Term
from refine.results.obligation import Kind


@dataclass(frozen=True)
class Argument:
    """Hypotheses and what follows from them.

    `steps` follow from the hypotheses too and lead to the goal: products, mostly, that some
    solvers do not think of themselves. They are proved with the goal and assume nothing.
    """

    hypotheses: tuple[Fact, ...]
    goal: Fact
    steps: tuple[Fact, ...] = ()


@dataclass(frozen=True)
class Lemma:
    """One step that a bound takes, stated once, proved by Z3.

    `statement` is for people and says all of it; `source` is where it is known from; `argument`
    builds the formulas in Z3's default context.
    """

    name: str
    kind: Kind
    statement: str
    source: str
    argument: Callable[[], Argument]
    logic: str

    def query(self, timeout: float = 10.0, rlimit: int = 0) -> Query:
        return _query(self, timeout, rlimit)


@lru_cache(maxsize=4096)
def _query(lemma: Lemma, timeout: float, rlimit: int) -> Query:
    """One for all that cite the lemma, since it keeps its text."""
    argument = lemma.argument()
    return Query(
        lemma.name,
        lemma.kind,
        argument.hypotheses,
        argument.goal,
        steps=argument.steps,
        timeout=timeout,
        rlimit=rlimit,
        logic=lemma.logic,
    )


def schema(name: str, statement: str, source: str, argument: Callable[[], Argument]) -> Lemma:
    """A lemma over the reals."""
    return Lemma(name, Kind.SCHEMA, statement, source, argument, "QF_NRA")


def reals(names: str) -> tuple[Term, ...]:
    """Real unknowns of these names, separated by blanks."""
    return tuple(z3.Reals(names))


def within(x: Term, bound: Term) -> Formula:
    """|x| ≤ bound."""
    return z3.And(x <= bound, -bound <= x)


def magnitude(x: Term) -> Term:
    """|x|."""
    return z3.If(x >= 0, x, -x)


def larger(x: Term, y: Term) -> Term:
    """max(x, y)."""
    return z3.If(x >= y, x, y)


def between(x: Term, one: Term, other: Term) -> Formula:
    """x lies between the two, whichever is larger."""
    return z3.Or(z3.And(one <= x, x <= other), z3.And(other <= x, x <= one))


def nonnegative(text: str, *terms: Term) -> Fact:
    """`text` names the terms: "q, T ≥ 0"."""
    return Fact(text, z3.And(*(t >= 0 for t in terms)))
