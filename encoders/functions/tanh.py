"""The hyperbolic tangent: convex below 0, concave above."""

from __future__ import annotations

import flint
import numpy as np

from encoders.functions.accuracy import Evidence, FunctionAccuracy
from encoders.functions.curve import Curve, Number, Reals, Shape, bends, within
from encoders.functions.function import MIXED, ORT, Figures, Function, Series, formula


def _slope(field: Reals, x: Number) -> Number:
    y = field.function(TANH, x)
    return (1 - y) * (1 + y)


def _series(x: Series) -> Series:
    positive = x[0].mid() > 0
    power = (-2 * x if positive else 2 * x).exp()
    size = 2 / (1 + power) - 1
    return size if positive else -size


TANH = Function(
    "tanh",
    Figures(
        FunctionAccuracy(128.0, 6.0, Evidence.VENDOR, MIXED, excess=4.0),
        FunctionAccuracy(104.1, 5.46, Evidence.EXHAUSTIVE, ORT, excess=4.0),
        wide_ulps=128.0,
        wide_units=18.0,
        cuda_ulps=2.5,
        # 3.0 u were seen in RNN, 10.1 in GRU.
        apart=(
            (
                "RecurrentTanh",
                FunctionAccuracy(None, 12.0, Evidence.SAMPLED, f"RNN, GRU of {ORT}", excess=12.0),
            ),
        ),
    ),
    approximate=np.tanh,
    ball=flint.arb.tanh,
    series=_series,
    algebraic=lambda reals, x: 2 / (1 + reals.exponential(-2 * x)) - 1,
    curve=Curve(
        bends(formula("tanh"), _slope, [(0.0, 0.0)], first=Shape.CONVEX),
        within(-1.0, 1.0),
        (0.0, 1.0),
    ),
    largest=1.0,
)
FUNCTIONS = (TANH,)
