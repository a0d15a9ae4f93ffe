"""Lemmas on where functions of numbers in ranges lie: monotone ones, pieces that bend one way."""

from __future__ import annotations

from encoders.lemmas.lemma import range_lemma
from encoders.lemmas.ranges.reals import INTERVALS, OWN
from encoders.lemmas.terms import (
    Chosen,
    Whole,
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

BALLS = "Johansson 2017, Arb: Efficient Arbitrary-Precision Midpoint-Radius Interval Arithmetic"

_x, _y, _f = values("x y f")
_lo, _hi = ends("X")
_low, _high = ends("Y")
_between = every(_lo <= _x, _x <= _hi)
_a, _b = number("a", signed=True), number("b", signed=True)

EITHER_RANGE = range_lemma(
    "either-range",
    "What lies in one of two ranges, it is not known in which, lies between the least and the "
    "largest of their ends.",
    OWN,
    assumed=(every(_lo <= _x, _x <= _hi) | every(_low <= _x, _x <= _high),),
    of=_x,
    low=smaller(_lo, _low),
    high=larger(_hi, _high),
)

_f_low, _f_high = values("f_low f_high")
MONOTONE_RANGE = range_lemma(
    "monotone-range",
    "A function that rises or falls in each of its arguments, or in their magnitudes, lies between "
    "its values at two corners of what they are in: at least a, which is below the one, and at "
    "most b, above the other.",
    INTERVALS,
    hypotheses=(_a <= _b,),
    assumed=(
        _between,
        _between.implies(every(_f_low <= _f, _f <= _f_high)),
        every(_a <= _f_low, _f_high <= _b),
    ),
    of=_f,
    low=_a,
    high=_b,
)

_f_p, _f_q, _t = values("f_p f_q t")
KNOTS_RANGE = range_lemma(
    "between-knots",
    "A function that is linear between neighbours of some points, of which the first and the last "
    "are the ends of a range, lies between a and b on it if it does at these points.",
    OWN,
    hypotheses=(_a <= _b,),
    assumed=(
        _between,
        _between.implies(
            every(
                _t >= 0,
                _t <= 1,
                _f <= _f_p + _t * (_f_q - _f_p),
                _f >= _f_p + _t * (_f_q - _f_p),
            )
        ),
        every(_a <= _f_p, _f_p <= _b, _a <= _f_q, _f_q <= _b),
    ),
    of=_f,
    low=_a,
    high=_b,
    by_way_of=(
        _t * (_f_q - _a) >= 0,
        (1 - _t) * (_f_p - _a) >= 0,
        _t * (_b - _f_q) >= 0,
        (1 - _t) * (_b - _f_p) >= 0,
    ),
)

_start, _end = number("start", signed=True), number("end", signed=True)
_at, _least, _top = (number(name, signed=True) for name in ("at", "low", "top"))
_tau_lo, _tau_hi = number("tau_lo", "τ−", signed=True), number("tau_hi", "τ+", signed=True)
_f_at, _f_a, _f_z, _tau = values("f_t f_a f_z tau")
_first, _last = larger(_lo, _start), smaller(_hi, _end)
_back = Chosen((_tau_hi <= 0) | (_at <= _first), 0 * _at, _tau_hi * (_at - _first))
_on = Chosen((_tau_lo >= 0) | (_last <= _at), 0 * _at, -_tau_lo * (_last - _at))
CONVEX_RANGE = range_lemma(
    "convex-range",
    "A function that is convex from start to end lies, for an argument there and in a range, below "
    "the larger of its values at both ends of what they share, and above its tangent at t, which "
    "has a slope of [τ−, τ+].",
    "Boyd & Vandenberghe 2004, Convex Optimization, §3.1.3",
    assumed=(
        every(_between, _start <= _x, _x <= _end),
        every(_least <= _f_at, _f_a <= _top, _f_z <= _top, _tau_lo <= _tau, _tau <= _tau_hi),
        _f >= _f_at + _tau * (_x - _at),
        _f <= larger(_f_a, _f_z),
    ),
    of=_f,
    low=_least - larger(_back, _on),
    high=_top,
    rests_on=("convex-tangent",),
    by_way_of=(
        every(_first <= _x, _x <= _last),
        (_x <= _at).implies(_tau * (_at - _x) <= _tau_hi * (_at - _x)),
        ((_x <= _at) & (_tau_hi >= 0)).implies(_tau_hi * (_at - _x) <= _tau_hi * (_at - _first)),
        ((_x <= _at) & (_tau_hi <= 0)).implies(_tau_hi * (_at - _x) <= 0),
        (_x >= _at).implies(_tau * (_x - _at) >= _tau_lo * (_x - _at)),
        ((_x >= _at) & (_tau_lo <= 0)).implies(-_tau_lo * (_x - _at) <= -_tau_lo * (_last - _at)),
        ((_x >= _at) & (_tau_lo >= 0)).implies(_tau_lo * (_x - _at) >= 0),
    ),
)
BALL_RANGE = range_lemma(
    "ball-range",
    "A formula whose arguments are within balls is within the ball that ball arithmetic makes of "
    "these; balls that hold a range hold its numbers.",
    BALLS,
    hypotheses=(_a <= _b,),
    assumed=(_between, _between.implies(every(_a <= _f, _f <= _b))),
    of=_f,
    low=_a,
    high=_b,
)
STATED_RANGE = range_lemma(
    "stated-range",
    "A function, or an operator, keeps to the bounds that are stated beside it for arguments in a "
    "range.",
    "encoders/functions, and keeps of operators: stated beside each, held against values by tests",
    hypotheses=(_a <= _b,),
    assumed=(_between, _between.implies(every(_a <= _f, _f <= _b))),
    of=_f,
    low=_a,
    high=_b,
)
_d, _e = value("d"), bound("e")
HULL_RANGE = range_lemma(
    "hull-range",
    "What lies in a range, and what it has moved to, by at most e, and what is between both, lies "
    "in the range made wider by e.",
    OWN,
    assumed=(_between, every(_t >= 0, _t <= 1), within(_d, _e)),
    of=_x + _t * _d,
    low=Chosen(_e <= 0, _lo, _lo - _e),
    high=Chosen(_e <= 0, _hi, _hi + _e),
    by_way_of=(within(_t * _d, _e), (_e <= 0).implies(equal(_t * _d, 0))),
)
_steep = value("s")
SLOPE_RANGE = range_lemma(
    "slope-range",
    "A difference quotient of a function that is continuous, and smooth but for kinks, lies where "
    "its slopes are on a range that holds both arguments: between a and b, which the slopes at the "
    "ends of each piece that bends one way are, or balls around the others.",
    "mean value theorem; Moore 1966, Interval Analysis, for its interval form",
    hypotheses=(_a <= _b,),
    assumed=(_between, _between.implies(every(_a <= _steep, _steep <= _b))),
    of=_steep,
    low=_a,
    high=_b,
    rests_on=("mean-value-step",),
)
WHOLE_RANGE = range_lemma(
    "whole-range",
    "A whole number of a range is at least any whole a that is less than one above the range's "
    "lower end, and at most any whole b less than one below the upper.",
    OWN,
    assumed=(
        _between,
        (Whole(_a) & (_a - 1 < _x)).implies(_a <= _x),
        (Whole(_b) & (_x < _b + 1)).implies(_x <= _b),
    ),
    of=_x,
    low=Chosen(Whole(_a) & (_a - 1 < _lo), larger(_a, _lo), _lo),
    high=Chosen(Whole(_b) & (_hi < _b + 1), smaller(_b, _hi), _hi),
)

LEMMAS = (
    EITHER_RANGE,
    MONOTONE_RANGE,
    KNOTS_RANGE,
    CONVEX_RANGE,
    BALL_RANGE,
    STATED_RANGE,
    HULL_RANGE,
    SLOPE_RANGE,
    WHOLE_RANGE,
)
