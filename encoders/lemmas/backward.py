"""Lemmas on backward errors: what runs as the exact result of parameters that are moved a little.

The distance of two numbers of one sign is |ln(x̃/x)| (Olver 1978), which adds up along a path and
is halved by a root; L is ln(1 + δ) of a rounding, of which no more is used than 1 + t ≤ exp(t).
"""

from __future__ import annotations

from encoders.lemmas.lemma import Lemma
from encoders.lemmas.terms import (
    bound,
    equal,
    every,
    larger,
    magnitude,
    number,
    term,
    value,
    values,
    within,
)

OWN = "algebra"
BEAN = (
    "Kellison, Zielinski, Bindel & Hsu 2025, Bean: A Language for Backward Error Analysis, PLDI; "
    "Olver 1978, SIAM J. Numer. Anal. 15"
)
OETTLI_PRAGER = "Oettli & Prager 1964, Numer. Math. 6; Higham 2002, section 7.1"
JEANNEROD_RUMP = "Jeannerod & Rump 2013, SIAM J. Matrix Anal. Appl. 34(2)"

_u, _k = number("u"), number("k")
_delta, _L = value("delta", "δ"), value("L", "ln(1 + δ)")
_v = _u / (term(1) + _u)

LOG_ROUNDING = Lemma(
    "log-rounding",
    "A rounding to nearest in the normal range, 1 + δ with |δ| ≤ u/(1 + u), is |ln(1 + δ)| ≤ u "
    "away from none.",
    "1 + x ≤ exp(x), of ln(1 + δ) and of its negative",
    hypotheses=(),
    assumed=(
        within(_delta, _v),
        _L <= _delta,
        -_L * (term(1) + _delta) <= -_delta,
    ),
    error=_L,
    radius=_u,
    by_way_of=(
        _delta <= _u,
        _delta * (term(1) + _u) >= -_u,
        (term(1) + _delta) * (term(1) + _u) >= 1,
        -_delta <= _u * (term(1) + _delta),
        (-_L - _u) * (term(1) + _delta) <= 0,
    ),
)

_theta, _i, _share = value("theta", "θ"), value("i"), value("c")
PERTURBED_PATH = Lemma(
    "perturbed-path",
    "What is asked of a result, θ with |θ| ≤ i·u, and the rounding of it, |L| ≤ u, move an operand "
    "by a share c of both, at most k·u for c·(i + 1) ≤ k: c = 1 of a term, and of a factor that "
    "alone can move, 1/2 of each of two factors.",
    BEAN,
    hypotheses=(),
    assumed=(
        every(_i >= 0, _share >= 0, _share * (_i + 1) <= _k),
        within(_theta, _i * _u),
        within(_L, _u),
    ),
    error=_share * (_theta + _L),
    radius=_k * _u,
    rests_on=("log-rounding",),
    by_way_of=(
        within(_theta + _L, (_i + 1) * _u),
        within(_share * (_theta + _L), _share * ((_i + 1) * _u)),
        _share * (_i + 1) * _u <= _k * _u,
    ),
)

_g, _phi = bound("g"), value("phi", "φ")
RELATIVE_OF_LOG = Lemma(
    "relative-of-log",
    "A factor φ = exp(θ) with |θ| ≤ g < 1 differs from 1 by at most g/(1 − g).",
    "1 + x ≤ exp(x)",
    hypotheses=(_g < 1,),
    assumed=(within(_theta, _g), _phi >= term(1) + _theta, _phi * (term(1) - _theta) <= 1),
    error=_phi - 1,
    radius=_g / (term(1) - _g),
    by_way_of=(
        _phi >= 0,
        _phi * (term(1) - _g) <= 1,
        (_phi - 1) * (term(1) - _g) <= _g,
        _g * (term(1) - _g) <= _g,
    ),
)

_nu, _A = value("nu", "ν"), bound("A")
GROWN_BESIDES = Lemma(
    "grown-besides",
    "What comes beside, ν with |ν| ≤ A, and is multiplied by φ = exp(θ), |θ| ≤ g < 1, is at most "
    "A/(1 − g).",
    "1 + x ≤ exp(x)",
    hypotheses=(_g < 1,),
    assumed=(within(_theta, _g), every(_phi >= 0, _phi * (term(1) - _theta) <= 1), within(_nu, _A)),
    error=_phi * _nu,
    radius=_A / (term(1) - _g),
    by_way_of=(
        _phi * (term(1) - _g) <= 1,
        within(_phi * _nu, _phi * _A),
        (_phi * _A) * (term(1) - _g) <= _A,
    ),
)

_m, _n, _h, _lost, _X = number("m"), number("n"), number("h"), number("lost", "λ'"), bound("X")
_e, _S, _P, _off = value("e", "ŝ − s"), value("S"), value("P"), value("off")
_k_row = (_m + 1) * _u
_besides = _n * _h + _m * (_h + _lost * (term(1) + 4 * _v)) + _X
ROW_SHARE = Lemma(
    "row-share",
    "A sum of products of a row and a bias, with m roundings of sums in any order, fused or not, "
    "errs by at most (m + 1)·u·S, S = Σ|w·x| + |b|, whatever is left of it, at most "
    "(n·h + m·(h + λ'·(1 + 4·v)) + X)·(1 + (m + 1)·u): products and operands that underflow, and "
    "what is read X beside.",
    JEANNEROD_RUMP,
    hypotheses=(),
    assumed=(
        every(_S >= 0, _P >= 0, _P <= _S),
        every(_off >= 0, _off <= _v * _P + _besides),
        within(_e, _off + _m * _v * (_S + _off)),
    ),
    error=larger(0, magnitude(_e) - _k_row * _S),
    radius=_besides * (term(1) + _k_row),
    rests_on=("any-order-linear", "underflow-term"),
    by_way_of=(
        _v <= _u,
        _v * (term(1) + _v) <= _u,
        _v * _P <= _v * _S,
        _m * _v * _off <= _m * _v * (_v * _S + _besides),
        (_m * (_v * (term(1) + _v))) * _S <= (_m * _u) * _S,
        (_m * _v) * _besides <= (_m * _u) * _besides,
        _v * _S <= _u * _S,
    ),
)

_w, _w_moved, _x, _z, _z_moved = (
    value("w"),
    value("w_moved", "w̃"),
    value("x"),
    value("z", "w·x"),
    value("z_moved", "w̃·x"),
)
_omega, _sign = value("omega", "ω"), value("sign", "sgn(w·x)")
_total, _total_moved, _sizes = values("T T_moved A_total")
_moved = (
    equal(_w_moved, _w * (term(1) + _omega * _sign)),
    equal(_z, _w * _x),
    equal(_z_moved, _w_moved * _x),
    equal(_sign * _z, magnitude(_z)),
)
ROW_PERTURBED = Lemma(
    "row-perturbed",
    "With w̃ = w·(1 + ω·sgn(w·x)) the sum Σw̃·x is Σw·x + ω·Σ|w·x|: the step that adds a term.",
    OETTLI_PRAGER,
    hypotheses=(),
    assumed=(equal(_total_moved, _total + _omega * _sizes), *_moved),
    error=(_total_moved + _z_moved) - ((_total + _z) + _omega * (_sizes + magnitude(_z))),
    radius=term(0),
    by_way_of=(equal(_z_moved, _z + _omega * (_sign * _z)),),
)

ROW_RATIO = Lemma(
    "row-ratio",
    "An ω with ω·S = e, |e| ≤ (m + 1)·u·S and S > 0 is at most (m + 1)·u: by so much of itself each "
    "weight of the row is moved.",
    OETTLI_PRAGER,
    hypotheses=(),
    assumed=(_S > 0, equal(_omega * _S, _e), within(_e, _k_row * _S)),
    error=_omega,
    radius=_k_row,
    rests_on=("row-perturbed", "row-share"),
    by_way_of=((_omega - _k_row) * _S <= 0, (_omega + _k_row) * _S >= 0),
)

_c_phi, _c_delta = value("factor"), bound("f")
_most = number("v")
RELATIVE_PATH = Lemma(
    "relative-path",
    "A factor that differs from 1 by at most f, rounded once more with |δ| ≤ v, differs by at "
    "most f + v·(1 + f).",
    "Higham 2002, section 3.1",
    hypotheses=(),
    assumed=(within(_c_phi - 1, _c_delta), within(_delta, _most)),
    error=_c_phi * (term(1) + _delta) - 1,
    radius=_c_delta + _most * (term(1) + _c_delta),
    by_way_of=(
        within(_c_phi, term(1) + _c_delta),
        within(_c_phi * _delta, (term(1) + _c_delta) * _most),
    ),
)

LEMMAS = (
    LOG_ROUNDING,
    PERTURBED_PATH,
    RELATIVE_OF_LOG,
    GROWN_BESIDES,
    ROW_SHARE,
    ROW_PERTURBED,
    ROW_RATIO,
    RELATIVE_PATH,
)
