"""Elementary functions rounded correctly to a format: one execution that every accuracy allows.

An evaluation in wider numbers decides where both ends of a generous interval around it round alike;
balls (`flint.arb`) of growing precision decide the rest. That the float64 evaluation is within
2^-44 of the real value, relatively, is what libm and numpy promise many times over, and so is
2^-59 where numpy has numbers of 64 bits: results in float64 are evaluated in these. The tests
compare the results with balls.
"""

from __future__ import annotations

import math
from typing import Any

import flint
import numpy as np
import numpy.typing as npt

from encoders.arithmetic.approximate_field import approximate_function
from encoders.arithmetic.exact_fields import enclosure
from encoders.functions.function import Function
from encoders.numbers.formats import BINARY64, FloatFormat, round_array, round_fraction

FloatArray = npt.NDArray[np.float64]

_MARGIN = 2.0**-44
_WIDE_MARGIN = 2.0**-59
_WIDE_BITS = 63  # of a significand, the first not counted
_PRECISIONS = (128, 512, 4096)


def rounded_function(f: Function, x: npt.NDArray[Any], fmt: FloatFormat) -> FloatArray:
    """f(x) rounded to nearest in `fmt`, for numbers, infinities and NaN of that format.

    Where float64 holds only a limit (infinite or zero results) that limit is the result.
    """
    exact = np.asarray(x, np.float64)
    near = np.asarray(approximate_function(f, exact), np.float64)
    if fmt == BINARY64:
        rounded, open_cases = _in_float64(f, exact, near)
    else:
        rounded = round_array(near * (1.0 - _MARGIN), fmt)
        open_cases = rounded != round_array(near * (1.0 + _MARGIN), fmt)
        open_cases &= np.isfinite(near)
    for at in np.argwhere(open_cases):
        place = tuple(at)
        rounded[place] = _decided(f, float(exact[place]), float(near[place]), fmt)
    return rounded


def _in_float64(
    f: Function, exact: FloatArray, near: FloatArray
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """What wider numbers round to, and where they leave it open."""
    wide = approximate_function(f, exact.astype(np.longdouble))
    kept = ~np.isfinite(near) | ~np.isfinite(exact) | (near == 0)
    if np.finfo(wide.dtype).nmant < _WIDE_BITS:
        return near.copy(), ~kept
    with np.errstate(all="ignore"):
        low = np.asarray(wide * (1 - np.longdouble(_WIDE_MARGIN)), np.float64)
        high = np.asarray(wide * (1 + np.longdouble(_WIDE_MARGIN)), np.float64)
    return np.where(kept, near, low), ~kept & (low != high)


def _decided(f: Function, x: float, near: float, fmt: FloatFormat) -> float:
    for bits in _PRECISIONS:
        with flint.ctx.workprec(bits):
            ball = f.on_balls(flint.arb(x))
            found = _between_midpoints(ball) if fmt == BINARY64 else None
        if found is not None:
            return found
        lo, hi = enclosure(ball)
        low, high = round_fraction(lo, fmt), round_fraction(hi, fmt)
        if low == high:
            return math.copysign(float(low), near)
    raise ArithmeticError(f"{f.name}({x!r}) cannot be told from a midpoint")


def _between_midpoints(ball: flint.arb) -> float | None:
    """The float64 number nearest to the whole ball, where that is told quickly: one not zero, with
    finite neighbours, nearer to all of the ball than these."""
    near = float(ball)
    below, above = math.nextafter(near, -math.inf), math.nextafter(near, math.inf)
    if not below * above > 0.0 or not math.isfinite(below - above):
        return None
    twice, here = 2 * ball, flint.arb(near)
    certain = here + flint.arb(below) < twice < here + flint.arb(above)
    return near if certain else None
