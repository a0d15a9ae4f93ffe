"""What a lemma is: hypotheses about numbers, what is assumed of computed values, a conclusion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache, cached_property

from encoders.lemmas.terms import (
    AtMost,
    Formula,
    Number,
    Parameter,
    Role,
    Term,
    larger,
    parameters,
    within,
)


@dataclass(frozen=True, eq=False, repr=False)
class Lemma:
    """One step of a bound, stated once.

    `hypotheses` are about the numbers that it is applied to, and are checked on them; `assumed` is
    what premises and format lemmas say of computed values. From both, |`error`| ≤ `radius`. Of an
    inductive lemma `step` is what one node of the induction shows, |error| ≤ step ≤ radius, and
    `rests_on` names other steps of it, and whatever else shows what is assumed. That every number
    given is at least 0, unless it is signed, is a hypothesis that need not be written.
    `by_way_of` are facts that follow too and lead solvers to the conclusion: products, mostly.
    `statement` and `source` are for people.
    """

    name: str
    statement: str
    source: str
    hypotheses: tuple[Formula, ...]
    assumed: tuple[Formula, ...]
    error: Term
    radius: Term
    step: Term | None = None
    rests_on: tuple[str, ...] = ()
    by_way_of: tuple[Formula, ...] = ()

    @cached_property
    def given(self) -> tuple[Parameter, ...]:
        """What is given when it is applied, reaches left out."""
        found = parameters(*self.hypotheses, *self.assumed, self.radius, *self._reaches)
        return tuple(p for p in found if p.role is not Role.VALUE and p.reach_of is None)

    @property
    def _reaches(self) -> tuple[Parameter, ...]:
        return ()

    @cached_property
    def read(self) -> tuple[Parameter, ...]:
        """Every number that an application reads: what is given, reaches of roundings and upper
        ends of ranges."""
        beside = (p.beside for p in self.given)
        return (*self.given, *(p for p in beside if p is not None))

    @cached_property
    def signs(self) -> tuple[tuple[Parameter, Formula], ...]:
        """That numbers which have to be at least 0 are so; what is given as a radius is."""
        zero = Number(Fraction(0))
        numbers = (p for p in self.given if p.role is Role.NUMBER and not p.signed)
        return tuple((p, AtMost(zero, p)) for p in numbers)

    @cached_property
    def conclusions(self) -> tuple[Formula, ...]:
        """What is proved of signs, hypotheses and what is assumed."""
        if self.step is None:
            return (within(self.error, self.radius),)
        return within(self.error, self.step), self.step <= self.radius

    def __repr__(self) -> str:
        return f"lemma {self.name}"

    def __reduce__(self) -> tuple[Callable[[str], Lemma], tuple[str]]:
        return _named, (self.name,)


@dataclass(frozen=True, eq=False, repr=False)
class RoundingLemma(Lemma):
    """A lemma on the rounding of any number of magnitude at most the parameter `reach`."""

    reach: Parameter = field(kw_only=True)

    @property
    def _reaches(self) -> tuple[Parameter, ...]:
        return (self.reach,)


@dataclass(frozen=True, eq=False, repr=False)
class RangeLemma(Lemma):
    """A lemma on where a real value lies: `low` ≤ `of` ≤ `high`, or that `of` is beyond these by
    nothing."""

    of: Term = field(kw_only=True)
    low: Term = field(kw_only=True)
    high: Term = field(kw_only=True)

    @cached_property
    def conclusions(self) -> tuple[Formula, ...]:
        """What is proved of signs, hypotheses and what is assumed."""
        return self.low <= self.of, self.of <= self.high


def range_lemma(
    name: str,
    statement: str,
    source: str,
    *,
    assumed: tuple[Formula, ...],
    of: Term,
    low: Term,
    high: Term,
    hypotheses: tuple[Formula, ...] = (),
    rests_on: tuple[str, ...] = (),
    by_way_of: tuple[Formula, ...] = (),
) -> RangeLemma:
    """The lemma that `of` lies between `low` and `high`."""
    return RangeLemma(
        name,
        statement,
        source,
        hypotheses=hypotheses,
        assumed=assumed,
        error=larger(0, low - of) + larger(0, of - high),
        radius=Number(Fraction(0)),
        rests_on=rests_on,
        by_way_of=by_way_of,
        of=of,
        low=low,
        high=high,
    )


def not_negative(lemma: Lemma) -> tuple[Formula, ...]:
    """That no number read is negative unless it is signed, radii included."""
    zero = Number(Fraction(0))
    return tuple(AtMost(zero, p) for p in lemma.read if not p.signed)


@cache
def _named(name: str) -> Lemma:
    from encoders.lemmas.library import LEMMAS

    (found,) = (lemma for lemma in LEMMAS if lemma.name == name)
    return found
