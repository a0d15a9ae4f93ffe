"""Lemmas on what is summed, products of which each is rounded, and on a single addition.

docs/lemmas.md states the induction over products in words.
"""

from __future__ import annotations

from encoders.lemmas.lemma import Lemma
from encoders.lemmas.terms import (
    Chosen,
    Formula,
    bound,
    equal,
    larger,
    magnitude,
    number,
    rounding,
    smaller,
    term,
    value,
    values,
    within,
)

HIGHAM = "Higham 2002, Accuracy and Stability of Numerical Algorithms, 2nd ed., "

_P, _p, _z, _A, _B, _a, _b, _i = values("P p z A B a b i")
_P_hat, _fl, _s = value("P_hat", "P̂"), value("fl"), value("s")
_S, _C, _n = number("S"), number("C"), number("n")
_v, _eta = number("v"), number("eta", "η")
PRODUCT_ERRORS = Lemma(
    "product-errors",
    "If each of at most n products errs by at most v·a + b + η, and Σa ≤ S, Σb ≤ C, they err by at "
    "most v·S + C + n·η in all. Step: products so far within v·A + B + i·η, and one more.",
    HIGHAM + "section 3.1",
    hypotheses=(),
    assumed=(
        within(_P_hat - _P, _v * _A + _B + _i * _eta),
        within(_p - _z, _v * _a + _b + _eta),
        _A + _a <= _S,
        _B + _b <= _C,
        _i + 1 <= _n,
    ),
    error=(_P_hat + _p) - (_P + _z),
    step=_v * (_A + _a) + (_B + _b) + (_i + 1) * _eta,
    radius=_v * _S + _C + _n * _eta,
    rests_on=(
        "read-product",
        "dot-product",
        "dot-product-total",
        "underflow-term",
        "flush-operand-product",
    ),
)

_T, _tiny = number("T"), number("tiny", "λ")
FLUSHED_SUM = Lemma(
    "flushed-sum",
    "A finished sum below λ that becomes 0, where 0 is added to it or it is read, loses at most λ; "
    "nothing is lost where no partial sum can be anything but 0: none exceeds T.",
    "flush to zero as in Intel SDM vol. 1, 10.2.3, and Arm ARM, FPCR.FZ",
    hypotheses=(),
    assumed=(
        equal(_fl, _z) | (equal(_fl, 0) & (magnitude(_z) < _tiny)),
        (_T <= 0).implies(equal(_fl, _z)),
    ),
    error=_fl - _z,
    radius=Chosen(_T <= 0, term(0), _tiny),
    rests_on=("flush-operand-sum",),
)

_M, _e, _r, _c = number("M"), bound("e"), rounding("r"), rounding("c")
_left, _right = number("a", "A"), number("b", "B")
_of_a, _of_b = value("x", "a"), value("y", "b")
_known_zero: Formula = (_left <= 0) | (_right <= 0)
ADDED = Lemma(
    "added",
    "A sum of two numbers of the format, at most A and B in magnitude and in all off by e from "
    "exact ones whose sum is at most M: rounding it errs by at most r; where one of them is 0 by "
    "at most c, as a copy does; and without flushing, λ = 0, by at most A and B.",
    "IEEE 754; format lemma sum-error-below-operands",
    hypotheses=(_M + _e <= _r.reach, _M + _e <= _c.reach),
    assumed=(
        within(_s, _M),
        within((_of_a + _of_b) - _s, _e),
        within(_of_a, _left),
        within(_of_b, _right),
        within(_of_a + _of_b, _r.reach).implies(within(_fl - (_of_a + _of_b), _r)),
        (_known_zero & within(_of_a + _of_b, _c.reach)).implies(within(_fl - (_of_a + _of_b), _c)),
        (_tiny <= 0).implies(
            within(_fl - (_of_a + _of_b), magnitude(_of_a))
            & within(_fl - (_of_a + _of_b), magnitude(_of_b))
        ),
    ),
    error=_fl - _s,
    radius=_e
    + smaller(
        Chosen(_known_zero, _c, _r),
        Chosen(_tiny <= 0, smaller(_left, _right), _r),
    ),
    rests_on=("underflow-term", "flush-operand-sum"),
)

_low, _high = number("lo", signed=True), number("hi", signed=True)
_of_w, _of_w_hat, _of_change = value("f_w"), value("f_w_hat", "f_ŵ"), value("f_dw", "f_(ŵ − w)")
WEIGHTS_CHANGED = Lemma(
    "weights-changed",
    "A sum of products with other weights ŵ, f_ŵ = f_w + f_(ŵ − w), differs by at most the larger "
    "end of a range [lo, hi] that holds the same sum with the change of the weights.",
    "algebra",
    hypotheses=(),
    assumed=(
        _low <= _of_change,
        _of_change <= _high,
        equal(_of_w_hat, _of_w + _of_change),
    ),
    error=_of_w_hat - _of_w,
    radius=larger(magnitude(_low), magnitude(_high)),
    rests_on=("affine-difference",),
)

LEMMAS = (PRODUCT_ERRORS, FLUSHED_SUM, ADDED, WEIGHTS_CHANGED)
