"""eˣ."""

from __future__ import annotations

import flint
import numpy as np

from encoders.functions.accuracy import Evidence, FunctionAccuracy
from encoders.functions.curve import Curve, Shape, bends, within
from encoders.functions.function import MIXED, ORT, Figures, Function, Series, formula

_VALUE = formula("exp")

EXP = Function(
    "exp",
    Figures(
        FunctionAccuracy(3.0, None, Evidence.VENDOR, MIXED, flushes=True),
        FunctionAccuracy(0.87, None, Evidence.EXHAUSTIVE, ORT),
        wide_ulps=4.0,
        cuda_ulps=2.5,
        # Another exponential than Exp's: 1.15 ulp was seen.
        elsewhere=tuple(
            (op, FunctionAccuracy(2.0, None, Evidence.SAMPLED, f"{op} of {ORT}"))
            for op in ("Elu", "Celu", "Selu")
        ),
    ),
    approximate=np.exp,
    ball=flint.arb.exp,
    series=Series.exp,
    algebraic=lambda reals, x: reals.exponential(x),
    curve=Curve(
        bends(_VALUE, _VALUE, [], first=Shape.CONVEX),
        within(0.0, float("inf")),
        (0.0, float("inf")),
    ),
)
FUNCTIONS = (EXP,)
