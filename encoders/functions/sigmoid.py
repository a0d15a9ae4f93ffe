"""The logistic function 1/(1 + e⁻ˣ): convex below 0, concave above."""

from __future__ import annotations

import flint
import numpy as np

from encoders.functions.accuracy import Evidence, FunctionAccuracy
from encoders.functions.curve import Curve, Number, Reals, Shape, bends, within
from encoders.functions.function import MIXED, ORT, Figures, Floats, Function, Series, formula


def _approximate(x: Floats) -> Floats:
    power = np.exp(-np.abs(x))
    return np.where(x < 0, power, 1.0) / (1.0 + power)


def _ball(x: flint.arb) -> flint.arb:
    if x.mid() < 0:
        power = x.exp()
        return power / (1 + power)
    return 1 / (1 + (-x).exp())


def _series(x: Series) -> Series:
    positive = x[0].mid() > 0
    power = (-x if positive else x).exp()
    return (1 if positive else power) / (1 + power)


def _slope(field: Reals, x: Number) -> Number:
    return field.function(SIGMOID, x) * field.function(SIGMOID, -x)


SIGMOID = Function(
    "sigmoid",
    Figures(
        FunctionAccuracy(None, 4.0, Evidence.SAMPLED, MIXED, flushes=True, excess=2.0),
        FunctionAccuracy(None, 3.0, Evidence.SAMPLED, ORT, excess=2.0),
        wide_units=8.0,
        # 5.1 u were seen.
        apart=(
            (
                "RecurrentSigmoid",
                FunctionAccuracy(
                    None, 6.0, Evidence.SAMPLED, f"GRU of {ORT}", flushes=True, excess=6.0
                ),
            ),
        ),
    ),
    approximate=_approximate,
    ball=_ball,
    series=_series,
    algebraic=lambda reals, x: 1 / (1 + reals.exponential(-x)),
    curve=Curve(
        bends(formula("sigmoid"), _slope, [(0.0, 0.0)], first=Shape.CONVEX),
        within(0.0, 1.0),
        (0.0, 0.25),
    ),
    largest=1.0,
)
FUNCTIONS = (SIGMOID,)
