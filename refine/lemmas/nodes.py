"""Schema lemmas on nodes: how a difference d = x̂ − x passes an operator, and how steps join."""

from __future__ import annotations

import z3

from refine.lemmas.lemma import Argument, Lemma, between, larger, magnitude, reals, schema, within
from refine.proof.z3_solver import Fact, Term


def relu(x: Term) -> Term:
    """max(x, 0)."""
    return larger(x, z3.RealVal(0))


def relu_difference() -> Argument:
    x, d, lo, hi, s_lo, s_hi = reals("x d lo hi s_lo s_hi")
    change = relu(x + d) - relu(x)
    slopes = z3.And(
        z3.Implies(lo >= 0, z3.And(s_lo == 1, s_hi == 1)),
        z3.Implies(z3.And(lo < 0, hi <= 0), z3.And(s_lo == 0, s_hi == 0)),
        z3.Implies(z3.And(lo < 0, hi > 0), z3.And(s_lo == 0, s_hi == 1)),
    )
    return Argument(
        (
            Fact(
                "lo ≤ x ≤ hi, lo ≤ x + d ≤ hi",
                z3.And(lo <= x, x <= hi, lo <= x + d, x + d <= hi),
            ),
            Fact("slopes 1 if lo ≥ 0, 0 if hi ≤ 0, else [0, 1]", slopes),
        ),
        Fact(
            "relu(x + d) − relu(x) lies between s−·d and s+·d",
            between(change, s_lo * d, s_hi * d),
        ),
    )


def relu_relaxation() -> Argument:
    x, lo, hi, s, t, b = reals("x lo hi s t b")
    return Argument(
        (
            Fact("lo ≤ x ≤ hi", z3.And(lo <= x, x <= hi)),
            Fact("0 ≤ s ≤ 1, 0 ≤ t ≤ 1", z3.And(s >= 0, s <= 1, t >= 0, t <= 1)),
            Fact("b ≥ −s·lo, b ≥ hi − s·hi", z3.And(b >= -s * lo, b >= hi - s * hi)),
        ),
        Fact("t·x ≤ relu(x) ≤ s·x + b", z3.And(t * x <= relu(x), relu(x) <= s * x + b)),
    )


def mean_value_step() -> Argument:
    c, d, d_out, e, s_lo, s_hi, m, rho = reals("c d d_out e s_lo s_hi m rho")
    return Argument(
        (
            Fact("d_out lies between s−·d and s+·d", between(d_out, s_lo * d, s_hi * d)),
            Fact("|d| ≤ e", within(d, e)),
            Fact("s− ≤ s+", s_lo <= s_hi),
            Fact("ρ ≥ s+ − m, ρ ≥ m − s−", z3.And(rho >= s_hi - m, rho >= m - s_lo)),
        ),
        Fact("c·d_out ≤ c·m·d + |c|·ρ·e", c * d_out <= c * m * d + magnitude(c) * rho * e),
    )


def affine_difference() -> Argument:
    A, A_hat, D, w, w_hat, x, x_hat = reals("A A_hat D w w_hat x x_hat")
    return Argument(
        (Fact("Â − A = D: Σ ŵ·d + (ŵ − w)·x over the terms so far", A_hat - A == D),),
        Fact(
            "(Â + ŵ·x̂) − (A + w·x) = D + ŵ·(x̂ − x) + (ŵ − w)·x",
            (A_hat + w_hat * x_hat) - (A + w * x) == D + w_hat * (x_hat - x) + (w_hat - w) * x,
        ),
    )


def affine_rounding() -> Argument:
    y, y_hat, A, A_hat, D, eta = reals("y y_hat A A_hat D eta")
    return Argument(
        (
            Fact("y = A, ŷ = Â + η", z3.And(y == A, y_hat == A_hat + eta)),
            Fact("Â − A = D", A_hat - A == D),
        ),
        Fact("ŷ − y = D + η", y_hat - y == D + eta),
    )


def stored_coefficients() -> Argument:
    gamma, c, x, X, kappa, A, B, R = reals("gamma c x X kappa A B R")
    return Argument(
        (
            Fact("|c − γ| ≤ κ for the next coefficient", within(c - gamma, kappa)),
            Fact("|x| ≤ X", within(x, X)),
            Fact("Σγ·x ≤ Σc·x + R so far", A <= B + R),
        ),
        Fact("Σγ·x ≤ Σc·x + R + κ·X with it", A + gamma * x <= B + c * x + R + kappa * X),
        steps=(Fact("(γ − c)·x ≤ κ·X", (gamma - c) * x <= kappa * X),),
    )


def composition() -> Argument:
    out, middle, r, r_in, c, eta, loc = reals("out in r r_in c eta loc")
    return Argument(
        (
            Fact("c·f ≤ c'·d_in + r, f the difference before rounding", out <= middle + r),
            Fact("c'·d_in ≤ r'", middle <= r_in),
            Fact("|η| ≤ loc", within(eta, loc)),
        ),
        Fact("c·(f + η) ≤ r + r' + |c|·loc", out + c * eta <= r + r_in + magnitude(c) * loc),
    )


def product_difference() -> Argument:
    x, y, dx, dy = reals("x y dx dy")
    return Argument(
        (),
        Fact(
            "(x + dx)·(y + dy) − x·y = x·dy + y·dx + dx·dy",
            (x + dx) * (y + dy) - x * y == x * dy + y * dx + dx * dy,
        ),
    )


def quotient_difference() -> Argument:
    x, y, dx, dy = reals("x y dx dy")
    return Argument(
        (Fact("y ≠ 0, y + dy ≠ 0", z3.And(y != 0, y + dy != 0)),),
        Fact(
            "(x + dx)/(y + dy) − x/y = (dx − (x/y)·dy)/(y + dy)",
            (x + dx) / (y + dy) - x / y == (dx - (x / y) * dy) / (y + dy),
        ),
    )


def product_error() -> Argument:
    x, y, dx, dy, X, Y, ex, ey = reals("x y dx dy X Y ex ey")
    return Argument(
        (
            Fact("|x| ≤ X, |y| ≤ Y", z3.And(within(x, X), within(y, Y))),
            Fact("|dx| ≤ ex, |dy| ≤ ey", z3.And(within(dx, ex), within(dy, ey))),
        ),
        Fact(
            "|x·dy + y·dx + dx·dy| ≤ X·ey + Y·ex + ex·ey",
            within(x * dy + y * dx + dx * dy, X * ey + Y * ex + ex * ey),
        ),
        steps=(
            Fact("|x·dy| ≤ X·ey", within(x * dy, X * ey)),
            Fact("|y·dx| ≤ Y·ex", within(y * dx, Y * ex)),
            Fact("|dx·dy| ≤ ex·ey", within(dx * dy, ex * ey)),
        ),
    )


def quotient_error() -> Argument:
    q, dx, dy, y_hat, d, Q, ex, ey, low = reals("q dx dy y_hat d Q ex ey low")
    return Argument(
        (
            Fact("|x/y| ≤ Q", within(q, Q)),
            Fact("|dx| ≤ ex, |dy| ≤ ey", z3.And(within(dx, ex), within(dy, ey))),
            Fact("|ŷ| ≥ l > 0", z3.And(low > 0, magnitude(y_hat) >= low)),
            Fact("d·ŷ = dx − (x/y)·dy", d * y_hat == dx - q * dy),
        ),
        Fact("|d|·l ≤ ex + Q·ey", magnitude(d) * low <= ex + Q * ey),
        steps=(
            Fact("|(x/y)·dy| ≤ Q·ey", within(q * dy, Q * ey)),
            Fact("|d·ŷ| ≤ ex + Q·ey", magnitude(d * y_hat) <= ex + Q * ey),
        ),
    )


def sqrt_difference() -> Argument:
    x, x_hat, root, root_hat, e, low = reals("x x_hat root root_hat e low")
    return Argument(
        (
            Fact("r = √x ≥ l ≥ 0", z3.And(root * root == x, root >= low, low >= 0)),
            Fact("r̂ = √x̂", z3.And(root_hat * root_hat == x_hat, root_hat >= 0)),
            Fact("|x̂ − x| ≤ e", within(x_hat - x, e)),
        ),
        Fact("|r̂ − r|·l ≤ e", magnitude(root_hat - root) * low <= e),
    )


def maximum_difference() -> Argument:
    x, y, dx, dy, ex, ey = reals("x y dx dy ex ey")
    change = larger(x + dx, y + dy) - larger(x, y)
    return Argument(
        (Fact("|dx| ≤ ex, |dy| ≤ ey", z3.And(within(dx, ex), within(dy, ey))),),
        Fact("|max(x + dx, y + dy) − max(x, y)| ≤ max(ex, ey)", within(change, larger(ex, ey))),
    )


def domain_split() -> Argument:
    e1, e2, e, d = reals("e1 e2 e d")
    in_d, in_1, in_2 = z3.Bools("in_D in_1 in_2")
    return Argument(
        (
            Fact("x ∈ D ⇒ x ∈ D₁ ∪ D₂", z3.Implies(in_d, z3.Or(in_1, in_2))),
            Fact("x ∈ D₁ ⇒ |d| ≤ ε₁", z3.Implies(in_1, within(d, e1))),
            Fact("x ∈ D₂ ⇒ |d| ≤ ε₂", z3.Implies(in_2, within(d, e2))),
            Fact("ε ≥ ε₁, ε ≥ ε₂, x ∈ D", z3.And(e >= e1, e >= e2, in_d)),
        ),
        Fact("|d| ≤ ε", within(d, e)),
    )


def summed_rows() -> Argument:
    s, t, a, d, f = reals("s t a d f")
    return Argument(
        (Fact("s ≤ t, a ≤ d", z3.And(s <= t, a <= d)), Fact("f ≥ 0", f >= 0)),
        Fact("s + f·a ≤ t + f·d", s + f * a <= t + f * d),
    )


def violation() -> Argument:
    rt, s, lo, hi, eps = reals("rt s lo hi eps")
    return Argument(
        (
            Fact("lo ≤ s ≤ hi encloses the real value", z3.And(lo <= s, s <= hi)),
            Fact("rt − hi > ε or lo − rt > ε", z3.Or(rt - hi > eps, lo - rt > eps)),
        ),
        Fact("|rt − s| > ε", z3.Not(within(rt - s, eps))),
    )


def batch_norm_fold() -> Argument:
    x, mean, r, gamma, beta = reals("x mean r gamma beta")
    scale = gamma / r
    return Argument(
        (Fact("r = √(var + ε) ≠ 0", r != 0),),
        Fact(
            "(x − μ)/r·γ + β = x·(γ/r) + (β − μ·(γ/r))",
            (x - mean) / r * gamma + beta == x * scale + (beta - mean * scale),
        ),
    )


OWN = "algebra"
MEAN_VALUE = "mean value theorem; Moore 1966, Interval Analysis, for its interval form"
CROWN = (
    "Singh, Gehr, Püschel & Vechev 2019, DeepPoly, POPL; Zhang et al. 2018, CROWN, NeurIPS; on "
    "differences: Paulsen, Wang & Wang 2020, ReluDiff, ICSE"
)
PLANET = "Ehlers 2017, Planet, ATVA; Zhang et al. 2018, CROWN, NeurIPS"

LEMMAS: tuple[Lemma, ...] = (
    schema(
        "relu-difference",
        "With x and x̂ = x + d in [lo, hi], relu(x̂) − relu(x) lies between s−·d and s+·d; both "
        "slopes are 1 if lo ≥ 0, 0 if hi ≤ 0, and 0 and 1 otherwise.",
        MEAN_VALUE,
        relu_difference,
    ),
    schema(
        "relu-relaxation",
        "On [lo, hi], t·x ≤ relu(x) ≤ s·x + b for slopes s, t in [0, 1] and "
        "b ≥ max(−s·lo, hi − s·hi).",
        PLANET,
        relu_relaxation,
    ),
    schema(
        "mean-value-step",
        "If d_out lies between s−·d and s+·d and |d| ≤ e then c·d_out ≤ c·m·d + |c|·ρ·e for any "
        "m and ρ ≥ max(s+ − m, m − s−).",
        MEAN_VALUE,
        mean_value_step,
    ),
    schema(
        "affine-difference",
        "Σŵ·x̂ − Σw·x = Σ ŵ·d + (ŵ − w)·x: the step that adds a term.",
        OWN,
        affine_difference,
    ),
    schema(
        "affine-rounding",
        "With ŷ = Σŵ·x̂ + η and y = Σw·x, ŷ − y is the affine difference plus η.",
        OWN,
        affine_rounding,
    ),
    schema(
        "stored-coefficients",
        "Σγ·x ≤ Σc·x + Σκ·X for computed coefficients |c − γ| ≤ κ and |x| ≤ X: the step that adds "
        "a term.",
        OWN,
        stored_coefficients,
    ),
    schema(
        "composition",
        "If c·f ≤ c'·d_in + r for the difference f before rounding, c'·d_in ≤ r' and |η| ≤ loc, "
        "then c·(f + η) ≤ r + r' + |c|·loc.",
        CROWN,
        composition,
    ),
    schema("product-difference", "x̂·ŷ − x·y = x·dy + y·dx + dx·dy.", OWN, product_difference),
    schema(
        "quotient-difference",
        "x̂/ŷ − x/y = (dx − (x/y)·dy)/ŷ if y and ŷ are not 0.",
        OWN,
        quotient_difference,
    ),
    schema(
        "product-error",
        "|x̂·ŷ − x·y| ≤ X·ey + Y·ex + ex·ey for |x| ≤ X, |y| ≤ Y, |dx| ≤ ex, |dy| ≤ ey.",
        OWN,
        product_error,
    ),
    schema(
        "quotient-error",
        "|x̂/ŷ − x/y| ≤ (ex + Q·ey)/l for |x/y| ≤ Q, |ŷ| ≥ l > 0.",
        OWN,
        quotient_error,
    ),
    schema("sqrt-difference", "|√x̂ − √x| ≤ e/√x_lo for |x̂ − x| ≤ e.", OWN, sqrt_difference),
    schema(
        "maximum-difference",
        "|max(x̂, ŷ) − max(x, y)| ≤ max(ex, ey).",
        OWN,
        maximum_difference,
    ),
    schema(
        "domain-split",
        "If every input lies in one of two parts and |d| is at most ε₁ on one and ε₂ on the "
        "other, then |d| ≤ max(ε₁, ε₂).",
        OWN,
        domain_split,
    ),
    schema(
        "summed-rows",
        "Where s ≤ t and a row a ≤ d hold, so does s + f·a ≤ t + f·d for any f ≥ 0: by induction "
        "any sum of rows with factors ≥ 0.",
        OWN,
        summed_rows,
    ),
    schema(
        "violation",
        "If the real value lies in [lo, hi] and the run-time value is more than ε above hi or "
        "below lo, the error exceeds ε.",
        OWN,
        violation,
    ),
    schema(
        "batch-norm-fold",
        "(x − μ)/r·γ + β = x·(γ/r) + (β − μ·(γ/r)) over the reals, r ≠ 0.",
        "Ioffe & Szegedy 2015, Batch Normalization, ICML",
        batch_norm_fold,
    ),
)
