"""Lemmas on numbers that are rounded to a grid: stored integers, and steps of a range's own."""

from __future__ import annotations

from fractions import Fraction

from encoders.lemmas.lemma import Lemma
from encoders.lemmas.terms import (
    Chosen,
    Whole,
    bound,
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

OWN = "algebra"
_HALF = Fraction(1, 2)

_q, _q_hat = value("q"), value("q_hat", "q̂")
_e, _k, _M, _limit = bound("e"), number("k"), number("M"), number("limit")
_lo, _hi = number("lo", signed=True), number("hi", signed=True)
_moved = _q_hat - _q
WHOLE_STEPS = Lemma(
    "whole-steps",
    "Two integers of [lo, hi], each within half a step of its argument, are a whole number of "
    "steps apart: at most any whole k > e where the arguments are off by at most e, and nothing "
    "where they are off by nothing, unless these overflow, M > limit.",
    OWN,
    hypotheses=(((_limit >= _M) & (_e < _k) & Whole(_k)) | (_hi - _lo <= _k),),
    assumed=(
        every(_lo <= _q, _q <= _hi, _lo <= _q_hat, _q_hat <= _hi),
        (_limit >= _M).implies(within(_moved, _e + 1)),
        (Whole(_k) & (magnitude(_moved) < _k + 1)).implies(within(_moved, _k)),
        ((_limit >= _M) & (_e <= 0)).implies(equal(_q_hat, _q)),
    ),
    error=_moved,
    radius=Chosen((_limit >= _M) & (_e <= 0), term(0), smaller(larger(_hi - _lo, 0), _k)),
    rests_on=("grid-step", "step-jump"),
)

_cut, _whole, _fl = value("cut"), number("whole"), value("fl")
CUT_OR_ROUNDED = Lemma(
    "cut-or-rounded",
    "An integer that is off by at most e where a number is cut off is off by at most e + 1 where "
    "the number may be rounded as well, and by e if it is an integer itself.",
    "onnxruntime's casts to types of less than eight bits, against ONNX's text",
    hypotheses=(),
    assumed=(
        within(_cut - _q, _e),
        within(_fl - _cut, 1),
        (_whole >= 1).implies(equal(_fl, _cut)),
    ),
    error=_fl - _q,
    radius=Chosen(_whole >= 1, _e, _e + 1),
)

_f, _x, _z, _s, _s_hat = *values("f x z s"), value("s_hat", "ŝ")
_X, _u, _tiny = number("X"), number("u"), number("tiny", "2^emin")
_least = number("least")
_width = larger(_hi - _lo, 0)
OWN_GRID = Lemma(
    "own-grid",
    "Numbers of [lo, hi] rounded to 256 levels, a step s = (hi − lo)/255 at most apart and 0 among "
    "them, move by half a step, and by no more than themselves, |x| ≤ X.",
    OWN,
    hypotheses=(),
    assumed=(
        every(_s >= 0, _s * 255 <= _width),
        within(_x, _X),
        within(_f - _x, _s * _HALF),
        within(_f - _x, magnitude(_x)),
    ),
    error=_f - _x,
    radius=smaller(_width / 510, _X),
)

_growth = term(1) + _u * 2**13
COMPUTED_GRID = Lemma(
    "computed-own-grid",
    "Computed with unit roundoff u, a step ŝ is within 3·u of s, and a number stored there within "
    "½ + 2^11·u steps of x, while f(x) is within half a step; both are 0 where x is that much less "
    "than half a step, and near the end 2^emin of the normal range they are within 2^12 times it: "
    "off by at most s·(1 + 2^13·u) + 2^12·2^emin, with 2·X for s where that is less.",
    "IEEE 754; encoders/quantized/dynamic_products.py",
    hypotheses=(_u * 2**20 <= 1,),
    assumed=(
        every(_s >= 0, _s * 255 <= _width, _s_hat <= _s + 3 * _u * _s),
        within(_x, _X),
        within(_z - _f, (term(_HALF) + _u * 2**11) * _s_hat + _s * _HALF)
        | within(_z - _f, _tiny * 2**12),
        (magnitude(_x) * 2 * (term(1) + _u * 2**11) < _s).implies(
            equal(_z, _f) | within(_z - _f, _tiny * 2**12)
        ),
    ),
    error=_z - _f,
    radius=smaller(_width / 255, 2 * _X) * _growth + _tiny * 2**12,
    by_way_of=(
        (_u * _u * _s) * 2**20 <= _u * _s,
        (term(_HALF) + _u * 2**11) * _s_hat + _s * _HALF <= _s * (term(1) + _u * (2**11 + 3)),
        within(_z - _f, _s * (term(1) + _u * (2**11 + 3)) + _tiny * 2**12),
        (_u * _u * _X) * 2**20 <= _u * _X,
    ),
)

_t, _n, _zp = value("t"), value("n"), value("zp")
_off, _big = bound("off"), number("M")
_total = _n + _zp
_clamped = larger(_lo, smaller(_hi, _t + _zp))
OFF_GRID = Lemma(
    "off-grid",
    "An integer n within half a step of a computed number of steps, which is off from t by at most "
    "`off` and does not overflow, shifted by a zero point and clamped to [lo, hi], is within "
    "½ + off of t, shifted and clamped likewise.",
    "IEEE 754; elementary",
    hypotheses=(_big <= _limit,),
    assumed=(
        (_big <= _limit).implies(within(_n - _t, _off + _HALF)),
        equal(_q, larger(_lo, smaller(_hi, _total))),
    ),
    error=_q - _clamped,
    radius=_off + _HALF,
    rests_on=("grid-step",),
)

_near, _known = bound("a"), value("n0", "n₀")
ON_GRID = Lemma(
    "on-grid",
    "A number of steps within a of an integer that can be stored, computed with an error of less "
    "than ½ − a and without overflow, is stored as that integer: as itself, up to a.",
    "IEEE 754; elementary",
    hypotheses=(_big <= _limit, _near + _off < _HALF),
    assumed=(
        (_big <= _limit).implies(within(_n - _t, _off + _HALF)),
        within(_t - _known, _near),
        every(_lo <= _known + _zp, _known + _zp <= _hi),
        (magnitude(_n - _known) < 1).implies(equal(_n, _known)),
        equal(_q, larger(_lo, smaller(_hi, _total))),
    ),
    error=_q - _zp - _t,
    radius=_near,
    rests_on=("grid-step",),
)

COMPUTED_OWN_GRID = Lemma(
    "off-own-grid",
    "What is stored in steps ŝ of a range's own, computed with unit roundoff u, is within "
    "½ + 2^11·u steps ŝ of what is stored, or within 2^12 times the end 2^emin of the normal range "
    "where ŝ is below that; ŝ is within 3·u of a 255th of the range.",
    "IEEE 754; encoders/quantized/dynamic_products.py",
    hypotheses=(_u * 2**20 <= 1,),
    assumed=(
        every(_s >= 0, _s * 255 <= _width, _s_hat >= 0, _s_hat <= _s + 3 * _u * _s),
        within(_z - _x, (term(_HALF) + _u * 2**11) * _s_hat) | within(_z - _x, _tiny * 2**12),
    ),
    error=_z - _x,
    radius=(_width / 510) * _growth + _tiny * 2**12,
    by_way_of=(
        (_u * _u * _s) * 2**20 <= _u * _s,
        (term(_HALF) + _u * 2**11) * _s_hat <= (term(_HALF) + _u * 2**11) * (_s + 3 * _u * _s),
        (term(_HALF) + _u * 2**11) * (_s + 3 * _u * _s) <= (_s * _HALF) * _growth,
        (_s * _HALF) * _growth <= (_width / 510) * _growth,
    ),
)

_A, _B, _C = number("A"), number("B"), number("C")
_y, _w, _g, _rho, _part = values("y w g rho part")
_a, _b, _c, _d = values("a b c d")
SCALED_INTEGERS = Lemma(
    "scaled-integers",
    "A sum of stored numbers within A of the exact one, with scales that change it by C, at most B "
    "in magnitude then, and four factors within u of 1 on the way, errs by at most "
    "A + C + 5·u·B + 2^34·2^emin: what is below the normal range is lost times a sum below 2^31.",
    "IEEE 754; encoders/quantized/dynamic_products.py",
    hypotheses=(_u * 2**20 <= 1, _tiny <= _least),
    assumed=(
        within(_z - _f, _A),
        within(_w - _z, _C),
        within(_w, _B),
        every(within(_a, _u), within(_b, _u), within(_c, _u), within(_d, _u)),
        equal(_part, (term(1) + _a) * (term(1) + _b)),
        equal(_g, _part * ((term(1) + _c) * (term(1) + _d))),
        equal(_y, _w * _g + _rho),
        (_tiny <= _least).implies(within(_rho, _tiny * 2**34)),
    ),
    error=_y - _f,
    radius=(_A + _C) + (5 * _u) * _B + _tiny * 2**34,
    rests_on=("grid-step", "underflow-term"),
    by_way_of=(
        within(_part - 1, _u * Fraction(21, 10)),
        within((term(1) + _c) * (term(1) + _d) - 1, _u * Fraction(21, 10)),
        within(_g - 1, 5 * _u),
        within(_w * (_g - 1), (5 * _u) * _B),
    ),
)

LEMMAS = (
    WHOLE_STEPS,
    CUT_OR_ROUNDED,
    OWN_GRID,
    COMPUTED_GRID,
    OFF_GRID,
    ON_GRID,
    COMPUTED_OWN_GRID,
    SCALED_INTEGERS,
)
