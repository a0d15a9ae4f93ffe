"""log(1 + eˣ) as runtimes compute it: as one function or, in the type double, as it is written."""

from __future__ import annotations

from encoders.arithmetic.runtime import Arithmetic
from encoders.arithmetic.values import V
from encoders.families.smooth import stored
from encoders.functions.exp import EXP
from encoders.functions.log import LOG
from encoders.functions.softplus import SOFTPLUS
from encoders.site import Site
from onnx_import.graph import DType


def as_one(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
    """As accurate everywhere as the contract says."""
    return arithmetic.function(SOFTPLUS, x)


def as_written(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
    """In the type double onnxruntime has no kernel, and runs the function that ONNX defines: e^x
    overflows, and what is small beside 1 is lost. In other types as one."""
    if site.type_of(0).dtype is not DType.FLOAT64:
        return as_one(site, x, arithmetic)
    power = arithmetic.function(EXP, x)
    return arithmetic.function(LOG, arithmetic.add(power, stored(arithmetic, 1.0)))
