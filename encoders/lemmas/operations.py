"""Lemmas on operations whose operands have errors: what is moved, and what is rounded then."""

from __future__ import annotations

from encoders.lemmas.lemma import Lemma, RoundingLemma
from encoders.lemmas.terms import (
    Chosen,
    PowerOfTwo,
    bound,
    equal,
    every,
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
OWN = "algebra"

_s, _z, _fl, _x, _y, _dx, _dy = values("s z fl x y dx dy")
_x_hat, _y_hat = value("x_hat", "x̂"), value("y_hat", "ŷ")
_M, _e, _r = number("M"), bound("e"), rounding("r")
_lo, _hi = number("lo", signed=True), number("hi", signed=True)
_tiny, _limit = number("tiny", "λ"), number("limit")

ROUNDING_MODEL = Lemma(
    "rounding-model",
    "An operation whose exact result moves by e on computed operands, |s| ≤ M on exact ones, and "
    "that rounds anything up to M + e with error at most r, errs by at most e + r.",
    HIGHAM + "section 3.3 (running error analysis)",
    hypotheses=(_M + _e <= _r.reach,),
    assumed=(
        within(_s, _M),
        within(_z - _s, _e),
        within(_z, _r.reach).implies(within(_fl - _z, _r)),
    ),
    error=_fl - _s,
    radius=_e + _r,
)

WITHIN_RANGE = Lemma(
    "no-overflow",
    "What errs by at most e, if intermediate results stay below where numbers round to infinity.",
    "IEEE 754; format lemmas overflow-threshold",
    hypotheses=(_limit >= _M,),
    assumed=((_limit >= _M).implies(within(_fl - _z, _e)),),
    error=_fl - _z,
    radius=_e,
)

OPERAND_LOSS = Lemma(
    "operand-loss",
    "A number of [lo, hi] of which those below λ may be read as 0 moves by at most λ and the "
    "largest magnitude, and not at all if none of them is below λ.",
    "flush to zero as in Intel SDM vol. 1, 10.2.3, and Arm ARM, FPCR.FZ",
    hypotheses=(),
    assumed=(
        every(_lo <= _x, _x <= _hi),
        equal(_x_hat, _x) | (equal(_x_hat, 0) & (magnitude(_x) < _tiny)),
    ),
    error=_x_hat - _x,
    radius=Chosen(
        (_lo < _tiny) & (-_tiny < _hi),
        smaller(larger(magnitude(_lo), magnitude(_hi)), _tiny),
        term(0),
    ),
)

UNTOUCHED = Lemma(
    "untouched",
    "Numbers of which none is small enough to be read as 0 are read as they are.",
    OWN,
    hypotheses=(),
    assumed=(equal(_x_hat, _x),),
    error=_x_hat - _x,
    radius=term(0),
)

_w, _w_hat, _zeroed = number("w", signed=True), number("w_hat", "ŵ", signed=True), number("zeroed")
STORED_NUMBER = Lemma(
    "stored-number",
    "A stored number w that reaches an operation as ŵ, or as 0 where it may be flushed on its way, "
    "is off by |ŵ − w|, or |w| then.",
    OWN,
    hypotheses=(),
    assumed=(equal(_x, _w_hat) | (equal(_x, 0) & (term(0) < _zeroed)),),
    error=_x - _w,
    radius=Chosen(
        term(0) < _zeroed,
        larger(magnitude(_w_hat - _w), magnitude(_w)),
        magnitude(_w_hat - _w),
    ),
)

_X, _Y, _ex, _ey = number("X"), number("Y"), bound("ex", "e_x"), bound("ey", "e_y")
COMPUTED_PRODUCT = Lemma(
    "computed-product",
    "The exact product of computed factors is off by at most X·e_y + Y·e_x + e_x·e_y for |x| ≤ X, "
    "|y| ≤ Y.",
    HIGHAM + "section 3.3 (running error analysis)",
    hypotheses=(),
    assumed=(within(_x, _X), within(_y, _Y), within(_dx, _ex), within(_dy, _ey)),
    error=_x * _dy + _y * _dx + _dx * _dy,
    radius=(_X * _ey + _Y * _ex) + _ex * _ey,
    rests_on=("product-difference", "product-error"),
    by_way_of=(
        within(_x * _dy, _X * _ey),
        within(_y * _dx, _Y * _ex),
        within(_dx * _dy, _ex * _ey),
    ),
)

_q, _d, _Q, _low = value("q", "x/y"), value("d"), number("Q"), number("low", "l")
_below, _above = number("below", signed=True), number("above", signed=True)
COMPUTED_QUOTIENT = Lemma(
    "computed-quotient",
    "The exact quotient of computed numbers is off by at most (e_x + Q·e_y)/l for |x/y| ≤ Q and a "
    "divisor of [lo, hi], off by e_y, that stays at least l > 0 away from 0 as it is computed: "
    "between `below` and `above`.",
    HIGHAM + "section 3.3 (running error analysis)",
    hypotheses=(
        term(0) < _low,
        ((_low + _ey <= _lo) | (_low + _ey <= -_hi)) | ((_low <= _below) | (_low <= -_above)),
    ),
    assumed=(
        within(_q, _Q),
        within(_dx, _ex),
        every(_lo <= _y, _y <= _hi, within(_dy, _ey)),
        every(_below <= _y + _dy, _y + _dy <= _above),
        equal(_d * (_y + _dy), _dx - _q * _dy),
    ),
    error=_d,
    radius=(_ex + _Q * _ey) / _low,
    rests_on=("quotient-difference", "quotient-error"),
    by_way_of=(
        _low <= magnitude(_y + _dy),
        within(_q * _dy, _Q * _ey),
        magnitude(_d) * magnitude(_y + _dy) <= _ex + _Q * _ey,
        magnitude(_d) * _low <= magnitude(_d) * magnitude(_y + _dy),
    ),
)

_root, _root_hat, _near = value("root", "√x"), value("root_hat", "√x̂"), number("near")
_floor = number("floor")
COMPUTED_ROOT = Lemma(
    "computed-root",
    "√x̂ is off by at most e/l for √x ≥ l > 0, and by any number whose square is at least e, if x̂ "
    "is not negative: it is at least `floor`.",
    OWN,
    hypotheses=(_e <= _near * _near,),
    assumed=(
        every(_root >= 0, _root >= _low),
        (_floor >= 0).implies(_root_hat >= 0),
        within(_root_hat * _root_hat - _root * _root, _e),
    ),
    error=_root_hat - _root,
    radius=Chosen(term(0) < _low, smaller(_near, _e / _low), _near),
    rests_on=("sqrt-difference",),
)

_c, _any = rounding("c"), number("size", "M")
_known = equal(_lo, _hi) & (_e <= 0)
ZERO_OPERAND = RoundingLemma(
    "zero-operand",
    "Where one operand of a sum is exactly 0, the result is the other, and rounds like a copy.",
    "IEEE 754",
    hypotheses=(_any <= _r.reach, _any <= _c.reach),
    assumed=(
        within(_z, _any),
        (_known & equal(_lo, 0) & within(_z, _c.reach)).implies(within(_fl - _z, _c)),
        within(_z, _r.reach).implies(within(_fl - _z, _r)),
    ),
    error=_fl - _z,
    radius=Chosen(_known & equal(_lo, 0), _c, _r),
    reach=_any,
)

_power = _known & PowerOfTwo(magnitude(_lo))
_one = _known & equal(magnitude(_lo), 1)
_scaled = rounding("s")
KNOWN_FACTOR = RoundingLemma(
    "known-factor",
    "A product with an exactly known power of two rounds only by underflow, one with 0 or ±1 like "
    "a copy; a quotient by one of them likewise.",
    "IEEE 754; format lemma scaling-exact",
    hypotheses=(_any <= _r.reach, _any <= _scaled.reach, _any <= _c.reach),
    assumed=(
        within(_z, _any),
        within(_z, _r.reach).implies(within(_fl - _z, _r)),
        ((_power | (_known & equal(_lo, 0))) & within(_z, _scaled.reach)).implies(
            within(_fl - _z, _scaled)
        ),
        (_one & within(_z, _c.reach)).implies(within(_fl - _z, _c)),
    ),
    error=_fl - _z,
    radius=Chosen(_one, _c, Chosen(_power | (_known & equal(_lo, 0)), _scaled, _r)),
    reach=_any,
)

_wide, _narrow, _f = bound("wide"), bound("narrow"), bound("f")
HELD_ALREADY = Lemma(
    "held-already",
    "What two formats compute without an error is a number of both, and converting it errs like a "
    "copy.",
    "IEEE 754",
    hypotheses=(),
    assumed=(
        within(_fl - _z, _e),
        ((_wide <= 0) & (_narrow <= 0)).implies(within(_fl - _z, _f)),
    ),
    error=_fl - _z,
    radius=Chosen((_wide <= 0) & (_narrow <= 0), smaller(_e, _f), _e),
)

_u = number("u")
INTEGER_HELD = RoundingLemma(
    "integer-held",
    "An integer of magnitude at most 1/u is a number of the format.",
    "IEEE 754",
    hypotheses=(_any <= _r.reach,),
    assumed=(
        within(_z, _any),
        within(_z, _r.reach).implies(within(_fl - _z, _r)),
        (_any * _u <= 1).implies(equal(_fl, _z)),
    ),
    error=_fl - _z,
    radius=Chosen(_any * _u <= 1, term(0), _r),
    reach=_any,
)

_f_x, _f_hat = value("f_x", "f(x)"), value("f_hat", "f(x̂)")
JUMP = Lemma(
    "jump",
    "Two values of a function that lie in [lo, hi] differ by at most hi − lo, and not at all where "
    "the argument has not moved.",
    OWN,
    hypotheses=(),
    assumed=(
        every(_lo <= _f_x, _f_x <= _hi, _lo <= _f_hat, _f_hat <= _hi),
        (_e <= 0).implies(equal(_f_hat, _f_x)),
    ),
    error=_f_hat - _f_x,
    radius=Chosen(_e <= 0, term(0), larger(_hi - _lo, 0)),
)

_a_lo, _a_hi, _b_lo, _b_hi = (
    number(name, signed=True) for name in ("a_lo", "a_hi", "b_lo", "b_hi")
)
_ea, _eb, _a, _b = bound("ea", "e_a"), bound("eb", "e_b"), value("a"), value("b")
_yes, _no = (term(0) < _lo) | (_hi < 0), equal(_lo, 0) & equal(_hi, 0)
_apart = larger(larger(_a_hi - _b_lo, _b_hi - _a_lo), 0)
_unflipped = Chosen(_yes, _ea, Chosen(_no, _eb, larger(_ea, _eb)))
_chosen, _chosen_hat = value("y", "y"), value("y_hat", "ŷ")
_cond = value("c")
_is_a, _is_b = within(_chosen_hat - _a, _ea), within(_chosen_hat - _b, _eb)
SELECTED = Lemma(
    "selected",
    "One of two numbers of [a_lo, a_hi] and [b_lo, b_hi], as a condition of [lo, hi] says: off by "
    "what that one is off by, and by how far they may be apart too where the condition is off.",
    OWN,
    hypotheses=(),
    assumed=(
        every(_lo <= _cond, _cond <= _hi),
        every(_a_lo <= _a, _a <= _a_hi, _b_lo <= _b, _b <= _b_hi),
        equal(_cond, 0).implies(equal(_chosen, _b)),
        (~equal(_cond, 0)).implies(equal(_chosen, _a)),
        _is_a | _is_b,
        (_e <= 0).implies((equal(_cond, 0) & _is_b) | (~equal(_cond, 0) & _is_a)),
    ),
    error=_chosen_hat - _chosen,
    radius=Chosen(_e <= 0, _unflipped, larger(_ea, _eb) + _apart),
)

_E, _pi, _h, _R = number("E"), bound("pi", "π"), rounding("h"), number("R")
_s_hat, _t, _p = value("s_hat", "ŝ"), value("t"), value("p")
CHAIN_STEP = Lemma(
    "chain-step",
    "Known schedule: if the sum so far is off by at most E − π, the next term by at most π, and "
    "the addition rounds anything up to M + E, or what the contract's own numbers show to be at "
    "most R, with error at most h, the step adds at most π + h.",
    HIGHAM + "section 4.2",
    hypotheses=(smaller(_M + _E, _R) <= _h.reach,),
    assumed=(
        within(_s_hat - _s, _E - _pi),
        within(_p - _t, _pi),
        within(_s + _t, _M),
        within(_s_hat + _p, _R),
        within(_s_hat + _p, _h.reach).implies(within(_fl - (_s_hat + _p), _h)),
    ),
    error=(_fl - (_s + _t)) - (_s_hat - _s),
    radius=_pi + _h,
    rests_on=("sequential-step",),
)
_b_hat = value("b_hat", "b̂")
_a_hat = value("a_hat", "â")
OPERANDS_OF_SUM = Lemma(
    "operands-of-sum",
    "If operands below λ may be read as 0, a sum changes by at most 2·λ.",
    "flush to zero as in Intel SDM vol. 1, 10.2.3, and Arm ARM, FPCR.FZ",
    hypotheses=(),
    assumed=(
        equal(_a_hat, _a) | (equal(_a_hat, 0) & (magnitude(_a) < _tiny)),
        equal(_b_hat, _b) | (equal(_b_hat, 0) & (magnitude(_b) < _tiny)),
    ),
    error=(_a_hat + _b_hat) - (_a + _b),
    radius=2 * _tiny,
    rests_on=("flush-operand-sum",),
)
_before, _steps = bound("before"), bound("steps")
CHAIN = Lemma(
    "chain",
    "A chain whose steps add at most Σ in all, if no error on the way exceeds E, is off by at most "
    "that: what its start is off by, plus Σ, is at most E.",
    HIGHAM + "section 4.2",
    hypotheses=(_before + _steps <= _E,),
    assumed=((_before + _steps <= _E).implies(within(_fl - _s, _before + _steps)),),
    error=_fl - _s,
    radius=_before + _steps,
)

LEMMAS = (
    ROUNDING_MODEL,
    WITHIN_RANGE,
    OPERAND_LOSS,
    UNTOUCHED,
    STORED_NUMBER,
    COMPUTED_PRODUCT,
    COMPUTED_QUOTIENT,
    COMPUTED_ROOT,
    ZERO_OPERAND,
    KNOWN_FACTOR,
    HELD_ALREADY,
    INTEGER_HELD,
    JUMP,
    SELECTED,
    CHAIN_STEP,
    OPERANDS_OF_SUM,
    CHAIN,
)
