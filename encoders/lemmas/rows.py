"""Lemmas on functions of whole rows of numbers: how far they move with the row."""

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
    value,
    values,
    within,
)

OWN = "algebra"
MEAN_VALUES = "mean value theorem; Moore 1966, Interval Analysis, for its interval form"

_f_x, _f_hat = value("f_x", "f(x)"), value("f_hat", "f(x̂)")
_lo, _hi = number("lo", signed=True), number("hi", signed=True)
_e, _s, _limit = bound("e"), bound("s"), bound("limit")

SAME_RANGE = Lemma(
    "same-range",
    "Two numbers of [lo, hi] differ by at most hi − lo.",
    OWN,
    hypotheses=(),
    assumed=(every(_lo <= _f_x, _f_x <= _hi, _lo <= _f_hat, _f_hat <= _hi),),
    error=_f_hat - _f_x,
    radius=larger(_hi - _lo, 0),
    rests_on=("step-jump",),
)

_carried = value("j", "J·d")
MEAN_VALUE = Lemma(
    "mean-value",
    "A function of a row moves by J·d, J its slopes somewhere between both rows, and so by at most "
    "Σ|J|·e, and by no more than any other bound on it.",
    MEAN_VALUES,
    hypotheses=(),
    assumed=(
        equal(_f_hat - _f_x, _carried),
        within(_carried, _s),
        within(_f_hat - _f_x, _limit),
    ),
    error=_f_hat - _f_x,
    radius=smaller(_s, _limit),
    rests_on=("affine-error", "mean-value-step"),
)

_A, _P, _p, _d = values("A P p d")
WEIGHTED_MEAN = Lemma(
    "weighted-mean",
    "A mean of differences, with weights ≥ 0 that add up to 1, is at most the largest of them: "
    "the step that adds a weight.",
    OWN,
    hypotheses=(),
    assumed=(within(_A, _P * _e), every(_p >= 0, _P + _p <= 1), within(_d, _e)),
    error=_A + _p * _d,
    step=(_P + _p) * _e,
    radius=_e,
    by_way_of=(within(_p * _d, _p * _e),),
)

_a, _a_hat, _x, _x_hat = value("a"), value("a_hat", "â"), value("x"), value("x_hat", "x̂")
_n, _n_hat, _D = value("n"), value("n_hat", "n̂"), value("D")
_q, _R = bound("q"), number("R")
_moved = (_a_hat - _a) * (_a_hat - _a)
NORM = Lemma(
    "norm-moves",
    "‖x̂‖ and ‖x‖ differ by at most R if R² is at least the sum of squares of differences: the step "
    "that adds a coordinate to norms â and a, the squares of the others adding up to D.",
    "triangle inequality",
    hypotheses=(_q <= _R * _R,),
    assumed=(
        every(_a >= 0, _a_hat >= 0, _n >= 0, _n_hat >= 0),
        equal(_n * _n, _a * _a + _x * _x),
        equal(_n_hat * _n_hat, _a_hat * _a_hat + _x_hat * _x_hat),
        _moved <= _D,
        _D + (_x_hat - _x) * (_x_hat - _x) <= _q,
    ),
    error=_n_hat - _n,
    radius=_R,
    by_way_of=(
        equal(
            (_n_hat * _n) * (_n_hat * _n),
            (_a_hat * _a + _x_hat * _x) * (_a_hat * _a + _x_hat * _x)
            + (_a_hat * _x - _x_hat * _a) * (_a_hat * _x - _x_hat * _a),
        ),
        _a_hat * _a + _x_hat * _x <= _n_hat * _n,
        (_n_hat - _n) * (_n_hat - _n) <= _q,
    ),
)

_root, _root_hat, _G, _t = value("root", "√s"), value("root_hat", "√ŝ"), value("G"), value("t")
_k, _u, _tiny = number("k"), number("u"), number("tiny", "λ")
_B, _C, _T, _N = number("B"), number("C"), number("T"), number("N")
_drift = _root_hat * _root_hat - _root * _root
ROOT_OF_SQUARES = Lemma(
    "root-of-squares",
    "The root of a sum of squares, at most N, each rounded k times on its way to the sum, which is "
    "off by the relative B ≥ k·u/(1 − k·u) and by underflows of 2·k·λ·(1 + B) ≤ T², is off by at "
    "most C·N + T, with B ≤ C·(2 − C).",
    "Higham 2002, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1",
    hypotheses=(
        _k * _u + _B * (_k * _u) <= _B,
        _B <= _C * (2 - _C),
        2 * _k * _tiny * (1 + _B) <= _T * _T,
    ),
    assumed=(
        every(_root >= 0, _root_hat >= 0, _root <= _N, _G >= 0),
        _G * (1 - _k * _u) <= _k * _u,
        _t <= 2 * _k * _tiny * (1 + _G),
        within(_drift, _G * (_root * _root) + _t),
    ),
    error=_root_hat - _root,
    radius=_C * _N + _T,
    rests_on=("sum-any-order", "fma-node", "dot-product", "underflow-term", "sqrt-difference"),
    by_way_of=(
        (_G - _B) * (1 - _k * _u) <= 0,
        _G <= _B,
        _G * (_root * _root) <= _B * (_root * _root),
        _t <= _T * _T,
        within(_drift, _B * (_root * _root) + _T * _T),
        _B * (_root * _root) <= (_C * (2 - _C)) * (_root * _root),
        within(_drift, (_C * (2 - _C)) * (_root * _root) + _T * _T),
        within(_root_hat - _root, _C * _root + _T),
    ),
)

_y, _y_hat, _g, _Y = value("y"), value("y_hat", "ŷ"), value("g"), number("Y")
PROBABILITY = Lemma(
    "probability-moves",
    "A probability of at most Y whose odds against each other change by a factor within e^a of 1, "
    "is off by at most Y·(a + a²) for a ≤ 1, and by hi − lo if it stays in [lo, hi].",
    "e^a − 1 ≤ a + a² for 0 ≤ a ≤ 1",
    hypotheses=(),
    assumed=(
        every(_lo <= _y, _y <= _hi, _lo <= _y_hat, _y_hat <= _hi),
        every(_y >= 0, _y <= _Y),
        within(_y_hat - _y, _y * _g),
        (_e <= 1).implies(_g <= _e + _e * _e),
    ),
    error=_y_hat - _y,
    radius=Chosen(
        _e <= 1, smaller(_Y * (_e + _e * _e), larger(_hi - _lo, 0)), larger(_hi - _lo, 0)
    ),
    by_way_of=((_e <= 1).implies(_y * _g <= _Y * (_e + _e * _e)),),
)

_d_p, _d_2 = value("d_p", "‖d‖ₚ"), value("d_2", "‖d‖₂")
P_NORM = Lemma(
    "p-norm-moves",
    "A p-norm, p ≥ 2, moves by no more than the p-norm of what its coordinates move by, which is "
    "at most their Euclidean norm, and so by at most a bound e on that.",
    "inequality of Minkowski",
    hypotheses=(),
    assumed=(every(_d_p >= 0, _d_p <= _d_2), within(_d_2, _e), within(_n_hat - _n, _d_p)),
    error=_n_hat - _n,
    radius=_e,
    rests_on=("norm-moves",),
)

_power, _phi = number("p"), value("phi", "φ")
ROOT_OF_POWERS = Lemma(
    "root-of-powers",
    "The p-th root of a sum of p-th powers, at most N, each rounded k times on its way to the sum, "
    "which is off by the relative B ≥ k·u/(1 − k·u) and by underflows whose p-th root is at most "
    "T, is off by at most C·N + T, with B ≤ C·p·(1 − B): (1 + γ)^(1/p) is within C of 1.",
    "Higham 2002, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1; mean value "
    "theorem",
    hypotheses=(_k * _u + _B * (_k * _u) <= _B, _C * _power * (1 - _B) >= _B),
    assumed=(
        every(_root >= 0, _root <= _N, _G >= 0),
        _G * (1 - _k * _u) <= _k * _u,
        ((_G <= _B) & (_C * _power * (1 - _B) >= _B)).implies(within(_phi, _C)),
        within(_root_hat - _root * (1 + _phi), _T),
    ),
    error=_root_hat - _root,
    radius=_C * _N + _T,
    rests_on=("sum-any-order", "underflow-term"),
    by_way_of=(
        (_G - _B) * (1 - _k * _u) <= 0,
        _G <= _B,
        within(_root * _phi, _C * _N),
    ),
)

_cov, _of_moves, _of_weighed = value("C"), value("A_d", "Σq·δ²"), value("B_w", "Σq·w²")
_reach = number("R")
MIXTURE_MOVES = Lemma(
    "mixture-moves",
    "Σp̂·w − Σp·w of probabilities p and p̂ whose scores are off by at most e: at most e·R if no "
    "|w| exceeds R. It is the covariance of δ and w under probabilities somewhere between.",
    "mean value theorem, ∂p_j/∂s_k = p_j·(δ_jk − p_k); Cauchy-Schwarz inequality",
    hypotheses=(),
    assumed=(
        every(_of_moves >= 0, _of_weighed >= 0),
        _cov * _cov <= _of_moves * _of_weighed,
        _of_moves <= _e * _e,
        _of_weighed <= _reach * _reach,
    ),
    error=_cov,
    radius=_e * _reach,
    by_way_of=(
        _of_moves * _of_weighed <= _e * _e * _of_weighed,
        _e * _e * _of_weighed <= _e * _e * (_reach * _reach),
        _cov * _cov <= _e * _reach * (_e * _reach),
    ),
)

_off, _total, _middle = value("off"), value("P_hat", "Σp̂"), value("m")
_T, _M = bound("T"), number("M")
SHIFTED_MIXTURE = Lemma(
    "shifted-mixture",
    "Σp̂·v̂ − Σp·v, where Σp = 1: what Σp̂·(v̂ − m) − Σp·(v − m) is, and (Σp̂ − 1)·m.",
    OWN,
    hypotheses=(),
    assumed=(within(_off, _e), within(_total - 1, _T), within(_middle, _M)),
    error=_off + (_total - 1) * _middle,
    radius=_e + _T * _M,
    by_way_of=(within((_total - 1) * _middle, _T * _M),),
)

_along, _functional, _of_row = value("f", "c·δ"), value("c", "‖c‖"), value("r", "‖δ‖")
_size = number("C")
ALONG_ROW = Lemma(
    "along-row",
    "A functional c of a row that moves by δ moves by at most ‖c‖·‖δ‖.",
    "Cauchy-Schwarz inequality",
    hypotheses=(),
    assumed=(
        every(_functional >= 0, _of_row >= 0),
        _along * _along <= _functional * _of_row * (_functional * _of_row),
        _functional <= _size,
        _of_row <= _e,
    ),
    error=_along,
    radius=_size * _e,
    by_way_of=(
        _functional * _of_row <= _size * _e,
        within(_along, _functional * _of_row),
    ),
)

_det, _det_moved, _det_hat = value("d", "det A"), value("d_e", "det(A + E)"), value("d_hat", "d̂")
_size_of_det, _tau = number("D"), bound("t")
PRODUCT_OF_PIVOTS = Lemma(
    "product-of-pivots",
    "The product of the pivots of an elimination is, but for its sign, det(A + E), which is off by "
    "at most e from det A, at most D; each of its k products is off by the relative u, all of them "
    "by B ≥ k·u/(1 − k·u), and by t in all below the normal numbers.",
    "Higham 2002, Accuracy and Stability of Numerical Algorithms, 2nd ed., sections 3.1, 9.3, 14.6",
    hypotheses=(_k * _u + _B * (_k * _u) <= _B,),
    assumed=(
        within(_det, _size_of_det),
        within(_det_moved - _det, _e),
        _G * (1 - _k * _u) <= _k * _u,
        within(_det_hat - _det_moved, _G * magnitude(_det_moved) + _tau),
    ),
    error=_det_hat - _det,
    radius=_e + _B * (_size_of_det + _e) + _tau,
    rests_on=("mean-value", "sum-any-order", "computed-product", "fma-node", "underflow-term"),
    by_way_of=(
        (_G - _B) * (1 - _k * _u) <= 0,
        _G <= _B,
        magnitude(_det_moved) <= _size_of_det + _e,
        _G * magnitude(_det_moved) <= _B * magnitude(_det_moved),
        _B * magnitude(_det_moved) <= _B * (_size_of_det + _e),
    ),
)

LEMMAS = (
    SAME_RANGE,
    MEAN_VALUE,
    WEIGHTED_MEAN,
    NORM,
    ROOT_OF_SQUARES,
    P_NORM,
    ROOT_OF_POWERS,
    PRODUCT_OF_PIVOTS,
    PROBABILITY,
    MIXTURE_MOVES,
    SHIFTED_MIXTURE,
    ALONG_ROW,
)
