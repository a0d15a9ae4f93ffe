"""Lemmas on where operations have a value: what they need of their arguments is a hypothesis.

Each takes a bound that holds where the operation has a value, and gives it back where the numbers
show that it has one in every execution.
"""

from __future__ import annotations

from encoders.lemmas.lemma import Lemma
from encoders.lemmas.terms import (
    bound,
    equal,
    every,
    larger,
    magnitude,
    number,
    term,
    value,
    values,
    within,
)

IEEE = "IEEE 754, section 7"
OWN = "definition of the function"

_fl, _z, _x, _y = values("fl z x y")
_e, _M = bound("e"), number("M")
_lo, _hi = number("lo", signed=True), number("hi", signed=True)
_least, _most = number("least", signed=True), number("most", signed=True)
_limit = number("limit")
_held = within(_fl - _z, _e)

DEFINED_QUOTIENT = Lemma(
    "defined-quotient",
    "What errs by at most e for any divisor up to a limit but 0 errs by that for one of a range "
    "[lo, hi] within the limit and on one side of 0.",
    IEEE,
    hypotheses=(
        (term(0) < _lo) | (_hi < 0),
        larger(magnitude(_lo), magnitude(_hi)) <= _limit,
    ),
    assumed=(
        every(_lo <= _y, _y <= _hi),
        (~equal(_y, 0) & within(_y, _limit)).implies(_held),
    ),
    error=_fl - _z,
    radius=_e,
)
DEFINED_ABOVE_ZERO = Lemma(
    "defined-above-zero",
    "What errs by at most e for an argument above 0, as a logarithm has it, errs by that for one "
    "of at least lo > 0.",
    OWN,
    hypotheses=(term(0) < _lo,),
    assumed=(_lo <= _x, (term(0) < _x).implies(_held)),
    error=_fl - _z,
    radius=_e,
)
DEFINED_FROM_ZERO = Lemma(
    "defined-from-zero",
    "What errs by at most e for an argument that is not negative, as a square root has it, errs by "
    "that for one of at least lo ≥ 0.",
    OWN,
    hypotheses=(term(0) <= _lo,),
    assumed=(_lo <= _x, (term(0) <= _x).implies(_held)),
    error=_fl - _z,
    radius=_e,
)
DEFINED_WHERE_FINITE = Lemma(
    "defined-where-finite",
    "What errs by at most e for arguments up to a limit, none of which is infinite, errs by that "
    "for those of magnitude at most M, if M is no larger.",
    IEEE,
    hypotheses=(_limit >= _M,),
    assumed=(within(_x, _M), within(_x, _limit).implies(_held)),
    error=_fl - _z,
    radius=_e,
)
DEFINED_WITHIN = Lemma(
    "defined-within",
    "What errs by at most e for arguments from least to most, as an inverse sine has it, errs by "
    "that for those of a range [lo, hi] within.",
    OWN,
    hypotheses=(_least <= _lo, _hi <= _most),
    assumed=(
        every(_lo <= _x, _x <= _hi),
        every(_least <= _x, _x <= _most).implies(_held),
    ),
    error=_fl - _z,
    radius=_e,
)
INTEGERS_FIT = Lemma(
    "integers-fit",
    "What errs by at most e while integers stay from least to most errs by that for integers of a "
    "range [lo, hi] within.",
    "two's complement: beyond its range an integer wraps around, or is undefined",
    hypotheses=(_least <= _lo, _hi <= _most),
    assumed=(
        every(_lo <= _x, _x <= _hi),
        every(_least <= _x, _x <= _most).implies(_held),
    ),
    error=_fl - _z,
    radius=_e,
)

_flushed, _zeroed = value("flushed"), number("zeroed")
FACTORS_KEPT = Lemma(
    "factors-kept",
    "What errs by at most e while no stored factor is flushed where it is cut short errs by that "
    "if none of them is.",
    "flush to zero as in Intel SDM vol. 1, 10.2.3, and Arm ARM, FPCR.FZ",
    hypotheses=(_zeroed <= 0,),
    assumed=(within(_flushed, _zeroed), equal(_flushed, 0).implies(_held)),
    error=_fl - _z,
    radius=_e,
)

_nans, _possible = value("nans"), number("possible")
NEVER_NAN = Lemma(
    "never-nan",
    "Where the numbers that an element may be, each operation giving what IEEE 754 lets it give of "
    "those before, do not include NaN, none of its values is NaN.",
    IEEE,
    hypotheses=(_possible <= 0,),
    assumed=(within(_nans, _possible),),
    error=_nans,
    radius=term(0),
)

LEMMAS = (
    DEFINED_QUOTIENT,
    DEFINED_ABOVE_ZERO,
    DEFINED_FROM_ZERO,
    DEFINED_WHERE_FINITE,
    DEFINED_WITHIN,
    INTEGERS_FIT,
    FACTORS_KEPT,
    NEVER_NAN,
)
