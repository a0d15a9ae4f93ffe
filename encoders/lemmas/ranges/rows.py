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

LEMMAS = (PROBABILITY, LOG_PROBABILITY, NORMALIZED_RANGE)
