"""Lemmas on relative precision: RP(x̂, x) = |ln(x̂/x)|, and 0 where both are 0 (Olver 1978).

A radius here bounds a logarithm l = ln(x̂/x), so that x̂ has the sign of x, and is 0 where x is.
Logarithms of products add up, which is linear; what a lemma has to know of ln and of the
exponential is assumed of named numbers: q = e^l has l ≤ q − 1 and q·(1 − l) ≤ 1, and A = e^g
bounds q and 1/q just where |l| ≤ g. docs/lemmas.md states the inductions in words.
"""

from __future__ import annotations

from encoders.lemmas.lemma import Lemma
from encoders.lemmas.terms import (
    Chosen,
    Formula,
    Term,
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

OLVER = "Olver 1978, SIAM J. Numer. Anal. 15(2), section 2"
HIGHAM = "Higham 2002, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1"
MEDIANT = "the mediant of fractions lies between them; Olver 1978, SIAM J. Numer. Anal. 15(2)"

_l, _q, _x, _y, _z = values("l q x y z")
_x_hat, _y_hat, _z_hat = value("x_hat", "x̂"), value("y_hat", "ŷ"), value("z_hat", "ẑ")
_la, _lb, _lr = value("la", "l_x"), value("lb", "l_y"), value("lr", "l_δ")
_g, _h, _r = bound("g"), bound("h"), bound("r")
_u, _low, _size, _least = number("u"), number("low"), number("size"), number("least", "2^emin")


def _logarithm(of: Term, here: Term) -> Formula:
    """What l = ln q and q have to do with each other, for q > 0."""
    return (of > 0).implies(every(here <= of - 1, of * (1 - here) <= 1))


_real = value("real", "x")
ABSORBED = Lemma(
    "relative-absorbed",
    "What is off by at most h from a number of relative precision g has the precision "
    "g + h/(low·(1 − g) − h), where the real one has at least the magnitude low and that is "
    "positive; g where h is 0.",
    "ln q ≤ q − 1, of q = x̂/x and of 1/q; e^(−g) ≥ 1 − g",
    hypotheses=((_h <= 0) | (_h < _low * (1 - _g)),),
    assumed=(
        within(_la, _g),
        _low <= magnitude(_real),
        magnitude(_x) >= magnitude(_real) * (1 - _g),
        equal(_x_hat, _q * _x),
        within(_x_hat - _x, _h),
        equal(_x_hat, _x).implies(equal(_l, 0)),
        _logarithm(_q, _l),
    ),
    error=_la + _l,
    radius=_g + Chosen(_h <= 0, term(0), _h / (_low * (1 - _g) - _h)),
    by_way_of=(
        (_h > 0).implies(_g < 1),
        (_h > 0).implies(magnitude(_x) >= _low * (1 - _g)),
        (_h > 0).implies(within((_q - 1) * (_low * (1 - _g)), _h)),
        (_h > 0).implies(_q > 0),
        (_h > 0).implies(_l * (_low * (1 - _g)) <= _h),
        (_h > 0).implies(-_l * _q * (_low * (1 - _g)) <= _h),
        ((_h > 0) & (_l <= 0)).implies(
            -_l * (_low * (1 - _g) - _h) <= -_l * (_q * (_low * (1 - _g)))
        ),
    ),
)
TO_ERROR = Lemma(
    "relative-error-of-precision",
    "What has a relative precision of g < 1 has a relative error of at most g/(1 − g).",
    "e^l ≤ 1/(1 − l) for l < 1, and 1 + l ≤ e^l",
    hypotheses=(_g < 1,),
    assumed=(within(_l, _g), _q >= 1 + _l, (_l < 1).implies(_q * (1 - _l) <= 1)),
    error=_q - 1,
    radius=_g / (1 - _g),
    by_way_of=(
        _g <= _g / (1 - _g),
        _q * (1 - _g) <= _q * (1 - _l),
        (_q - 1) * (1 - _g) <= _g,
    ),
)
OFF = Lemma(
    "relative-off",
    "What is off by at most h from a number of precision g < 1, whose real value has at most a "
    "size, is off by at most size·g/(1 − g) + h.",
    "e^l ≤ 1/(1 − l) for l < 1, and 1 + l ≤ e^l",
    hypotheses=(_g < 1,),
    assumed=(
        within(_x, _size),
        within(_l, _g),
        _q >= 1 + _l,
        (_l < 1).implies(_q * (1 - _l) <= 1),
        within(_x_hat - _q * _x, _h),
    ),
    error=_x_hat - _x,
    radius=_size * (_g / (1 - _g)) + _h,
    by_way_of=(
        _g <= _g / (1 - _g),
        _q * (1 - _g) <= _q * (1 - _l),
        within(_q - 1, _g / (1 - _g)),
        within((_q - 1) * _x, magnitude(_x) * (_g / (1 - _g))),
    ),
)
_w = number("w")
ROUNDED = Lemma(
    "relative-rounding",
    "Rounding a number of the normal range to nearest costs a precision of at most u, w = 1, and "
    "what needs no rounding, w = 0, nothing.",
    "|fl(z) − z| ≤ u/(1 + u)·|z| (Knuth; Jeannerod & Rump 2018), so that both fl(z)/z and z/fl(z) "
    "are at most 1 + u",
    hypotheses=(),
    assumed=(
        within((_q - 1) * (1 + _u), _u),
        _logarithm(_q, _l),
        equal(_w, 0).implies(equal(_l, 0)),
    ),
    error=_l,
    radius=Chosen(equal(_w, 0), term(0), _u),
    by_way_of=(_q * (1 + _u) >= 1, _q > 0, _l <= _u, -_l * _q <= 1 - _q, 1 - _q <= _u * _q),
)
_D = number("D", "2·u·ulps")
IN_ULPS = Lemma(
    "relative-ulps",
    "A function computed to so many ulps, with results in the normal range, where an ulp is at "
    "most 2·u of them, costs a precision of at most D/(1 − D), D < 1 being 2·u times as many.",
    "definition of an ulp, as encoders/functions/accuracy.py states it",
    hypotheses=(_D < 1,),
    assumed=(within(_q - 1, _D), _logarithm(_q, _l)),
    error=_l,
    radius=_D / (1 - _D),
    rests_on=("function-error",),
    by_way_of=(
        _q > 0,
        _D <= _D / (1 - _D),
        -_l * _q <= _D,
        (_l <= 0).implies(-_l * (1 - _D) <= -_l * _q),
    ),
)
_d, _eta, _E = number("d"), value("eta", "η"), number("E")
_fl = value("fl")
LOST_STEP = Lemma(
    "relative-lost-step",
    "A result that is off by at most h from a number of precision g, and then rounded within a "
    "factor 1 + d, and by at most E besides where it is below the smallest normal number, is off "
    "by at most h·(1 + d) from that number times the factor, and by E more unless all real values "
    "are so large that no result is subnormal, or all are 0 and h is.",
    OLVER,
    hypotheses=(),
    assumed=(
        within(_x, _size),
        _low <= magnitude(_x),
        magnitude(_y) >= magnitude(_x) * (1 - _g),
        equal(_x, 0).implies(equal(_y, 0)),
        within(_z - _y, _h),
        equal(_fl, _z * _q + _eta),
        every(_q >= 0, _q <= 1 + _d),
        within(_eta, _E),
        ((_least <= magnitude(_z)) | equal(_z, 0)).implies(equal(_eta, 0)),
    ),
    error=_fl - _y * _q,
    radius=_h * (1 + _d)
    + Chosen(
        (_least <= _low * (1 - _g) - _h) | every(_size <= 0, _h <= 0),
        term(0),
        _E,
    ),
    by_way_of=(
        within((_z - _y) * _q, _h * (1 + _d)),
        (_g <= 1).implies(magnitude(_x) * (1 - _g) >= _low * (1 - _g)),
    ),
)
_zero = number("zero")
PRODUCT = Lemma(
    "relative-product",
    "Precisions of the factors of a product, or of both sides of a quotient, add up; what is 0 "
    "because a factor is 0 in every execution, zero = 1, is so exactly.",
    OLVER,
    hypotheses=(),
    assumed=(
        within(_la, _g),
        within(_lb, _h),
        equal(_l, _la + _lb) | equal(_l, _la - _lb) | equal(_l, 0),
        equal(_zero, 1).implies(equal(_l, 0)),
    ),
    error=_l,
    radius=Chosen(equal(_zero, 1), term(0), _g + _h),
)
_X, _Y = number("X"), number("Y")
_P, _Q = number("P"), number("Q")
_e, _f = bound("e"), bound("f")
_held = every(_g < 1, _h < 1, _P * (1 - _g) >= _X, _Q * (1 - _h) >= _Y)
LOST_PRODUCT = Lemma(
    "relative-lost-product",
    "A product of numbers that are off by e and f from numbers of precisions g and h, of real "
    "magnitudes up to X and Y, is off by at most e·(Q + f) + P·f from the product of those, "
    "P ≥ X/(1 − g) and Q ≥ Y/(1 − h); by nothing where e and f are 0.",
    "e^g ≤ 1/(1 − g)",
    hypotheses=(every(_e <= 0, _f <= 0) | _held,),
    assumed=(
        magnitude(_x) * (1 - _g) <= _X,
        magnitude(_y) * (1 - _h) <= _Y,
        within(_x_hat - _x, _e),
        within(_y_hat - _y, _f),
    ),
    error=_x_hat * _y_hat - _x * _y,
    radius=Chosen(every(_e <= 0, _f <= 0), term(0), _e * (_Q + _f) + _P * _f),
    by_way_of=(
        _held.implies((magnitude(_x) - _P) * (1 - _g) <= 0),
        _held.implies(magnitude(_x) <= _P),
        _held.implies((magnitude(_y) - _Q) * (1 - _h) <= 0),
        _held.implies(magnitude(_y) <= _Q),
        within((_x_hat - _x) * (_y_hat - _y), _e * _f),
        within((_x_hat - _x) * _y, _e * magnitude(_y)),
        within(_x * (_y_hat - _y), magnitude(_x) * _f),
        _held.implies(_e * magnitude(_y) <= _e * _Q),
        _held.implies(magnitude(_x) * _f <= _P * _f),
    ),
)
LOST_QUOTIENT = Lemma(
    "relative-lost-quotient",
    "A quotient whose numerator is off by at most e, by a computed divisor of precision g and real "
    "magnitude at least low, is off by at most e/(low·(1 − g)); by nothing where e is 0.",
    "e^(−g) ≥ 1 − g",
    hypotheses=((_e <= 0) | (term(0) < _low * (1 - _g)),),
    assumed=(
        within(_x_hat - _x, _e),
        magnitude(_y_hat) >= _low * (1 - _g),
        equal(_z_hat * _y_hat, _x_hat),
        equal(_z * _y_hat, _x),
        equal(_x_hat, _x).implies(equal(_z_hat, _z)),
    ),
    error=_z_hat - _z,
    radius=Chosen(_e <= 0, term(0), _e / (_low * (1 - _g))),
    by_way_of=(
        within((_z_hat - _z) * _y_hat, _e),
        magnitude(_z_hat - _z) * magnitude(_y_hat) <= _e,
        magnitude(_z_hat - _z) * (_low * (1 - _g)) <= magnitude(_z_hat - _z) * magnitude(_y_hat),
    ),
)
_R = number("R")
LOST_ROOT = Lemma(
    "relative-lost-root",
    "Roots of numbers that differ by at most e differ by at most R, if e ≤ R².",
    "|√a − √b|² ≤ |√a − √b|·(√a + √b) = |a − b|",
    hypotheses=(_e <= _R * _R,),
    assumed=(
        every(_x >= 0, _x_hat >= 0),
        within(_x_hat * _x_hat - _x * _x, _e),
    ),
    error=_x_hat - _x,
    radius=_R,
    by_way_of=(
        (_x_hat - _x) * (_x_hat - _x) <= magnitude(_x_hat * _x_hat - _x * _x),
        (_x_hat - _x) * (_x_hat - _x) <= _R * _R,
    ),
)
ROOT = Lemma(
    "relative-root",
    "A square root has half the precision.",
    OLVER,
    hypotheses=(),
    assumed=(within(_la, _g), equal(2 * _l, _la) | equal(_l, 0)),
    error=_l,
    radius=_g / 2,
)

_k, _N = value("k"), number("N")
POWER = Lemma(
    "relative-power",
    "The power with an exact exponent of at most N in magnitude has at most N times the precision.",
    OLVER,
    hypotheses=(),
    assumed=(within(_la, _g), within(_k, _N), equal(_l, _k * _la) | equal(_l, 0)),
    error=_l,
    radius=_N * _g,
    by_way_of=(magnitude(_k) * magnitude(_la) <= _N * _g,),
)

_A, _most = value("A", "e^g"), larger(_g, _h)
_lo, _hi = number("lo", signed=True), number("hi", signed=True)
_lo2, _hi2 = number("lo2", "lo′", signed=True), number("hi2", "hi′", signed=True)


def _near(computed: Term, real: Term) -> Formula:
    """The computed number lies within a factor A of the real one, of its sign."""
    up, down = _A * real, real / _A
    return every(smaller(up, down) <= computed, computed <= larger(up, down))


SUM = Lemma(
    "relative-sum",
    "The sum of two numbers of one sign, or of a number and 0, has the worse of their precisions.",
    MEDIANT,
    hypotheses=(
        every(_lo >= 0, _lo2 >= 0)
        | every(_hi <= 0, _hi2 <= 0)
        | every(_lo >= 0, _hi <= 0)
        | every(_lo2 >= 0, _hi2 <= 0),
    ),
    assumed=(
        every(_lo <= _x, _x <= _hi, _lo2 <= _y, _y <= _hi2),
        _A >= 1,
        _near(_x_hat, _x),
        _near(_y_hat, _y),
        _near(_x_hat + _y_hat, _x + _y).implies(within(_l, _most)),
    ),
    error=_l,
    radius=_most,
)
SUM_OF_EXACT = Lemma(
    "relative-sum-of-exact",
    "The sum of two exact numbers is exact, whatever their signs, before it is rounded.",
    "algebra",
    hypotheses=(_g <= 0, _h <= 0),
    assumed=(
        within(_la, _g),
        within(_lb, _h),
        every(equal(_la, 0), equal(_lb, 0)).implies(equal(_l, 0)),
    ),
    error=_l,
    radius=term(0),
)
_i, _j, _m = value("i"), value("j"), number("m")
SUM_ANY_ORDER = Lemma(
    "relative-sum-any-order",
    "A sum of numbers of one sign and precision g, with m additions in any order, has the "
    "precision g + m·r. Node: subtrees with i and j additions, at g + i·r and g + j·r.",
    OLVER,
    hypotheses=(),
    assumed=(
        every(_i >= 0, _j >= 0, _i + _j + 1 <= _m),
        within(_l - _lr, larger(_g + _i * _r, _g + _j * _r)),
        within(_lr, _r),
    ),
    error=_l,
    step=_g + (_i + _j + 1) * _r,
    radius=_g + _m * _r,
    rests_on=("relative-sum",),
    by_way_of=(_i * _r >= 0, _j * _r >= 0, (_i + _j + 1) * _r <= _m * _r),
)
_c, _c2 = value("c"), value("c2", "c′")
SHARE = Lemma(
    "relative-lost-share",
    "(1 + u)·(1 − (k + 1)·u) is at most 1 − k·u.",
    "algebra",
    hypotheses=(),
    assumed=(_k >= 0,),
    error=larger((1 + _u) * (1 - (_k + 1) * _u) - (1 - _k * _u), 0),
    radius=term(0),
    by_way_of=(_k * (_u * _u) >= 0,),
)
LOST_SUM = Lemma(
    "relative-lost-sum",
    "Terms off by at most h in all, added by m additions in any order, each of which rounds within "
    "a factor 1 + u and loses at most E, make a sum that is off by at most (h + m·E)/(1 − m·u). "
    "Node: what is off by D with D·c ≤ h + k·E, c = 1 − k·u, k additions below, is rounded; c′ is "
    "c with one addition more.",
    HIGHAM,
    hypotheses=(_m * _u < 1,),
    assumed=(
        every(_k >= 0, _k + 1 <= _m, _z >= 0),
        _z * _c <= _h + _k * _E,
        every((1 + _u) * _c2 <= _c, _c2 <= 1, 1 - _m * _u <= _c2),
        within(_y, _z),
        every(_q >= 0, _q <= 1 + _u),
        within(_eta, _E),
    ),
    error=_y * _q + _eta,
    radius=(_h + _m * _E) / (1 - _m * _u),
    rests_on=("sum-of-errors", "relative-lost-share"),
    by_way_of=(
        magnitude(_y * _q) <= _z * (1 + _u),
        _z * ((1 + _u) * _c2) <= _z * _c,
        _E * _c2 <= _E,
        _k * _E + _E <= _m * _E,
        (_z * (1 + _u) + _E) * _c2 <= _h + _m * _E,
        (_z * (1 + _u) + _E) * (1 - _m * _u) <= (_z * (1 + _u) + _E) * _c2,
        magnitude(_y * _q + _eta) * (1 - _m * _u) <= (_z * (1 + _u) + _E) * (1 - _m * _u),
    ),
)
EXTREME = Lemma(
    "relative-extreme",
    "The larger or smaller of two numbers has the worse of their precisions.",
    "x ↦ e^g·x and x ↦ e^(−g)·x are monotone",
    hypotheses=(),
    assumed=(
        _A >= 1,
        _near(_x_hat, _x),
        _near(_y_hat, _y),
        equal(_z, larger(_x, _y)) & equal(_z_hat, larger(_x_hat, _y_hat))
        | equal(_z, smaller(_x, _y)) & equal(_z_hat, smaller(_x_hat, _y_hat)),
        _near(_z_hat, _z).implies(within(_l, _most)),
    ),
    error=_l,
    radius=_most,
)
EXPONENTIAL = Lemma(
    "relative-exponential",
    "A positive function whose logarithm has slopes between −1 and 1, as those of an exponential "
    "and of a sigmoid have, has for precision what its argument is off by.",
    "ln(e^x̂/e^x) = x̂ − x; (ln σ)′ = 1 − σ",
    hypotheses=(),
    assumed=(within(_x_hat - _x, _e), within(_l, magnitude(_x_hat - _x))),
    error=_l,
    radius=_e,
)

LEMMAS = (
    ABSORBED,
    TO_ERROR,
    OFF,
    ROUNDED,
    IN_ULPS,
    LOST_STEP,
    PRODUCT,
    LOST_PRODUCT,
    LOST_QUOTIENT,
    LOST_ROOT,
    ROOT,
    POWER,
    SUM,
    SUM_OF_EXACT,
    SUM_ANY_ORDER,
    SHARE,
    LOST_SUM,
    EXTREME,
    EXPONENTIAL,
)
