"""Schema lemmas on activations: one secant with a remainder for differences."""

from __future__ import annotations

import z3

from refine.lemmas.lemma import Argument, Lemma, larger, magnitude, nonnegative, reals, within
from refine.proof.z3_solver import Fact, Term
from refine.results.obligation import Kind

OWN = "elementary; the three cases are those of encoders/ops/activations/relu.py"


def _relu(x: Term) -> Term:
    return larger(x, z3.RealVal(0))


def _hull_facts(x: Term, d: Term, lo: Term, hi: Term, e: Term) -> tuple[Fact, ...]:
    return (
        Fact(
            "lo ≤ x ≤ hi, lo ≤ x + d ≤ hi",
            z3.And(lo <= x, x <= hi, lo <= x + d, x + d <= hi),
        ),
        Fact("|d| ≤ e", within(d, e)),
    )


def relu_secant_one() -> Argument:
    x, d, lo, hi, e, R = reals("x d lo hi e R")
    below = larger(-lo, z3.RealVal(0))
    return Argument(
        (
            *_hull_facts(x, d, lo, hi, e),
            Fact("R ≥ min(e, max(0, −lo))", z3.Or(e <= R, below <= R)),
        ),
        Fact("|relu(x + d) − relu(x) − d| ≤ R", within(_relu(x + d) - _relu(x) - d, R)),
    )


def relu_secant_zero() -> Argument:
    x, d, lo, hi, e, R = reals("x d lo hi e R")
    above = larger(hi, z3.RealVal(0))
    return Argument(
        (
            *_hull_facts(x, d, lo, hi, e),
            Fact("R ≥ min(e, max(0, hi))", z3.Or(e <= R, above <= R)),
        ),
        Fact("|relu(x + d) − relu(x)| ≤ R", within(_relu(x + d) - _relu(x), R)),
    )


def relu_secant_half() -> Argument:
    x, d, e, R = reals("x d e R")
    return Argument(
        (Fact("|d| ≤ e, R ≥ e/2", z3.And(within(d, e), e <= 2 * R)),),
        Fact("|relu(x + d) − relu(x) − d/2| ≤ R", within(_relu(x + d) - _relu(x) - d / 2, R)),
    )


def secant_step() -> Argument:
    c, d, d_out, m, k, R, e, t = reals("c d d_out m k R e t")
    return Argument(
        (
            nonnegative("R, e, t ≥ 0", R, e, t),
            Fact("|d_out − m·d| ≤ R, |d| ≤ e", z3.And(within(d_out - m * d, R), within(d, e))),
            Fact("k = c·m + θ, |θ| ≤ |c|·t", within(k - c * m, magnitude(c) * t)),
        ),
        Fact(
            "c·d_out ≤ k·d + |c|·(R + t·e)",
            c * d_out <= k * d + magnitude(c) * (R + t * e),
        ),
    )


def phase_multiplier() -> Argument:
    c, x, b, beta, e = reals("c x b beta e")
    hinge = z3.If(x >= 0, x, b * x)
    paid = ((1 - b) * _relu(c) + beta) * e
    return Argument(
        (nonnegative("β, e ≥ 0", beta, e), Fact("b ≤ 1", b <= 1)),
        Fact(
            "with f = x for x ≥ 0 and b·x below, and p = ((1 − b)·c⁺ + β)·e: "
            "x ≥ −e ⇒ c·f ≤ (c + β)·x + p, and x ≤ e ⇒ c·f ≤ (c·b − β)·x + p",
            z3.And(
                z3.Implies(x >= -e, c * hinge <= (c + beta) * x + paid),
                z3.Implies(x <= e, c * hinge <= (c * b - beta) * x + paid),
            ),
        ),
    )


def slope_vertex() -> Argument:
    a, b, s, bound = reals("a b s B")
    return Argument(
        (
            Fact("0 ≤ s ≤ 1", z3.And(s >= 0, s <= 1)),
            Fact(
                "B ≥ a, B ≥ a + b: the bound holds for s = 0 and for s = 1",
                z3.And(bound >= a, bound >= a + b),
            ),
        ),
        Fact("a + b·s ≤ B", a + b * s <= bound),
    )


LEMMAS: tuple[Lemma, ...] = (
    Lemma(
        "slope-vertex",
        Kind.SCHEMA,
        "A difference that is affine in a slope s in [0, 1] is at most the larger of its bounds "
        "for s = 0 and s = 1.",
        "an affine function attains its maximum at an end",
        slope_vertex,
        "QF_NRA",
    ),
    Lemma(
        "phase-multiplier",
        Kind.SCHEMA,
        "For a hinge f of slopes b ≤ 1 and 1 and any β, e ≥ 0, with p = ((1 − b)·c⁺ + β)·e: over "
        "inputs with x ≥ −e, c·f ≤ (c + β)·x + p; over those with x ≤ e, c·f ≤ (c·b − β)·x + p.",
        "Wang et al. 2021, β-CROWN, NeurIPS",
        phase_multiplier,
        "QF_NRA",
    ),
    Lemma(
        "relu-secant-one",
        Kind.SCHEMA,
        "With x and x + d in [lo, hi] and |d| ≤ e, relu moves by d up to min(e, max(0, −lo)).",
        OWN,
        relu_secant_one,
        "QF_LRA",
    ),
    Lemma(
        "relu-secant-zero",
        Kind.SCHEMA,
        "With x and x + d in [lo, hi] and |d| ≤ e, relu moves by at most min(e, max(0, hi)).",
        OWN,
        relu_secant_zero,
        "QF_LRA",
    ),
    Lemma(
        "relu-secant-half",
        Kind.SCHEMA,
        "With |d| ≤ e, relu moves by d/2 up to e/2.",
        OWN,
        relu_secant_half,
        "QF_LRA",
    ),
    Lemma(
        "secant-step",
        Kind.SCHEMA,
        "If d_out = m·d up to R and |d| ≤ e, and k is c·m up to |c|·t, then "
        "c·d_out ≤ k·d + |c|·(R + t·e).",
        OWN,
        secant_step,
        "QF_NRA",
    ),
)
