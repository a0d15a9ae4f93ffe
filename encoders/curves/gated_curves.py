"""Curves x·g(x) with a gate g rising from 0 to 1: Swish, Gelu and Mish.

All are concave, then convex, then concave again. Swish: f'' has the sign of 2 − x·tanh(x/2), and
x·tanh(x/2) rises with |x|, so it changes at ±2.399…; Gelu: f'' = φ(x)(2 − x²). For the tanh form
of Gelu and for Mish the tests certify the sign of f'' on the stretch of the line used here.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from encoders.functions.curve import Curve, Formula, Number, Reals, Shape, bends, positive_part
from encoders.functions.erf import ERF
from encoders.functions.exp import EXP
from encoders.functions.sigmoid import SIGMOID
from encoders.functions.softplus import SOFTPLUS
from encoders.functions.tanh import TANH

_SLOPES = (-0.2, 1.2)
_GELU_CUBIC = Fraction(44715, 1000000)


def _gated(value: Formula, slope: Formula, at: tuple[float, float], reach: float) -> Curve:
    places = [(v - 2.0**-46, v + 2.0**-46) for v in at]
    pieces = bends(value, slope, places=places, first=Shape.CONCAVE, start=-reach, end=reach)
    return Curve(pieces, positive_part(-0.33, 0.0), _SLOPES)


def swish_curve(alpha: float) -> Curve:
    """x·sigmoid(αx) = s(αx)/α for α > 0: the bends of s moved to ±2.399…/α."""
    rate = Fraction(alpha)

    def value(field: Reals, x: Number) -> Number:
        return x * field.function(SIGMOID, field.number(rate) * x)

    def slope(field: Reals, x: Number) -> Number:
        inner = field.number(rate) * x
        gate = field.function(SIGMOID, inner)
        return gate + inner * gate * field.function(SIGMOID, -inner)

    bend = 2.399357280515467668
    if alpha == 1.0:
        return _gated(value, slope, (-bend, bend), float("inf"))
    low, high = bend / alpha * (1 - 2.0**-46), bend / alpha * (1 + 2.0**-46)
    pieces = bends(value, slope, [(-high, -low), (low, high)], first=Shape.CONCAVE)
    return Curve(pieces, positive_part(-0.33 / alpha, 0.0), _SLOPES)


def _phi(field: Reals, x: Number) -> Number:
    """The normal distribution function; its density is `_density`."""
    scaled = x * _root(field, Fraction(1, 2))
    return field.number(Fraction(1, 2)) * (1 + field.function(ERF, scaled))


def _density(field: Reals, x: Number) -> Number:
    half = field.number(Fraction(1, 2))
    return field.function(EXP, -(x * x) * half) / (
        _root(field, Fraction(2)) * _root_of(field, field.pi())
    )


def _root(field: Reals, q: Fraction) -> Number:
    return _root_of(field, field.number(q))


def _root_of(field: Reals, number: Number) -> Number:
    return np.asarray(field.sqrt(np.asarray(number))).reshape(())[()]


def _gelu(field: Reals, x: Number) -> Number:
    return x * _phi(field, x)


def _gelu_slope(field: Reals, x: Number) -> Number:
    return _phi(field, x) + x * _density(field, x)


def _gelu_tanh_gate(field: Reals, x: Number) -> tuple[Number, Number]:
    """2k(x + 0.044715x³) and its derivative, k = √(2/π)."""
    twice = 2 * _root(field, Fraction(2)) / _root_of(field, field.pi())
    a = field.number(_GELU_CUBIC)
    return twice * (x + a * (x * x * x)), twice * (1 + 3 * a * (x * x))


def _gelu_tanh(field: Reals, x: Number) -> Number:
    gate, _ = _gelu_tanh_gate(field, x)  # (1 + tanh(z))/2 = sigmoid(2z)
    return x * field.function(SIGMOID, gate)


def _gelu_tanh_slope(field: Reals, x: Number) -> Number:
    gate, rate = _gelu_tanh_gate(field, x)
    gate_value = field.function(SIGMOID, gate)
    return gate_value + x * rate * gate_value * field.function(SIGMOID, -gate)


def _mish(field: Reals, x: Number) -> Number:
    return x * field.function(TANH, field.function(SOFTPLUS, x))


def _mish_slope(field: Reals, x: Number) -> Number:
    gate = field.function(TANH, field.function(SOFTPLUS, x))
    return gate + x * (1 - gate) * (1 + gate) * field.function(SIGMOID, x)


GELU = _gated(_gelu, _gelu_slope, (-(2.0**0.5), 2.0**0.5), float("inf"))
GELU_TANH = _gated(_gelu_tanh, _gelu_tanh_slope, (-1.4185040087908284, 1.4185040087908284), 30.0)
MISH = _gated(_mish, _mish_slope, (-2.2563763963607931, 1.4905711794854285), 30.0)
