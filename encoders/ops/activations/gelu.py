"""Gelu: x·Φ(x) through erf, or its tanh form, as the attribute `approximate` says.

The contract means 0.5·x·(1 + erf(x·√½)) and 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))), computed
in this order.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic
from encoders.arithmetic.values import V
from encoders.curves.gated_curves import GELU, GELU_TANH
from encoders.families.parameters import word
from encoders.families.signed_sum import check_float
from encoders.families.smooth import smooth_operator, stored
from encoders.functions.curve import Curve
from encoders.functions.erf import ERF
from encoders.functions.tanh import TANH
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.gradients.tape import Term
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.operator import Field, Site
from onnx_import.graph import DType

_HALF = Fraction(1, 2)
_CUBIC = Fraction(44715, 1000000)


def _by_tanh(site: Site) -> bool:
    return word(site, "approximate", "none", ("none", "tanh")) == "tanh"


def check(site: Site) -> None:
    check_float(site)
    _by_tanh(site)


def curve(site: Site) -> Curve:
    """The curve of the formula that the node's attribute `approximate` names."""
    return GELU_TANH if _by_tanh(site) else GELU


def real(site: Site, x: ObjectArray, field: Field) -> ObjectArray:
    half = field.number(_HALF)
    if not _by_tanh(site):
        scale = field.sqrt(field.constant(np.asarray(0.5)))
        return np.asarray(half * x * (1 + field.function(ERF, x * scale)))
    scale = field.sqrt(field.constant(np.asarray(2.0)) / field.pi())
    inner = scale * (x + field.number(_CUBIC) * (x * x * x))
    return np.asarray(half * x * (1 + field.function(TANH, inner)))


def runtime(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
    half, one = stored(arithmetic, 0.5), stored(arithmetic, 1.0)
    if _by_tanh(site):
        cube = arithmetic.multiply(arithmetic.multiply(x, x), x)
        inner = arithmetic.add(x, arithmetic.multiply(stored(arithmetic, float(_CUBIC)), cube))
        scaled = arithmetic.multiply(stored(arithmetic, math.sqrt(2.0 / math.pi)), inner)
        gate = arithmetic.function(TANH, scaled)
    else:
        scale = arithmetic.sqrt(half)
        gate = arithmetic.function(ERF, arithmetic.multiply(x, scale))
    return arithmetic.multiply(arithmetic.multiply(half, x), arithmetic.add(one, gate))


def uncharged(site: Site, x: Interval) -> FloatArray:
    """What constants √(2/π) and 0.044715 that are off by the relative e leave out.

    They change the argument t of tanh by less than 2e(1 + e)·|t|, hence the result by less than
    ½|x|·2e(1 + e)²·max t·sech²(t), and t·sech²(t) < 0.45 (its largest value is where
    2t·tanh(t) = 1). In float64 they are computed up to 2^-52; in the type double, onnxruntime has
    those of float32, as the function that ONNX defines has: 2^-24.
    """
    e = 2.0**-24 if site.type_of(0).dtype is DType.FLOAT64 else 2.0**-52
    return x.magnitude * (0.5 * e) if _by_tanh(site) else np.zeros_like(x.lo)


def gradient(r: Reverse) -> Carried:
    return {0: _by_tanh_back(r) if _by_tanh(r.site) else _by_erf_back(r)}


def _by_erf_back(r: Reverse) -> Term:
    """Φ(x) + x·φ(x)."""
    x, kind = r.x, r.x.kind.dtype
    below = ((x * r.tape.root(_HALF, kind)).apply("Erf") + 1) * 0.5
    density = (x * x * -0.5).apply("Exp") * r.tape.root(_HALF, kind, pi=-1)
    return r.up * (below + x * density)


def _by_tanh_back(r: Reverse) -> Term:
    x, kind = r.x, r.x.kind.dtype
    scale = r.tape.root(Fraction(2), kind, pi=-1)
    square = x * x
    gate = ((x + x * square * r.tape.root(_CUBIC**2, kind)) * scale).apply("Tanh")
    inner = (square * r.tape.root((3 * _CUBIC) ** 2, kind) + 1) * scale
    return r.up * ((gate + 1) * 0.5 + x * 0.5 * (1 - gate * gate) * inner)


OPERATORS = (
    smooth_operator(
        "Gelu",
        20,
        curve=curve,
        real=real,
        runtime=runtime,
        check=check,
        uncharged=uncharged,
        uses=(ERF, TANH),
    )
    .reading("approximate")
    .derived(Gradient(rule=gradient)),
)
