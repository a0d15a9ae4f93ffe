"""Lemmas on sums: one inductive step of every bound on a sum in any order.

a is the exact value of a subtree of a sum, the exact sum of its leaves, and â what was computed for
it; fl is the rounding of what the node adds. docs/lemmas.md states the inductions in words.
"""

from __future__ import annotations

from encoders.lemmas.lemma import Lemma
from encoders.lemmas.terms import (
    Formula,
    Term,
    bound,
    equal,
    every,
    number,
    rounding,
    term,
    value,
    values,
    within,
)

HIGHAM = "Higham 2002, Accuracy and Stability of Numerical Algorithms, 2nd ed., "
RUNNING = (
    HIGHAM + "section 4.2 (running error of a summation tree), sharpened to exact partial sums"
)
JEANNEROD_RUMP = (
    "Rump 2012, BIT 52, and Jeannerod & Rump 2013, SIAM J. Matrix Anal. Appl. 34(2): the bound "
    "(n−1)·u·Σ|x|; the node step as in their proof by induction on the tree"
)

_a, _b, _z, _fl, _i, _j = values("a b z fl i j")
_a_hat, _b_hat = value("a_hat", "â"), value("b_hat", "b̂")
_pa, _pb = value("pa", "πa"), value("pb", "πb")
_T, _m, _E = number("T"), number("m"), number("E")
_r, _lost, _p = rounding("r"), number("lost", "λ'"), bound("p", "π")
_q = _r + _lost
_SUBTREES: tuple[Formula, ...] = (
    _i + _j + 1 <= _m,
    _pa + _pb <= _p,
)


def _rounded(result: Term) -> Formula:
    return within(result, _r.reach).implies(within(_fl - result, _r))


SUM_ANY_ORDER = Lemma(
    "sum-any-order",
    "Let no partial sum of the exact terms exceed T, let π bound the total error of the terms, let "
    "every addition lose at most λ' by reading operands as 0 and round anything up to T + E with "
    "error at most r, and let π + m·(r + λ') ≤ E. Then any tree of at most m additions errs by at "
    "most π + m·q, q = r + λ'. Node: πa + i·q and πb + j·q give (πa + πb) + (i + j + 1)·q.",
    RUNNING,
    hypotheses=(_p + _m * _q <= _E, _r.reach >= _T + _E),
    assumed=(
        *_SUBTREES,
        within(_a_hat - _a, _pa + _i * _q),
        within(_b_hat - _b, _pb + _j * _q),
        within(_a + _b, _T),
        within(_z - (_a_hat + _b_hat), _lost),
        _rounded(_z),
    ),
    error=_fl - (_a + _b),
    step=(_pa + _pb) + (_i + _j + 1) * _q,
    radius=_p + _m * _q,
    rests_on=("fma-node",),
)

_k, _s = number("k"), rounding("s")
_ga, _gb, _g = value("ga"), value("gb"), value("g")
_t = _s + _lost
_nodes = _m * _q + _k * _t
SUM_ANY_ORDER_ALIGNED = Lemma(
    "sum-any-order-aligned",
    "The same where a node may also be an aligned step, of which there are at most k, each with "
    "error at most s: with t = s + λ', π + m·q + k·t ≤ E, the tree errs by at most π + m·q + k·t. "
    "ga and gb are what the nodes of both subtrees cost, q for an addition and t for a step.",
    RUNNING,
    hypotheses=(_p + _nodes <= _E, _r.reach >= _T + _E, _s.reach >= _T + _E),
    assumed=(
        _ga + _gb + _g <= _nodes,
        _pa + _pb <= _p,
        within(_a_hat - _a, _pa + _ga),
        within(_b_hat - _b, _pb + _gb),
        within(_a + _b, _T),
        within(_z - (_a_hat + _b_hat), _lost),
        (equal(_g, _q) & _rounded(_z))
        | (equal(_g, _t) & within(_z, _s.reach).implies(within(_fl - _z, _s))),
    ),
    error=_fl - (_a + _b),
    step=(_pa + _pb) + (_ga + _gb + _g),
    radius=_p + _nodes,
    rests_on=("fma-node", "aligned-step"),
)

_s_hat, _moved, _exact = value("s_hat", "ŝ"), value("moved", "s′"), value("s")
_S, _u, _h, _total = number("S"), number("u"), number("h"), value("T")
_v = _u / (term(1) + _u)
_rho = _h + _lost * (term(1) + 4 * _v)
_all = _p + _m * _rho
ANY_ORDER_LINEAR = Lemma(
    "any-order-linear",
    "A sum in any order, fused or not, of terms off by at most Π in all, with m roundings of "
    "sums, errs by at most Π′ + m·v·(S + Π′), Π′ = Π + m·λ, λ = h + λ'·(1 + 4·v) and S = Σ|x|: "
    "for any m.",
    JEANNEROD_RUMP,
    hypotheses=(_u <= 1,),
    assumed=(
        within(_moved - _exact, _all),
        every(_total >= 0, _total <= _S + _all),
        within(_s_hat - _moved, _m * _v * _total),
    ),
    error=_s_hat - _exact,
    radius=_all + _m * _v * (_S + _all),
    rests_on=(
        "jeannerod-rump-rounding",
        "jeannerod-rump-bound",
        "any-order-linear-node",
        "any-order-linear-fused",
    ),
)

_share, _K = number("share", "2^−alignment"), 2**20
_node = 2 * _share + (2 * _u) * (term(1) + 2 * _share)
_y = (_m * _v + _k * _node) / _K
_root, _e, _g, _delta, _t = value("root"), bound("e"), bound("g"), value("delta", "δ"), value("t")
GROWTH = Lemma(
    "growth",
    "Let G be the product of 1 + δ over m roundings to nearest, δ ≤ u/(1 + u), and of 1 + w over k "
    "aligned steps, w = 2·s + 2·u·(1 + 2·s), s = 2^−alignment: its 2^20th root exceeds 1 by at "
    "most y/(1 − y), y = (m·v + k·w)/2^20, as 1 + x ≤ exp(x) and exp(t) ≤ 1/(1 − t).",
    "1 + x ≤ exp(x)",
    hypotheses=(_y * 4 <= 1,),
    assumed=(
        _delta * (term(1) + _u) <= _u,
        every(_t >= 0, _t * _K <= _m * _delta + _k * _node),
        every(_root >= 1, _root * (term(1) - _t) <= 1),
    ),
    error=_root - 1,
    radius=_y / (term(1) - _y),
    by_way_of=(
        _delta <= _v,
        _m * _delta <= _m * _v,
        _t <= _y,
        _root * (term(1) - _y) <= _root * (term(1) - _t),
        (_root - 1) * (term(1) - _y) <= _y,
    ),
)
GROWTH_SQUARED = Lemma(
    "growth-squared",
    "The square of what exceeds 1 by at most e exceeds it by at most 2·e + e².",
    "algebra",
    hypotheses=(),
    assumed=(within(_a - 1, _e),),
    error=_a * _a - 1,
    radius=2 * _e + _e * _e,
    by_way_of=(within((_a - 1) * (_a - 1), _e * _e),),
)

_G, _sum, _off = value("G"), value("A"), value("B")
_least, _clamped = number("least"), number("clamped")
_of_step = (_least + _node * _clamped + _lost) * (term(1) + _node)
_every = _p + _m * (_h + _lost * (term(1) + 4 * _v)) + _k * _of_step
_here = _p + _m * (_h + _lost * (term(1) + 4 * _delta)) + _k * _of_step
ANY_ORDER_GROWTH = Lemma(
    "any-order-growth",
    "A sum of terms off by Π in all, with m roundings that lose h + λ'·(1 + 4·δ) each beyond "
    "their relative error δ and k aligned steps that lose (least + w·c + λ')·(1 + w) each, errs by "
    "at most G·(S + Π′) − S, Π′ what is lost in all and S = Σ|x|: at most g·S + (1 + g)·Π′ for "
    "G ≤ 1 + g.",
    HIGHAM + "section 4.2",
    hypotheses=(),
    assumed=(
        every(_G >= 1, within(_G - 1, _g)),
        every(_sum >= 0, _sum <= _S, _off >= 0, _off <= _here),
        _delta * (term(1) + _u) <= _u,
        within(_s_hat - _exact, (_G - 1) * _sum + _G * _off),
    ),
    error=_s_hat - _exact,
    radius=_g * _S + (term(1) + _g) * _every,
    rests_on=("any-order-power", "any-order-power-growth", "aligned-step"),
    by_way_of=(
        _delta <= _v,
        _lost * _delta <= _lost * _v,
        _m * (_lost * _delta) <= _m * (_lost * _v),
        _off <= _every,
        (_G - 1) * _sum <= _g * _sum,
        _g * _sum <= _g * _S,
        _G * _off <= (term(1) + _g) * _off,
        _g * _off <= _g * _every,
    ),
)

LEMMAS = (
    SUM_ANY_ORDER,
    SUM_ANY_ORDER_ALIGNED,
    ANY_ORDER_LINEAR,
    GROWTH,
    GROWTH_SQUARED,
    ANY_ORDER_GROWTH,
)
