"""The tangent: tan'' = 2·tan·(1 + tan²) has its sign, which changes at its zeros and at its poles.

Around a pole stands a piece of no shape, between neighbouring floats: on it no ball is finite, so
nothing is known of an interval that has a pole in it.
"""

from __future__ import annotations

from fractions import Fraction

import flint
import numpy as np

from encoders.functions.curve import (
    Curve,
    Number,
    Reals,
    Shape,
    bends,
    multiples_of_pi,
    within,
)
from encoders.functions.function import Figures, Function, formula

_PERIODS = 8  # on each side of 0, whose shape is used
_INFINITY = float("inf")
_POLES = multiples_of_pi(Fraction(1, 2), _PERIODS)[:-1]
_PLACES = sorted([*multiples_of_pi(Fraction(0), _PERIODS - 1), *_POLES[1:-1]])


def _slope(field: Reals, x: Number) -> Number:
    value = field.function(TAN, x)
    return 1 + value * value


TAN = Function(
    "tan",
    Figures.in_ulps(5.0, onnxruntime=2.0, cuda=4.5),
    approximate=np.tan,
    ball=flint.arb.tan,
    curve=Curve(
        bends(
            formula("tan"),
            _slope,
            _PLACES,
            first=Shape.CONCAVE,
            start=_POLES[0][1],
            end=_POLES[-1][0],
        ),
        within(-_INFINITY, _INFINITY),
        (1.0, _INFINITY),
    ),
)
FUNCTIONS = (TAN,)
