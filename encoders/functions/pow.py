"""xʸ, a function of two arguments: how accurate it is, and no more, is known here."""

from __future__ import annotations

from encoders.functions.accuracy import Evidence, FunctionAccuracy
from encoders.functions.function import MIXED, ORT, Figures, Function

POW = Function(
    "pow",
    Figures(
        FunctionAccuracy(4.5, None, Evidence.VENDOR, MIXED, flushes=True),
        FunctionAccuracy(0.6, None, Evidence.SAMPLED, ORT),
        wide_ulps=9.0,
        cuda_ulps=4.5,
    ),
)
FUNCTIONS = (POW,)
