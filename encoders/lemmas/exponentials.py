"""Lemmas on exponentials of a row that are computed, added and divided, and on their logarithm.

t ≤ 0 is a score less the largest, p = eᵗ, S = Σ eᵗ ≥ 1 and y = p/S. docs/lemmas.md states the
induction over the terms of S in words.
"""

from __future__ import annotations

from fractions import Fraction

from encoders.lemmas.lemma import Lemma
from encoders.lemmas.terms import (
    bound,
    equal,
    every,
    magnitude,
    number,
    smaller,
    value,
    values,
    within,
)

BLANCHARD = "Blanchard, Higham & Higham 2021, IMA J. Numer. Anal. 41"
OWN = "algebra"

_e, _eps, _u = bound("e"), number("eps", "ε"), number("u")
_g, _eta, _p, _q, _middle = values("g eta p q m")
_grown = _e + _e * _e

EXP_FACTOR = Lemma(
    "exponential-factor",
    "eᵗ, of a t that is off by e ≤ 1, computed with a relative error of at most ε, is off by the "
    "relative G + (1 + G)·ε, G = e + e².",
    BLANCHARD,
    hypotheses=(_e <= 1,),
    assumed=((_e <= 1).implies(within(_g, _grown)), within(_eta, _eps)),
    error=(1 + _g) * (1 + _eta) - 1,
    radius=_grown + (1 + _grown) * _eps,
    by_way_of=(within((1 + _g) * _eta, (1 + _grown) * _eps),),
)

_E = number("E")
EXP_FAR_BELOW = Lemma(
    "exponential-far-below",
    "Where eᵗ and e^t̂ are both at most E, what is computed with a relative error of at most ε is "
    "off by at most E·(1 + ε).",
    BLANCHARD,
    hypotheses=(),
    assumed=(every(_p >= 0, _p <= _E, _q >= 0, _q <= _E), within(_eta, _eps)),
    error=_q * (1 + _eta) - _p,
    radius=_E * (1 + _eps),
    by_way_of=(within(_q * _eta, _E * _eps),),
)

_once, _c, _share = value("once"), number("c"), Fraction("0.36788")
EXP_STEADY = Lemma(
    "exponential-steady",
    "eᵗ of a t ≤ 0 that is off by e ≤ ⅛ and rounded once moves by at most 1.5·e and by "
    "c ≥ 0.36788·u/(1 − u), and what is computed with a relative error of at most ε by 1.2·ε too.",
    "|e^(t(1 + δ)) − eᵗ| ≤ e^(t(1 − u))·|t|·u ≤ u/(e·(1 − u)) for |δ| ≤ u",
    hypotheses=(_e <= Fraction(1, 8), _share * _u + _c * _u <= _c),
    assumed=(
        (_e <= Fraction(1, 8)).implies(
            within(_middle - _p, Fraction(3, 2) * _e) & within(_q, Fraction(6, 5))
        ),
        _once * (1 - _u) <= _share * _u,
        within(_q - _middle, _once),
        within(_eta, _eps),
    ),
    error=_q * (1 + _eta) - _p,
    radius=Fraction(3, 2) * _e + (_c + Fraction(6, 5) * _eps),
    by_way_of=(
        (_once - _c) * (1 - _u) <= 0,
        _once <= _c,
        within(_q * _eta, Fraction(6, 5) * _eps),
    ),
)

_w, _n, _tau, _m = bound("w"), number("n"), number("tau", "τ"), number("m")
_lost, _rho = number("lost", "λ'"), number("rho", "ρ")
_held, _total, _G = value("held", "Σp̂/S"), value("total", "Ŝ/S"), value("G")
_terms = _w + _n * _tau
EXP_SUM = Lemma(
    "sum-of-exponentials",
    "Σp̂ is off by the relative w and by n times τ; what m additions make of it by the relative "
    "ρ ≥ m·u/(1 − m·u) too, and by m·λ': relative to S ≥ 1.",
    BLANCHARD,
    hypotheses=(_m * _u + _rho * (_m * _u) <= _rho,),
    assumed=(
        within(_held - 1, _terms),
        _G * (1 - _m * _u) <= _m * _u,
        within(_total - _held, _G * magnitude(_held) + _m * _lost),
    ),
    error=_total - 1,
    radius=_terms + (1 + _terms) * _rho + _m * _lost,
    rests_on=("weighted-mean", "sum-any-order"),
    by_way_of=(
        (_G - _rho) * (1 - _m * _u) <= 0,
        _rho >= _G,
        _G * magnitude(_held) <= _rho * (1 + _terms),
    ),
)

_y, _z, _a, _b = value("y"), value("z"), value("a", "p̂/S"), value("b")
_Y, _W, _far = number("Y"), bound("W"), bound("far")
EXP_QUOTIENT = Lemma(
    "quotient-of-exponentials",
    "p̂/Ŝ of a probability of at most Y, for p̂ off by the relative w and by no more than `far`, and "
    "by τ beyond that, and for Ŝ off by the relative W ≤ ½, is off by at most "
    "(min(Y·w, far) + Y·W + τ)/(1 − W).",
    BLANCHARD,
    hypotheses=(Fraction(1, 2) >= _W,),
    assumed=(
        every(_y >= 0, _y <= _Y),
        within(_b - _y, _w * _y),
        within(_b - _y, _far),
        within(_a - _b, _tau),
        within(_total - 1, _W),
        equal(_z * _total, _a),
    ),
    error=_z - _y,
    radius=(smaller(_Y * _w, _far) + _Y * _W + _tau) / (1 - _W),
    rests_on=("relative-quotient",),
    by_way_of=(
        within(_b - _y, _Y * _w),
        within(_y * (_total - 1), _Y * _W),
        within((_z - _y) * _total, smaller(_Y * _w, _far) + _Y * _W + _tau),
        magnitude(_z - _y) * (1 - _W) <= magnitude((_z - _y) * _total),
    ),
)

_fl, _h = value("fl"), number("h")
_twice = 2 * _u + _u * _u
ROUNDED_TWICE = Lemma(
    "rounded-twice",
    "A quotient of magnitude at most Y, off by e, that is computed by one division or by a "
    "reciprocal and a product, errs by the relative 2·u + u² and by 4·h + λ' beyond that.",
    "Higham 2002, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 2.2",
    hypotheses=(),
    assumed=(
        within(_y, _Y),
        within(_z - _y, _e),
        within(_fl - _z, _twice * magnitude(_z) + 4 * _h + _lost),
    ),
    error=_fl - _y,
    radius=_e + ((_Y + _e) * _twice + 4 * _h + _lost),
    rests_on=("underflow-term",),
    by_way_of=(_twice * magnitude(_z) <= (_Y + _e) * _twice,),
)

_ulps, _least = number("ulps"), number("least", "2^emin·2u")
_over = Fraction(1, 256) + 16 * _u
_accurate = (2 * _u * _ulps <= Fraction(1, 4)) & (8 * (_n * _ulps * _least) <= _u)
ANY_PROBABILITY = Lemma(
    "any-probability",
    "Whatever the scores are off by, none of n computed probabilities is above 1 or below 0 by "
    "more than 1/256 + 16·u, if the exponential is good to a quarter, relatively, and what it may "
    "make of numbers near 0 is n times far less than half an ulp of 1.",
    "rounding is monotone",
    hypotheses=(_accurate,),
    assumed=(every(_y >= 0, _y <= 1), _accurate.implies(every(-_over <= _fl, _fl <= 1 + _over))),
    error=_fl - _y,
    radius=1 + _over,
)

_log, _delta = value("log"), value("delta", "δ")
LOG_MOVES = Lemma(
    "logarithm-moves",
    "The logarithm of a number that is off by the relative W ≤ ½ is off by at most W/(1 − W).",
    "elementary",
    hypotheses=(Fraction(1, 2) >= _W,),
    assumed=(
        within(_delta, _W),
        (magnitude(_delta) < 1).implies(within(_log * (1 - magnitude(_delta)), magnitude(_delta))),
    ),
    error=_log,
    radius=_W / (1 - _W),
    by_way_of=(within(_log * (1 - _W), _W),),
)

_some = number("some")
SOME_SCORE = Lemma(
    "some-score",
    "A row that keeps at least one score has a softmax.",
    OWN,
    hypotheses=(_some >= 1,),
    assumed=((_some >= 1).implies(within(_fl - _y, _e)),),
    error=_fl - _y,
    radius=_e,
)

LEMMAS = (
    EXP_FACTOR,
    EXP_FAR_BELOW,
    EXP_STEADY,
    EXP_SUM,
    EXP_QUOTIENT,
    ROUNDED_TWICE,
    ANY_PROBABILITY,
    LOG_MOVES,
    SOME_SCORE,
)
