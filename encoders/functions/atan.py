"""The inverse tangent: convex below 0, concave above."""

from __future__ import annotations

import flint
import numpy as np

from encoders.functions.curve import Curve, Number, Reals, Shape, bends, within
from encoders.functions.function import Figures, Function, Series, formula

_LARGEST = 1.5708  # above π/2, rounded to any format


def _slope(field: Reals, x: Number) -> Number:
    return 1 / (1 + x * x)


ATAN = Function(
    "atan",
    Figures.in_ulps(7.0, onnxruntime=6.2, cuda=2.5),
    approximate=np.arctan,
    ball=flint.arb.atan,
    series=Series.atan,
    curve=Curve(
        bends(formula("atan"), _slope, [(0.0, 0.0)], first=Shape.CONVEX),
        within(-_LARGEST, _LARGEST),
        (0.0, 1.0),
    ),
    largest=_LARGEST,
)
FUNCTIONS = (ATAN,)
