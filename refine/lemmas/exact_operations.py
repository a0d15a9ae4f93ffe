"""Format lemmas on operations that round nothing, or little."""

from __future__ import annotations

from fractions import Fraction

import z3

from encoders.arithmetic import fp_theory as fp
from encoders.numbers.formats import (
    FloatFormat,
    power_of_two,
)
from refine.lemmas.lemma import Argument
from refine.lemmas.rounded import (
    Frame,
    rounded_sum,
)
from refine.proof.z3_solver import Fact, Formula, Term


def sterbenz(fmt: FloatFormat) -> Argument:
    frame = Frame(fmt, 1)
    x, y = frame.variables("x y")
    wide_x, wide_y = frame.widen(x), frame.widen(y)
    two = frame.number(2)
    close = z3.And(
        fp.less_equal(wide_x, fp.multiply(two, wide_y)),
        fp.less_equal(wide_y, fp.multiply(two, wide_x)),
    )
    exact = fp.subtract(wide_x, wide_y)
    return Argument(
        (
            Fact("x, y finite", z3.And(fp.is_finite(x), fp.is_finite(y))),
            Fact("y/2 ≤ x ≤ 2·y", close),
        ),
        Fact("fl(x − y) = x − y", fp.ieee_equal(frame.widen(fp.subtract(x, y)), exact)),
    )


def small_sum_exact(fmt: FloatFormat) -> Argument:
    rounded = rounded_sum(fmt)
    limit = rounded.frame.number(2 * fmt.smallest_normal)
    return Argument(
        (rounded.in_range[0], Fact("|x + y| ≤ 2^(emin+1)", fp.less_equal(rounded.size, limit))),
        Fact("fl(x + y) = x + y", fp.is_zero(rounded.error)),
    )


def sum_error_below_operands(fmt: FloatFormat) -> Argument:
    rounded = rounded_sum(fmt)
    bounds = [
        fp.less_equal(rounded.error, fp.absolute(rounded.frame.widen(x))) for x in rounded.operands
    ]
    return Argument(
        rounded.in_range, Fact("|fl(x + y) − (x + y)| ≤ min(|x|, |y|)", z3.And(*bounds))
    )


def halving_exact(fmt: FloatFormat) -> Argument:
    frame = Frame(fmt, 1)
    (x,) = frame.variables("x")
    half, two = Fraction(1, 2), Fraction(2)
    enough = fp.less_equal(frame.number(2 * fmt.smallest_normal), fp.absolute(frame.widen(x)))
    exact = fp.multiply(frame.widen(x), frame.number(half))
    halves = (fp.multiply(x, fp.constant(half, fmt)), fp.divide(x, fp.constant(two, fmt)))
    return Argument(
        (Fact("x finite, |x| ≥ 2^(emin+1)", z3.And(fp.is_finite(x), enough)),),
        Fact(
            "fl(x·½) = fl(x/2) = x/2",
            z3.And(*(fp.ieee_equal(frame.widen(h), exact) for h in halves)),
        ),
    )


def scaling_exact(fmt: FloatFormat) -> Argument:
    frame = Frame(fmt, 2)
    (x,) = frame.variables("x")
    powers = [power_of_two(k) for k in range(fmt.emin - fmt.precision + 1, fmt.emax + 1)]
    wide_x = frame.widen(x)
    tiny, huge = frame.number(fmt.smallest_normal), frame.below_overflow

    def exactly(computed: Term, factor: Fraction) -> Formula:
        exact = fp.multiply(wide_x, frame.number(factor))
        size = fp.absolute(exact)
        in_range = z3.And(fp.less_equal(tiny, size), fp.less(size, huge))
        return z3.Implies(in_range, fp.ieee_equal(frame.widen(computed), exact))

    def both(factor: Fraction) -> Formula:
        y = fp.constant(factor, fmt)
        return z3.And(exactly(fp.multiply(x, y), factor), exactly(fp.divide(x, y), 1 / factor))

    return Argument(
        (Fact("x finite", fp.is_finite(x)),),
        Fact(
            "for every y = ±2^k: fl(x·y), fl(x/y) = x·y, x/y unless below 2^emin",
            z3.And(*(both(sign * power) for power in powers for sign in (1, -1))),
        ),
    )


def maximum_exact(fmt: FloatFormat) -> Argument:
    x, y = fp.variable("x", fmt), fp.variable("y", fmt)
    most = fp.maximum(x, y)
    least = fp.negate(fp.maximum(fp.negate(x), fp.negate(y)))
    choice = [z3.Or(fp.same(m, x), fp.same(m, y)) for m in (most, least)]
    order = [fp.less_equal(v, most) for v in (x, y)] + [fp.less_equal(least, v) for v in (x, y)]
    return Argument(
        (Fact("neither is NaN", z3.Not(z3.Or(fp.is_nan(x), fp.is_nan(y)))),),
        Fact(
            "max is x or y and at least both; min is x or y and at most both",
            z3.And(*choice, *order),
        ),
    )


def relu_exact(fmt: FloatFormat) -> Argument:
    x = fp.variable("x", fmt)
    zero = fp.constant(0.0, fmt)
    y = fp.maximum(x, zero)
    positive = z3.If(fp.less(zero, x), fp.same(y, x), fp.is_zero(y))
    return Argument(
        (),
        Fact(
            "relu(x) is x if x > 0, NaN if x is NaN, else a zero",
            z3.If(fp.is_nan(x), fp.is_nan(y), positive),
        ),
    )


def widening_exact(narrow: FloatFormat, wide: FloatFormat) -> Argument:
    x, y = fp.variable("x", narrow), fp.variable("y", narrow)
    wide_x, wide_y = fp.convert(x, wide), fp.convert(y, wide)
    return Argument(
        (),
        Fact(
            "x → wide → narrow is x, and x < y exactly if wide(x) < wide(y)",
            z3.And(
                fp.same(fp.convert(wide_x, narrow), x),
                fp.less(x, y) == fp.less(wide_x, wide_y),
                fp.is_finite(x) == fp.is_finite(wide_x),
            ),
        ),
    )
