"""log(1 + eˣ), which is convex."""

from __future__ import annotations

import flint
import numpy as np

from encoders.functions.accuracy import Evidence, FunctionAccuracy
from encoders.functions.curve import Curve, Shape, bends, positive_part
from encoders.functions.function import MIXED, ORT, Figures, Floats, Function, Series, formula


def _approximate(x: Floats) -> Floats:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _ball(x: flint.arb) -> flint.arb:
    return x.exp().log1p() if x.mid() < 0 else x + (-x).exp().log1p()


def _series(x: Series) -> Series:
    positive = x[0].mid() > 0
    rest = (1 + (-x if positive else x).exp()).log()
    return x + rest if positive else rest


SOFTPLUS = Function(
    "softplus",
    Figures(
        FunctionAccuracy(6.0, None, Evidence.SAMPLED, MIXED, flushes=True),
        FunctionAccuracy(5.0, None, Evidence.SAMPLED, ORT),
        wide_ulps=12.0,
    ),
    approximate=_approximate,
    ball=_ball,
    series=_series,
    algebraic=lambda reals, x: reals.logarithm(1 + reals.exponential(x)),
    curve=Curve(
        bends(formula("softplus"), formula("sigmoid"), [], first=Shape.CONVEX),
        positive_part(0.0, 0.6932),
        (0.0, 1.0),
    ),
)
FUNCTIONS = (SOFTPLUS,)
