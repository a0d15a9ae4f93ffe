"""Hyperbolic sine and cosine, and the inverses of the hyperbolic functions.

cosh is convex; sinh'' has the sign of x, asinh'' = −x/(1 + x²)^{3/2} the other, acosh is concave,
and atanh'' = 2x/(1 − x²)² has the sign of x again.
"""

from __future__ import annotations

import flint
import numpy as np

from encoders.functions.curve import Curve, Number, Piece, Reals, Shape, bends, within
from encoders.functions.function import Figures, Function, formula

_INFINITY = float("inf")
_BELOW_ONE = 1.0 - 2.0**-53  # the largest float64 number that is
_BENT = [(0.0, 0.0)]
_COMPUTED = (-709.0, 709.0)  # beyond, in float64, torch 2.x overflows before the result does


def _asinh_slope(field: Reals, x: Number) -> Number:
    return 1 / field.sqrt(1 + x * x)


def _acosh_slope(field: Reals, x: Number) -> Number:
    return 1 / field.sqrt((x - 1) * (x + 1))


def _atanh_slope(field: Reals, x: Number) -> Number:
    return 1 / ((1 - x) * (1 + x))


SINH = Function(
    "sinh",
    Figures.in_ulps(4.0, onnxruntime=2.5, cuda=3.5),
    approximate=np.sinh,
    ball=flint.arb.sinh,
    series=lambda x: (x.exp() - (-x).exp()) / 2,
    curve=Curve(
        bends(formula("sinh"), formula("cosh"), _BENT, first=Shape.CONCAVE),
        within(-_INFINITY, _INFINITY),
        (1.0, _INFINITY),
    ),
    domain=_COMPUTED,
)
COSH = Function(
    "cosh",
    Figures.in_ulps(4.0, onnxruntime=2.5, cuda=2.5),
    approximate=np.cosh,
    ball=flint.arb.cosh,
    series=lambda x: (x.exp() + (-x).exp()) / 2,
    curve=Curve(
        (Piece(-_INFINITY, _INFINITY, Shape.CONVEX, formula("cosh"), formula("sinh")),),
        within(1.0, _INFINITY),
        (-_INFINITY, _INFINITY),
    ),
    domain=_COMPUTED,
)
ASINH = Function(
    "asinh",
    Figures.in_ulps(4.0, onnxruntime=2.5, cuda=3.5),
    approximate=np.arcsinh,
    ball=flint.arb.asinh,
    curve=Curve(
        bends(formula("asinh"), _asinh_slope, _BENT, first=Shape.CONVEX),
        within(-_INFINITY, _INFINITY),
        (0.0, 1.0),
    ),
)
ACOSH = Function(
    "acosh",
    Figures.in_ulps(5.0, onnxruntime=3.0, cuda=4.5),
    approximate=np.arccosh,
    ball=flint.arb.acosh,
    curve=Curve(
        (Piece(1.0, _INFINITY, Shape.CONCAVE, formula("acosh"), _acosh_slope),),
        within(0.0, _INFINITY),
        (0.0, _INFINITY),
    ),
    domain=(1.0, _INFINITY),
)
ATANH = Function(
    "atanh",
    Figures.in_ulps(4.0, onnxruntime=2.5, cuda=3.5),
    approximate=np.arctanh,
    ball=flint.arb.atanh,
    curve=Curve(
        bends(
            formula("atanh"),
            _atanh_slope,
            _BENT,
            first=Shape.CONCAVE,
            start=-_BELOW_ONE,
            end=_BELOW_ONE,
        ),
        within(-_INFINITY, _INFINITY),
        (1.0, _INFINITY),
    ),
    domain=(-_BELOW_ONE, _BELOW_ONE),
)
FUNCTIONS = (SINH, COSH, ASINH, ACOSH, ATANH)
