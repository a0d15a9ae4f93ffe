"""The elementary functions as curves: formulas, derivatives, and where they bend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import flint
import numpy as np

from encoders.contract.functions import Function
from encoders.curves.curves import Curve, Formula, Piece, Shape, bends
from encoders.numbers.enclosure import Interval

_PERIODS = 20  # half periods of sine and cosine on each side of 0 whose shape is used
_INFINITY = float("inf")


def formula(function: Function) -> Formula:
    return lambda field, x: field.function(function, x)


def within(low: float, high: float) -> Callable[[Interval], Interval]:
    """A range for the whole line."""
    return lambda x: Interval(np.full(x.shape, low), np.full(x.shape, high))


def positive_part(below: float, above: float) -> Callable[[Interval], Interval]:
    """For max(x, 0) + below ≤ f(x) ≤ max(x, 0) + above; 1.01 pays for the float64 sum."""

    def image(x: Interval) -> Interval:
        return Interval(
            np.maximum(x.lo, 0.0) * 0.99 + 1.01 * below, np.maximum(x.hi, 0.0) * 1.01 + 1.01 * above
        )

    return image


def _tanh_slope(field: Any, x: Any) -> Any:
    y = field.function(Function.TANH, x)
    return (1 - y) * (1 + y)


def sigmoid_slope(field: Any, x: Any) -> Any:
    return field.function(Function.SIGMOID, x) * field.function(Function.SIGMOID, -x)


def _erf_slope(field: Any, x: Any) -> Any:
    two = field.constant(np.asarray(4.0)).reshape(()) / field.pi()
    return field.function(Function.EXP, -(x * x)) * field.sqrt(np.asarray(two)).reshape(())[()]


def _minus_sine(field: Any, x: Any) -> Any:
    return -field.function(Function.SIN, x)


def _inverse(field: Any, x: Any) -> Any:
    return 1 / x


def multiples_of_pi(shift: Fraction) -> list[tuple[float, float]]:
    """Neighbouring floats around (k + shift)·π, for k from −20 to 20; 0 stands alone."""
    places: list[tuple[float, float]] = []
    for k in range(-_PERIODS, _PERIODS + 1):
        factor = k + shift
        with flint.ctx.workprec(120):
            exact = flint.arb.pi() * flint.fmpq(factor.numerator, factor.denominator)
            near = float(exact)
            if exact > near:
                places.append((near, float(np.nextafter(near, np.inf))))
            elif exact < near:
                places.append((float(np.nextafter(near, -np.inf)), near))
            else:
                places.append((0.0, 0.0))
    return places


def _wave(function: Function, slope: Formula, shift: Fraction) -> Curve:
    """The shape between the outermost bends; sine is concave after an even multiple of π, cosine
    after an odd number of quarter turns k + ½ with k odd."""
    places = multiples_of_pi(shift)
    after_first = Shape.CONCAVE if (_PERIODS % 2 == 0) == (shift == 0) else Shape.CONVEX
    pieces = bends(formula(function), slope, places[1:-1], after_first, places[0][1], places[-1][0])
    return Curve(pieces, within(-1.0, 1.0), (-1.0, 1.0))


FUNCTION_CURVES: Mapping[Function, Curve] = {
    Function.EXP: Curve(
        bends(formula(Function.EXP), formula(Function.EXP), [], Shape.CONVEX),
        within(0.0, _INFINITY),
        (0.0, _INFINITY),
    ),
    Function.LOG: Curve(
        (Piece(2.0**-1074, _INFINITY, Shape.CONCAVE, formula(Function.LOG), _inverse),),
        within(-_INFINITY, _INFINITY),
        (0.0, _INFINITY),
    ),
    Function.TANH: Curve(
        bends(formula(Function.TANH), _tanh_slope, [(0.0, 0.0)], Shape.CONVEX),
        within(-1.0, 1.0),
        (0.0, 1.0),
    ),
    Function.SIGMOID: Curve(
        bends(formula(Function.SIGMOID), sigmoid_slope, [(0.0, 0.0)], Shape.CONVEX),
        within(0.0, 1.0),
        (0.0, 0.25),
    ),
    Function.ERF: Curve(
        bends(formula(Function.ERF), _erf_slope, [(0.0, 0.0)], Shape.CONVEX),
        within(-1.0, 1.0),
        (0.0, 1.1284),
    ),
    Function.SIN: _wave(Function.SIN, formula(Function.COS), Fraction(0)),
    Function.COS: _wave(Function.COS, _minus_sine, Fraction(1, 2)),
    Function.SOFTPLUS: Curve(
        bends(formula(Function.SOFTPLUS), formula(Function.SIGMOID), [], Shape.CONVEX),
        positive_part(0.0, 0.6932),
        (0.0, 1.0),
    ),
}
