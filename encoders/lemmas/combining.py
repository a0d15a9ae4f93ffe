"""Lemmas that make one radius of several: what the methods of `Radius` apply."""

from __future__ import annotations

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
    values,
    within,
)

_e, _f, _pi = bound("e"), bound("f"), bound("pi", "π")
_x, _y, _z, _p = values("x y z p")
_c, _C = value("c"), number("C")
_P, _Z = value("P"), value("Z")
_Pi = bound("Pi", "Π")
_A, _A_hat, _w, _a, _a_hat = values("A A_hat w a a_hat")
_W = number("W")

ERROR_SUM = Lemma(
    "error-sum",
    "What is off by e from something that is off by f is off by at most e + f.",
    "triangle inequality",
    hypotheses=(),
    assumed=(within(_x - _y, _e), within(_y - _z, _f)),
    error=_x - _z,
    radius=_e + _f,
)
EITHER_ERROR = Lemma(
    "either-error",
    "What is off by at most e, or by at most f, is off by at most the larger.",
    "algebra",
    hypotheses=(),
    assumed=(within(_x - _y, _e) | within(_x - _y, _f),),
    error=_x - _y,
    radius=larger(_e, _f),
)
BOTH_BOUNDS = Lemma(
    "both-bounds",
    "What is off by at most e and by at most f is off by at most the smaller.",
    "algebra",
    hypotheses=(),
    assumed=(within(_x - _y, _e), within(_x - _y, _f)),
    error=_x - _y,
    radius=smaller(_e, _f),
)
SCALED_ERROR = Lemma(
    "scaled-error",
    "The product with an exact number of magnitude at most C is off by at most C·e.",
    "algebra",
    hypotheses=(),
    assumed=(within(_x - _y, _e), within(_c, _C)),
    error=_c * _x - _c * _y,
    radius=_C * _e,
)
MOVED_ERROR = Lemma(
    "moved-error",
    "Moving numbers about moves their errors.",
    "algebra",
    hypotheses=(),
    assumed=(within(_x - _y, _e), equal(_z, _x), equal(_p, _y)),
    error=_z - _p,
    radius=_e,
)
SUM_OF_ERRORS = Lemma(
    "sum-of-errors",
    "A sum is off by at most the sum of what its terms are off by: the step that adds a term.",
    "triangle inequality",
    hypotheses=(),
    assumed=(within(_P - _Z, _Pi), within(_x - _y, _pi)),
    error=(_P + _x) - (_Z + _y),
    radius=_Pi + _pi,
)
AFFINE_ERROR = Lemma(
    "affine-error",
    "Σw·x is off by at most Σ|w|·e: the step that adds a term, W ≥ |w|.",
    "triangle inequality",
    hypotheses=(),
    assumed=(within(_A_hat - _A, _Pi), within(_a_hat - _a, _e), within(_w, _W)),
    error=(_A_hat + _w * _a_hat) - (_A + _w * _a),
    radius=_Pi + _W * _e,
)
WORST = Lemma(
    "worst-error",
    "What bounds each of several errors bounds any one of them: the step that adds one.",
    "algebra",
    hypotheses=(),
    assumed=(within(_x - _y, _e) | within(_x - _y, _pi),),
    error=_x - _y,
    radius=larger(_e, _pi),
)
EXACT = Lemma(
    "exact",
    "A result that is one of the numbers read, or that arithmetic without rounding gives, is off "
    "by nothing.",
    "algebra",
    hypotheses=(),
    assumed=(equal(_x, _y),),
    error=_x - _y,
    radius=term(0),
)

_m, _g, _r, _n, _u = number("m", signed=True), *(number(name) for name in "grnu")
_lo, _hi = ends("X")
_G = value("G")
COMPUTED_TERM = Lemma(
    "computed-term",
    "Of a sum Σw·x that is computed with middles m of ranges, by n operations in float64 and "
    "with coefficients off by the relative r, each term is off, per unit of |w|, by at most "
    "half the range and (g + r)·|m|, for g ≥ n·u/(1 − n·u).",
    "Higham 2002, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1",
    hypotheses=(_n * _u + _g * (_n * _u) <= _g, _n * _u < 1),
    assumed=(
        every(_lo <= _x, _x <= _hi),
        _G * (1 - _n * _u) <= _n * _u,
        within(_y - _m, (_G + _r) * magnitude(_m)),
    ),
    error=_x - _y,
    radius=larger(larger(_hi - _m, _m - _lo), 0) + (_g + _r) * magnitude(_m),
    rests_on=("dot-product", "stored-coefficients"),
    by_way_of=(
        (_G - _g) * (1 - _n * _u) <= 0,
        _g >= _G,
        (_G + _r) * magnitude(_m) <= (_g + _r) * magnitude(_m),
    ),
)
_U = number("U")
HELD_NUMBER = Lemma(
    "held-number",
    "A number of a node that float64 holds is off by at most U from the one that it stands for.",
    "algebra",
    hypotheses=(),
    assumed=(within(_x - _y, _U),),
    error=_x - _y,
    radius=_U,
    rests_on=("stored-coefficients",),
)

LEMMAS = (
    ERROR_SUM,
    EITHER_ERROR,
    BOTH_BOUNDS,
    SCALED_ERROR,
    MOVED_ERROR,
    SUM_OF_ERRORS,
    AFFINE_ERROR,
    WORST,
    EXACT,
    COMPUTED_TERM,
    HELD_NUMBER,
)
