"""Operations of a format, rounded as Z3's theory rounds them, beside their exact results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import z3

from encoders.arithmetic import fp_theory as fp
from encoders.numbers.formats import (
    FloatFormat,
    small_format,
)
from refine.lemmas.lemma import Argument
from refine.proof.z3_solver import Fact, Formula, Term


@dataclass(frozen=True)
class Frame:
    """A small format beside a wide one that holds its exact results.

    `degree` is how many factors the results have (1 for sums, 2 for products); a wide number can
    hold (2^p + 2)^scalings times a result, to its last bit.
    """

    narrow: FloatFormat
    degree: int
    scalings: int = 1

    @property
    def wide(self) -> FloatFormat:
        f = self.narrow
        headroom = self.scalings * (f.precision + 1) + 2
        top = self.degree * (f.emax + 1) + headroom
        bottom = self.degree * (f.emin - f.precision + 1)
        exponent_bits = f.exponent_bits + 1
        while not _covers(small_format(exponent_bits, top - bottom), top, bottom):
            exponent_bits += 1
        return small_format(exponent_bits, top - bottom)

    def variables(self, names: str) -> tuple[Term, ...]:
        return tuple(fp.variable(name, self.narrow) for name in names.split())

    def widen(self, term: Term) -> Term:
        return fp.convert(term, self.wide)

    def number(self, value: Fraction | int) -> Term:
        return fp.constant(Fraction(value), self.wide)

    @property
    def below_overflow(self) -> Term:
        return self.number(self.narrow.overflow_threshold)


def _covers(fmt: FloatFormat, top: int, bottom: int) -> bool:
    reaches = fmt.emax >= top and fmt.emin - fmt.precision + 1 <= bottom
    return reaches and fp.can_narrow(fmt)


@dataclass(frozen=True)
class Rounded:
    """One rounded operation: its operands, the exact result and the computed one, both wide."""

    frame: Frame
    operands: tuple[Term, ...]
    exact: Term
    computed: Term
    """In the narrow format."""

    @property
    def size(self) -> Term:
        return fp.absolute(self.exact)

    @property
    def error(self) -> Term:
        return self.error_of(self.computed)

    def error_of(self, computed: Term) -> Term:
        return fp.absolute(fp.subtract(self.frame.widen(computed), self.exact))

    @property
    def in_range(self) -> tuple[Fact, ...]:
        return (
            Fact("operands finite", z3.And(*(fp.is_finite(x) for x in self.operands))),
            Fact("|z| < overflow threshold", fp.less(self.size, self.frame.below_overflow)),
        )

    def relative(self, error: Term) -> Formula:
        """error ≤ u/(1+u)·|z|."""
        scale = self.frame.number(2**self.frame.narrow.precision)
        return fp.less_equal(fp.add(fp.multiply(error, scale), error), self.size)

    def at_most(self, term: Term, value: Fraction) -> Formula:
        return fp.less_equal(term, self.frame.number(value))

    def is_normal(self) -> Formula:
        return fp.less_equal(self.frame.number(self.frame.narrow.smallest_normal), self.size)


Operation = Callable[[FloatFormat], Rounded]


def rounded_sum(fmt: FloatFormat, names: str = "x y") -> Rounded:
    """x + y of two unknown numbers of the format."""
    frame = Frame(fmt, 1)
    x, y = frame.variables(names)
    return Rounded(frame, (x, y), fp.add(frame.widen(x), frame.widen(y)), fp.add(x, y))


def rounded_product(fmt: FloatFormat) -> Rounded:
    """x·y of two unknown numbers of the format."""
    frame = Frame(fmt, 2)
    x, y = frame.variables("x y")
    exact = fp.multiply(frame.widen(x), frame.widen(y))
    return Rounded(frame, (x, y), exact, fp.multiply(x, y))


def rounded_fma(fmt: FloatFormat) -> Rounded:
    """x·y + c of three unknown numbers of the format, rounded once."""
    frame = Frame(fmt, 2)
    x, y, c = frame.variables("x y c")
    exact = fp.add(fp.multiply(frame.widen(x), frame.widen(y)), frame.widen(c))
    return Rounded(frame, (x, y, c), exact, fp.fma(x, y, c))


def rounded_number(fmt: FloatFormat, name: str = "z") -> Rounded:
    """Any number of the wide format, stored in the narrow one."""
    frame = Frame(fmt, 2)
    z = fp.variable(name, frame.wide)
    return Rounded(frame, (z,), z, fp.convert(z, fmt))


def exact_frame(rounded: Rounded) -> Argument:
    """That the wide format holds all that the lemma computes, to the last bit."""
    scale = rounded.frame.number(2**rounded.frame.narrow.precision)
    scaled = fp.multiply(rounded.error, scale)
    steps = [fp.is_exact(fp.subtract, rounded.frame.widen(rounded.computed), rounded.exact)]
    steps += [fp.is_exact(fp.multiply, rounded.error, scale)]
    steps += [fp.is_exact(fp.add, scaled, rounded.error)]
    wide = [rounded.frame.widen(x) for x in rounded.operands]
    if len(wide) == 3:
        steps += [fp.is_exact(fp.multiply, wide[0], wide[1])]
        steps += [fp.is_exact(fp.add, fp.multiply(wide[0], wide[1]), wide[2])]
    elif len(wide) == 2:
        operation = fp.add if rounded.frame.degree == 1 else fp.multiply
        steps += [fp.is_exact(operation, *wide)]
    return Argument(
        rounded.in_range,
        Fact("rounding up or down gives the same at every step of the comparison", z3.And(*steps)),
    )
