"""Schema lemmas on choices, pieces, products and quotients: planes around values, and what
differences become."""

from __future__ import annotations

from collections.abc import Callable

import z3

from refine.lemmas.lemma import Argument, Lemma, larger, nonnegative, reals, within
from refine.lemmas.sums import HIGHAM
from refine.proof.z3_solver import Fact
from refine.results.obligation import Kind


def maximum_plane() -> Argument:
    x, w, lo, hi, u, s, b = reals("x w lo hi u s b")
    return Argument(
        (
            Fact("lo ≤ x ≤ hi, w ≤ u", z3.And(lo <= x, x <= hi, w <= u)),
            Fact(
                "b ≥ max(lo, u) − s·lo, b ≥ max(hi, u) − s·hi",
                z3.And(b >= larger(lo, u) - s * lo, b >= larger(hi, u) - s * hi),
            ),
        ),
        Fact("x ≤ max(x, w) ≤ s·x + b", z3.And(x <= larger(x, w), larger(x, w) <= s * x + b)),
    )


def maximum_leader() -> Argument:
    x, w, dx, dw, gap = reals("x w dx dw G")
    change = larger(x + dx, w + dw) - larger(x, w)
    return Argument(
        (
            nonnegative("G ≥ 0", gap),
            Fact("w − x ≤ G, ŵ − x̂ ≤ G", z3.And(w - x <= gap, (w + dw) - (x + dx) <= gap)),
        ),
        Fact("|max(x̂, ŵ) − max(x, w) − dx| ≤ G", within(change - dx, gap)),
    )


def piecewise_line() -> Argument:
    x, p, q, f, f_p, f_q, m, s, b = reals("x p q f f_p f_q m s b")
    return Argument(
        (
            Fact("p ≤ x ≤ q", z3.And(p <= x, x <= q)),
            Fact(
                "f is linear from p to q",
                z3.And(f == f_p + m * (x - p), f_q == f_p + m * (q - p)),
            ),
            Fact("f(p) − s·p ≤ b, f(q) − s·q ≤ b", z3.And(f_p - s * p <= b, f_q - s * q <= b)),
        ),
        Fact("f(x) ≤ s·x + b", f <= s * x + b),
    )


def oscillation_secant() -> Argument:
    x, x_hat, f, f_hat, s, A, B = reals("x x_hat f f_hat s A B")
    return Argument(
        (
            Fact(
                "A ≤ f − s·x ≤ B at x and at x̂",
                z3.And(
                    f - s * x >= A, f - s * x <= B, f_hat - s * x_hat >= A, f_hat - s * x_hat <= B
                ),
            ),
        ),
        Fact("|f(x̂) − f(x) − s·d| ≤ B − A", within(f_hat - f - s * (x_hat - x), B - A)),
    )


def bilinear_value() -> Argument:
    u, v, r_x, r_y = reals("u v r_x r_y")
    return Argument(
        (Fact("|x − m_x| ≤ r_x, |y − m_y| ≤ r_y", z3.And(within(u, r_x), within(v, r_y))),),
        Fact("|(x − m_x)·(y − m_y)| ≤ r_x·r_y", within(u * v, r_x * r_y)),
    )


def bilinear_plane() -> Argument:
    x, y, m_x, m_y = reals("x y m_x m_y")
    plane = m_y * x + m_x * y - m_x * m_y
    return Argument(
        (),
        Fact("x·y − plane = (x − m_x)·(y − m_y)", x * y - plane == (x - m_x) * (y - m_y)),
    )


def square_value() -> Argument:
    x, m, r, u = reals("x m r u")
    return Argument(
        (Fact("u = x − m, |u| ≤ r", z3.And(u == x - m, within(u, r))),),
        Fact(
            "0 ≤ x² − (2·m·x − m²) ≤ r²",
            z3.And(x * x - (2 * m * x - m * m) >= 0, u * u <= r * r),
        ),
    )


def bilinear_difference() -> Argument:
    x, y, dx, dy = reals("x y dx dy")
    return Argument(
        (),
        Fact(
            "x̂·ŷ − x·y = (y + dy/2)·dx + (x + dx/2)·dy",
            (x + dx) * (y + dy) - x * y == (y + dy / 2) * dx + (x + dx / 2) * dy,
        ),
    )


def coefficient_remainder() -> Argument:
    a, m, r, d, e = reals("a m r d e")
    return Argument(
        (Fact("|a − m| ≤ r, |d| ≤ e", z3.And(within(a - m, r), within(d, e))),),
        Fact("|a·d − m·d| ≤ r·e", within((a - m) * d, r * e)),
    )


def reciprocal_tangent() -> Argument:
    y, w, root = reals("y w root")
    return Argument(
        (Fact("y > 0, w·y = 1, √s > 0", z3.And(y > 0, w * y == 1, root > 0)),),
        Fact("1/y + s·y ≥ 2·√s", w + root * root * y >= 2 * root),
    )


def step_jump() -> Argument:
    f, f_hat, A, B = reals("f f_hat A B")
    both = z3.And(f >= A, f <= B, f_hat >= A, f_hat <= B)
    return Argument(
        (Fact("f(x) and f(x̂) lie in [A, B]", both),),
        Fact("|f(x̂) − f(x)| ≤ B − A", within(f_hat - f, B - A)),
    )


def grid_step() -> Argument:
    q, q_hat, u, u_hat, change, D = reals("q q_hat u u_hat change D")
    half = z3.RealVal("1/2")
    near = z3.And(within(q - u, half), within(q_hat - u_hat, half))
    return Argument(
        (
            Fact("|q − u| ≤ ½ and |q̂ − û| ≤ ½", near),
            Fact("û − u is within D of change", within(u_hat - u - change, D)),
        ),
        Fact("q̂ − q is within D + 1 of change", within(q_hat - q - change, D + 1)),
    )


def read_product() -> Argument:
    p, w, w_hat, x, x_hat = reals("p w w_hat x x_hat")
    W, X, k, e, rho, h = reals("W X k e rho h")
    return Argument(
        (
            Fact("|ŵ| ≤ W, |x| ≤ X", z3.And(within(w_hat, W), within(x, X))),
            Fact("|ŵ − w| ≤ k, |x̂ − x| ≤ e", z3.And(within(w_hat - w, k), within(x_hat - x, e))),
            Fact("|p − ŵ·x̂| ≤ ρ·W·X + h", within(p - w_hat * x_hat, rho * W * X + h)),
        ),
        Fact(
            "|p − w·x| ≤ ρ·W·X + W·e + k·X + h",
            within(p - w * x, rho * W * X + W * e + k * X + h),
        ),
        steps=(
            Fact("|ŵ·(x̂ − x)| ≤ W·e", within(w_hat * (x_hat - x), W * e)),
            Fact("|(ŵ − w)·x| ≤ k·X", within((w_hat - w) * x, k * X)),
        ),
    )


OWN = "algebra"
CROWN = "Singh, Gehr, Püschel & Vechev 2019, DeepPoly, POPL"
MIDPOINT = "McCormick 1976, Math. Programming 10, taken at the middle of both ranges"

_STATED: tuple[tuple[str, str, str, Callable[[], Argument]], ...] = (
    (
        "maximum-plane",
        "With x in [lo, hi] and w ≤ u, x ≤ max(x, w) ≤ s·x + b for any s and b large enough "
        "at both ends.",
        CROWN,
        maximum_plane,
    ),
    (
        "maximum-leader",
        "If no rival exceeds x by more than G, before or after rounding, max moves as x does, up "
        "to G.",
        OWN,
        maximum_leader,
    ),
    (
        "piecewise-line",
        "A function linear from p to q is below s·x + b there if it is at p and at q.",
        OWN,
        piecewise_line,
    ),
    (
        "oscillation-secant",
        "If f − s·x stays in [A, B], then f(x̂) − f(x) = s·d up to B − A.",
        OWN,
        oscillation_secant,
    ),
    ("step-jump", "Two values of a function in [A, B] differ by at most B − A.", OWN, step_jump),
    (
        "grid-step",
        "Two numbers of a grid, each within half a step of its argument, are as far apart as the "
        "arguments, up to one step.",
        OWN,
        grid_step,
    ),
    (
        "read-product",
        "A product p of factors that are read as ŵ and x̂, within k of w and e of x, rounded within "
        "ρ·W·X + h, is within ρ·W·X + W·e + k·X + h of w·x, for |ŵ| ≤ W and |x| ≤ X.",
        HIGHAM + "section 3.1",
        read_product,
    ),
    ("bilinear-plane", "x·y − (m_y·x + m_x·y − m_x·m_y) = (x − m_x)·(y − m_y).", MIDPOINT,
     bilinear_plane),
    ("bilinear-value", "x·y is within r_x·r_y of its plane through the middles.", MIDPOINT,
     bilinear_value),
    ("square-value", "x² is above its tangent 2·m·x − m² by at most r².", OWN, square_value),
    (
        "bilinear-difference",
        "x̂·ŷ − x·y = ȳ·dx + x̄·dy with the means x̄ = x + dx/2 and ȳ = y + dy/2.",
        OWN,
        bilinear_difference,
    ),
    ("coefficient-remainder", "a·d = m·d up to r·e for |a − m| ≤ r, |d| ≤ e.", OWN,
     coefficient_remainder),
    ("reciprocal-tangent", "1/y + s·y ≥ 2·√s for y, s > 0.", "inequality of the means",
     reciprocal_tangent),
)  # fmt: skip

LEMMAS: tuple[Lemma, ...] = tuple(
    Lemma(name, Kind.SCHEMA, statement, source, argument, "QF_NRA")
    for name, statement, source, argument in _STATED
)
