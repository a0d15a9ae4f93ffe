"""HardSigmoid: max(0, min(1, αx + β)), alpha positive; HardSwish: x times that of x/6 + 1/2."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import flint
import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic
from encoders.arithmetic.values import V
from encoders.contract.contract import RuntimeContract
from encoders.families.signed_sum import check_float
from encoders.families.smooth import smooth_operator, stored
from encoders.functions.curve import (
    Curve,
    Formula,
    Number,
    Piece,
    Reals,
    Shape,
    positive_part,
    within,
)
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.numbers.formats import BINARY64, round_down, round_up
from encoders.operator import Field, Site
from encoders.relaxations.elements import broadcast_element
from onnx_import.graph import DType

_INFINITY = float("inf")


def constant(value: float) -> Formula:
    """The formula of a piece on which the function is constant."""
    return lambda field, x: value + 0 * x


def _between(low: Fraction, high: Fraction) -> Formula:
    """A slope anywhere between two numbers; only ever asked of balls."""
    return lambda field, x: (
        field.number(low) + field.number(high - low) * flint.arb(0.5, 0.5) + 0 * x
    )


def clipped_line(alpha: Fraction, beta: Fraction) -> Curve:
    """max(0, min(1, αx + β)), α > 0. A kink that is not a float64 number lies in a tiny piece."""

    def line(field: Reals, x: Number) -> Number:
        return field.number(alpha) * x + field.number(beta)

    def whole(field: Reals, x: Number) -> Number:
        zero, one = field.constant(np.zeros(())), field.constant(np.ones(()))
        return field.maximum(zero, -field.maximum(-line(field, x), -one))

    def slope(field: Reals, x: Number) -> Number:
        return field.number(alpha) + 0 * x

    kinks = (-beta / alpha, (1 - beta) / alpha)
    (a, b), (c, d) = ((round_down(k, BINARY64), round_up(k, BINARY64)) for k in kinks)
    pieces = [Piece(-_INFINITY, a, Shape.CONVEX, constant(0.0), constant(0.0))]
    if a < b:
        pieces.append(Piece(a, b, Shape.UNKNOWN, whole, _between(Fraction(0), alpha)))
    pieces.append(Piece(b, c, Shape.CONVEX, line, slope))
    if c < d:
        pieces.append(Piece(c, d, Shape.UNKNOWN, whole, _between(Fraction(0), alpha)))
    pieces.append(Piece(d, _INFINITY, Shape.CONVEX, constant(1.0), constant(0.0)))
    return Curve(tuple(pieces), within(0.0, 1.0), (0.0, round_up(alpha, BINARY64)))


def _line(site: Site) -> tuple[Fraction, Fraction]:
    return Fraction(site.real("alpha", 0.2)), Fraction(site.real("beta", 0.5))


def check(site: Site) -> None:
    check_float(site)
    alpha, beta = _line(site)
    kinks_apart = 2.0**-30 <= alpha <= 2**30 and abs(beta) <= 2**10
    if not kinks_apart:
        raise site.unsupported("attributes need 2^-30 ≤ alpha ≤ 2^30 and |beta| ≤ 2^10")


def real(site: Site, x: ObjectArray, field: Field) -> ObjectArray:
    alpha, beta = (field.number(v) for v in _line(site))
    zero, one = field.constant(np.zeros(())), field.constant(np.ones(()))
    return field.maximum(zero, -field.maximum(-(alpha * x + beta), -one))


def runtime(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
    alpha, beta = (stored(arithmetic, float(v)) for v in _line(site))
    line = arithmetic.multiply_add(alpha, x, beta)
    zero, one = stored(arithmetic, 0.0), stored(arithmetic, 1.0)
    return arithmetic.maximum(zero, arithmetic.minimum(one, line))


# x·(x/6 + 1/2) between −3 and 3: convex, from 0 to x
HARD_SWISH = Curve(
    (
        Piece(-_INFINITY, -3.0, Shape.CONVEX, constant(0.0), constant(0.0)),
        Piece(
            -3.0,
            3.0,
            Shape.CONVEX,
            lambda field, x: x * (x + 3) / 6,
            lambda field, x: (2 * x + 3) / 6,
        ),
        Piece(3.0, _INFINITY, Shape.CONVEX, lambda field, x: 1 * x, constant(1.0)),
    ),
    positive_part(-0.76, 0.0),
    (-0.51, 1.51),
)


def swish_real(site: Site, x: ObjectArray, field: Field) -> ObjectArray:
    """x·max(0, min(1, x/6 + ½)), exactly."""
    zero, one = field.constant(np.zeros(())), field.constant(np.ones(()))
    line = x * field.number(Fraction(1, 6)) + field.number(Fraction(1, 2))
    return np.asarray(x * field.maximum(zero, -field.maximum(-line, -one)))


def swish_runtime(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
    """1/6 is rounded to the format, as a runtime's constant is."""
    zero, one = stored(arithmetic, 0.0), stored(arithmetic, 1.0)
    sixth = arithmetic.divide(one, stored(arithmetic, 6.0))
    line = arithmetic.multiply_add(sixth, x, stored(arithmetic, 0.5))
    return arithmetic.multiply(x, arithmetic.maximum(zero, arithmetic.minimum(one, line)))


def swish_divided(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
    """x·min(max(x + 3, 0), 6)/6, as PyTorch has it."""
    zero, three, six = (stored(arithmetic, v) for v in (0.0, 3.0, 6.0))
    clipped = arithmetic.minimum(arithmetic.maximum(arithmetic.add(x, three), zero), six)
    return arithmetic.divide(arithmetic.multiply(x, clipped), six)


def swish_uncharged(site: Site, x: Interval) -> FloatArray:
    """In the type double onnxruntime runs the function that ONNX defines, whose 1/6 is a number of
    float32: off by less than 2^-26, which is multiplied by x where the line is cut off, not far
    beyond ±3, and by x again."""
    size = x.magnitude
    return size * np.minimum(size, 4.0) * 2.0**-26


def swish_charged(site: Site) -> bool:
    """Is a runtime's 1/6 that of the format?"""
    return site.type_of(0).dtype is not DType.FLOAT64


_AT_KINKS = "at both kinks it has the slope outside"


def gradient(r: Reverse) -> Carried:
    alpha, beta = r.site.real("alpha", 0.2), r.site.real("beta", 0.5)
    line = r.x * alpha + beta
    return {0: (line > 0).also(line < 1).chosen(r.up * alpha, 0)}


def _swish_gradient(r: Reverse) -> Carried:
    x = r.x
    inside = (x > -3).chosen(r.up * ((x * 2 + 3) / 6), 0)
    return {0: (x < 3).chosen(inside, r.up)}


def _clamped(site: Site, held: Sequence[Interval], contract: RuntimeContract) -> Interval:
    """0 and 1 are numbers of every format."""
    shape = site.outputs[0].shape
    return Interval(np.zeros(shape), np.ones(shape))


OPERATORS = (
    smooth_operator(
        "HardSigmoid",
        6,
        curve=lambda site: clipped_line(*_line(site)),
        real=real,
        runtime=runtime,
        check=check,
        element=broadcast_element,
        keeps=_clamped,
    )
    .reading("alpha", "beta")
    .derived(Gradient(rule=gradient, convention=_AT_KINKS)),
    smooth_operator(
        "HardSwish",
        14,
        lambda site: HARD_SWISH,
        real=swish_real,
        runtime=swish_runtime,
        element=broadcast_element,
        alternatives=(swish_divided,),
        uncharged=swish_uncharged,
        charged=swish_charged,
    ).derived(Gradient(rule=_swish_gradient, convention=_AT_KINKS)),
)
