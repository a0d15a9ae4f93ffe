"""Sums in any order with any number of additions: bounds that do not need m·u < 1.

Notation as in refine/lemmas/sums.py. Every term and every absolute error ρ of a node counts as an
exact leaf of the tree, so that what is left of a node's error is bounded by both operands, and the
induction of Jeannerod & Rump goes through whatever is flushed or underflows.
"""

from __future__ import annotations

import z3

from refine.lemmas.lemma import Argument, Lemma, magnitude, nonnegative, reals, schema, within
from refine.lemmas.sums import HIGHAM, JEANNEROD_RUMP
from refine.proof.z3_solver import Fact


def any_order_linear_node() -> Argument:
    a, a_hat, b, b_hat, fl, A, B, m, n, v = reals("a a_hat b b_hat fl A B m n v")
    near, rho, lost = reals("near rho lambda")
    D = near - (a_hat + b_hat)
    bound = v * (A + B) + m * v * B + n * v * A
    return Argument(
        (
            Fact("|â − a| ≤ m·v·A", within(a_hat - a, m * v * A)),
            Fact("|b̂ − b| ≤ n·v·B", within(b_hat - b, n * v * B)),
            Fact("|D| ≤ v·(A + B) + m·v·B + n·v·A (any-order-linear-rounding)", within(D, bound)),
            Fact("fl = â + b̂ + D + ρ, |ρ| ≤ λ", z3.And(fl == near + rho, within(rho, lost))),
        ),
        Fact(
            "|fl − (a + b + ρ)| ≤ (m + n + 1)·v·(A + B)",
            within(fl - (a + b + rho), (m + n + 1) * v * (A + B)),
        ),
    )


def any_order_linear_fused() -> Argument:
    d, X, R, n, v = reals("d X R n v")
    return Argument(
        (
            nonnegative("n, X, R ≥ 0", n, X, R),
            Fact("0 ≤ v ≤ 1", z3.And(v >= 0, v <= 1)),
            Fact("d = |D| ≤ X for the exact product |x| ≤ X", d <= X),
            Fact("d ≤ v·(X + R + n·v·R)", d <= v * (X + R + n * v * R)),
        ),
        Fact("d ≤ v·(X + R) + n·v·X", d <= v * (X + R) + n * v * X),
    )


def any_order_power() -> Argument:
    a, a_hat, b, b_hat, fl, A, B, X, Y, v, lost = reals("a a_hat b b_hat fl A B X Y v lambda")
    sizes = magnitude(a_hat) + magnitude(b_hat)
    return Argument(
        (
            Fact("v ≥ 0", v >= 0),
            Fact("|a| ≤ A, |b| ≤ B", z3.And(within(a, A), within(b, B))),
            Fact("|â − a| ≤ X − A, X = Pa·(A + πa)", within(a_hat - a, X - A)),
            Fact("|b̂ − b| ≤ Y − B, Y = Pb·(B + πb)", within(b_hat - b, Y - B)),
            Fact(
                "|fl − (â + b̂)| ≤ v·(|â| + |b̂|) + λ",
                within(fl - (a_hat + b_hat), v * sizes + lost),
            ),
        ),
        Fact(
            "|fl − (a + b)| ≤ (1 + v)·(X + Y) + λ − (A + B)",
            within(fl - (a + b), (1 + v) * (X + Y) + lost - (A + B)),
        ),
        steps=(
            Fact("|â| + |b̂| ≤ X + Y", sizes <= X + Y),
            Fact("v·(|â| + |b̂|) ≤ v·(X + Y)", v * sizes <= v * (X + Y)),
        ),
    )


def any_order_power_growth() -> Argument:
    C, D, P, R, Q, g, lost = reals("C D P R Q g lambda")
    return Argument(
        (
            nonnegative("C = A + πa, D = B + πb, λ ≥ 0", C, D, lost),
            Fact("Pa, Pb ≤ Q, Q ≥ 1, g = 1 + v ≥ 1", z3.And(Q >= P, Q >= R, Q >= 1, g >= 1)),
        ),
        Fact(
            "Pa·C + Pb·D ≤ Q·(C + D), λ ≤ g·Q·λ",
            z3.And(P * C + R * D <= Q * (C + D), lost <= g * Q * lost),
        ),
    )


LEMMAS: tuple[Lemma, ...] = (
    schema(
        "any-order-linear-node",
        "The same for a node that also loses ρ, |ρ| ≤ λ (underflow of a fused product, flushing, "
        "an operand read as 0), ρ counted as one more exact term: subtrees within m·v·A and n·v·B, "
        "A and B their Σ|x|, give a node within (m+n+1)·v·(A + B). |D| is bounded by "
        "jeannerod-rump-rounding and -bound, which hold for any relative error v ≤ 1, or by "
        "any-order-linear-fused.",
        JEANNEROD_RUMP,
        any_order_linear_node,
    ),
    schema(
        "any-order-linear-fused",
        "A fused node adds an exact product x to a floating-point number ĉ, so that |D| ≤ |x| and "
        "|D| ≤ v·|x + ĉ| (cases X ≤ v·R and X > v·R); nothing need be known of |D| and |ĉ|.",
        JEANNEROD_RUMP + ", extended to fused nodes",
        any_order_linear_fused,
    ),
    schema(
        "any-order-power",
        "Subtrees within X − A and Y − B, A and B their Σ|x|, give a node within "
        "(1 + v)·(X + Y) + λ − (A + B): any tree whose nodes err by at most v·(|â| + |b̂|) + λ, "
        "aligned steps among them.",
        HIGHAM + "section 4.2",
        any_order_power,
    ),
    schema(
        "any-order-power-growth",
        "With X = Pa·(A + πa) and Y = Pb·(B + πb), what any-order-power gives is at most "
        "(1 + v)·Q·(A + B + πa + πb + λ) − (A + B) for Q ≥ Pa, Pb, 1: the errors of terms and the "
        "λ of nodes add up, and the relative errors multiply.",
        "algebra",
        any_order_power_growth,
    ),
)
