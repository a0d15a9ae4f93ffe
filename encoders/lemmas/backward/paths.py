"""Lemmas on backward errors: what runs as the exact result of parameters that are moved a little.

The distance of two numbers of one sign is |ln(x̃/x)| (Olver 1978), which adds up along a path and
is halved by a root; L is ln(1 + δ) of a rounding, of which no more is used than 1 + t ≤ exp(t).
"""

from __future__ import annotations

from encoders.lemmas.lemma import Lemma
from encoders.lemmas.terms import (
    bound,
    every,
    number,
    term,
    value,
    within,
)

BEAN = (
    "Kellison, Zielinski, Bindel & Hsu 2025, Bean: A Language for Backward Error Analysis, PLDI; "
    "Olver 1978, SIAM J. Numer. Anal. 15"
)

_u, _k = number("u"), number("k")
_delta, _L = value("delta", "δ"), value("L", "ln(1 + δ)")
_v = _u / (term(1) + _u)

LOG_ROUNDING = Lemma(
    "log-rounding",
    "A rounding to nearest in the normal range, 1 + δ with |δ| ≤ u/(1 + u), is |ln(1 + δ)| ≤ u "
    "away from none.",
    "1 + x ≤ exp(x), of ln(1 + δ) and of its negative",
    hypotheses=(),
    assumed=(
        within(_delta, _v),
        _delta >= _L,
        -_L * (term(1) + _delta) <= -_delta,
    ),
    error=_L,
    radius=_u,
    by_way_of=(
        _delta <= _u,
        _delta * (term(1) + _u) >= -_u,
        (term(1) + _delta) * (term(1) + _u) >= 1,
        -_delta <= _u * (term(1) + _delta),
        (-_L - _u) * (term(1) + _delta) <= 0,
    ),
)

_theta, _i, _share = value("theta", "θ"), value("i"), value("c")
PERTURBED_PATH = Lemma(
    "perturbed-path",
    "What is asked of a result, θ with |θ| ≤ i·u, and the rounding of it, |L| ≤ u, move an operand "
    "by a share c of both, at most k·u for c·(i + 1) ≤ k: c = 1 of a term, and of a factor that "
    "alone can move, 1/2 of each of two factors.",
    BEAN,
    hypotheses=(),
    assumed=(
        every(_i >= 0, _share >= 0, _share * (_i + 1) <= _k),
        within(_theta, _i * _u),
        within(_L, _u),
    ),
    error=_share * (_theta + _L),
    radius=_k * _u,
    rests_on=("log-rounding",),
    by_way_of=(
        within(_theta + _L, (_i + 1) * _u),
        within(_share * (_theta + _L), _share * ((_i + 1) * _u)),
        _share * (_i + 1) * _u <= _k * _u,
    ),
)

_g, _phi = bound("g"), value("phi", "φ")
RELATIVE_OF_LOG = Lemma(
    "relative-of-log",
    "A factor φ = exp(θ) with |θ| ≤ g < 1 differs from 1 by at most g/(1 − g).",
    "1 + x ≤ exp(x)",
    hypotheses=(_g < 1,),
    assumed=(within(_theta, _g), _phi >= term(1) + _theta, _phi * (term(1) - _theta) <= 1),
    error=_phi - 1,
    radius=_g / (term(1) - _g),
    by_way_of=(
        _phi >= 0,
        _phi * (term(1) - _g) <= 1,
        (_phi - 1) * (term(1) - _g) <= _g,
        _g * (term(1) - _g) <= _g,
    ),
)

_nu, _A = value("nu", "ν"), bound("A")
GROWN_BESIDES = Lemma(
    "grown-besides",
    "What comes beside, ν with |ν| ≤ A, and is multiplied by φ = exp(θ), |θ| ≤ g < 1, is at most "
    "A/(1 − g).",
    "1 + x ≤ exp(x)",
    hypotheses=(_g < 1,),
    assumed=(within(_theta, _g), every(_phi >= 0, _phi * (term(1) - _theta) <= 1), within(_nu, _A)),
    error=_phi * _nu,
    radius=_A / (term(1) - _g),
    by_way_of=(
        _phi * (term(1) - _g) <= 1,
        within(_phi * _nu, _phi * _A),
        (_phi * _A) * (term(1) - _g) <= _A,
    ),
)

LEMMAS = (LOG_ROUNDING, PERTURBED_PATH, RELATIVE_OF_LOG, GROWN_BESIDES)
