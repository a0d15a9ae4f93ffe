"""Schema lemmas on elementary functions: what convexity gives, and how their errors add up.

That a function is convex on a piece is not for Z3 to prove: `encoders/curves` and the files that
state curves argue it, and the tests certify the sign of f'' by ball arithmetic.
"""

from __future__ import annotations

import z3

from refine.lemmas.lemma import Argument, Lemma, reals, schema, within
from refine.proof.z3_solver import Fact


def convex_tangent() -> Argument:
    x, t, a, b, g, g_t, s, low = reals("x t a b g g_t s L")
    return Argument(
        (
            Fact("a ≤ x ≤ b", z3.And(a <= x, x <= b)),
            Fact("g convex: g(x) ≥ g(t) + s·(x − t), s = g'(t)", g >= g_t + s * (x - t)),
            Fact(
                "L ≤ g(t) + s·(a − t) and L ≤ g(t) + s·(b − t)",
                z3.And(low <= g_t + s * (a - t), low <= g_t + s * (b - t)),
            ),
        ),
        Fact("L ≤ g(x)", low <= g),
    )


def function_error() -> Argument:
    computed, at_computed, at_real, accuracy, slope, e, d = reals("y f_c f_r A S e d")
    return Argument(
        (
            Fact("|ŷ − f(x̂)| ≤ A", within(computed - at_computed, accuracy)),
            Fact(
                "|f(x̂) − f(x)| ≤ S·d, S ≥ 0",
                z3.And(within(at_computed - at_real, slope * d), slope >= 0),
            ),
            Fact("0 ≤ d ≤ e", z3.And(d >= 0, d <= e)),
        ),
        Fact("|ŷ − f(x)| ≤ A + S·e", within(computed - at_real, accuracy + slope * e)),
    )


def mean_of_lines() -> Argument:
    f, x, w, s, t, h, g = reals("f x w s t h g")
    return Argument(
        (
            Fact("f ≤ s·x + h, f ≤ t·x + g", z3.And(f <= s * x + h, f <= t * x + g)),
            Fact("0 ≤ w ≤ 1", z3.And(w >= 0, w <= 1)),
        ),
        Fact(
            "f ≤ ((1 − w)·s + w·t)·x + (1 − w)·h + w·g",
            f <= ((1 - w) * s + w * t) * x + (1 - w) * h + w * g,
        ),
    )


def relative_quotient() -> Argument:
    alpha, sigma, a, b, y, y_hat = reals("alpha sigma A B y y_hat")
    return Argument(
        (
            Fact("ŷ = y·(1 + α)/(1 + σ)", y_hat * (1 + sigma) == y * (1 + alpha)),
            Fact("|α| ≤ A, |σ| ≤ B < 1", z3.And(within(alpha, a), within(sigma, b), b < 1)),
            Fact("y ≥ 0", y >= 0),
        ),
        Fact("|ŷ − y|·(1 − B) ≤ y·(A + B)", within((y_hat - y) * (1 - b), y * (a + b))),
    )


LEMMAS: tuple[Lemma, ...] = (
    schema(
        "convex-tangent",
        "A convex function on [a, b] is at least the smaller end of any of its tangents.",
        "elementary; Boyd & Vandenberghe 2004, Convex Optimization, §3.1.3",
        convex_tangent,
    ),
    schema(
        "function-error",
        "A function with slopes at most S, computed within A, at an argument off by at most e, is "
        "off by at most A + S·e.",
        "mean value theorem; Higham 2002, Accuracy and Stability, §1.6",
        function_error,
    ),
    schema(
        "mean-of-lines",
        "What lies under two lines lies under every mean of them.",
        "algebra",
        mean_of_lines,
    ),
    schema(
        "relative-quotient",
        "A quotient of non-negative numbers off by relative A and B < 1 is off by at most "
        "(A + B)/(1 − B), relatively.",
        "Higham 2002, Accuracy and Stability, §3.1; Blanchard, Higham & Higham 2021",
        relative_quotient,
    ),
)
