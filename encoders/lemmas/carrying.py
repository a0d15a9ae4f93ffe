"""Lemmas on carrying functionals of differences back: what a node's slopes leave, and their sum.

With d = x̂ − x at what a node reads and f what it makes of it, f is m·d up to a remainder; a
functional c·f is then c·m·d up to |c| times that.
"""

from __future__ import annotations

from encoders.lemmas.lemma import Lemma
from encoders.lemmas.terms import (
    Chosen,
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

OWN = "algebra"
CROWN = (
    "Singh, Gehr, Püschel & Vechev 2019, DeepPoly, POPL; Zhang et al. 2018, CROWN, NeurIPS; on "
    "differences: Paulsen, Wang & Wang 2020, ReluDiff, ICSE"
)

_f, _d, _s, _g = values("f d s g")
_e, _R = bound("e"), bound("R")
_m = number("m", signed=True)

_low, _high = ends("S")
_sigma = number("sigma", "σ")
SECANT = Lemma(
    "secant",
    "What moves by s·d, with a slope s in S and |d| ≤ e, moves by m·d up to σ·e, if no slope of S "
    "is farther than σ from m.",
    "mean value theorem; Moore 1966, Interval Analysis, for its interval form",
    hypotheses=(_high - _m <= _sigma, _m - _low <= _sigma),
    assumed=(every(_low <= _s, _s <= _high), within(_d, _e), equal(_f, _s * _d)),
    error=_f - _m * _d,
    radius=_sigma * _e,
    rests_on=("mean-value-step",),
    by_way_of=(within(_s - _m, _sigma), within((_s - _m) * _d, _sigma * _e)),
)

_lo, _hi = ends("F")
_rest, _rest_hat = value("rest", "f(x) − m·x"), value("rest_hat", "f(x̂) − m·x̂")
OSCILLATION = Lemma(
    "oscillation",
    "If f(x) − m·x lies in F before and after, f moves by m·d up to the width of F.",
    OWN,
    hypotheses=(),
    assumed=(
        every(_lo <= _rest, _rest <= _hi, _lo <= _rest_hat, _rest_hat <= _hi),
        equal(_f, _rest_hat - _rest + _m * _d),
    ),
    error=_f - _m * _d,
    radius=larger(_hi - _lo, 0),
    rests_on=("oscillation-secant",),
)

ALONG_SECANT = Lemma(
    "along-secant",
    "What moves by m·d up to R, |d| ≤ e, moves by at most |m|·e + R.",
    OWN,
    hypotheses=(),
    assumed=(within(_f - _m * _d, _R), within(_d, _e)),
    error=_f,
    radius=magnitude(_m) * _e + _R,
    by_way_of=(within(_m * _d, magnitude(_m) * _e),),
)

_held, _kappa = value("m_held", "m′"), number("k", "κ")
HELD_COEFFICIENT = Lemma(
    "held-coefficient",
    "What moves by m·d up to R, |d| ≤ e, moves by m′·d up to R + κ·e for a computed coefficient "
    "m′ that is off from m by at most κ.",
    OWN,
    hypotheses=(),
    assumed=(within(_f - _m * _d, _R), within(_held - _m, _kappa), within(_d, _e)),
    error=_f - _held * _d,
    radius=_R + _kappa * _e,
    rests_on=("stored-coefficients",),
    by_way_of=(within((_held - _m) * _d, _kappa * _e),),
)

_U = number("U")
UNDERFLOWN = Lemma(
    "underflown",
    "Products of float64 that underflow on the way may add U to what is carried back.",
    OWN,
    hypotheses=(),
    assumed=(within(_d, _U),),
    error=_d,
    radius=_U,
    rests_on=("stored-coefficients",),
)

_r, _q, _follows = bound("r"), bound("q"), number("m")
FOLLOWED = Lemma(
    "followed",
    "What moves by at most r where it is not followed, m = 0, and by d, what is followed, up to q "
    "where it is, m = 1, moves by m·d up to the one or the other.",
    OWN,
    hypotheses=(equal(_follows, 0) | equal(_follows, 1),),
    assumed=(
        equal(_follows, 0).implies(within(_f, _r)),
        equal(_follows, 1).implies(within(_f - _d, _q)),
    ),
    error=_f - _follows * _d,
    radius=Chosen(equal(_follows, 0), _r, _q),
)

_A = number("A")
STEP_APART = Lemma(
    "step-apart",
    "A step function whose distance from its argument varies by at most A moves by d up to A, and "
    "not at all where the argument has not moved.",
    OWN,
    hypotheses=(),
    assumed=(within(_f - _d, _A), within(_d, _e), (_e <= 0).implies(equal(_f, 0))),
    error=_f - _d,
    radius=Chosen(_e <= 0, term(0), _A),
    rests_on=("step-jump",),
)

_x, _y, _y_hat = value("x"), value("y"), value("y_hat", "ŷ")
_least, _rival = number("low", "l", signed=True), number("rival", signed=True)
LEADER = Lemma(
    "leader",
    "The larger of a leader x ≥ l and of rivals that do not exceed `rival`, before and after, "
    "moves as the leader does up to max(rival − l, 0).",
    OWN,
    hypotheses=(),
    assumed=(every(_least <= _x, _least <= _x + _d), every(_y <= _rival, _y_hat <= _rival)),
    error=(larger(_x + _d, _y_hat) - larger(_x, _y)) - _d,
    radius=larger(_rival - _least, 0),
    rests_on=("maximum-leader",),
)

_out, _middle, _eta = value("out", "c·f"), value("middle", "c′·d"), value("eta", "c·η")
_cost, _before, _own = bound("r"), bound("before", "r′"), bound("own")
CARRIED_BACK = Lemma(
    "carried-back",
    "A functional c·f of what a node makes of differences that is c′·d up to r, with c′·d at most "
    "r′ and the node's own rounding at most `own` in it, is at most r + r′ + own: the step of a "
    "pull-back through one node.",
    CROWN,
    hypotheses=(),
    assumed=(within(_out - _middle, _cost), within(_middle, _before), within(_eta, _own)),
    error=_out + _eta,
    radius=_cost + _before + _own,
    rests_on=("composition", "affine-difference", "affine-rounding", "stored-coefficients"),
)

_own, _norm = value("a"), value("b")
_weighed, _norms, _root = number("A"), number("B"), number("R")
WITHIN_ELLIPSOID = Lemma(
    "within-ellipsoid",
    "A functional of remainders, of which the squares of its scaled coefficients add up to a ≤ A "
    "and those of the scaled remainders to b ≤ B, is at most R if A·B ≤ R², and at most what it is "
    "bounded by otherwise.",
    "Cauchy-Schwarz inequality",
    hypotheses=(_weighed * _norms <= _root * _root,),
    assumed=(
        within(_f, _e),
        every(_own >= 0, _own <= _weighed, _norm >= 0, _norm <= _norms),
        _f * _f <= _own * _norm,
    ),
    error=_f,
    radius=smaller(_e, _root),
    by_way_of=(_own * _norm <= _weighed * _norms, _f * _f <= _root * _root),
)

LEMMAS = (
    SECANT,
    OSCILLATION,
    ALONG_SECANT,
    HELD_COEFFICIENT,
    UNDERFLOWN,
    FOLLOWED,
    STEP_APART,
    LEADER,
    CARRIED_BACK,
    WITHIN_ELLIPSOID,
)
