"""Mish: x·tanh(softplus(x))."""

from __future__ import annotations

from typing import Any

from encoders.arithmetic.runtime import Arithmetic
from encoders.curves.gated_curves import MISH
from encoders.families.smooth import smooth_operator
from encoders.functions.softplus import SOFTPLUS
from encoders.functions.tanh import TANH
from encoders.operator import Field, Site


def real(site: Site, x: Any, field: Field) -> Any:
    return x * field.function(TANH, field.function(SOFTPLUS, x))


def runtime(site: Site, x: Any, arithmetic: Arithmetic[Any]) -> Any:
    gate = arithmetic.function(TANH, arithmetic.function(SOFTPLUS, x))
    return arithmetic.multiply(x, gate)


OPERATORS = (smooth_operator("Mish", 18, lambda site: MISH, real, runtime, uses=(SOFTPLUS, TANH)),)
