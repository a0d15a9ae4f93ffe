"""The error function: convex below 0, concave above."""

from __future__ import annotations

import math

import flint
import numpy as np

from encoders.functions.accuracy import Evidence, FunctionAccuracy
from encoders.functions.curve import Curve, Number, Reals, Shape, bends, within
from encoders.functions.exp import EXP
from encoders.functions.function import MIXED, ORT, Figures, Function, Series, formula


def _slope(field: Reals, x: Number) -> Number:
    two = field.constant(np.asarray(4.0)).reshape(()) / field.pi()
    return field.function(EXP, -(x * x)) * field.sqrt(np.asarray(two)).reshape(())[()]


ERF = Function(
    "erf",
    Figures(
        # torch's in float16, where results are subnormal: 4.93 ulp, or zero
        FunctionAccuracy(5.0, None, Evidence.VENDOR, MIXED, flushes=True, excess=2.0),
        FunctionAccuracy(1.01, None, Evidence.SAMPLED, ORT),
        wide_ulps=10.0,
        cuda_ulps=2.5,
    ),
    approximate=np.vectorize(math.erf, otypes=[np.float64]),
    ball=flint.arb.erf,
    series=Series.erf,
    curve=Curve(
        bends(formula("erf"), _slope, [(0.0, 0.0)], first=Shape.CONVEX),
        within(-1.0, 1.0),
        (0.0, 1.1284),
    ),
    largest=1.0,
)
FUNCTIONS = (ERF,)
