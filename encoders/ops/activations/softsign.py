"""Softsign: x/(1 + |x|)."""

from __future__ import annotations

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic
from encoders.arithmetic.values import V
from encoders.families.smooth import smooth_operator, stored
from encoders.functions.curve import Curve, Piece, Shape, within
from encoders.gradients.rule import unary
from encoders.gradients.tape import Term
from encoders.operator import Field, Site
from encoders.relaxations.elements import broadcast_element

_INFINITY = float("inf")

# f' = 1/(1 + |x|)² rises up to 0 and falls from there
CURVE = Curve(
    (
        Piece(
            -_INFINITY,
            0.0,
            Shape.CONVEX,
            lambda field, x: x / (1 - x),
            lambda field, x: 1 / ((1 - x) * (1 - x)),
        ),
        Piece(
            0.0,
            _INFINITY,
            Shape.CONCAVE,
            lambda field, x: x / (1 + x),
            lambda field, x: 1 / ((1 + x) * (1 + x)),
        ),
    ),
    within(-1.0, 1.0),
    (0.0, 1.0),
)


def real(site: Site, x: ObjectArray, field: Field) -> ObjectArray:
    return np.asarray(x / (1 + field.maximum(x, -x)))


def runtime(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
    return arithmetic.divide(x, arithmetic.add(stored(arithmetic, 1.0), arithmetic.absolute(x)))


def by_reciprocal(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
    """onnxruntime's formula."""
    one = stored(arithmetic, 1.0)
    below = arithmetic.add(one, arithmetic.absolute(x))
    return arithmetic.multiply(arithmetic.divide(one, below), x)


def _slope(x: Term, y: Term, up: Term) -> Term:
    below = x.apply("Abs") + 1
    return up / (below * below)


OPERATORS = (
    smooth_operator(
        "Softsign",
        1,
        lambda site: CURVE,
        real=real,
        runtime=runtime,
        element=broadcast_element,
        alternatives=(by_reciprocal,),
    ).derived(unary(_slope)),
)
