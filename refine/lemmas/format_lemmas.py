"""Format lemmas: what the rounding model says is what IEEE 754 does, bit for bit.

Each is proved over every value of a whole small format. Exact values are compared without real
numbers: operands are widened to a format in which exact sums, products, errors and the scaled
errors below are all representable (lemma `exact-frame`), and compared there. With u = 2^-p the
relative bound |err| ≤ u/(1+u)·|z| is written |err|·2^p + |err| ≤ |z|.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import z3

from encoders.arithmetic import fp_theory as fp
from encoders.numbers.formats import (
    BFLOAT16,
    BINARY16,
    BINARY32,
    BINARY64,
    FloatFormat,
    power_of_two,
    small_format,
)
from refine.lemmas.exact_operations import (
    halving_exact,
    maximum_exact,
    relu_exact,
    scaling_exact,
    small_sum_exact,
    sterbenz,
    sum_error_below_operands,
    widening_exact,
)
from refine.lemmas.lemma import Argument, Lemma
from refine.lemmas.rounded import (
    Frame,
    Operation,
    Rounded,
    exact_frame,
    rounded_fma,
    rounded_number,
    rounded_product,
    rounded_sum,
)
from refine.proof.z3_solver import Fact
from refine.results.obligation import Kind

# --- the rounding model -------------------------------------------------------------------------


def rounding_sum(rounded: Rounded) -> Argument:
    return Argument(
        rounded.in_range, Fact("|fl(z) − z| ≤ u/(1+u)·|z|", rounded.relative(rounded.error))
    )


def rounding_model(rounded: Rounded) -> Argument:
    fmt = rounded.frame.narrow
    absolute = rounded.at_most(rounded.error, power_of_two(fmt.emin - fmt.precision))
    model = z3.If(rounded.is_normal(), rounded.relative(rounded.error), absolute)
    text = "|fl(z) − z| ≤ u/(1+u)·|z| if |z| ≥ 2^emin, else ≤ 2^(emin−p)"
    return Argument(rounded.in_range, Fact(text, model))


def half_ulp(rounded: Rounded) -> Argument:
    fmt = rounded.frame.narrow
    binades = [
        z3.Implies(
            fp.less(rounded.size, rounded.frame.number(power_of_two(k + 1))),
            rounded.at_most(rounded.error, power_of_two(k - fmt.precision)),
        )
        for k in range(fmt.emin, fmt.emax + 1)
    ]
    text = "for every M ≥ 2^emin: |z| ≤ M ⇒ |fl(z) − z| ≤ u·2^⌊log2 M⌋"
    return Argument(rounded.in_range, Fact(text, z3.And(*binades)))


def error_below_result(rounded: Rounded) -> Argument:
    return Argument(
        rounded.in_range, Fact("|fl(z) − z| ≤ |z|", fp.less_equal(rounded.error, rounded.size))
    )


def overflow_threshold(rounded: Rounded) -> Argument:
    return Argument(
        rounded.in_range[:1],
        Fact(
            "fl(z) is finite exactly if |z| < (2 − u)·2^emax",
            fp.is_finite(rounded.computed) == fp.less(rounded.size, rounded.frame.below_overflow),
        ),
    )


def flushed(rounded: Rounded) -> Argument:
    fmt = rounded.frame.narrow
    error = rounded.error_of(fp.flush(rounded.computed))
    tiny = fp.less(error, rounded.frame.number(fmt.smallest_normal))
    return Argument(
        rounded.in_range,
        Fact(
            "|flush(fl(z)) − z| ≤ u/(1+u)·|z| if |z| ≥ 2^emin, else < 2^emin",
            z3.If(rounded.is_normal(), rounded.relative(error), tiny),
        ),
    )


def flushed_operand(fmt: FloatFormat) -> Argument:
    frame = Frame(fmt, 1)
    (x,) = frame.variables("x")
    change = fp.absolute(fp.subtract(frame.widen(fp.flush(x)), frame.widen(x)))
    small = fp.less(fp.absolute(frame.widen(x)), frame.number(fmt.smallest_normal))
    kept = fp.same(fp.flush(x), x)
    moved = z3.And(fp.is_zero(fp.flush(x)), fp.less(change, frame.number(fmt.smallest_normal)))
    return Argument(
        (Fact("x finite", fp.is_finite(x)),),
        Fact("flush(x) is 0 if |x| < 2^emin, else x", z3.If(small, moved, kept)),
    )


def monotone(fmt: FloatFormat) -> Argument:
    one, two = rounded_number(fmt, "z1"), rounded_number(fmt, "z2")
    return Argument(
        (Fact("z₁ ≤ z₂, both of the wide format", fp.less_equal(one.exact, two.exact)),),
        Fact("fl(z₁) ≤ fl(z₂)", fp.less_equal(one.computed, two.computed)),
    )


def monotone_sum(fmt: FloatFormat) -> Argument:
    one, two = rounded_sum(fmt, "x1 y1"), rounded_sum(fmt, "x2 y2")
    return Argument(
        (
            Fact("operands finite", z3.And(one.in_range[0].formula, two.in_range[0].formula)),
            Fact("x₁ + y₁ ≤ x₂ + y₂, exactly", fp.less_equal(one.exact, two.exact)),
        ),
        Fact("fl(x₁ + y₁) ≤ fl(x₂ + y₂)", fp.less_equal(one.computed, two.computed)),
    )


def correctly_rounded(rounded: Rounded) -> Argument:
    stored = fp.convert(rounded.exact, rounded.frame.narrow)
    return Argument(
        rounded.in_range[:1],
        Fact("the operation is its exact result, stored", fp.ieee_equal(rounded.computed, stored)),
    )


def rounding_quotient(fmt: FloatFormat) -> Argument:
    frame = Frame(fmt, 2)
    x, y = frame.variables("x y")
    quotient = fp.divide(x, y)
    wide_x, wide_y = fp.absolute(frame.widen(x)), fp.absolute(frame.widen(y))
    product = fp.absolute(fp.multiply(frame.widen(quotient), frame.widen(y)))
    error = fp.absolute(fp.subtract(product, wide_x))
    scaled = fp.add(fp.multiply(error, frame.number(2**fmt.precision)), error)
    absolute = fp.multiply(wide_y, frame.number(power_of_two(fmt.emin - fmt.precision)))
    normal = fp.less_equal(fp.multiply(wide_y, frame.number(fmt.smallest_normal)), wide_x)
    return Argument(
        (
            Fact(
                "x, y finite, y ≠ 0",
                z3.And(fp.is_finite(x), fp.is_finite(y), z3.Not(fp.is_zero(y))),
            ),
            Fact("fl(x/y) finite", fp.is_finite(quotient)),
        ),
        Fact(
            "|q·y − x| ≤ u/(1+u)·|x| if |x| ≥ 2^emin·|y|, else ≤ 2^(emin−p)·|y|; q = fl(x/y)",
            z3.If(normal, fp.less_equal(scaled, wide_x), fp.less_equal(error, absolute)),
        ),
    )


def rounding_sqrt(fmt: FloatFormat) -> Argument:
    frame = Frame(fmt, 2, scalings=2)
    (x,) = frame.variables("x")
    root = frame.widen(fp.sqrt(x))
    square = fp.multiply(root, root)
    base = 2**fmt.precision
    wide_x = frame.widen(x)
    middle = fp.multiply(square, frame.number((base + 1) ** 2))
    low = fp.multiply(wide_x, frame.number(base**2))
    high = fp.multiply(wide_x, frame.number((base + 2) ** 2))
    return Argument(
        (Fact("x ≥ 0, finite", z3.And(fp.is_finite(x), fp.less_equal(fp.constant(0.0, fmt), x))),),
        Fact(
            "(1 − v)²·x ≤ r² ≤ (1 + v)²·x, v = u/(1+u), r = fl(√x) ≥ 0",
            z3.And(
                fp.less_equal(low, middle),
                fp.less_equal(middle, high),
                fp.less_equal(frame.number(0), root),
            ),
        ),
    )


# --- exact operations ---------------------------------------------------------------------------


# --- the list -----------------------------------------------------------------------------------

IEEE = "IEEE 754-2019, sections 4.3.1 and 5.4"
MIDDLE, LARGE = small_format(3, 3), small_format(3, 4)
"""With three exponent bits: in two, cvc5 1.4 evaluates sums and FMA other than its own models."""

OF_OPERATIONS: tuple[
    tuple[str, Callable[[Rounded], Argument], str, str, tuple[tuple[Operation, FloatFormat], ...]],
    ...,
] = (
    (
        "exact-frame",
        exact_frame,
        "The wide format in which the other lemmas compare holds the exact result, its error and "
        "the scaled error to the last bit.",
        "our own device",
        (
            (rounded_sum, MIDDLE),
            (rounded_sum, LARGE),
            (rounded_product, MIDDLE),
            (rounded_product, LARGE),
            (rounded_fma, MIDDLE),
        ),
    ),
    (
        "correctly-rounded",
        correctly_rounded,
        "The computed result is the exact one, rounded to nearest.",
        IEEE,
        ((rounded_sum, MIDDLE), (rounded_product, MIDDLE), (rounded_fma, MIDDLE)),
    ),
    (
        "rounding-no-underflow",
        rounding_sum,
        "fl(x + y) = (x + y)(1 + δ), |δ| ≤ u/(1+u), gradual underflow included.",
        "Jeannerod & Rump 2018, Math. Comp. 87, Theorem 1; Hauser 1996, TOPLAS 18(2), for η = 0",
        ((rounded_sum, MIDDLE), (rounded_sum, LARGE)),
    ),
    (
        "rounding",
        rounding_model,
        "fl(z) = z(1 + δ) + η, |δ| ≤ u/(1+u), |η| ≤ 2^(emin−p), δ·η = 0: relative if the exact z "
        "has |z| ≥ 2^emin, absolute below.",
        "Jeannerod & Rump 2018, Math. Comp. 87, Theorem 1; Demmel 1984, SIAM J. Sci. Stat. "
        "Comput. 5(4), for η",
        ((rounded_product, MIDDLE), (rounded_product, LARGE), (rounded_fma, MIDDLE)),
    ),
    (
        "half-ulp",
        half_ulp,
        "|fl(z) − z| ≤ u·2^⌊log2 M⌋ for |z| ≤ M, M ≥ 2^emin.",
        "Muller et al. 2018, Handbook of Floating-Point Arithmetic, 2nd ed., section 2.3",
        ((rounded_sum, MIDDLE), (rounded_product, MIDDLE), (rounded_fma, MIDDLE)),
    ),
    (
        "error-below-result",
        error_below_result,
        "|fl(z) − z| ≤ |z|: 0 is a number of the format.",
        IEEE,
        ((rounded_product, MIDDLE),),
    ),
    (
        "overflow-threshold",
        overflow_threshold,
        "fl(z) is finite exactly if |z| < (2 − u)·2^emax.",
        IEEE,
        ((rounded_sum, LARGE), (rounded_product, LARGE), (rounded_fma, MIDDLE)),
    ),
    (
        "flush-to-zero",
        flushed,
        "With subnormal results flushed, |fl(z) − z| ≤ u/(1+u)·|z| if |z| ≥ 2^emin, else < 2^emin.",
        "flush to zero as in Intel SDM vol. 1, 10.2.3",
        ((rounded_sum, MIDDLE), (rounded_product, MIDDLE), (rounded_fma, MIDDLE)),
    ),
)

OF_FORMATS: tuple[
    tuple[str, Callable[[FloatFormat], Argument], str, str, tuple[FloatFormat, ...]], ...
] = (
    (
        "rounding-quotient",
        rounding_quotient,
        "The rounding model for division, multiplied by the divisor.",
        "Jeannerod & Rump 2018, Math. Comp. 87, Theorem 1",
        (MIDDLE,),
    ),
    (
        "rounding-sqrt",
        rounding_sqrt,
        "fl(√x) = √x·(1 + δ), |δ| ≤ u/(1+u), squared; emin ≤ 1 − p, so that no root is subnormal.",
        "Jeannerod & Rump 2018, Math. Comp. 87, Theorem 1",
        (MIDDLE,),
    ),
    (
        "monotone",
        monotone,
        "Rounding is monotone: z₁ ≤ z₂ ⇒ fl(z₁) ≤ fl(z₂).",
        IEEE,
        (MIDDLE, LARGE),
    ),
    (
        "monotone-sum",
        monotone_sum,
        "x₁ + y₁ ≤ x₂ + y₂ ⇒ fl(x₁ + y₁) ≤ fl(x₂ + y₂).",
        IEEE,
        (MIDDLE,),
    ),
    (
        "sterbenz",
        sterbenz,
        "y/2 ≤ x ≤ 2·y ⇒ fl(x − y) = x − y.",
        "Sterbenz 1974, Floating-Point Computation, Theorem 4.3.1",
        (MIDDLE, LARGE),
    ),
    (
        "small-sum-exact",
        small_sum_exact,
        "|x + y| ≤ 2^(emin+1) ⇒ fl(x + y) = x + y: sums lose nothing to gradual underflow.",
        "Hauser 1996, TOPLAS 18(2), Theorem 3.4.1",
        (MIDDLE, LARGE),
    ),
    (
        "sum-error-below-operands",
        sum_error_below_operands,
        "|fl(x + y) − (x + y)| ≤ min(|x|, |y|).",
        "Shewchuk 1997, Discrete Comput. Geom. 18, Lemma 1",
        (MIDDLE, LARGE),
    ),
    (
        "halving-exact",
        halving_exact,
        "x·½ and x/2 are exact if |x| ≥ 2^(emin+1).",
        IEEE,
        (MIDDLE, LARGE, BINARY16),
    ),
    (
        "scaling-exact",
        scaling_exact,
        "Multiplying or dividing by a power of two is exact if the result is at least 2^emin and "
        "does not overflow.",
        IEEE,
        (MIDDLE,),
    ),
    (
        "maximum-exact",
        maximum_exact,
        "max and min of numbers are one of them: nothing is rounded.",
        IEEE,
        (LARGE, BINARY16, BINARY32),
    ),
    (
        "relu-exact",
        relu_exact,
        "relu rounds nothing and hands NaN on.",
        IEEE,
        (LARGE, BINARY16, BINARY32),
    ),
    (
        "flush-operand",
        flushed_operand,
        "Reading a subnormal operand as 0 changes it by less than 2^emin; no other changes.",
        "denormals are zeros as in Intel SDM vol. 1, 10.2.3",
        (MIDDLE, LARGE, BINARY16),
    ),
)

WIDENINGS = ((LARGE, BINARY16), (BINARY16, BINARY32), (BFLOAT16, BINARY32), (BINARY32, BINARY64))


def _lemma(name: str, statement: str, source: str, argument: Callable[[], Argument]) -> Lemma:
    return Lemma(name, Kind.FORMAT, statement, source, argument, "QF_FP")


def _tag(fmt: FloatFormat) -> str:
    return f"e{fmt.exponent_bits}p{fmt.precision}"


def _of_operation(
    argument: Callable[[Rounded], Argument], operation: Operation, fmt: FloatFormat
) -> Argument:
    return argument(operation(fmt))


LEMMAS: tuple[Lemma, ...] = (
    *(
        _lemma(
            f"{name}-{operation.__name__.removeprefix('rounded_')}[{_tag(fmt)}]",
            statement,
            source,
            partial(_of_operation, argument, operation, fmt),
        )
        for name, argument, statement, source, cases in OF_OPERATIONS
        for operation, fmt in cases
    ),
    *(
        _lemma(f"{name}[{_tag(fmt)}]", statement, source, partial(of_format, fmt))
        for name, of_format, statement, source, formats in OF_FORMATS
        for fmt in formats
    ),
    *(
        _lemma(
            f"widening-exact[{_tag(narrow)}→{_tag(wide)}]",
            "Converting to a format with more exponent and significand bits loses nothing.",
            IEEE,
            partial(widening_exact, narrow, wide),
        )
        for narrow, wide in WIDENINGS
    ),
)
