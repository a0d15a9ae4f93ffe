"""Lemmas on the rounding of one result: how far it can move a number of a given magnitude.

What is assumed here of rounding to nearest are the format lemmas (`refine/lemmas/format_lemmas.py`,
proved bit for bit of whole small formats): half an ulp, the relative error, what underflows, that
small sums are exact. `P` is a power of two that at most half the magnitude exceeds; `u` is the unit
roundoff and `least` the smallest normal number of the format; results below `tiny` may be flushed,
none where that is 0. All presume that nothing overflows.
"""

from __future__ import annotations

from encoders.lemmas.lemma import Lemma, RoundingLemma
from encoders.lemmas.terms import (
    Chosen,
    Formula,
    PowerOfTwo,
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

_z, _rnd, _fl = values("z rnd fl")
_M, _P, _u = number("M"), number("P"), number("u")
_least, _tiny = number("least", "2^emin"), number("tiny", "λ")

_v = _u / (term(1) + _u)
_underflow = _u * _least
_half = _u * _P
_half_ulp = Chosen(
    _least < _P,
    smaller(_half, larger(_M - _P, _half / 2)),
    _half,
)
_POWER: tuple[Formula, ...] = (PowerOfTwo(_P), _least <= _P, _M <= _P * 2)
_NEAREST: tuple[Formula, ...] = (
    within(_z, _M),
    (PowerOfTwo(_P) & (_least <= _P) & within(_z, _P * 2)).implies(within(_rnd - _z, _half)),
    (PowerOfTwo(_P) & (_least < _P) & within(_z, _P * 2)).implies(
        within(_rnd - _z, larger(magnitude(_z) - _P, _half / 2))
    ),
    equal(_fl, _rnd) | (equal(_fl, 0) & (magnitude(_z) < _tiny)),
)
IEEE = "IEEE 754; format lemmas"
KNUTH = "Knuth; Jeannerod & Rump 2018; format lemmas half-ulp-product, rounding-product"

_product = smaller(smaller(_half_ulp, _v * _M + _underflow), _M)
ROUNDED = RoundingLemma(
    "rounded-result",
    "Rounding any number up to M errs by at most half an ulp of M, v·M + h with v = u/(1 + u) and "
    "h = u·2^emin, and M itself; if results below λ may be flushed, by at most λ too.",
    KNUTH,
    hypotheses=_POWER,
    assumed=(
        *_NEAREST,
        within(_rnd - _z, _v * magnitude(_z) + _underflow),
        within(_rnd - _z, magnitude(_z)),
    ),
    error=_fl - _z,
    radius=Chosen(_tiny <= 0, _product, smaller(larger(_product, _tiny), _M)),
    rests_on=("underflow-term", "flush", "flush-relative"),
    reach=_M,
)

_sum = Chosen(_least > _M, term(0), smaller(_half_ulp, _v * _M))
ROUNDED_SUM = RoundingLemma(
    "rounded-sum",
    "Rounding a sum of two numbers of the format, at most M, errs by at most half an ulp of M and "
    "v·M, v = u/(1 + u), and not at all below 2^emin; if results below λ may be flushed, by at "
    "most λ too.",
    "Hauser 1996; format lemmas rounding-no-underflow-sum, small-sum-exact",
    hypotheses=_POWER,
    assumed=(
        *_NEAREST,
        within(_rnd - _z, _v * magnitude(_z)),
        (magnitude(_z) < _least).implies(equal(_rnd, _z)),
    ),
    error=_fl - _z,
    radius=Chosen(_tiny <= 0, _sum, smaller(larger(_sum, _tiny), _M)),
    rests_on=("flush",),
    reach=_M,
)

COPIED = RoundingLemma(
    "rounded-copy",
    "A result that is one of the operands rounds nothing; if results below λ may be flushed, it "
    "errs by at most λ and M.",
    IEEE,
    hypotheses=(),
    assumed=(within(_z, _M), equal(_fl, _z) | (equal(_fl, 0) & (magnitude(_z) < _tiny))),
    error=_fl - _z,
    radius=smaller(_M, _tiny),
    reach=_M,
)

SCALED = RoundingLemma(
    "rounded-scaling",
    "A product by a power of two rounds only by underflow, at most u·2^emin and M; if results "
    "below λ may be flushed, by at most λ too.",
    "format lemma scaling-exact",
    hypotheses=(),
    assumed=(
        within(_z, _M),
        equal(_rnd, _z) | within(_rnd - _z, _underflow),
        within(_rnd - _z, magnitude(_z)),
        equal(_fl, _rnd) | (equal(_fl, 0) & (magnitude(_z) < _tiny)),
    ),
    error=_fl - _z,
    radius=smaller(_M, larger(_underflow, _tiny)),
    reach=_M,
)

_w, _k, _share = value("w"), number("k"), number("share", "2^−alignment")
_lost = (_k + 1) * _share
_step = (_M * _lost + (_M + _M * _lost) * (2 * _u)) + 2 * _underflow
ALIGNED = RoundingLemma(
    "aligned-rounding",
    "An aligned step of k products: every product and the running sum lose less than one unit, "
    "2^−alignment of the largest, which is at most M; the truncated result loses less than an ulp; "
    "if results below λ may be flushed, it loses λ too, decided on the sum that was truncated.",
    "Xie et al. 2025, arXiv 2511.10909; Fasi, Higham, Mikaitis & Pranesh 2021, PeerJ Computer "
    "Science 7:e330",
    hypotheses=(),
    assumed=(
        within(_z, _M),
        within(_w - _z, _M * _lost),
        within(_rnd - _w, (2 * _u) * magnitude(_w) + 2 * _underflow),
        equal(_fl, _rnd) | (equal(_fl, 0) & (magnitude(_w) < _tiny)),
    ),
    error=_fl - _z,
    radius=_step + _tiny,
    reach=_M,
)

_e = bound("e")
TRUNCATED = Lemma(
    "truncated-factor",
    "A number cut off in place of rounded loses at most twice what rounding to nearest does, and "
    "no more than itself.",
    IEEE,
    hypotheses=(),
    assumed=(within(_z, _M), within(_fl - _z, 2 * _e), within(_fl - _z, magnitude(_z))),
    error=_fl - _z,
    radius=smaller(2 * _e, _M),
)

UNROUNDED = RoundingLemma(
    "unrounded",
    "Arithmetic of unit roundoff 0 rounds nothing.",
    "algebra",
    hypotheses=(),
    assumed=(equal(_fl, _z),),
    error=_fl - _z,
    radius=term(0),
    reach=_M,
)

_t, _h, _near = value("t"), rounding("h"), rounding("near", "h′")
_a, _slope, _eta = number("a"), number("s"), number("eta", "η")
_most = number("v")
UNDER_LINE = Lemma(
    "rounding-under-line",
    "Rounding a number of magnitude at most t, where t is at least a and at most what h holds up "
    "to, errs by at most s·(t − a) more than the radius says: of s = 0 that is h, and of s ≥ v "
    "what h′ says up to p, where it holds, or what is left of v·p + η there, if that is more.",
    KNUTH,
    hypotheses=((_slope <= 0) | (_most <= _slope),),
    assumed=(
        _a <= _t,
        _t <= _h.reach,
        within(_z, _t),
        within(_z, _h.reach).implies(within(_fl - _z, _h)),
        within(_z, _near.reach).implies(within(_fl - _z, _near)),
        within(_fl - _z, _most * magnitude(_z) + _eta),
    ),
    error=larger(magnitude(_fl - _z) - _slope * (_t - _a), term(0)),
    radius=Chosen(
        _slope <= 0,
        _h,
        larger(_near, (_slope * _a + _eta) - (_slope - _most) * _near.reach),
    ),
)

LEMMAS = (ROUNDED, ROUNDED_SUM, COPIED, SCALED, ALIGNED, TRUNCATED, UNROUNDED, UNDER_LINE)
