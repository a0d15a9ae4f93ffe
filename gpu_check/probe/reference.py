"""Elementary functions over all float32 numbers, with a proved error.

The numbers with the same leading 16 bits are a segment: 2^16 neighbours c + t of one binade, on
which f(c + t) is Taylor's polynomial. Its coefficients at c, and Lagrange's remainder over the
whole segment, come from power series over balls (`flint.arb_series`); the polynomial is evaluated
in float64 by Horner's rule, whose rounding is bounded a priori (Higham 2002, section 5.1). What is
assumed is Arb, and float64 arithmetic as IEEE 754 has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import flint
import numpy as np
import numpy.typing as npt

from encoders.functions.function import Function
from encoders.functions.registry import every_function

FloatArray = npt.NDArray[np.float64]
Series = flint.arb_series

SEGMENT = 2**16
_TERMS = 26
_BITS = 300  # of balls: tanh of subnormal numbers cancels 126
_SMALL, _LARGE = flint.arb(2) ** -200, flint.arb(2) ** 200  # beyond every result in float32
_NEGLIGIBLE = 2.0**-60
_SURE = 2.0**10
_U = 2.0**-53
_UP = 1.0 + 2.0**-40  # for bounds that are themselves computed in float64


@dataclass(frozen=True)
class Curve:
    """A function that is monotone where it is defined, on balls and on power series over them."""

    ball: Callable[[flint.arb], flint.arb]
    series: Callable[[Series], Series]


CURVES: Mapping[Function, Curve] = {
    f: Curve(f.ball, f.series)
    for f in every_function().values()
    if f.ball is not None and f.series is not None
}
SQRT = Curve(flint.arb.sqrt, Series.sqrt)
RSQRT = Curve(flint.arb.rsqrt, Series.rsqrt)


def enclosed(curve: Curve, x: npt.NDArray[np.float32]) -> tuple[FloatArray, FloatArray]:
    """f at whole segments of numbers in the order of their bits, and how far each value may be off.

    NaN where f is not defined, an infinity or zero where float32 holds nothing else.
    """
    with np.errstate(all="ignore"), _working():
        found = [_segment(curve, row) for row in x.reshape(-1, SEGMENT).astype(np.float64)]
    values, errors = (np.concatenate([pair[i] for pair in found]) for i in (0, 1))
    return values, errors


@contextmanager
def _working() -> Iterator[None]:
    """Balls of so many bits, and series of so many terms."""
    terms = flint.ctx.cap
    flint.ctx.cap = _TERMS
    try:
        with flint.ctx.workprec(_BITS):
            yield
    finally:
        flint.ctx.cap = terms


def _segment(curve: Curve, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    centre = float(x[SEGMENT // 2])
    t = x - centre
    radius = float(np.max(np.abs(t)))
    if not np.isfinite(radius) or not curve.ball(flint.arb(centre)).is_finite():
        return np.full_like(x, np.nan), np.zeros_like(x)
    first, last = (curve.ball(flint.arb(float(x[i]))) for i in (0, -1))
    if first.is_finite() and last.is_finite():
        if all(abs(end) < _SMALL for end in (first, last)):
            return np.zeros_like(x), np.full_like(x, float(_SMALL))
        if first > _LARGE and last > _LARGE:
            return np.full_like(x, np.inf), np.zeros_like(x)
        if abs(last - first) < abs(first) * _NEGLIGIBLE:
            same, width = float(first.mid()), float((abs(last - first) + first.rad()).upper())
            return np.full_like(x, same), np.full_like(x, (width + abs(same) * _U) * _UP)
    found = _polynomial(curve, centre, radius)
    if found is None:
        return _one_by_one(curve, x)
    coefficients, error = found
    value = np.full_like(x, coefficients[-1])
    for a in coefficients[-2::-1]:
        value *= t
        value += a
    errors = np.full_like(x, error)
    near = np.abs(value) < _SURE * error  # a zero of the function, as that of the logarithm at 1
    value[near], errors[near] = _one_by_one(curve, x[near])
    return value, errors


def _polynomial(curve: Curve, centre: float, radius: float) -> tuple[list[float], float] | None:
    """Coefficients at the centre, and the error of Horner's rule with them within the radius; None
    where the series has no bounds."""
    exact = curve.series(Series([flint.arb(centre), 1], _TERMS))
    whole = curve.series(Series([flint.arb(centre, radius), 1], _TERMS))
    if min(exact.prec, whole.prec) < _TERMS:
        raise ArithmeticError("a power series was cut short")
    coefficients: list[float] = []
    total = slack = 0.0  # of the sizes of all terms; of what coefficients are not
    for degree in range(_TERMS - 1):
        a, power = exact[degree], radius**degree * _UP
        near = float(a.mid())
        coefficients.append(near)
        total += abs(near) * power * _UP
        slack += float(a.rad()) * power * _UP
        rest = whole[degree + 1]
        if not rest.is_finite():
            return None
        remainder = float(abs(rest).upper()) * radius ** (degree + 1) * _UP
        if remainder <= _NEGLIGIBLE * abs(coefficients[0]):
            break
    steps = 2 * len(coefficients) + 2  # rounding of coefficients included
    error = (steps * _U * total + slack + remainder) * _UP + 2.0**-900
    return (coefficients, error) if np.isfinite(error) else None


def _one_by_one(curve: Curve, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    values, errors = np.full_like(x, np.nan), np.zeros_like(x)
    for i, number in enumerate(x.tolist()):
        ball = curve.ball(flint.arb(number))
        if ball.is_finite():
            values[i] = float(ball.mid())
            errors[i] = (abs(values[i]) * _U + float(ball.rad())) * _UP
    return values, errors
