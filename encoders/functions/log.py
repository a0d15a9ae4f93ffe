"""The natural logarithm."""

from __future__ import annotations

import flint
import numpy as np

from encoders.functions.accuracy import Evidence, FunctionAccuracy
from encoders.functions.curve import Curve, Number, Piece, Reals, Shape, within
from encoders.functions.function import MIXED, ORT, Figures, Function, Series, formula

_INFINITY = float("inf")


def _slope(field: Reals, x: Number) -> Number:
    return 1 / x


LOG = Function(
    "log",
    Figures(
        FunctionAccuracy(4.0, None, Evidence.VENDOR, MIXED),
        FunctionAccuracy(3.5, None, Evidence.SAMPLED, ORT),
        wide_ulps=4.0,
        cuda_ulps=1.5,
    ),
    approximate=np.log,
    ball=flint.arb.log,
    series=Series.log,
    algebraic=lambda reals, x: reals.logarithm(x),
    curve=Curve(
        (Piece(2.0**-1074, _INFINITY, Shape.CONCAVE, formula("log"), _slope),),
        within(-_INFINITY, _INFINITY),
        (0.0, _INFINITY),
    ),
)
FUNCTIONS = (LOG,)
