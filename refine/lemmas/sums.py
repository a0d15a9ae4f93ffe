"""Schema lemmas on rounding and on sums: one inductive step of every bound on a sum.

Notation. a is the exact value of a subtree of a sum (the exact sum of its leaves), â what was
computed for it, fl the rounding of what the node adds, u the unit roundoff, v = u/(1+u). A leaf
is its own exact value, so that its error is 0 and every induction starts. All rounding
hypotheses presume what is proved elsewhere: that nothing overflows.
"""

from __future__ import annotations

import z3

from refine.lemmas.flushing import flush, flush_operand_product, flush_operand_sum, flush_relative
from refine.lemmas.lemma import (
    Argument,
    Lemma,
    magnitude,
    nonnegative,
    reals,
    schema,
    within,
)
from refine.proof.z3_solver import Fact, Term


def sum_any_order_relative() -> Argument:
    a, a_hat, b, b_hat, fl, T, E = reals("a a_hat b b_hat fl T E")
    i, j, m, q, u, v, pa, pb, p = reals("i j m q u v pa pb p")
    z = a_hat + b_hat
    return Argument(
        (
            nonnegative("i, j, u, T, E, πa, πb ≥ 0", i, j, u, T, E, pa, pb),
            Fact("v = u/(1 + u), q = v·(T + E)", z3.And(v * (1 + u) == u, q == v * (T + E))),
            Fact("|â − a| ≤ πa + i·q", within(a_hat - a, pa + i * q)),
            Fact("|b̂ − b| ≤ πb + j·q", within(b_hat - b, pb + j * q)),
            Fact("i + j + 1 ≤ m, πa + πb ≤ π", z3.And(i + j + 1 <= m, pa + pb <= p)),
            Fact("π + m·q ≤ E", p + m * q <= E),
            Fact("|a + b| ≤ T", within(a + b, T)),
            Fact("|fl − (â + b̂)| ≤ v·|â + b̂|", within(fl - z, v * magnitude(z))),
        ),
        Fact(
            "|fl − (a + b)| ≤ (πa + πb) + (i + j + 1)·q",
            within(fl - (a + b), pa + pb + (i + j + 1) * q),
        ),
    )


def sum_closed_form() -> Argument:
    m, v, T, E, q, p = reals("m v T E q p")
    return Argument(
        (
            nonnegative("m, v, T, π ≥ 0", m, v, T, p),
            Fact("m·v < 1", m * v < 1),
            Fact("E = (π + m·v·T)/(1 − m·v)", E * (1 - m * v) == p + m * v * T),
            Fact("q = v·(T + E)", q == v * (T + E)),
        ),
        Fact("π + m·q = E, E ≥ 0", z3.And(p + m * q == E, E >= 0)),
    )


def dot_product() -> Argument:
    p, z, pi, P, Z, Pi = reals("p z pi P Z Pi")
    return Argument(
        (
            Fact("|p − z| ≤ π for the next product", within(p - z, pi)),
            Fact("|P − Z| ≤ Π for the products so far", within(P - Z, Pi)),
        ),
        Fact("|(P + p) − (Z + z)| ≤ Π + π", within((P + p) - (Z + z), Pi + pi)),
    )


def dot_product_total() -> Argument:
    s_hat, P, Z, e, Pi = reals("s_hat P Z e Pi")
    return Argument(
        (
            Fact("|ŝ − P| ≤ e for the sum of the rounded products", within(s_hat - P, e)),
            Fact("|P − Z| ≤ Π", within(P - Z, Pi)),
        ),
        Fact("|ŝ − Z| ≤ e + Π", within(s_hat - Z, e + Pi)),
    )


def fma_node() -> Argument:
    x, c, c_hat, w, fl, T, E = reals("x c c_hat w fl T E")
    i, m, q, r, lost, pc, px, p = reals("i m q r lost pc px p")
    return Argument(
        (
            nonnegative("i, r, λ', T, πc, πx ≥ 0", i, r, lost, T, pc, px),
            Fact("q = r + λ'", q == r + lost),
            Fact("|ĉ − c| ≤ πc + i·q", within(c_hat - c, pc + i * q)),
            Fact("i + 1 ≤ m, πc + πx ≤ π", z3.And(i + 1 <= m, pc + px <= p)),
            Fact("π + m·q ≤ E", p + m * q <= E),
            Fact("|x + c| ≤ T for the exact product x", within(x + c, T)),
            Fact("|z − (x + ĉ)| ≤ πx + λ'", within(w - (x + c_hat), px + lost)),
            Fact(
                "if |z| ≤ T + E then |fl − z| ≤ r",
                z3.Implies(within(w, T + E), within(fl - w, r)),
            ),
        ),
        Fact(
            "|fl − (x + c)| ≤ (πc + πx) + (i + 1)·q",
            within(fl - (x + c), pc + px + (i + 1) * q),
        ),
    )


def sequential_step() -> Argument:
    s, s_hat, t, p, fl, e, pi, h, M = reals("s s_hat t p fl e pi h M")
    z = s_hat + p
    return Argument(
        (
            Fact("|ŝ − s| ≤ e", within(s_hat - s, e)),
            Fact("|p − t| ≤ π for the next term (π = 0 if it is fused)", within(p - t, pi)),
            Fact("|s + t| ≤ M", within(s + t, M)),
            Fact(
                "if |ŝ + p| ≤ M + e + π then |fl − (ŝ + p)| ≤ h",
                z3.Implies(within(z, M + e + pi), within(fl - z, h)),
            ),
        ),
        Fact("|fl − (s + t)| ≤ e + π + h", within(fl - (s + t), e + pi + h)),
    )


def power_step() -> Argument:
    a, a_hat, b, b_hat, fl, A, B, P, v = reals("a a_hat b b_hat fl A B P v")
    z = a_hat + b_hat
    return Argument(
        (
            Fact("P = (1+v)^i ≥ 1, v ≥ 0", z3.And(P >= 1, v >= 0)),
            Fact("|a| ≤ A, |b| ≤ B", z3.And(within(a, A), within(b, B))),
            Fact("|â − a| ≤ (P − 1)·A", within(a_hat - a, (P - 1) * A)),
            Fact("|b̂ − b| ≤ (P − 1)·B", within(b_hat - b, (P - 1) * B)),
            Fact("|fl − (â + b̂)| ≤ v·|â + b̂|", within(fl - z, v * magnitude(z))),
        ),
        Fact(
            "|fl − (a + b)| ≤ (P·(1+v) − 1)·(A + B)",
            within(fl - (a + b), (P * (1 + v) - 1) * (A + B)),
        ),
        steps=(
            Fact("|â + b̂| ≤ P·(A + B)", magnitude(z) <= P * (A + B)),
            Fact("v·|â + b̂| ≤ v·P·(A + B)", v * magnitude(z) <= v * P * (A + B)),
        ),
    )


def jeannerod_rump_rounding() -> Argument:
    a, a_hat, b, b_hat, fl, S, R, m, n, u = reals("a a_hat b b_hat fl S R m n u")
    D = fl - (a_hat + b_hat)
    return Argument(
        (
            *_jeannerod_rump_node(a, a_hat, b, b_hat=b_hat, S=S, R=R, m=m, n=n, u=u),
            Fact(
                "|D| ≤ |â|, |b̂| and u·|â + b̂|, D = fl − (â + b̂)",
                z3.And(
                    within(D, magnitude(a_hat)),
                    within(D, magnitude(b_hat)),
                    within(D, u * magnitude(a_hat + b_hat)),
                ),
            ),
        ),
        Fact(
            "|D| ≤ S + m·u·S, R + n·u·R and u·(S + R + m·u·S + n·u·R)",
            z3.And(
                within(D, S + m * u * S),
                within(D, R + n * u * R),
                within(D, u * (S + R + m * u * S + n * u * R)),
            ),
        ),
    )


def jeannerod_rump_bound() -> Argument:
    d, S, R, m, n, u = reals("d S R m n u")
    return Argument(
        (
            nonnegative("m, n, S, R ≥ 0", m, n, S, R),
            Fact("0 ≤ u ≤ 1", z3.And(u >= 0, u <= 1)),
            Fact("d = |D| ≤ S + m·u·S", d <= S + m * u * S),
            Fact("d ≤ R + n·u·R", d <= R + n * u * R),
            Fact("d ≤ u·(S + R + m·u·S + n·u·R)", d <= u * (S + R + m * u * S + n * u * R)),
        ),
        Fact("d ≤ u·(S + R) + m·u·R + n·u·S", d <= u * (S + R) + m * u * R + n * u * S),
        steps=(
            Fact("R ≤ u·S ⇒ n·u·R ≤ n·u·S", z3.Implies(u * S >= R, n * u * R <= n * u * S)),
            Fact("S ≤ u·R ⇒ m·u·S ≤ m·u·R", z3.Implies(u * R >= S, m * u * S <= m * u * R)),
            Fact("u·S ≤ R ⇒ m·u·(u·S) ≤ m·u·R", z3.Implies(u * S <= R, m * u * u * S <= m * u * R)),
            Fact("u·R ≤ S ⇒ n·u·(u·R) ≤ n·u·S", z3.Implies(u * R <= S, n * u * u * R <= n * u * S)),
        ),
    )


def jeannerod_rump_step() -> Argument:
    a, a_hat, b, b_hat, fl, S, R, m, n, u = reals("a a_hat b b_hat fl S R m n u")
    D = fl - (a_hat + b_hat)
    return Argument(
        (
            Fact("|â − a| ≤ m·u·S", within(a_hat - a, m * u * S)),
            Fact("|b̂ − b| ≤ n·u·R", within(b_hat - b, n * u * R)),
            Fact(
                "|D| ≤ u·(S + R) + m·u·R + n·u·S, D = fl − (â + b̂)",
                within(D, u * (S + R) + m * u * R + n * u * S),
            ),
        ),
        Fact(
            "|fl − (a + b)| ≤ (m + n + 1)·u·(S + R)",
            within(fl - (a + b), (m + n + 1) * u * (S + R)),
        ),
    )


def _jeannerod_rump_node(
    a: Term, a_hat: Term, b: Term, *, b_hat: Term, S: Term, R: Term, m: Term, n: Term, u: Term
) -> tuple[Fact, ...]:
    return (
        nonnegative("m, n, u ≥ 0", m, n, u),
        Fact("|a| ≤ S, |b| ≤ R", z3.And(within(a, S), within(b, R))),
        Fact("|â − a| ≤ m·u·S", within(a_hat - a, m * u * S)),
        Fact("|b̂ − b| ≤ n·u·R", within(b_hat - b, n * u * R)),
    )


def jeannerod_rump_dot() -> Argument:
    s_hat, P, Z, S, A, n, u, eta = reals("s_hat P Z S A n u eta")
    return Argument(
        (
            nonnegative("n ≥ 1, u, η, A ≥ 0", n - 1, u, eta, A),
            Fact("|ŝ − P| ≤ (n−1)·u·S, S = Σ|p|", within(s_hat - P, (n - 1) * u * S)),
            Fact("S ≤ (1+u)·A + n·η, A = Σ|z|", (1 + u) * A + n * eta >= S),
            Fact("|P − Z| ≤ u·A + n·η", within(P - Z, u * A + n * eta)),
        ),
        Fact(
            "|ŝ − Z| ≤ (n·u + (n−1)·u²)·A + n·(1 + (n−1)·u)·η",
            within(s_hat - Z, (n * u + (n - 1) * u * u) * A + n * (1 + (n - 1) * u) * eta),
        ),
    )


def underflow_term() -> Argument:
    z, delta, eta, v, h = reals("z delta eta v h")
    fl = z * (1 + delta) + eta
    return Argument(
        (Fact("|δ| ≤ v, |η| ≤ h", z3.And(within(delta, v), within(eta, h))),),
        Fact("fl = z·(1+δ) + η ⇒ |fl − z| ≤ v·|z| + h", within(fl - z, v * magnitude(z) + h)),
    )


def accumulated_rounding() -> Argument:
    s, s_hat, fl, M, E, r = reals("s s_hat fl M E r")
    return Argument(
        (
            Fact("|s| ≤ M", within(s, M)),
            Fact("|ŝ − s| ≤ E for what was computed in the wide format", within(s_hat - s, E)),
            Fact(
                "if |ŝ| ≤ M + E then |fl − ŝ| ≤ r for the one rounding to the narrow format",
                z3.Implies(within(s_hat, M + E), within(fl - s_hat, r)),
            ),
        ),
        Fact("|fl − s| ≤ E + r", within(fl - s, E + r)),
    )


def aligned_step() -> Argument:
    s, s_hat, whole, fl, M, e, unit, k, v, tiny = reals("s s_hat whole fl M e unit k v tiny")
    return Argument(
        (
            nonnegative("k, unit, v, τ ≥ 0", k, unit, v, tiny),
            Fact("|ŝ − s| ≤ e for products and sum as computed", within(s_hat - s, e)),
            Fact("|ŝ| ≤ M", within(s_hat, M)),
            Fact(
                "|w − ŝ| ≤ (k + 1)·unit: each of k products and the sum loses at most a unit",
                within(whole - s_hat, (k + 1) * unit),
            ),
            Fact("|fl − w| ≤ v·|w| + τ", within(fl - whole, v * magnitude(whole) + tiny)),
        ),
        Fact(
            "|fl − s| ≤ e + (k + 1)·unit + v·(M + (k + 1)·unit) + τ",
            within(fl - s, e + (k + 1) * unit + v * (M + (k + 1) * unit) + tiny),
        ),
    )


HIGHAM = "Higham 2002, Accuracy and Stability of Numerical Algorithms, 2nd ed., "
JEANNEROD_RUMP = (
    "Rump 2012, BIT 52, and Jeannerod & Rump 2013, SIAM J. Matrix Anal. Appl. 34(2): the bound "
    "(n−1)·u·Σ|x|; the node step as in their proof by induction on the tree"
)
RUNNING = (
    HIGHAM + "section 4.2 (running error of a summation tree), sharpened to exact partial sums"
)
FLUSH = "flush to zero as in Intel SDM vol. 1, 10.2.3, and Arm ARM, FPCR.FZ"

LEMMAS: tuple[Lemma, ...] = (
    schema(
        "sum-any-order-relative",
        "The same with relative rounding errors: q = v·(T + E), v = u/(1+u).",
        RUNNING,
        sum_any_order_relative,
    ),
    schema(
        "sum-closed-form",
        "If m·v < 1, E = (π + m·v·T)/(1 − m·v) and q = v·(T + E) then π + m·q = E: the smallest E "
        "that sum-any-order-relative allows.",
        "algebra",
        sum_closed_form,
    ),
    schema(
        "dot-product",
        "|P − Z| ≤ Σπ for rounded products p and exact ones z, |p − z| ≤ π: the step that adds a "
        "term.",
        HIGHAM + "section 3.1",
        dot_product,
    ),
    schema(
        "dot-product-total",
        "A dot product with rounded products errs by at most the error of the sum plus Σπ.",
        HIGHAM + "section 3.1",
        dot_product_total,
    ),
    schema(
        "fma-node",
        "A fused node is a sum-any-order node whose one leaf is an exact product, but for what "
        "reading its factors as 0 changes (πx): πc + i·q gives (πc + πx) + (i + 1)·q.",
        RUNNING,
        fma_node,
    ),
    schema(
        "sequential-step",
        "Known schedule: |ŝ − s| ≤ e, |p − t| ≤ π, |s + t| ≤ M, and h at least the rounding error "
        "of anything up to M + e + π give |fl(ŝ + p) − (s + t)| ≤ e + π + h.",
        HIGHAM + "section 4.2",
        sequential_step,
    ),
    schema(
        "power-step",
        "Subtrees within ((1+v)^i − 1)·Σ|x| give a node within ((1+v)^(i+1) − 1)·Σ|x|; an exact "
        "product as a leaf makes it a fused node.",
        HIGHAM + "section 4.2",
        power_step,
    ),
    schema(
        "jeannerod-rump-rounding",
        "With S, R ≥ Σ|x| left and right, m and n additions there, D the node's rounding error: "
        "|D| ≤ min(|â|, |b̂|, u·|â + b̂|) gives |D| ≤ S + m·u·S, R + n·u·R and "
        "u·(S + R + m·u·S + n·u·R).",
        JEANNEROD_RUMP,
        jeannerod_rump_rounding,
    ),
    schema(
        "jeannerod-rump-bound",
        "Those three bounds together give |D| ≤ u·(S + R) + m·u·R + n·u·S (cases R ≤ u·S, "
        "S ≤ u·R, neither).",
        JEANNEROD_RUMP,
        jeannerod_rump_bound,
    ),
    schema(
        "jeannerod-rump-step",
        "Subtrees within m·u·S and n·u·R, m and n their additions, give a node within "
        "(m+n+1)·u·(S + R): a sum of n terms in any order errs by at most (n−1)·u·Σ|x|, for any "
        "n. Fused nodes: any-order-linear-fused.",
        JEANNEROD_RUMP,
        jeannerod_rump_step,
    ),
    schema(
        "jeannerod-rump-dot",
        "With products rounded, |p − z| ≤ u·|z| + η, a dot product of n terms errs by at most "
        "(n·u + (n−1)·u²)·Σ|z| + n·(1 + (n−1)·u)·η.",
        JEANNEROD_RUMP,
        jeannerod_rump_dot,
    ),
    schema(
        "underflow-term",
        "fl = z·(1+δ) + η with |δ| ≤ v, |η| ≤ h gives |fl − z| ≤ v·|z| + h.",
        HIGHAM + "section 2.1; format lemma rounding-product",
        underflow_term,
    ),
    schema(
        "accumulated-rounding",
        "A result computed in a wide format within E of s, |s| ≤ M, and then rounded once to a "
        "narrow format that rounds anything up to M + E with error at most r, is within E + r.",
        HIGHAM + "section 4.2; mixed precision as in Blanchard, Higham, Lopez, Mary & Pranesh "
        "2020, SIAM J. Sci. Comput. 42(3)",
        accumulated_rounding,
    ),
    schema(
        "aligned-step",
        "An aligned step of k products, unit = 2^(e − alignment) the largest that truncating a "
        "term can lose, v = 2u and τ the smallest subnormal number for truncating the result, errs "
        "by at most e + (k + 1)·unit + v·(M + (k + 1)·unit) + τ. A step of k products is charged "
        "less than k steps of one product each.",
        "Xie et al. 2025, arXiv 2511.10909; Fasi, Higham, Mikaitis & Pranesh 2021, PeerJ Computer "
        "Science 7:e330",
        aligned_step,
    ),
    schema(
        "flush",
        "If results where |z| < λ = 2^emin may become 0, an error of at most r becomes at most "
        "max(r, λ), whether tininess is decided before or after rounding.",
        FLUSH,
        flush,
    ),
    schema(
        "flush-relative",
        "With the rounding model beneath, |fl − z| ≤ v·|z| + λ.",
        FLUSH,
        flush_relative,
    ),
    schema(
        "flush-operand-product",
        "If operands below λ may be read as 0, the product changes by at most λ·max(|a|, |b|).",
        FLUSH,
        flush_operand_product,
    ),
    schema(
        "flush-operand-sum",
        "If operands below λ may be read as 0, the sum changes by at most 2·λ.",
        FLUSH,
        flush_operand_sum,
    ),
)
