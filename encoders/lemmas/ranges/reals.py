"""Lemmas on where real values lie: what a range is made by."""

from __future__ import annotations

from fractions import Fraction

from encoders.lemmas.lemma import range_lemma
from encoders.lemmas.terms import (
    Chosen,
    Term,
    bound,
    ends,
    equal,
    every,
    larger,
    number,
    smaller,
    value,
    values,
    within,
)

OWN = "algebra"
CROWN = "Singh, Gehr, Püschel & Vechev 2019, DeepPoly, POPL; Zhang et al. 2018, CROWN, NeurIPS"
INTERVALS = "Moore 1966, Interval Analysis"

_x, _y = values("x y")
_lo, _hi = ends("X")
_low, _high = ends("Y")
_between = every(_lo <= _x, _x <= _hi)
_a, _b, _s = (number(name, signed=True) for name in "abs")

GIVEN_RANGE = range_lemma(
    "given-range",
    "An input lies where the domain, or a part of it, says.",
    "the claim",
    hypotheses=(_a <= _b,),
    assumed=(every(_a <= _x, _x <= _b),),
    of=_x,
    low=_a,
    high=_b,
)
FOUND_RANGE = range_lemma(
    "found-range",
    "A real value lies where the interval arithmetic of its operator, which no lemma of this "
    "library follows, says.",
    INTERVALS,
    hypotheses=(_a <= _b,),
    assumed=(every(_a <= _x, _x <= _b),),
    of=_x,
    low=_a,
    high=_b,
)
MOVED_RANGE = range_lemma(
    "moved-range",
    "A number of [lo, hi] that is moved about, s = 1, its negative, s = -1, or 0, s = 0, lies "
    "between s·lo and s·hi.",
    OWN,
    hypotheses=(equal(_s, 1) | equal(_s, 0) | equal(_s, -1),),
    assumed=(_between,),
    of=_s * _x,
    low=smaller(_s * _lo, _s * _hi),
    high=larger(_s * _lo, _s * _hi),
)
RANGE_SUM = range_lemma(
    "range-sum",
    "A sum of what lies in [lo, hi] and in [l, h] lies in [lo + l, hi + h].",
    INTERVALS,
    assumed=(every(_lo <= _x, _x <= _hi, _low <= _y, _y <= _high),),
    of=_x + _y,
    low=_lo + _low,
    high=_hi + _high,
)
BOTH_RANGES = range_lemma(
    "both-ranges",
    "What lies in two ranges lies in what they share.",
    OWN,
    assumed=(every(_lo <= _x, _x <= _hi, _low <= _x, _x <= _high),),
    of=_x,
    low=larger(_lo, _low),
    high=smaller(_hi, _high),
)
_up, _down = number("U", signed=True), number("V", signed=True)
PULLED_RANGE = range_lemma(
    "pulled-range",
    "An element whose functionals were carried back to x ≤ U and −x ≤ V lies in [−V, U], and where "
    "it lay before.",
    CROWN,
    assumed=(_between, every(_x <= _up, -_x <= _down)),
    of=_x,
    low=larger(_lo, -_down),
    high=smaller(_hi, _up),
    rests_on=("composition", "affine-rounding", "stored-coefficients"),
)

_LARGEST = Fraction(2**53 - 1) * 2**971
_m, _e, _S = number("m", signed=True), bound("e"), number("S")
_n, _u, _g, _r = number("n"), number("u"), number("g"), number("r")
_G, _fl, _held = value("G"), value("fl"), value("held")
_gamma_hypothesis = _n * _u + _g * (_n * _u) <= _g
_gamma = _G * (1 - _n * _u) <= _n * _u
AROUND = range_lemma(
    "range-around",
    "What is within e of an exact sum of numbers whose magnitudes add up to S, which n roundings "
    "to nearest have made m, lies within e + g·S of m, for g ≥ n·u/(1 − n·u), if none of them "
    "overflowed, after which m would be no number of binary64.",
    "Higham 2002, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1",
    hypotheses=(_gamma_hypothesis, _n * _u < 1, within(_m, _LARGEST)),
    assumed=(_gamma, within(_fl - _m, _G * _S), within(_x - _fl, _e)),
    of=_x,
    low=_m - (_e + _g * _S),
    high=_m + (_e + _g * _S),
    rests_on=("dot-product", "stored-coefficients"),
    by_way_of=((_G - _g) * (1 - _n * _u) <= 0, _g >= _G, _g * _S >= _G * _S),
)


def _hinge(x: Term) -> Term:
    return Chosen(x >= 0, x, _b * x)


_least = smaller(_hinge(_lo), _hinge(_hi))
RELU_RANGE = range_lemma(
    "relu-range",
    "max(x, 0) of what lies in [lo, hi] lies in [max(lo, 0), max(hi, 0)].",
    INTERVALS,
    assumed=(_between,),
    of=larger(_x, 0),
    low=larger(_lo, 0),
    high=larger(_hi, 0),
)
HINGE_RANGE = range_lemma(
    "hinge-range",
    "A hinge of slopes b ≤ 1 and 1 is at most the larger of its ends on [lo, hi], and at least the "
    "smaller, or 0 if its kink is between them.",
    INTERVALS,
    hypotheses=(_b <= 1,),
    assumed=(_between,),
    of=_hinge(_x),
    low=Chosen((_lo < 0) & (_hi > 0), smaller(_least, 0), _least),
    high=larger(_hinge(_lo), _hinge(_hi)),
)

LEMMAS = (
    GIVEN_RANGE,
    FOUND_RANGE,
    MOVED_RANGE,
    RANGE_SUM,
    BOTH_RANGES,
    PULLED_RANGE,
    AROUND,
    RELU_RANGE,
    HINGE_RANGE,
)
