"""Elementary functions rounded correctly to a format: one execution that every accuracy allows.

A float64 evaluation decides where both ends of a generous interval around it round alike; balls
(`flint.arb`) of growing precision decide the rest. That the float64 evaluation is within 2^-44 of
the real value, relatively, is what libm and numpy promise many times over; the tests compare the
results with balls.
"""

from __future__ import annotations

import math
from typing import Any

import flint
import numpy as np
import numpy.typing as npt

from encoders.arithmetic.approximate_field import approximate_function
from encoders.arithmetic.exact_fields import BALL_FUNCTIONS, enclosure
from encoders.contract.functions import Function
from encoders.numbers.formats import BINARY64, FloatFormat, round_array, round_fraction

FloatArray = npt.NDArray[np.float64]

_MARGIN = 2.0**-44
_PRECISIONS = (128, 512, 4096)


def rounded_function(f: Function, x: npt.NDArray[Any], fmt: FloatFormat) -> FloatArray:
    """f(x) rounded to nearest in `fmt`, for numbers, infinities and NaN of that format.

    Where float64 holds only a limit (infinite or zero results) that limit is the result.
    """
    exact = np.asarray(x, np.float64)
    near = np.asarray(approximate_function(f, exact), np.float64)
    if fmt == BINARY64:
        rounded = near.copy()
        open_cases = np.isfinite(near) & np.isfinite(exact) & (near != 0)
    else:
        rounded = round_array(near * (1.0 - _MARGIN), fmt)
        open_cases = rounded != round_array(near * (1.0 + _MARGIN), fmt)
        open_cases &= np.isfinite(near)
    for at in np.argwhere(open_cases):
        place = tuple(at)
        rounded[place] = _decided(f, float(exact[place]), float(near[place]), fmt)
    return rounded


def _decided(f: Function, x: float, near: float, fmt: FloatFormat) -> float:
    for bits in _PRECISIONS:
        with flint.ctx.workprec(bits):
            lo, hi = enclosure(BALL_FUNCTIONS[f](flint.arb(x)))
        low, high = round_fraction(lo, fmt), round_fraction(hi, fmt)
        if low == high:
            return math.copysign(float(low), near)
    raise ArithmeticError(f"{f.value}({x!r}) cannot be told from a midpoint")
