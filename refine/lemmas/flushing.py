"""Schema lemmas on subnormal numbers that a runtime reads or returns as zero."""

from __future__ import annotations

import z3

from refine.lemmas.lemma import (
    Argument,
    larger,
    magnitude,
    reals,
    within,
)
from refine.proof.z3_solver import Fact, Formula, Term


def flush() -> Argument:
    z, rounded, fl, r, tiny = reals("z rounded fl r lambda")
    return Argument(
        (
            Fact("|rnd − z| ≤ r", within(rounded - z, r)),
            Fact(
                "fl = rnd, or fl = 0 where |z| < λ",
                z3.Or(fl == rounded, z3.And(fl == 0, magnitude(z) < tiny)),
            ),
        ),
        Fact("|fl − z| ≤ max(r, λ)", within(fl - z, larger(r, tiny))),
    )


def flush_relative() -> Argument:
    z, rounded, fl, v, h, tiny = reals("z rounded fl v h lambda")
    return Argument(
        (
            Fact("0 ≤ v, 0 ≤ h ≤ λ = 2^emin", z3.And(v >= 0, h >= 0, h <= tiny)),
            Fact(
                "|rnd − z| ≤ v·|z| if |z| ≥ λ, else ≤ h",
                z3.If(
                    magnitude(z) >= tiny,
                    within(rounded - z, v * magnitude(z)),
                    within(rounded - z, h),
                ),
            ),
            Fact(
                "fl = rnd, or fl = 0 where |z| < λ",
                z3.Or(fl == rounded, z3.And(fl == 0, magnitude(z) < tiny)),
            ),
        ),
        Fact("|fl − z| ≤ v·|z| + λ", within(fl - z, v * magnitude(z) + tiny)),
    )


def flush_operand_product() -> Argument:
    a, a_hat, b, b_hat, tiny = reals("a a_hat b b_hat lambda")
    return Argument(
        (
            Fact("â = a, or â = 0 where |a| < λ", _flushed(a, a_hat, tiny)),
            Fact("b̂ = b, or b̂ = 0 where |b| < λ", _flushed(b, b_hat, tiny)),
            Fact("λ ≥ 0", tiny >= 0),
        ),
        Fact(
            "|â·b̂ − a·b| ≤ λ·max(|a|, |b|)",
            within(a_hat * b_hat - a * b, tiny * larger(magnitude(a), magnitude(b))),
        ),
    )


def flush_operand_sum() -> Argument:
    a, a_hat, b, b_hat, tiny = reals("a a_hat b b_hat lambda")
    return Argument(
        (
            Fact("â = a, or â = 0 where |a| < λ", _flushed(a, a_hat, tiny)),
            Fact("b̂ = b, or b̂ = 0 where |b| < λ", _flushed(b, b_hat, tiny)),
            Fact("λ ≥ 0", tiny >= 0),
        ),
        Fact("|(â + b̂) − (a + b)| ≤ 2·λ", within(a_hat + b_hat - (a + b), 2 * tiny)),
    )


def _flushed(x: Term, x_hat: Term, tiny: Term) -> Formula:
    return z3.Or(x_hat == x, z3.And(x_hat == 0, magnitude(x) < tiny))
