"""Sine and cosine, whose slopes are each other."""

from __future__ import annotations

from fractions import Fraction

import flint
import numpy as np

from encoders.functions.accuracy import Evidence, FunctionAccuracy
from encoders.functions.curve import (
    Curve,
    Formula,
    Number,
    Reals,
    Shape,
    bends,
    multiples_of_pi,
    within,
)
from encoders.functions.function import MIXED, ORT, Figures, Function, formula

_PERIODS = 20  # half periods on each side of 0 whose shape is used
_FIGURES = Figures(
    FunctionAccuracy(None, 4.0, Evidence.VENDOR, MIXED, excess=2.0),
    FunctionAccuracy(None, 4.0, Evidence.SAMPLED, ORT, excess=2.0),
    wide_units=14.0,
)


def _minus_sine(field: Reals, x: Number) -> Number:
    return -field.function(SIN, x)


def _wave(value: Formula, slope: Formula, shift: Fraction) -> Curve:
    """The shape between the outermost bends; sine is concave after an even multiple of π, cosine
    after an odd number of quarter turns k + ½ with k odd."""
    places = multiples_of_pi(shift, _PERIODS)
    after_first = Shape.CONCAVE if (_PERIODS % 2 == 0) == (shift == 0) else Shape.CONVEX
    pieces = bends(
        value, slope, places=places[1:-1], first=after_first, start=places[0][1], end=places[-1][0]
    )
    return Curve(pieces, within(-1.0, 1.0), (-1.0, 1.0))


SIN = Function(
    "sin",
    _FIGURES,
    approximate=np.sin,
    ball=flint.arb.sin,
    curve=_wave(formula("sin"), formula("cos"), Fraction(0)),
    largest=1.0,
)
COS = Function(
    "cos",
    _FIGURES,
    approximate=np.cos,
    ball=flint.arb.cos,
    curve=_wave(formula("cos"), _minus_sine, Fraction(1, 2)),
    largest=1.0,
)
FUNCTIONS = (SIN, COS)
