"""Lemmas that make a claim about a domain of bounds over parts of it."""

from __future__ import annotations

from encoders.lemmas.lemma import Lemma
from encoders.lemmas.terms import (
    Chosen,
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

_x, _d, _gap = values("x d gap")
_e, _f, _z = bound("e"), bound("f"), bound("z")
_lo, _hi, _a, _b = (number(name, signed=True) for name in ("lo", "hi", "a", "b"))
_s, _t = number("s", signed=True), number("t", signed=True)
_off, _given, _allowed = value("off"), number("given"), number("allowed")

WITHIN_PART = Lemma(
    "within-part",
    "What lies in [lo, hi] lies in the part [a, b] that holds it, and what is received at most so "
    "far off as is given is received no farther off than the part allows.",
    "algebra",
    hypotheses=(_a <= _lo, _hi <= _b, _given <= _allowed),
    assumed=(every(_lo <= _x, _x <= _hi), within(_off, _given)),
    error=magnitude(_x - larger(_a, smaller(_b, _x))) + larger(0, magnitude(_off) - _allowed),
    radius=term(0),
)

OF_PART = Lemma(
    "of-part",
    "What is proved of every input of a part holds of an input that is off from it by nothing.",
    "logic",
    hypotheses=(_z <= 0,),
    assumed=(within(_gap, _z), equal(_gap, 0).implies(within(_d, _e))),
    error=_d,
    radius=_e,
)

CUT = Lemma(
    "cut",
    "What is off by at most e where x ≤ s, and by at most f where x ≥ t, is off by at most the "
    "larger if t ≤ s.",
    "logic",
    hypotheses=(_t <= _s,),
    assumed=((_x <= _s).implies(within(_d, _e)), (_t <= _x).implies(within(_d, _f))),
    error=_d,
    radius=larger(_e, _f),
    rests_on=("domain-split",),
)

_eps = number("eps", "ε")
WITHIN_TOLERANCE = Lemma(
    "within-tolerance",
    "What is off by at most e ≤ ε is off by at most ε.",
    "algebra",
    hypotheses=(_e <= _eps,),
    assumed=(within(_d, _e),),
    error=_d,
    radius=_eps,
)

_left, _floor, _most = value("left"), number("floor", signed=True), number("most", signed=True)
_lack, _U = number("lack"), number("U")
OUT_OF_REACH = Lemma(
    "out-of-reach",
    "A row of an unsafe set, left ≤ most, whose left side is at least a floor, lacks nothing if "
    "the floor is above that; what it may lack else is said.",
    "algebra",
    hypotheses=(),
    assumed=(_floor <= _left,),
    error=Chosen(_left <= _most, _lack, term(0)),
    radius=Chosen(_most < _floor, term(0), _lack),
)
STRICTLY_OUT_OF_REACH = Lemma(
    "strictly-out-of-reach",
    "A row of an unsafe set, left < most, whose left side is at least a floor, lacks nothing if "
    "the floor is no less than that; what it may lack else is said.",
    "algebra",
    hypotheses=(),
    assumed=(_floor <= _left,),
    error=Chosen(_left < _most, _lack, term(0)),
    radius=Chosen(_most <= _floor, term(0), _lack),
)

_slack = value("slack")
SUM_OUT_OF_REACH = Lemma(
    "sum-out-of-reach",
    "A conjunction of rows, all of which hold where the largest of their slacks is at most 0, "
    "lacks nothing if a sum of them, left ≤ most, has a left side that is at least a floor above "
    "that; what it may lack else is said.",
    "algebra",
    hypotheses=(),
    assumed=(_floor <= _left, (_slack <= 0).implies(_left <= _most)),
    error=Chosen(_slack <= 0, _lack, term(0)),
    radius=Chosen(_most < _floor, term(0), _lack),
    rests_on=("summed-rows",),
)

_above, _down = value("above"), value("down")
_trusted, _taken, _lacking = number("margin"), bound("e"), value("lacking")
TRUSTED_MARGIN = Lemma(
    "trusted-margin",
    "A conjunction lacks nothing if a row of it is at least a margin above what it allows over the "
    "reals, as somebody else says, and no execution takes as much as that off any row that this "
    "may be.",
    "algebra",
    hypotheses=(_taken < _trusted,),
    assumed=(_trusted <= _above, _down <= _taken),
    error=Chosen(_above - _down <= 0, _lacking, term(0)),
    radius=term(0),
)

_from, _upto = number("least", signed=True), number("upto", signed=True)
_open = number("open")
UNMET = Lemma(
    "unmet",
    "A conjunction that asks for an input of at least l and at most m, each a limit of its own or "
    "an end of the part, lacks nothing there, and no row of it is moved, if m < l, or if m ≤ l and "
    "`open` is not 0: one of both is to be kept away from.",
    "logic",
    hypotheses=((_upto < _from) | ((_open > 0) & (_upto <= _from)),),
    assumed=(
        every(_from <= _x, _x <= _upto, (_open <= 0) | (_from < _x) | (_x < _upto)) | equal(_d, 0),
    ),
    error=_d,
    radius=term(0),
)
NOTHING_UNSAFE = Lemma(
    "nothing-unsafe",
    "Of an unsafe set without conjunctions nothing is lacking.",
    "logic",
    hypotheses=(),
    assumed=(equal(_d, 0),),
    error=_d,
    radius=term(0),
)
MOVED_DOWN = Lemma(
    "moved-down",
    "A row whose outputs are off by at most e in all is moved down by no more.",
    "Singh, Gehr, Püschel & Vechev 2019, DeepPoly, POPL; Zhang et al. 2018, CROWN, NeurIPS",
    hypotheses=(),
    assumed=(_d <= _e,),
    error=larger(0, _d),
    radius=_e,
)
REAL_GAP = Lemma(
    "real-gap",
    "Two real values whose difference lies in [lo, hi] are max(|lo|, |hi|) apart at most.",
    "algebra",
    hypotheses=(),
    assumed=(every(_lo <= _d, _d <= _hi),),
    error=_d,
    radius=larger(magnitude(_lo), magnitude(_hi)),
)

LARGEST_FOUND = Lemma(
    "largest-found",
    "Of what first-order forms bound by at most U in every box that a maximisation looked at or "
    "left, U is a bound.",
    "branch and bound: Hansen & Walster 2004",
    hypotheses=(),
    assumed=(within(_d, _U),),
    error=_d,
    radius=_U,
)

LEMMAS = (
    WITHIN_PART,
    OF_PART,
    CUT,
    WITHIN_TOLERANCE,
    OUT_OF_REACH,
    STRICTLY_OUT_OF_REACH,
    SUM_OUT_OF_REACH,
    TRUSTED_MARGIN,
    UNMET,
    NOTHING_UNSAFE,
    MOVED_DOWN,
    REAL_GAP,
    LARGEST_FOUND,
)
