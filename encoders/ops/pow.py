"""Sqrt, and Pow with a constant exponent: a whole number from 1 on, or ½.

A runtime may compute a whole power by repeated multiplication and a root by its square root, or
either by a function pow of the accuracy that the contract states: the bound covers both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from encoders.arithmetic import Arithmetic
from encoders.contract import RuntimeContract
from encoders.curves import Curve, Piece, Shape, image_of
from encoders.elements import broadcast_element
from encoders.enclosure import FloatArray, Interval
from encoders.functions import Function
from encoders.operator import Field, Operator, Precondition, RoundingBound, Site
from encoders.rounding_bounds import rounder
from encoders.signed_sum import check_float
from encoders.smooth import smooth_operator
from encoders.tracked_functions import function_error

_INFINITY = float("inf")
_HIGHEST = 16


def _sqrt_image(x: Interval) -> Interval:
    """For arguments on which the root is defined."""
    with np.errstate(invalid="ignore"):
        high = np.nextafter(np.sqrt(np.maximum(x.hi, 0.0)), np.inf)
    return Interval(np.zeros(x.shape), high)


ROOT = Curve(
    (
        Piece(
            0.0,
            _INFINITY,
            Shape.CONCAVE,
            lambda field, x: field.sqrt(x),
            lambda field, x: 1 / (2 * field.sqrt(x)),
        ),
    ),
    _sqrt_image,
    (0.0, _INFINITY),
)


def _power(x: Any, n: int) -> Any:
    return reduce(lambda total, _: total * x, range(n - 1), x)


def _power_curve(n: int) -> Curve:
    """xⁿ: convex for even n, concave and then convex for odd n."""

    def value(field: Any, x: Any) -> Any:
        return _power(x, n)

    def slope(field: Any, x: Any) -> Any:
        return 0 * x + 1 if n == 1 else n * _power(x, n - 1)

    def image(x: Interval) -> Interval:
        whole = np.full(x.shape, np.inf)
        return Interval(np.zeros(x.shape) if n % 2 == 0 else -whole, whole)

    if n % 2 == 0 or n == 1:
        pieces: tuple[Piece, ...] = (Piece(-_INFINITY, _INFINITY, Shape.CONVEX, value, slope),)
    else:
        pieces = (
            Piece(-_INFINITY, 0.0, Shape.CONCAVE, value, slope),
            Piece(0.0, _INFINITY, Shape.CONVEX, value, slope),
        )
    return Curve(pieces, image, (-_INFINITY if n % 2 == 0 else 0.0, _INFINITY))


def _exponent(site: Site) -> float:
    """Raises UnsupportedModel unless it is constant, the same everywhere, and has a meaning."""
    stored = site.constant(1)
    if stored is None:
        raise site.unsupported("the exponent (input 1) must be a constant")
    found = np.unique(np.asarray(stored, np.float64))
    if len(found) != 1 or site.outputs[0].shape != site.type_of(0).shape:
        raise site.unsupported("the exponent (input 1) must be one number")
    n = float(found[0])
    if n != 0.5 and not (n.is_integer() and 1 <= n <= _HIGHEST):
        raise site.unsupported(
            f"the exponent (input 1) is {n}; supported are 0.5 and whole numbers 1 to {_HIGHEST}"
        )
    return n


def _check(site: Site) -> None:
    check_float(site)
    if 0 not in site.variable:
        raise site.unsupported("the base (input 0) must depend on the network's input")
    _exponent(site)


def _curve(site: Site) -> Curve:
    n = _exponent(site)
    return ROOT if n == 0.5 else _power_curve(int(n))


def _real(site: Site, x: Any, field: Field) -> Any:
    n = _exponent(site)
    return field.sqrt(x) if n == 0.5 else _power(x, int(n))


def _runtime(site: Site, x: Any, arithmetic: Arithmetic[Any]) -> Any:
    n = _exponent(site)
    if n == 0.5:
        return arithmetic.sqrt(x)
    return reduce(lambda total, _: arithmetic.multiply(total, x), range(int(n) - 1), x)


def _not_negative(site: Site, x: Interval) -> tuple[Precondition, ...]:
    low = float(np.min(x.lo, initial=np.inf))
    return (
        Precondition(
            "argument-not-negative",
            f"{site.node.describe()}: the computed argument of the square root, at least "
            f"{low:.6g}, is not negative",
            low >= 0,
        ),
    )


def _power_preconditions(site: Site, x: Interval) -> tuple[Precondition, ...]:
    return _not_negative(site, x) if _exponent(site) == 0.5 else ()


def _covering(by_steps: Operator) -> Operator:
    """The bound also covers a pow of the contract's accuracy."""

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
    ) -> RoundingBound:
        bound = by_steps.rounding(site, inputs, result, contract)
        if contract.exact or _exponent(site) == 1.0:
            return bound
        r, accuracy = rounder(site, contract), contract.functions.accuracy(Function.POW)
        (x,) = inputs
        lost: FloatArray = r.operand_loss(x)
        other = function_error(r, accuracy, image_of(_curve(site), x.inflate(lost)))
        return replace(bound, radius=np.maximum(bound.radius, other + bound.radius * np.any(lost)))

    return replace(by_steps, rounding=rounding)


OPERATORS = (
    smooth_operator(
        "Sqrt",
        6,
        lambda site: ROOT,
        lambda site, x, field: field.sqrt(x),
        lambda site, x, arithmetic: arithmetic.sqrt(x),
        preconditions=_not_negative,
        element=broadcast_element,
    ),
    _covering(
        smooth_operator(
            "Pow",
            7,
            _curve,
            _real,
            _runtime,
            _check,
            preconditions=_power_preconditions,
            uses=(Function.POW,),
            element=broadcast_element,
        )
    ),
)
