"""Lemmas on where products, quotients, choices and truth values of numbers in ranges lie."""

from __future__ import annotations

from encoders.lemmas.lemma import Lemma, RangeLemma, range_lemma
from encoders.lemmas.ranges.reals import INTERVALS, OWN
from encoders.lemmas.terms import (
    Chosen,
    Formula,
    Term,
    Whole,
    ends,
    equal,
    every,
    larger,
    magnitude,
    number,
    smaller,
    term,
    values,
)

_x, _y, _c, _z = values("x y c z")
_lo, _hi = ends("X")
_low, _high = ends("Y")
_c_lo, _c_hi = ends("C")
_in_x, _in_y = every(_lo <= _x, _x <= _hi), every(_low <= _y, _y <= _high)
_a, _b, _m = (number(name, signed=True) for name in "abm")

STORED_RANGE = range_lemma(
    "stored-range",
    "A stored number lies where it is.",
    "the file of the model",
    assumed=(equal(_x, _a),),
    of=_x,
    low=_a,
    high=_a,
)


def _corner(a: Term, b: Term) -> Term:
    """A product that is 0 where a factor is, whatever the other."""
    return Chosen(equal(a, 0) | equal(b, 0), term(0), a * b)


_corners = tuple(_corner(a, b) for a in (_lo, _hi) for b in (_low, _high))
PRODUCT_RANGE = range_lemma(
    "product-range",
    "A product of what lies in two ranges lies between the least and the largest product of their "
    "ends.",
    INTERVALS,
    assumed=(_in_x, _in_y),
    of=_x * _y,
    low=smaller(smaller(_corners[0], _corners[1]), smaller(_corners[2], _corners[3])),
    high=larger(larger(_corners[0], _corners[1]), larger(_corners[2], _corners[3])),
    by_way_of=(
        (_y >= 0).implies(every(_lo * _y <= _x * _y, _x * _y <= _hi * _y)),
        (_y <= 0).implies(every(_hi * _y <= _x * _y, _x * _y <= _lo * _y)),
        (_lo >= 0).implies(every(_lo * _low <= _lo * _y, _lo * _y <= _lo * _high)),
        (_lo <= 0).implies(every(_lo * _high <= _lo * _y, _lo * _y <= _lo * _low)),
        (_hi >= 0).implies(every(_hi * _low <= _hi * _y, _hi * _y <= _hi * _high)),
        (_hi <= 0).implies(every(_hi * _high <= _hi * _y, _hi * _y <= _hi * _low)),
    ),
)
SQUARE_RANGE = range_lemma(
    "square-range",
    "A square of what lies in a range is at most the larger square of its ends, and at least the "
    "smaller, or 0 if 0 is between them.",
    INTERVALS,
    assumed=(_in_x,),
    of=_x * _x,
    low=Chosen(
        _lo > 0,
        larger(0, _lo * _lo),
        Chosen(_hi < 0, larger(0, _hi * _hi), term(0)),
    ),
    high=larger(_corner(_lo, _lo), _corner(_hi, _hi)),
    by_way_of=(
        _x * _x >= 0,
        (_lo >= 0).implies(every(_lo * _lo <= _lo * _x, _lo * _x <= _x * _x)),
        (_x >= 0).implies(every(_x * _x <= _hi * _x, _hi * _x <= _hi * _hi)),
        (_x <= 0).implies(every(_x * _x <= _lo * _x, _lo * _x <= _lo * _lo)),
        (_hi <= 0).implies(every(_hi * _hi <= _hi * _x, _hi * _x <= _x * _x)),
    ),
)
_of_lo, _of_hi = (_lo / _low, _lo / _high), (_hi / _low, _hi / _high)
QUOTIENT_RANGE = range_lemma(
    "quotient-range",
    "A quotient of what lies in a range by what lies in one above 0 lies between the quotients of "
    "its ends by the ends of that.",
    INTERVALS,
    hypotheses=(_low > 0,),
    assumed=(_in_x, _in_y, equal(_z * _y, _x)),
    of=_z,
    low=smaller(*_of_lo),
    high=larger(*_of_hi),
)
MAGNITUDE_RANGE = range_lemma(
    "magnitude-range",
    "The magnitude of what lies in a range is at most that of its larger end, and at least that of "
    "the smaller, or 0 if 0 is between them.",
    INTERVALS,
    assumed=(_in_x,),
    of=magnitude(_x),
    low=larger(larger(_lo, -_hi), 0),
    high=larger(_hi, -_lo),
)
LARGER_RANGE = range_lemma(
    "larger-range",
    "The larger of two numbers lies between the larger lower and the larger upper end of their "
    "ranges.",
    INTERVALS,
    assumed=(_in_x, _in_y),
    of=larger(_x, _y),
    low=larger(_lo, _low),
    high=larger(_hi, _high),
)
SMALLER_RANGE = range_lemma(
    "smaller-range",
    "The smaller of two numbers lies between the smaller lower and the smaller upper end of their "
    "ranges.",
    INTERVALS,
    assumed=(_in_x, _in_y),
    of=smaller(_x, _y),
    low=smaller(_lo, _low),
    high=smaller(_hi, _high),
)
CHOSEN_RANGE = range_lemma(
    "chosen-range",
    "Of two numbers the one that a condition chooses lies in its range, and where the condition "
    "may go either way between the ends of both.",
    INTERVALS,
    assumed=(every(_c_lo <= _c, _c <= _c_hi), _in_x, _in_y),
    of=Chosen(_c > 0, _x, _y),
    low=Chosen(_c_lo > 0, _lo, Chosen(_c_hi <= 0, _low, smaller(_lo, _low))),
    high=Chosen(_c_lo > 0, _hi, Chosen(_c_hi <= 0, _high, larger(_hi, _high))),
)


def _truth(
    name: str, statement: str, holds: Formula, surely: Formula, never: Formula
) -> RangeLemma:
    return range_lemma(
        name,
        statement,
        INTERVALS,
        assumed=(_in_x, _in_y),
        of=Chosen(holds, term(1), term(0)),
        low=Chosen(surely, term(1), term(0)),
        high=Chosen(never, term(0), term(1)),
    )


LESS_RANGE = _truth(
    "less-range",
    "x < y is 1 where the range of x ends below that of y, 0 where it begins where that ends, and "
    "between 0 and 1 elsewhere.",
    _x < _y,
    _hi < _low,
    _high <= _lo,
)
AT_MOST_RANGE = _truth(
    "at-most-range",
    "x ≤ y is 1 where the range of x ends where that of y begins, 0 where it begins above its end, "
    "and between 0 and 1 elsewhere.",
    _x <= _y,
    _hi <= _low,
    _high < _lo,
)
EQUAL_RANGE = _truth(
    "equal-range",
    "x = y is 1 where both are one and the same number, 0 where their ranges are apart, and "
    "between 0 and 1 elsewhere.",
    equal(_x, _y),
    every(_high <= _lo, _hi <= _low),
    (_hi < _low) | (_high < _lo),
)
BESIDE_ITSELF = range_lemma(
    "compared-with-itself",
    "A number is at most itself and equal to itself, which is 1, and not less than itself, 0.",
    "logic",
    hypotheses=(equal(_m, 0) | equal(_m, 1),),
    assumed=(
        equal(_m, 1).implies(equal(_z, Chosen(_x <= _x, term(1), term(0)))),
        equal(_m, 0).implies(equal(_z, Chosen(_x < _x, term(1), term(0)))),
    ),
    of=_z,
    low=_m,
    high=_m,
)

_first, _last, _n = number("first"), number("last"), number("n")
_place, _held = values("place held")
_rival = number("rival", signed=True)
PLACE_RANGE = range_lemma(
    "place-range",
    "The place of the largest of n numbers is neither before the first nor behind the last, if all "
    "that stand there are at most a rival below the range of the largest, or none do.",
    OWN,
    hypotheses=((_rival < _lo) | (equal(_first, 0) & (_last >= _n - 1)),),
    assumed=(
        every(_in_x, _place >= 0, _place <= _n - 1),
        equal(_held, _x),
        ((_place < _first) | (_last < _place)).implies(_held <= _rival),
    ),
    of=_place,
    low=_first,
    high=_last,
)
_least, _most = number("least", signed=True), number("most", signed=True)
PICKED_RANGE = range_lemma(
    "picked-range",
    "What an index picks is between the least and the largest of what indices from a to b pick, "
    "where it is one of these: a whole number of a range that begins above a − 1 and ends below "
    "b + 1, or beyond which there is no index, from −n to n − 1.",
    OWN,
    hypotheses=(
        every(Whole(_a), Whole(_b)),
        (_a - 1 < _lo) | (_a <= -_n),
        (_hi < _b + 1) | (_n - 1 <= _b),
    ),
    assumed=(
        every(_in_x, -_n <= _x, _x <= _n - 1),
        (Whole(_a) & (_a - 1 < _x)).implies(_a <= _x),
        (Whole(_b) & (_x < _b + 1)).implies(_x <= _b),
        every(_a <= _x, _x <= _b).implies(every(_least <= _z, _z <= _most)),
    ),
    of=_z,
    low=_least,
    high=_most,
)

# What is left of a product when ranges are replaced by their middles.

FROM_MIDDLE = Lemma(
    "from-middle",
    "What lies in a range is no farther from a number than the farther of its ends.",
    OWN,
    hypotheses=(),
    assumed=(_in_x,),
    error=_x - _m,
    radius=larger(larger(_hi - _m, _m - _lo), 0),
)

LEMMAS = (
    STORED_RANGE,
    PRODUCT_RANGE,
    SQUARE_RANGE,
    QUOTIENT_RANGE,
    MAGNITUDE_RANGE,
    LARGER_RANGE,
    SMALLER_RANGE,
    CHOSEN_RANGE,
    LESS_RANGE,
    AT_MOST_RANGE,
    EQUAL_RANGE,
    BESIDE_ITSELF,
    PLACE_RANGE,
    PICKED_RANGE,
    FROM_MIDDLE,
)
