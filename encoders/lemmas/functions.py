"""Lemmas on functions of one variable: what moves their results, and how they are computed.

What a slope, a range or a power is at most is found by ball arithmetic (`encoders/curves`) or
stated beside the formula it is about; a lemma takes it as a number with that meaning.
"""

from __future__ import annotations

from encoders.lemmas.lemma import Lemma
from encoders.lemmas.terms import (
    Chosen,
    PowerOfTwo,
    Term,
    bound,
    ends,
    equal,
    every,
    larger,
    magnitude,
    number,
    smaller,
    term,
    value,
    values,
    within,
)

MEAN_VALUE = "mean value theorem; Moore 1966, Interval Analysis, for its interval form"
OWN = "algebra"

_f, _f_hat, _f_zero = value("f_x", "f(x)"), value("f_hat", "f(x̂)"), value("f_0", "f(0)")
_x, _d, _y, _z, _rnd, _fl = values("x d y z rnd fl")
_lo, _hi = number("lo", signed=True), number("hi", signed=True)
_e, _S, _tiny = bound("e"), number("S"), number("tiny", "λ")
_s_lo, _s_hi = ends("S")
_f_lo, _f_hi = ends("F")
_slope, _steepest = value("s"), larger(magnitude(_s_lo), magnitude(_s_hi))
BOUNDED_SLOPE = Lemma(
    "bounded-slope",
    "A function with slopes in S and values in F moves by at most e times the steepest, and by at "
    "most the width of F, where its argument moves by at most e, and not at all where that has not "
    "moved.",
    MEAN_VALUE,
    hypotheses=(),
    assumed=(
        within(_d, _e),
        every(_s_lo <= _slope, _slope <= _s_hi, equal(_f_hat - _f, _slope * _d)),
        every(_f_lo <= _f, _f <= _f_hi, _f_lo <= _f_hat, _f_hat <= _f_hi),
    ),
    error=_f_hat - _f,
    radius=Chosen(_e <= 0, term(0), smaller(_steepest * _e, larger(_f_hi - _f_lo, 0))),
    rests_on=("mean-value-step",),
    by_way_of=(within(_slope, _steepest), within(_slope * _d, _steepest * _e)),
)

_M, _P, _u, _least = number("M"), number("P"), number("u"), number("least", "2^emin")
_ulps, _units, _limit = number("ulps"), number("units"), number("limit")
_spacing = 2 * _u * _P
_flushed = equal(_fl, _rnd) | (equal(_fl, 0) & (magnitude(_rnd) < _tiny))


def _perhaps_flushed(accuracy: Term) -> Term:
    touched = (_lo - accuracy < _tiny) & (-_tiny < _hi + accuracy)
    return Chosen(_tiny <= 0, accuracy, Chosen(touched, accuracy + _tiny, accuracy))


IN_ULPS = Lemma(
    "accuracy-in-ulps",
    "A function computed to so many ulps, with results of at most M < 2·P in [lo, hi], errs by "
    "that many times 2·u·P, the spacing from P on; by λ more where a result below it may be "
    "flushed.",
    "definition of an ulp, as encoders/functions/accuracy.py states it",
    hypotheses=(PowerOfTwo(_P), _least <= _P, _M < 2 * _P),
    assumed=(
        every(_lo <= _y, _y <= _hi, within(_y, _M)),
        (PowerOfTwo(_P) & (_least <= _P) & (magnitude(_y) < 2 * _P)).implies(
            within(_rnd - _y, _ulps * _spacing)
        ),
        _flushed,
    ),
    error=_fl - _y,
    radius=_perhaps_flushed(_ulps * _spacing),
    rests_on=("function-error",),
)
IN_UNITS = Lemma(
    "accuracy-in-units",
    "A function computed within so many u absolutely, wherever its result, at most M, stays below "
    "a limit, errs by that; by λ more where a result below it may be flushed.",
    OWN,
    hypotheses=(_limit >= _M,),
    assumed=(
        every(_lo <= _y, _y <= _hi, within(_y, _M)),
        (magnitude(_y) <= _limit).implies(within(_rnd - _y, _units * _u)),
        _flushed,
    ),
    error=_fl - _y,
    radius=_perhaps_flushed(_units * _u),
    rests_on=("function-error",),
)

_U = number("U")
FORMULA_APART = Lemma(
    "formula-apart",
    "What a runtime computes without rounding may be within U of what it stands for: its formula "
    "has other constants, or the number of a file is no number of the format.",
    OWN,
    hypotheses=(),
    assumed=(within(_z - _y, _U),),
    error=_z - _y,
    radius=_U,
)

_below, _above = bound("below"), bound("above")
_other = _above + (_S + 2) * _tiny
BRANCHES = Lemma(
    "branches",
    "Of two formulas one is for x < 0 and one for x ≥ 0; a number below 0 that is read as 0 may go "
    "the other way, and is less than λ from it. Each errs by its bound where it is taken, and that "
    "way by at most (2·S + 2)·λ more, for slopes at most S.",
    MEAN_VALUE,
    hypotheses=(),
    assumed=(
        every(_lo <= _x, _x <= _hi),
        within(_f - _f_zero, _S * magnitude(_x)),
        ((_x < 0) & within(_fl - _f, _below))
        | ((_x >= 0) & within(_fl - _f, _above))
        | ((_x < 0) & (-_tiny < _x) & within(_fl - _f_zero, _other)),
    ),
    error=_fl - _f,
    radius=larger(Chosen(_lo < 0, _below, term(0)), Chosen(-_tiny <= _hi, _above, term(0)))
    + Chosen(_lo < 0, (_S + 1) * (2 * _tiny), term(0)),
    rests_on=("mean-value-step",),
    by_way_of=((-_tiny < _x).implies(_S * magnitude(_x) <= _S * _tiny) | (_x >= 0),),
)

_n, _m = number("n", signed=True), number("m", signed=True)
_N, _K, _D = number("N", "X^n"), number("K", "X^m"), number("D")
_x_n, _x_m = value("x_n", "x^n"), value("x_m", "x^m")
POWERS_APART = Lemma(
    "powers-apart",
    "Powers xᵐ and xⁿ, of magnitude at most K and N, are at most N + K apart, and |m − n|·D where "
    "no |ln x|·xᵗ for a t between them exceeds D.",
    MEAN_VALUE,
    hypotheses=(),
    assumed=(
        within(_x_n, _N),
        within(_x_m, _K),
        within(_x_m - _x_n, magnitude(_m - _n) * _D),
    ),
    error=_x_m - _x_n,
    radius=smaller(_N + _K, magnitude(_m - _n) * _D),
)

# Linear bounds over a range: `error` is by how much a function exceeds what is above it and stays
# below what is under it.

_g, _b = value("g"), number("b", signed=True)
_s, _t, _l = (number(name, signed=True) for name in ("s", "t", "l"))


def _hinge(x: Term) -> Term:
    return Chosen(term(0) <= x, x, _b * x)


_x_lo, _x_hi = ends("X")
HINGE_LINES = Lemma(
    "hinge-lines",
    "A hinge of slopes b and 1 stays below s·x + t for x in [lo, hi], if it does at both ends and "
    "t ≥ 0, and above l·x for any l from b to 1.",
    "Ehlers 2017, Planet, ATVA; Zhang et al. 2018, CROWN, NeurIPS",
    hypotheses=(
        _b <= _l,
        _l <= 1,
        term(0) <= _t,
        (_x_hi <= 0) | (_s >= 1) | (_x_hi <= _s * _x_hi + _t),
        (_x_lo >= 0) | (_s <= _b) | (_b * _x_lo <= _s * _x_lo + _t),
    ),
    assumed=(every(_x_lo <= _x, _x <= _x_hi),),
    error=larger(0, _hinge(_x) - (_s * _x + _t)) + larger(0, _l * _x - _hinge(_x)),
    radius=term(0),
    rests_on=("relu-relaxation",),
)

_at, _low, _top = (number(name, signed=True) for name in ("at", "low", "top"))
_steep_lo, _steep_hi = number("tau_lo", "τ−", signed=True), number("tau_hi", "τ+", signed=True)
_g_at, _g_a, _g_b, _tau = value("g_t", "g(t)"), value("g_a"), value("g_b"), value("tau", "τ")
_a, _end = number("a", signed=True), number("z", "b", signed=True)
CONVEX_PIECE = Lemma(
    "convex-piece",
    "A function g that is convex on [a, b] is at most the larger of its ends, and at least its "
    "tangent at t, which has a slope of [τ−, τ+]: less than a number below g(t) by no more than "
    "τ+·(t − a) and −τ−·(b − t).",
    "Boyd & Vandenberghe 2004, Convex Optimization, §3.1.3",
    hypotheses=(),
    assumed=(
        every(_a <= _x, _x <= _end),
        every(_low <= _g_at, _g_a <= _top, _g_b <= _top, _steep_lo <= _tau, _tau <= _steep_hi),
        _g >= _g_at + _tau * (_x - _at),
        _g <= larger(_g_a, _g_b),
    ),
    error=larger(0, _low - _g) + larger(0, _g - _top),
    radius=larger(
        Chosen((_steep_hi <= 0) | (_at <= _a), term(0), _steep_hi * (_at - _a)),
        Chosen((_steep_lo >= 0) | (_end <= _at), term(0), -_steep_lo * (_end - _at)),
    ),
    rests_on=("convex-tangent",),
)

LEMMAS = (
    BOUNDED_SLOPE,
    IN_ULPS,
    IN_UNITS,
    FORMULA_APART,
    BRANCHES,
    POWERS_APART,
    HINGE_LINES,
    CONVEX_PIECE,
)
