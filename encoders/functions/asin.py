"""The inverse sine and cosine, from −1 to 1: f'' has the sign of x, or the other one."""

from __future__ import annotations

import flint
import numpy as np

from encoders.functions.curve import Curve, Number, Reals, Shape, bends, within
from encoders.functions.function import Figures, Function, formula

_QUARTER, _HALF = 1.5708, 3.1416  # above π/2 and π, rounded to any format
_INFINITY = float("inf")
_FIGURES = Figures.in_ulps(6.0, onnxruntime=5.5, cuda=2.5)


def _slope(field: Reals, x: Number) -> Number:
    return 1 / field.sqrt((1 - x) * (1 + x))


def _downward(field: Reals, x: Number) -> Number:
    return -_slope(field, x)


ASIN = Function(
    "asin",
    _FIGURES,
    approximate=np.arcsin,
    ball=flint.arb.asin,
    curve=Curve(
        bends(formula("asin"), _slope, [(0.0, 0.0)], first=Shape.CONCAVE, start=-1.0, end=1.0),
        within(-_QUARTER, _QUARTER),
        (1.0, _INFINITY),
    ),
    largest=_QUARTER,
    domain=(-1.0, 1.0),
)
ACOS = Function(
    "acos",
    _FIGURES,
    approximate=np.arccos,
    ball=flint.arb.acos,
    curve=Curve(
        bends(formula("acos"), _downward, [(0.0, 0.0)], first=Shape.CONVEX, start=-1.0, end=1.0),
        within(0.0, _HALF),
        (-_INFINITY, -1.0),
    ),
    largest=_HALF,
    domain=(-1.0, 1.0),
)
FUNCTIONS = (ASIN, ACOS)
