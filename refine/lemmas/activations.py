"""Schema lemmas on activations: one secant with a remainder for differences."""

from __future__ import annotations

import z3

from refine.lemmas.lemma import Argument, Lemma, larger, magnitude, nonnegative, reals, within
from refine.proof.z3_solver import Fact, Term
from refine.results.obligation import Kind

OWN = "elementary; the three cases are those of encoders/relaxations/hinges.py"


def _relu(x: Term) -> Term:
    return larger(x, z3.RealVal(0))


def _hinge(b: Term, x: Term) -> Term:
    return z3.If(x >= 0, x, b * x)


def _smaller(x: Term, y: Term) -> Term:
    return z3.If(x <= y, x, y)


def hinge_secant_one() -> Argument:
    x, d, b, lo, e = reals("x d b lo e")
    share = _smaller(e, _relu(e - lo))
    return Argument(
        (Fact("lo ≤ x", lo <= x), Fact("|d| ≤ e", within(d, e))),
        Fact(
            "|f(x + d) − f(x) − d| ≤ |1 − b|·min(e, max(0, e − lo))",
            within(_hinge(b, x + d) - _hinge(b, x) - d, magnitude(1 - b) * share),
        ),
    )


def hinge_secant_below() -> Argument:
    x, d, b, hi, e = reals("x d b hi e")
    share = _smaller(e, _relu(hi + e))
    return Argument(
        (Fact("x ≤ hi", x <= hi), Fact("|d| ≤ e", within(d, e))),
        Fact(
            "|f(x + d) − f(x) − b·d| ≤ |1 − b|·min(e, max(0, hi + e))",
            within(_hinge(b, x + d) - _hinge(b, x) - b * d, magnitude(1 - b) * share),
        ),
    )


def hinge_secant_half() -> Argument:
    x, d, b, e = reals("x d b e")
    return Argument(
        (Fact("|d| ≤ e", within(d, e)),),
        Fact(
            "|f(x + d) − f(x) − (1 + b)/2·d| ≤ |1 − b|·e/2",
            within(_hinge(b, x + d) - _hinge(b, x) - (1 + b) / 2 * d, magnitude(1 - b) * e / 2),
        ),
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
    hinge = _hinge(b, x)
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
        "hinge-secant-one",
        Kind.SCHEMA,
        "With |d| ≤ e, a hinge of slopes b and 1 at an x of at least lo moves by d up to |1 − "
        "b|·min(e, max(0, e − lo)).",
        OWN,
        hinge_secant_one,
        "QF_NRA",
    ),
    Lemma(
        "hinge-secant-below",
        Kind.SCHEMA,
        "With |d| ≤ e, a hinge of slopes b and 1 at an x of at most hi moves by b·d up to |1 − "
        "b|·min(e, max(0, hi + e)).",
        OWN,
        hinge_secant_below,
        "QF_NRA",
    ),
    Lemma(
        "hinge-secant-half",
        Kind.SCHEMA,
        "With |d| ≤ e, a hinge of slopes b and 1 moves by (1 + b)/2·d up to |1 − b|·e/2.",
        OWN,
        hinge_secant_half,
        "QF_NRA",
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
