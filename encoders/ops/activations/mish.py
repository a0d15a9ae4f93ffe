"""Mish: x·tanh(softplus(x))."""

from __future__ import annotations

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic
from encoders.arithmetic.values import V
from encoders.curves.gated_curves import MISH
from encoders.families.smooth import smooth_operator
from encoders.families.softplus import as_one, as_written
from encoders.functions.exp import EXP
from encoders.functions.log import LOG
from encoders.functions.softplus import SOFTPLUS
from encoders.functions.tanh import TANH
from encoders.gradients.rule import unary
from encoders.gradients.tape import Term
from encoders.operator import Field, Site


def real(site: Site, x: ObjectArray, field: Field) -> ObjectArray:
    return np.asarray(x * field.function(TANH, field.function(SOFTPLUS, x)))


def runtime(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
    return arithmetic.multiply(x, arithmetic.function(TANH, as_one(site, x, arithmetic)))


def as_function(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
    """With Softplus as ONNX's function has it."""
    return arithmetic.multiply(x, arithmetic.function(TANH, as_written(site, x, arithmetic)))


def _slope(x: Term, y: Term, up: Term) -> Term:
    gate = x.apply("Softplus").apply("Tanh")
    return up * (gate + x * (1 - gate * gate) * x.apply("Sigmoid"))


OPERATORS = (
    smooth_operator(
        "Mish",
        18,
        lambda site: MISH,
        real=real,
        runtime=runtime,
        in_double=(as_function,),
        uses=(SOFTPLUS, TANH, EXP, LOG),
    ).derived(unary(_slope)),
)
