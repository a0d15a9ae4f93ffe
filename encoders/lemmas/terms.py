"""The language that lemmas are stated in: terms over the reals, and formulas about them.

A term or formula is built once and says nothing of how it is read. In `encoders/lemmas/reading`,
`arrays.py` reads it as outward-rounded arrays and `exact.py` as rational numbers;
`refine/lemmas/reading.py` reads it as Z3 terms; `text` is for people. Whatever occurs twice is one
object, so that each reading evaluates it once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from functools import cached_property
from typing import TypeAlias


class Role(Enum):
    """Where the value of a parameter comes from when a lemma is applied.

    A NUMBER is given. A BOUND is on an error that has been proved: only a `Radius` will do. A
    ROUNDING is a bound on what rounding any number up to its `reach` errs by. A RANGE is where a
    real value is known to lie: the parameter is its lower end, `upper` the other. VALUE parameters
    stand for numbers that a run computes, or that an induction quantifies over, and are not given.
    """

    NUMBER = "number"
    BOUND = "bound"
    ROUNDING = "rounding"
    RANGE = "range"
    VALUE = "value"


class Term:
    """A real number; + − × ÷ make terms, ≤ and < make formulas."""

    def __add__(self, other: Termlike) -> Term:
        return Sum(self, term(other))

    def __radd__(self, other: Termlike) -> Term:
        return Sum(term(other), self)

    def __sub__(self, other: Termlike) -> Term:
        return Difference(self, term(other))

    def __rsub__(self, other: Termlike) -> Term:
        return Difference(term(other), self)

    def __mul__(self, other: Termlike) -> Term:
        return Product(self, term(other))

    def __rmul__(self, other: Termlike) -> Term:
        return Product(term(other), self)

    def __truediv__(self, other: Termlike) -> Term:
        return Quotient(self, term(other))

    def __rtruediv__(self, other: Termlike) -> Term:
        return Quotient(term(other), self)

    def __neg__(self) -> Term:
        return Difference(Number(Fraction(0)), self)

    def __le__(self, other: Termlike) -> Formula:
        return AtMost(self, term(other))

    def __lt__(self, other: Termlike) -> Formula:
        return Below(self, term(other))

    def __ge__(self, other: Termlike) -> Formula:
        return AtMost(term(other), self)

    def __gt__(self, other: Termlike) -> Formula:
        return Below(term(other), self)

    def __repr__(self) -> str:
        return text(self)

    @cached_property
    def nonnegative(self) -> bool:
        """Is the term at least 0 wherever each parameter has the sign that it is declared with?"""
        match self:
            case Number(value):
                return value >= 0
            case Parameter(signed=signed):
                return not signed
            case Sum(a, b) | Product(a, b) | Quotient(a, b) | Smaller(a, b):
                return a.nonnegative and b.nonnegative
            case Larger(a, b):
                return a.nonnegative or b.nonnegative
            case Chosen(_, a, b):
                return a.nonnegative and b.nonnegative
            case Magnitude():
                return True
        return False


Termlike: TypeAlias = "Term | int | Fraction"


@dataclass(frozen=True, eq=False, repr=False)
class Number(Term):
    """A rational number."""

    value: Fraction


@dataclass(frozen=True, eq=False, repr=False)
class Parameter(Term):
    """A named number of a lemma; `shown` is what a person reads.

    What is given must be at least 0 unless it is `signed`: that is a hypothesis of every lemma that
    names it. A ROUNDING has a `reach`, the magnitude up to which it holds.
    """

    name: str
    shown: str
    role: Role
    signed: bool = False
    reach_of: Parameter | None = None

    @cached_property
    def reach(self) -> Parameter:
        if self.role is not Role.ROUNDING:
            raise TypeError(f"'{self.name}' is no bound on a rounding, so it has no reach")
        name = f"{self.name}_reach"
        return Parameter(name, f"reach({self.shown})", Role.NUMBER, reach_of=self)

    @cached_property
    def upper(self) -> Parameter:
        if self.role is not Role.RANGE:
            raise TypeError(f"'{self.name}' is no range, so it has no upper end")
        shown = f"max {self.name}"
        return Parameter(f"{self.name}_hi", shown, Role.NUMBER, signed=True, reach_of=self)

    @property
    def beside(self) -> Parameter | None:
        """What is given with it, when it is given: the reach, or the upper end."""
        if self.role is Role.ROUNDING:
            return self.reach
        return self.upper if self.role is Role.RANGE else None


@dataclass(frozen=True, eq=False, repr=False)
class Sum(Term):
    """left + right."""

    left: Term
    right: Term


@dataclass(frozen=True, eq=False, repr=False)
class Difference(Term):
    """left − right."""

    left: Term
    right: Term


@dataclass(frozen=True, eq=False, repr=False)
class Product(Term):
    """left·right."""

    left: Term
    right: Term


@dataclass(frozen=True, eq=False, repr=False)
class Quotient(Term):
    """Hypotheses have to say that the divisor is above 0."""

    left: Term
    right: Term


@dataclass(frozen=True, eq=False, repr=False)
class Magnitude(Term):
    """|of|."""

    of: Term


@dataclass(frozen=True, eq=False, repr=False)
class Larger(Term):
    """max(left, right)."""

    left: Term
    right: Term


@dataclass(frozen=True, eq=False, repr=False)
class Smaller(Term):
    """min(left, right)."""

    left: Term
    right: Term


@dataclass(frozen=True, eq=False, repr=False)
class Chosen(Term):
    """`left` where the condition holds, else `right`."""

    condition: Formula
    left: Term
    right: Term


class Formula:
    """A statement about terms; `&`, `|` and `~` as usual."""

    def __and__(self, other: Formula) -> Formula:
        return Both(self, other)

    def __or__(self, other: Formula) -> Formula:
        return Either(self, other)

    def __invert__(self) -> Formula:
        return Not(self)

    def __repr__(self) -> str:
        return text(self)

    def implies(self, other: Formula) -> Formula:
        return Either(Not(self), other)


@dataclass(frozen=True, eq=False, repr=False)
class AtMost(Formula):
    """left ≤ right."""

    left: Term
    right: Term


@dataclass(frozen=True, eq=False, repr=False)
class Below(Formula):
    """left < right."""

    left: Term
    right: Term


@dataclass(frozen=True, eq=False, repr=False)
class Equal(Formula):
    """left = right."""

    left: Term
    right: Term


@dataclass(frozen=True, eq=False, repr=False)
class PowerOfTwo(Formula):
    """2^k for an integer k. Z3 reads it as a statement about which it knows nothing."""

    of: Term


@dataclass(frozen=True, eq=False, repr=False)
class Whole(Formula):
    """An integer. Z3 reads it as a statement about which it knows nothing."""

    of: Term


@dataclass(frozen=True, eq=False, repr=False)
class Both(Formula):
    """left and right."""

    left: Formula
    right: Formula


@dataclass(frozen=True, eq=False, repr=False)
class Either(Formula):
    """left or right."""

    left: Formula
    right: Formula


@dataclass(frozen=True, eq=False, repr=False)
class Not(Formula):
    """Not `of`."""

    of: Formula


def term(value: Termlike) -> Term:
    """A term, or a rational number as one."""
    return value if isinstance(value, Term) else Number(Fraction(value))


def number(name: str, shown: str = "", *, signed: bool = False) -> Parameter:
    """A number that is given when the lemma is applied; ≥ 0 unless it is signed."""
    return Parameter(name, shown or name, Role.NUMBER, signed)


def bound(name: str, shown: str = "") -> Parameter:
    """A bound on an error, given as a `Radius`."""
    return Parameter(name, shown or name, Role.BOUND)


def rounding(name: str, shown: str = "") -> Parameter:
    """A bound on the error of rounding anything up to its reach, given as a `Rounding`."""
    return Parameter(name, shown or name, Role.ROUNDING)


def ends(name: str) -> tuple[Parameter, Parameter]:
    """The ends between which a real value lies, given as a `Range` by this name."""
    lower = Parameter(name, f"min {name}", Role.RANGE, signed=True)
    return lower, lower.upper


def value(name: str, shown: str = "") -> Parameter:
    """What a run computes; of either sign."""
    return Parameter(name, shown or name, Role.VALUE, signed=True)


def values(names: str) -> tuple[Parameter, ...]:
    """Several of them, by names that are shown as they are."""
    return tuple(value(name) for name in names.split())


def larger(a: Termlike, b: Termlike) -> Term:
    """max(a, b)."""
    return Larger(term(a), term(b))


def smaller(a: Termlike, b: Termlike) -> Term:
    """min(a, b)."""
    return Smaller(term(a), term(b))


def magnitude(a: Term) -> Term:
    """|a|."""
    return Magnitude(a)


def equal(a: Termlike, b: Termlike) -> Formula:
    """a = b."""
    return Equal(term(a), term(b))


def within(a: Term, limit: Termlike) -> Formula:
    """|a| ≤ limit."""
    return AtMost(Magnitude(a), term(limit))


def every(*formulas: Formula) -> Formula:
    """All of them, of which there is at least one."""
    joined = formulas[0]
    for formula in formulas[1:]:
        joined = Both(joined, formula)
    return joined


def parts(of: Term | Formula) -> tuple[Term | Formula, ...]:
    """What a term or formula is directly made of."""
    match of:
        case Sum(a, b) | Difference(a, b) | Product(a, b) | Quotient(a, b):
            return a, b
        case Larger(a, b) | Smaller(a, b) | AtMost(a, b) | Below(a, b) | Equal(a, b):
            return a, b
        case Both(p, q) | Either(p, q):
            return p, q
        case Magnitude(a) | PowerOfTwo(a) | Whole(a):
            return (a,)
        case Not(p):
            return (p,)
        case Chosen(condition, a, b):
            return condition, a, b
    return ()


def parameters(*roots: Term | Formula) -> tuple[Parameter, ...]:
    """Every parameter that occurs, in the order in which it is first met."""
    found: dict[int, Parameter] = {}
    seen: set[int] = set()

    def walk(of: Term | Formula) -> None:
        if id(of) in seen:
            return
        seen.add(id(of))
        if isinstance(of, Parameter):
            found.setdefault(id(of), of)
        for part in parts(of):
            walk(part)

    for root in roots:
        walk(root)
    return tuple(found.values())


_BINDING = {Sum: 1, Difference: 1, Product: 2, Quotient: 2}
_SIGNS = {Sum: " + ", Difference: " − ", Product: "·", Quotient: "/"}
_RELATIONS = {AtMost: " ≤ ", Below: " < ", Equal: " = "}


def text(of: Term | Formula) -> str:
    """As a person writes it."""
    match of:
        case Number(value):
            return str(value)
        case Parameter(shown=shown):
            return shown
        case Sum(a, b) | Difference(a, b) | Product(a, b) | Quotient(a, b):
            if isinstance(of, Difference) and isinstance(a, Number) and a.value == 0:
                return f"−{_side(b, of, last=True)}"
            return f"{_side(a, of)}{_SIGNS[type(of)]}{_side(b, of, last=True)}"
        case AtMost(a, b) | Below(a, b) | Equal(a, b):
            return f"{text(a)}{_RELATIONS[type(of)]}{text(b)}"
        case Magnitude(a):
            return f"|{text(a)}|"
        case Larger(a, b):
            return f"max({text(a)}, {text(b)})"
        case Smaller(a, b):
            return f"min({text(a)}, {text(b)})"
        case Chosen(condition, a, b):
            return f"({text(a)} if {text(condition)}, else {text(b)})"
        case PowerOfTwo(a):
            return f"{text(a)} is a power of two"
        case Whole(a):
            return f"{text(a)} is whole"
        case Both(p, q):
            return f"{text(p)}, {text(q)}"
        case Either(Not(p), q):
            return f"if {text(p)} then {text(q)}"
        case Either(p, q):
            return f"({text(p)} or {text(q)})"
        case Not(p):
            return f"not ({text(p)})"
    raise TypeError(f"a {type(of).__name__} is no term or formula")


def _side(of: Term, within_: Term, last: bool = False) -> str:
    shown = text(of)
    own, around = _BINDING.get(type(of), 3), _BINDING[type(within_)]
    loose = own < around or (last and own == around and not isinstance(within_, Sum))
    return f"({shown})" if loose else shown


def conjuncts(of: Formula) -> Iterator[Formula]:
    """The statements that a conjunction is made of."""
    if isinstance(of, Both):
        yield from conjuncts(of.left)
        yield from conjuncts(of.right)
    else:
        yield of
