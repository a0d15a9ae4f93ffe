"""Lemmas on how a difference d = x̂ − x passes an operator."""

from __future__ import annotations

from fractions import Fraction

from encoders.lemmas.lemma import Lemma
from encoders.lemmas.terms import (
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
    within,
)

_x, _d = value("x"), value("d")
_lo, _hi = ends("X")
_b, _m = number("b", signed=True), number("m", signed=True)
_e, _R, _U = bound("e"), number("R"), number("U")


_bend = magnitude(term(1) - _b)
_middle = (term(1) + _b) * Fraction(1, 2)
_aside = _m - _middle
_moved = value("moved", "f(x + d) − f(x)")
_of_one = _bend * smaller(_e, larger(0, _e - _lo))
_of_below = _bend * smaller(_e, larger(0, _hi + _e))
_of_half = _bend * (_e * Fraction(1, 2))
HINGE = Lemma(
    "hinge",
    "A hinge of slopes b and 1 moves by m·d up to R for x in [lo, hi] and |d| ≤ e: with m = 1 if "
    "R ≥ |1 − b|·min(e, max(0, e − lo)), with m = b if R ≥ |1 − b|·min(e, max(0, hi + e)), and if "
    "R ≥ |1 − b|·e/2 + |m − (1 + b)/2|·e.",
    "elementary; the three cases are those of encoders/relaxations/hinges.py",
    hypotheses=(
        (equal(_m, 1) & (_of_one <= _R))
        | (equal(_m, _b) & (_of_below <= _R))
        | (_of_half + magnitude(_aside) * _e <= _R),
    ),
    assumed=(
        every(_lo <= _x, _x <= _hi),
        within(_d, _e),
        within(_moved - _d, _of_one),
        within(_moved - _b * _d, _of_below),
        within(_moved - _middle * _d, _of_half),
        within(_aside * _d, magnitude(_aside) * _e),
    ),
    error=_moved - _m * _d,
    radius=_R,
    rests_on=("hinge-secant-one", "hinge-secant-below", "hinge-secant-half", "scaled-error"),
)

PULLED_BACK = Lemma(
    "pulled-back",
    "An element whose functionals c = ±1 were carried back to c·d ≤ U is off by at most U.",
    "Singh, Gehr, Püschel & Vechev 2019, DeepPoly, POPL; Zhang et al. 2018, CROWN, NeurIPS; on "
    "differences: Paulsen, Wang & Wang 2020, ReluDiff, ICSE",
    hypotheses=(),
    assumed=(_d <= _U, -_d <= _U),
    error=_d,
    radius=_U,
    rests_on=("composition", "affine-difference", "affine-rounding", "stored-coefficients"),
)

GIVEN_ERROR = Lemma(
    "given-error",
    "What a run receives may be as far from the real inputs as the domain says.",
    "the claim",
    hypotheses=(),
    assumed=(within(_d, _U),),
    error=_d,
    radius=_U,
)

_f = bound("f")
_u, _v = value("u"), value("v")
_rise, _fall = number("U", signed=True), number("V", signed=True)
BOTH_SIDES = Lemma(
    "both-sides",
    "A difference that exceeds a quantity u ≤ U by at most e, and falls below the negative of a "
    "v ≤ V by at most f, is at most the larger of U + e and V + f in magnitude.",
    "Singh, Gehr, Püschel & Vechev 2019, DeepPoly, POPL; Zhang et al. 2018, CROWN, NeurIPS",
    hypotheses=(),
    assumed=(every(_u <= _rise, _v <= _fall, _d - _u <= _e, -_d - _v <= _f),),
    error=_d,
    radius=larger(larger(_rise + _e, _fall + _f), 0),
    rests_on=("composition", "affine-rounding", "stored-coefficients"),
)

_x_hat = value("x_hat", "x̂")
TRUTH_VALUES = Lemma(
    "truth-values",
    "Two truth values differ by at most 1.",
    "algebra",
    hypotheses=(),
    assumed=(every(_x >= 0, _x <= 1, _x_hat >= 0, _x_hat <= 1),),
    error=_x_hat - _x,
    radius=term(1),
)

_lo, _hi = number("lo", signed=True), number("hi", signed=True)
_low, _high = number("low", signed=True), number("high", signed=True)
BETWEEN_ENDS = Lemma(
    "between-ends",
    "A computed number between low and high and a real one between lo and hi are no farther apart "
    "than these ends.",
    "algebra",
    hypotheses=(),
    assumed=(every(_lo <= _x, _x <= _hi, _low <= _x_hat, _x_hat <= _high),),
    error=_x_hat - _x,
    radius=larger(larger(_high - _lo, _hi - _low), 0),
)

LEMMAS = (HINGE, PULLED_BACK, GIVEN_ERROR, BOTH_SIDES, TRUTH_VALUES, BETWEEN_ENDS)
