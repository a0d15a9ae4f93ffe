"""Lemmas on rows that are normalised: z = c/σ, c the deviations and σ the root of a variance."""

from __future__ import annotations

from fractions import Fraction

from encoders.lemmas.lemma import Lemma
from encoders.lemmas.terms import (
    bound,
    equal,
    every,
    number,
    rounding,
    smaller,
    value,
    values,
    within,
)

HIGHAM = "Higham 2002, Accuracy and Stability of Numerical Algorithms, 2nd ed., "
OWN = "algebra"

_e, _f = bound("e"), bound("f")
_root, _root_hat = value("root", "√x"), value("root_hat", "√x̂")
_low, _rho = number("low", "l", signed=True), number("rho", "ρ")
_apart = _root_hat - _root
ROOTS_APART = Lemma(
    "roots-apart",
    "√x̂ and √x of an x ≥ l that is off by e differ by at most e/(2·ρ), ρ² ≤ l − e.",
    OWN,
    hypotheses=(_rho > 0, _rho * _rho + _e <= _low),
    assumed=(
        every(_root >= 0, _root_hat >= 0, _root * _root >= _low),
        within(_root_hat * _root_hat - _root * _root, _e),
    ),
    error=_apart,
    radius=_e / _rho * Fraction(1, 2),
    rests_on=("sqrt-difference",),
    by_way_of=(
        every(_root >= _rho, _root_hat >= _rho),
        within(_apart * (_root + _root_hat), _e),
        within(_apart * (2 * _rho), _e),
    ),
)

_sigma, _sigma_hat = value("sigma", "σ"), value("sigma_hat", "σ̂")
_quotient, _delta = value("kappa", "σ/σ̂"), value("delta", "δ")
_least, _top, _bottom = number("least", "2^emin"), number("top"), number("low", "l")
_k, _u = number("k"), number("u")
_slack = _k * _u * (1 + 16 * _u)
_inverse = _f / (_bottom - _f)
RECIPROCAL = Lemma(
    "reciprocal-root",
    "The reciprocal of a σ in [l, top] that is off by f ≤ l/2, computed with k roundings or with "
    "an error of k units, where nothing underflows, is off by the relative I + (1 + I)·s, "
    "I = f/(l − f) and s = k·u·(1 + 16·u).",
    HIGHAM + "section 3.1; vendors' documents of reciprocal square roots",
    hypotheses=(_bottom > 0, 2 * _f <= _bottom, 4 * _least * _top < 1),
    assumed=(
        every(_bottom <= _sigma, _sigma <= _top),
        within(_sigma_hat - _sigma, _f),
        equal(_quotient * _sigma_hat, _sigma),
        (4 * _least * _top < 1).implies(within(_delta, _slack)),
    ),
    error=_quotient * (1 + _delta) - 1,
    radius=_inverse + (1 + _inverse) * _slack,
    rests_on=("quotient-error",),
    by_way_of=(
        _sigma_hat >= _bottom - _f,
        within((_quotient - 1) * _sigma_hat, _f),
        within(_quotient - 1, _inverse),
        within(_quotient * _delta, (1 + _inverse) * _slack),
    ),
)

_M, _part = number("M"), number("a")
_wide, _shift, _ratio = value("w"), value("m"), value("omega", "w/σ")
SHIFTED_NORM = Lemma(
    "shifted-norm",
    "The norm w of deviations, whose sum is 0, and of √ε, when one number m, |m| ≤ M, is taken "
    "from all of the deviations, is off from their norm σ ≥ l by at most the relative a, with "
    "M² ≤ 2·a·l².",
    "Σ(c − m)² = Σc² + n·m² where Σc = 0",
    hypotheses=(_bottom > 0, 2 * _part * (_bottom * _bottom) >= _M * _M),
    assumed=(
        every(_bottom <= _sigma, _wide >= 0),
        equal(_wide * _wide, _sigma * _sigma + _shift * _shift),
        within(_shift, _M),
        equal(_ratio * _sigma, _wide),
    ),
    error=_ratio - 1,
    radius=_part,
    by_way_of=(
        _shift * _shift <= _M * _M,
        _bottom * _bottom <= _sigma * _sigma,
        _part * (_bottom * _bottom) <= _part * (_sigma * _sigma),
        _shift * _shift <= 2 * _part * (_sigma * _sigma),
        _wide * _wide <= ((1 + _part) * _sigma) * ((1 + _part) * _sigma),
        _wide <= (1 + _part) * _sigma,
        _sigma <= _wide,
        _ratio * _sigma <= (1 + _part) * _sigma,
    ),
)

_k_th, _last, _of_step, _of_rounding = (number(n) for n in ("k", "L", "A", "R"))
_before, _after, _step, _rounded = values("b b_next o q")
_running, _reached, _size, _given = number("B"), number("P"), number("X"), bound("E")
_tiny = number("h")
_a_step = 3 * _u * (1 + 2 * _u) * (_reached + _running) + (1 + 4 * _u) * _given
_a_rounding = _u * (_size + 2 * _running) + _tiny
RUNNING_MEAN = Lemma(
    "running-mean",
    "The mean of k numbers of magnitude at most X, kept from number to number, m̂ + (x − m̂)/k, is "
    "off by at most B where the one before is off by at most L: a step's difference is off by "
    "A ≥ 3·u·(1 + 2·u)·(P + B) + (1 + 4·u)·E, numbers being read with errors of at most E and "
    "differing by at most P, and the sum by R ≥ u·(X + 2·B) + h.",
    "Welford 1962, Technometrics 4(3); k·m_k = (k − 1)·m_(k − 1) + x_k",
    hypotheses=(
        _k_th >= 1,
        _last <= _running,
        _a_step <= _of_step,
        _a_rounding <= _of_rounding,
        (_k_th - 1) * _last + _of_step + _k_th * _of_rounding <= _k_th * _running,
    ),
    assumed=(
        within(_before, _last),
        (_last <= _running).implies((_a_step <= _of_step).implies(within(_step, _of_step))),
        (_last <= _running).implies(
            (_a_rounding <= _of_rounding).implies(within(_rounded, _of_rounding))
        ),
        equal(_k_th * _after, (_k_th - 1) * _before + _step + _k_th * _rounded),
    ),
    error=_after,
    radius=_running,
    rests_on=("rounding-model", "underflow-term"),
    by_way_of=(
        within(_step, _of_step),
        within(_rounded, _of_rounding),
        within((_k_th - 1) * _before, (_k_th - 1) * _last),
        within(_k_th * _rounded, _k_th * _of_rounding),
        within(_k_th * _after, _k_th * _running),
    ),
)

_inner, _squares, _computed = value("s_var", "√var"), value("v", "d"), value("v_hat", "v̂")
_per, _floor, _largest_off = number("g"), value("eps_hat", "ε"), bound("M", "G")
_share = _inner * _inner + 3 * _largest_off * _inner + _largest_off * _largest_off
RUNNING_VARIANCE = Lemma(
    "running-variance",
    "The variance of a row and ε, σ² = var + ε ≥ l², as Σ(x − m̂_(k − 1))·(x − m̂_k)/n with means of "
    "the numbers so far, where what is multiplied is off by at most G, and sums and products are "
    "off by the relative g, is off by at most the relative a + (1 + a)·g, a·l² ≥ 3·G·l + G².",
    "Welford 1962, Technometrics 4(3); Σ(x_k − m_(k − 1))² ≤ 2·n·var over k ≥ 2, and Cauchy and "
    "Schwarz: what is exact of it is off from var by at most 2·√2·G·√var + G²",
    hypotheses=(
        _bottom > 0,
        _part * (_bottom * _bottom) >= 3 * _largest_off * _bottom + _largest_off * _largest_off,
    ),
    assumed=(
        every(_bottom <= _sigma, _inner >= 0, _floor >= 0),
        equal(_sigma * _sigma, _inner * _inner + _floor),
        within(_squares - _inner * _inner, 3 * _largest_off * _inner + _largest_off * _largest_off),
        within(_computed - (_squares + _floor), _per * (_share + _floor)),
        equal(_ratio * (_sigma * _sigma), _computed),
    ),
    error=_ratio - 1,
    radius=_part + (1 + _part) * _per,
    rests_on=("sum-any-order", "relatively-rounded"),
    by_way_of=(
        _inner * _inner <= _sigma * _sigma,
        _inner <= _sigma,
        _largest_off * _inner <= _largest_off * _sigma,
        3 * _largest_off * _bottom <= _part * _bottom * _bottom,
        3 * _largest_off <= _part * _bottom,
        3 * _largest_off * (_sigma - _bottom) <= _part * _bottom * (_sigma - _bottom),
        3 * _largest_off * _sigma + _largest_off * _largest_off <= _part * _bottom * _sigma,
        _part * _sigma * _bottom <= _part * _sigma * _sigma,
        3 * _largest_off * _inner + _largest_off * _largest_off <= _part * (_sigma * _sigma),
        _share + _floor <= (1 + _part) * (_sigma * _sigma),
        _per * (_share + _floor) <= _per * ((1 + _part) * (_sigma * _sigma)),
        within(
            _computed - _sigma * _sigma,
            (_part + (1 + _part) * _per) * (_sigma * _sigma),
        ),
        within(
            (_ratio - 1) * (_sigma * _sigma),
            (_part + (1 + _part) * _per) * (_sigma * _sigma),
        ),
    ),
)

_alpha = value("alpha", "α")
RELATIVELY_ROUNDED = Lemma(
    "relatively-rounded",
    "What is off by the relative e, and rounded with a relative error of at most u, is off by at "
    "most the relative e + (1 + e)·u.",
    HIGHAM + "section 3.1",
    hypotheses=(),
    assumed=(within(_alpha, _e), within(_delta, _u)),
    error=(1 + _alpha) * (1 + _delta) - 1,
    radius=_e + (1 + _e) * _u,
    rests_on=("rounding-model",),
    by_way_of=(within((1 + _alpha) * _delta, (1 + _e) * _u),),
)

_z, _dc, _d, _factor, _fl = values("z dc d k fl")
OVER_SIGMA = Lemma(
    "over-sigma",
    "What is off by e, over a σ ≥ l, is off by at most e/l.",
    OWN,
    hypotheses=(_bottom > 0,),
    assumed=(_bottom <= _sigma, within(_dc, _e), equal(_d * _sigma, _dc)),
    error=_d,
    radius=_e / _bottom,
    by_way_of=(within(_d * _bottom, _e),),
)

_Z, _F, _h, _lost = number("Z"), bound("F"), number("h"), number("lost", "λ'")
NORMALIZED = Lemma(
    "normalized",
    "z = c/σ, |z| ≤ Z, of a c/σ that is off by e, times a reciprocal that is off by the relative "
    "F, and by 2·h + λ' beyond that, is off by at most e + (Z + e)·F + 2·h + λ'.",
    HIGHAM + "section 3.1",
    hypotheses=(),
    assumed=(
        within(_z, _Z),
        within(_d, _e),
        within(_factor - 1, _F),
        within(_fl - (_z + _d) * _factor, 2 * _h + _lost),
    ),
    error=_fl - _z,
    radius=_e + (_Z + _e) * _F + (2 * _h + _lost),
    rests_on=("relative-quotient", "underflow-term"),
    by_way_of=(within((_z + _d) * (_factor - 1), (_Z + _e) * _F),),
)

_s, _o, _phi, _c = values("s o phi c")
_S, _P, _relative = number("S"), number("P"), _F + (1 + _F) * (8 * _u)
FOLDED_SCALE = Lemma(
    "folded-scale",
    "s = c/σ with |c| ≤ S ≤ P·l, σ ≥ l, off by e before what σ and the product that it is in are "
    "off by, the relative R = F + (1 + F)·8·u, is off by at most e + (P + e)·R.",
    HIGHAM + "section 3.1",
    hypotheses=(_bottom > 0, _P * _bottom >= _S),
    assumed=(
        within(_c, _S),
        _bottom <= _sigma,
        equal(_s * _sigma, _c),
        within(_o, _e),
        within(_phi, _relative),
    ),
    error=(_s + _o) * (1 + _phi) - _s,
    radius=_e + (_P + _e) * _relative,
    rests_on=("relative-quotient",),
    by_way_of=(
        within(_s * _bottom, _S),
        within(_s, _P),
        within((_s + _o) * _phi, (_P + _e) * _relative),
    ),
)

_x, _mu, _dmu, _ds, _a, _b, _b_hat = values("x mu dmu ds a b b_hat")
_X, _of_mean = number("X"), bound("em", "e_μ")
_of_scale, _of_bias = bound("es", "e_s"), bound("eb", "e_b")
_spread = _X + (_M + _of_mean)
_through = _a * (_s + _ds) + _b_hat
FOLDED = Lemma(
    "folded",
    "(x − μ)·s + b computed as x·ŝ + (b̂ − μ̂·ŝ), a·ŝ + b̂ with a = x − μ̂ = x − μ − δ, |s| ≤ P: "
    "nothing is lost to cancellation but what ŝ, μ̂ and b̂ are off by, and h for each number that is "
    "made 0 on the way, times what it is multiplied by.",
    HIGHAM + "section 3.1",
    hypotheses=(),
    assumed=(
        within(_x, _X),
        within(_mu, _M),
        within(_dmu, _of_mean),
        equal(_a, _x - (_mu + _dmu)),
        within(_s, _P),
        within(_ds, _of_scale),
        within(_b_hat - _b, _of_bias),
        within(_fl - _through, (_spread + (_P + _of_scale) + 2) * _h),
    ),
    error=_fl - ((_a + _dmu) * _s + _b),
    radius=_spread * _of_scale + _of_mean * _P + (_spread + (_P + _of_scale) + 2) * _h + _of_bias,
    rests_on=("folded-scale", "product-error", "underflow-term"),
    by_way_of=(
        within(_a, _spread),
        within(_a * _ds, _spread * _of_scale),
        within(_dmu * _s, _of_mean * _P),
    ),
)

_y, _r = value("y"), rounding("r")
ROUNDED_THRICE = Lemma(
    "rounded-thrice",
    "Three roundings of numbers of magnitude at most M, each with an error of at most r, of what "
    "is off by e.",
    HIGHAM + "section 3.3 (running error analysis)",
    hypotheses=(_r.reach >= _M,),
    assumed=(within(_z - _y, _e), (_r.reach >= _M).implies(within(_fl - _z, 3 * _r))),
    error=_fl - _y,
    radius=_e + 3 * _r,
    rests_on=("rounding-model",),
)

_to, _to_hat, _inner = value("s", "σ"), value("s_hat", "σ̂"), value("i", "u·û/n")
_apart_z, _square, _length = value("N", "‖ẑ − z‖"), value("q", "‖û − u‖²/n"), value("n")
_long = number("Y")
NORMALIZED_ROW = Lemma(
    "normalized-row",
    "Rows z = u/σ and ẑ = û/σ̂, σ = ‖u‖/√n and σ̂ = ‖û‖/√n at least l: their distance is at most e/l "
    "if that of u and û is at most e, whatever n is, and twice what either is long at most.",
    "‖u/|u| − û/|û|‖² = (‖u − û‖² − (|u| − |û|)²)/(|u|·|û|)",
    hypotheses=(_bottom > 0,),
    assumed=(
        every(_to >= _bottom, _to_hat >= _bottom, _apart_z >= 0, _length > 0),
        equal(_square, _to * _to + _to_hat * _to_hat - 2 * _inner),
        equal(_apart_z * _apart_z * (_to * _to_hat), _length * (2 * (_to * _to_hat) - 2 * _inner)),
        _length * _square <= _e * _e,
        _apart_z <= 2 * _long,
    ),
    error=_apart_z,
    radius=smaller(_e / _bottom, 2 * _long),
    by_way_of=(
        2 * (_to * _to_hat) <= _to * _to + _to_hat * _to_hat,
        _length * (2 * (_to * _to_hat) - 2 * _inner) <= _length * _square,
        _apart_z * _apart_z * (_to * _to_hat) <= _e * _e,
        _bottom * _bottom <= _to * _to_hat,
        _apart_z * _apart_z * (_bottom * _bottom) <= _apart_z * _apart_z * (_to * _to_hat),
        _apart_z * _bottom * (_apart_z * _bottom) <= _e * _e,
        _apart_z * _bottom <= _e,
    ),
)

_over, _deep, _line = value("kappa", "1/σ̂"), value("delta", "σ̂ − σ"), value("p", "u·d")
_g, _of_over = number("g"), number("rho", "ρ")
_of_deep, _off_line = bound("D"), bound("E")
RELATIVE_DEPTH = Lemma(
    "relative-depth",
    "(σ̂ − σ)/σ̂ is g·(u·d) up to D·ρ + g·E: |1/σ̂ − g| ≤ ρ, |σ̂ − σ| ≤ D, |σ̂ − σ − u·d| ≤ E.",
    OWN,
    hypotheses=(),
    assumed=(
        within(_over - _g, _of_over),
        within(_deep, _of_deep),
        within(_deep - _line, _off_line),
    ),
    error=_deep * _over - _g * _line,
    radius=_of_deep * _of_over + _g * _off_line,
    by_way_of=(
        within(_deep * (_over - _g), _of_deep * _of_over),
        within(_g * (_deep - _line), _g * _off_line),
    ),
)

_off, _on, _share, _near = value("t", "v·d"), value("zeta", "v·z"), value("r"), value("q")
_w, _size_w, _of_on = number("w", signed=True), number("W"), number("Y")
_of_off, _of_share, _of_near = bound("S"), bound("Q"), bound("V")
FUNCTIONAL_OF_ROW = Lemma(
    "functional-of-row",
    "v·(ẑ − z) of rows z = c/σ and ẑ = (c + d)/σ̂ is (v·d)/σ̂ − (v·z)·r, r = (σ̂ − σ)/σ̂, which is "
    "g·(v·d) − w·q up to S·ρ + (W + Y)·Q + Y·V: |v·d| ≤ S, |1/σ̂ − g| ≤ ρ, |v·z − w| ≤ Y, |w| ≤ W, "
    "|r − q| ≤ Q, |q| ≤ V.",
    OWN,
    hypotheses=(_w <= _size_w, -_w <= _size_w),
    assumed=(
        within(_off, _of_off),
        within(_over - _g, _of_over),
        within(_on - _w, _of_on),
        within(_share - _near, _of_share),
        within(_near, _of_near),
    ),
    error=(_off * _over - _on * _share) - (_g * _off - _w * _near),
    radius=_of_off * _of_over + (_size_w + _of_on) * _of_share + _of_on * _of_near,
    rests_on=("relative-depth",),
    by_way_of=(
        within(_off * (_over - _g), _of_off * _of_over),
        within(_on, _size_w + _of_on),
        within(_on * (_share - _near), (_size_w + _of_on) * _of_share),
        within((_on - _w) * _near, _of_on * _of_near),
    ),
)

_limit = number("limit")
KNOWN_OPERAND = Lemma(
    "known-operand",
    "What an operation errs by, of an operand that is off by a finite number, f: not of one that "
    "may be an infinity, which a factor of 0 hides.",
    OWN,
    hypotheses=(_f <= _limit,),
    assumed=((_f <= _limit).implies(within(_fl - _z, _e)),),
    error=_fl - _z,
    radius=_e,
)

LEMMAS = (
    ROOTS_APART,
    RECIPROCAL,
    SHIFTED_NORM,
    RUNNING_MEAN,
    RUNNING_VARIANCE,
    RELATIVELY_ROUNDED,
    OVER_SIGMA,
    NORMALIZED,
    FOLDED_SCALE,
    FOLDED,
    ROUNDED_THRICE,
    NORMALIZED_ROW,
    RELATIVE_DEPTH,
    FUNCTIONAL_OF_ROW,
    KNOWN_OPERAND,
)
