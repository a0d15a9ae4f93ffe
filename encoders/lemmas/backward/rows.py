"""Lemmas on rows of products: the one factor that makes a computed row exact."""

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

OETTLI_PRAGER = "Oettli & Prager 1964, Numer. Math. 6; Higham 2002, section 7.1"
JEANNEROD_RUMP = "Jeannerod & Rump 2013, SIAM J. Matrix Anal. Appl. 34(2)"

_u = number("u")
_v = _u / (term(1) + _u)
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
    "An ω with ω·S = e, |e| ≤ (m + 1)·u·S and S > 0 is at most (m + 1)·u: by so much each "
    "weight of the row is moved, of itself.",
    OETTLI_PRAGER,
    hypotheses=(),
    assumed=(_S > 0, equal(_omega * _S, _e), within(_e, _k_row * _S)),
    error=_omega,
    radius=_k_row,
    rests_on=("row-perturbed", "row-share"),
    by_way_of=((_omega - _k_row) * _S <= 0, (_omega + _k_row) * _S >= 0),
)

LEMMAS = (ROW_SHARE, ROW_PERTURBED, ROW_RATIO)
