"""Mish: x·tanh(softplus(x))."""

from __future__ import annotations

from typing import Any

from encoders.arithmetic.runtime import Arithmetic
from encoders.contract.functions import Function
from encoders.curves.gated_curves import MISH
from encoders.families.smooth import smooth_operator
from encoders.operator import Field, Site


def real(site: Site, x: Any, field: Field) -> Any:
    return x * field.function(Function.TANH, field.function(Function.SOFTPLUS, x))


def runtime(site: Site, x: Any, arithmetic: Arithmetic[Any]) -> Any:
    gate = arithmetic.function(Function.TANH, arithmetic.function(Function.SOFTPLUS, x))
    return arithmetic.multiply(x, gate)


OPERATORS = (
    smooth_operator(
        "Mish", 18, lambda site: MISH, real, runtime, uses=(Function.SOFTPLUS, Function.TANH)
    ),
)
