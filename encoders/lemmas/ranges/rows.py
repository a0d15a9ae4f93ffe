"""Lemmas on where results of whole rows lie: probabilities, normalised numbers."""

from __future__ import annotations

from encoders.lemmas.lemma import range_lemma
from encoders.lemmas.terms import ends, equal, every, number, smaller, term, value, values

_e, _rest, _p, _z = values("e rest p z")
_l = value("l")
_M, _n = number("M"), number("n")

PROBABILITY = range_lemma(
    "probability-range",
    "An exponential divided by the sum of those of its row lies between 0 and 1.",
    "e^x > 0",
    assumed=(every(_e > 0, _rest >= 0), equal(_p * (_e + _rest), _e)),
    of=_p,
    low=term(0),
    high=term(1),
    by_way_of=(
        (_p < 0).implies(_p * (_e + _rest) < 0),
        (_p > 1).implies(_p * (_e + _rest) > _e + _rest),
    ),
)
_lo, _hi = ends("X")
LOG_PROBABILITY = range_lemma(
    "log-probability-range",
    "The logarithm of a probability p is at most p − 1, so at most 0.",
    "ln p ≤ p − 1",
    assumed=(every(_lo <= _l, _l <= _hi), every(_p <= 1, _l <= _p - 1)),
    of=_l,
    low=_lo,
    high=smaller(_hi, 0),
)
NORMALIZED_RANGE = range_lemma(
    "normalized-range",
    "A number of a normalised row, z² ≤ n, is at most M in magnitude where M² ≥ n: n is the length "
    "of the row, one less where its mean was taken away.",
    "Samuelson 1968, J. Amer. Stat. Assoc. 63",
    hypotheses=(_n <= _M * _M,),
    assumed=(_z * _z <= _n,),
    of=_z,
    low=-_M,
    high=_M,
    by_way_of=(
        (_z > _M).implies(_z * _z > _M * _M),
        (_z < -_M).implies(_z * _z > _M * _M),
    ),
)

_so_far, _weight, _share, _v = values("A P q v")
MIXTURE_RANGE = range_lemma(
    "mixture-range",
    "A mean of numbers of [lo, hi], with weights ≥ 0 that add up to 1, lies there too: the step "
    "that adds the last one to a part of weight P, which lies in [P·lo, P·hi].",
    "algebra",
    assumed=(
        every(_weight * _lo <= _so_far, _so_far <= _weight * _hi, _lo <= _v, _v <= _hi),
        every(_weight >= 0, _share >= 0),
        equal(_weight + _share, 1),
    ),
    of=_so_far + _share * _v,
    low=_lo,
    high=_hi,
    by_way_of=(
        _share * _lo <= _share * _v,
        _share * _v <= _share * _hi,
        equal(_weight * _lo + _share * _lo, (_weight + _share) * _lo),
        equal(_weight * _hi + _share * _hi, (_weight + _share) * _hi),
    ),
)

LEMMAS = (PROBABILITY, LOG_PROBABILITY, NORMALIZED_RANGE, MIXTURE_RANGE)
