"""Lemmas on steps, choices, extremes, clamps and pieces: how far they move with their arguments."""

from __future__ import annotations

from encoders.lemmas.lemma import Lemma
from encoders.lemmas.terms import (
    Chosen,
    bound,
    ends,
    equal,
    every,
    larger,
    number,
    smaller,
    term,
    value,
    within,
)

OWN = "algebra"

_x, _x_hat, _d = value("x"), value("x_hat", "x̂"), value("d")
_f_x, _f_hat = value("f_x", "f(x)"), value("f_hat", "f(x̂)")
_lo, _hi = number("lo", signed=True), number("hi", signed=True)
_f_lo, _f_hi = ends("F")
_e, _f, _A = bound("e"), bound("f"), number("A")
_in_range = every(_f_lo <= _f_x, _f_x <= _f_hi, _f_lo <= _f_hat, _f_hat <= _f_hi)
_width = larger(_f_hi - _f_lo, 0)

STEP_FOLLOWS = Lemma(
    "step-follows",
    "A step function with values in F, whose distance from its argument varies by at most A, moves "
    "by at most the width of F and e + A, and not at all where the argument has not moved.",
    OWN,
    hypotheses=(),
    assumed=(
        _in_range,
        within(_d, _e),
        within((_f_hat - _f_x) - _d, _A),
        (_e <= 0).implies(equal(_f_hat, _f_x)),
    ),
    error=_f_hat - _f_x,
    radius=Chosen(_e <= 0, term(0), smaller(_width, _e + _A)),
    rests_on=("step-jump",),
)

_slope, _K = value("s"), number("K")
PIECES = Lemma(
    "pieces",
    "A continuous function with slopes of at most K in magnitude and values in F moves by at most "
    "K·e and the width of F.",
    "mean value theorem",
    hypotheses=(),
    assumed=(
        _in_range,
        within(_d, _e),
        within(_slope, _K),
        equal(_f_hat - _f_x, _slope * _d),
    ),
    error=_f_hat - _f_x,
    radius=smaller(_K * _e, _width),
    rests_on=("oscillation-secant",),
    by_way_of=(within(_slope * _d, _K * _e),),
)

_limit_hat = value("b_hat", "b̂")
_stored = number("b", signed=True)
CLAMPED = Lemma(
    "clamped",
    "min(x, b) of an x of at most hi that is off by e and of a stored b that is off by f is off by "
    "at most the larger, and by e where neither x nor x̂ can reach b − f.",
    OWN,
    hypotheses=(),
    assumed=(_x <= _hi, within(_x_hat - _x, _e), within(_limit_hat - _stored, _f)),
    error=smaller(_x_hat, _limit_hat) - smaller(_x, _stored),
    radius=Chosen(_hi + _e <= _stored - _f, _e, larger(_e, _f)),
)

_y, _y_hat = value("y"), value("y_hat", "ŷ")
_rival, _low = number("rival", signed=True), number("low", "l", signed=True)
EXTREME = Lemma(
    "extreme",
    "The largest of several numbers moves by at most e, if each of them does that can be the "
    "largest, before or after: the others stay below l, and one number is at least l. The step "
    "that adds a number.",
    OWN,
    hypotheses=(_rival <= _low,),
    assumed=(
        within(_x_hat - _x, _e),
        every(_low <= _x, _low <= _x_hat),
        within(_y_hat - _y, _e) | every(_y <= _rival, _y_hat <= _rival),
    ),
    error=larger(_x_hat, _y_hat) - larger(_x, _y),
    radius=_e,
    rests_on=("maximum-difference", "maximum-leader"),
)

_below, _above = bound("below"), bound("above")
_fl, _z = value("fl"), value("z")
BY_SIGN = Lemma(
    "by-sign",
    "What errs by at most n for negative x and by at most p for others, x in [lo, hi], errs by at "
    "most whichever of them there can be.",
    OWN,
    hypotheses=(),
    assumed=(
        every(_lo <= _x, _x <= _hi),
        (_x < 0).implies(within(_fl - _z, _below)),
        (_x >= 0).implies(within(_fl - _z, _above)),
    ),
    error=_fl - _z,
    radius=larger(Chosen(_lo < 0, _below, term(0)), Chosen(_hi >= 0, _above, term(0))),
)

LEMMAS = (STEP_FOLLOWS, PIECES, CLAMPED, EXTREME, BY_SIGN)
