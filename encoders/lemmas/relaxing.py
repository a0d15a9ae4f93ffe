"""Lemmas on linear bounds of functions over a range: which lines do not cross them.

`error` is by how much a function exceeds the line above it and stays below the one under it. Lines
that meet the hypotheses are crossed by nothing, or by no more than the radius.
"""

from __future__ import annotations

from encoders.lemmas.lemma import Lemma
from encoders.lemmas.terms import (
    Chosen,
    Term,
    every,
    larger,
    number,
    term,
    value,
    values,
)

_x, _g = values("x g")
_lo, _hi, _b = (number(name, signed=True) for name in ("lo", "hi", "b"))
_s, _t, _l = (number(name, signed=True) for name in ("s", "t", "l"))


def _hinge(x: Term) -> Term:
    return Chosen(term(0) <= x, x, _b * x)


HINGE_LINES = Lemma(
    "hinge-lines",
    "A hinge of slopes b and 1 stays below s·x + t for x in [lo, hi], if it does at both ends and "
    "t ≥ 0, and above l·x for any l from b to 1.",
    "Ehlers 2017, Planet, ATVA; Zhang et al. 2018, CROWN, NeurIPS",
    hypotheses=(
        _b <= _l,
        _l <= 1,
        term(0) <= _t,
        (_hi <= 0) | (_s >= 1) | (_hi <= _s * _hi + _t),
        (_lo >= 0) | (_s <= _b) | (_b * _lo <= _s * _lo + _t),
        (_hi > 0) | (_s <= _b),
        (_lo < 0) | (_s >= 1),
    ),
    assumed=(every(_lo <= _x, _x <= _hi),),
    error=larger(0, _hinge(_x) - (_s * _x + _t)) + larger(0, _l * _x - _hinge(_x)),
    radius=term(0),
    rests_on=("relu-relaxation",),
)

_at, _low, _top = (number(name, signed=True) for name in ("at", "low", "top"))
_steep_lo, _steep_hi = number("tau_lo", "τ−", signed=True), number("tau_hi", "τ+", signed=True)
_g_at, _g_a, _g_b, _tau = value("g_t", "g(t)"), value("g_a"), value("g_b"), value("tau", "τ")
_a, _z = number("a", signed=True), number("z", "b", signed=True)
CONVEX_PIECE = Lemma(
    "convex-piece",
    "A function g that is convex on [a, b] is at most the larger of its ends, and at least its "
    "tangent at t, which has a slope of [τ−, τ+]: less than a number below g(t) by no more than "
    "τ+·(t − a) and −τ−·(b − t).",
    "Boyd & Vandenberghe 2004, Convex Optimization, §3.1.3",
    hypotheses=(_a <= _at, _at <= _z),
    assumed=(
        every(_a <= _x, _x <= _z),
        every(_low <= _g_at, _g_a <= _top, _g_b <= _top, _steep_lo <= _tau, _tau <= _steep_hi),
        _g >= _g_at + _tau * (_x - _at),
        _g <= larger(_g_a, _g_b),
    ),
    error=larger(0, _low - _g) + larger(0, _g - _top),
    radius=larger(
        Chosen((_steep_hi <= 0) | (_at <= _a), term(0), _steep_hi * (_at - _a)),
        Chosen((_steep_lo >= 0) | (_z <= _at), term(0), -_steep_lo * (_z - _at)),
    ),
    rests_on=("convex-tangent",),
)

LEMMAS = (HINGE_LINES, CONVEX_PIECE)
