"""Softplus: log(1 + e^x), as accurate as the contract says."""

from __future__ import annotations

import sys

import numpy as np

from encoders.families.smooth import smooth_operator
from encoders.families.softplus import as_one, as_written
from encoders.functions.exp import EXP
from encoders.functions.log import LOG
from encoders.functions.softplus import SOFTPLUS
from encoders.gradients.rule import unary
from encoders.gradients.tape import Term
from encoders.lemmas.domains import DEFINED_WITHIN
from encoders.numbers.enclosure import Interval
from encoders.operator import RoundingBound, Site
from encoders.rounding.signs import of_function
from onnx_import.graph import DType


def _thresholded(x: Term, y: Term, up: Term) -> Term:
    z = x.apply("Exp")
    return (x > 20).chosen(up, up * z / (z + 1))


_FUNCTION_SINCE = 18
_MOST = 88.0  # whose power is a number of float32


def _power_held(bound: RoundingBound, site: Site, x: Interval) -> RoundingBound:
    """Of float16, onnxruntime computes log(1 + e^x) in float32 where a file has ONNX's function."""
    if site.type_of(0).dtype is not DType.FLOAT16 or site.node.opset < _FUNCTION_SINCE:
        return bound
    high = float(np.max(x.hi, initial=-np.inf))
    return bound.given(
        "argument-in-domain",
        f"{site.node.describe()}: the computed argument, at most {high:.6g}, is one whose power is "
        f"finite in float32, at most {_MOST:.6g}",
        DEFINED_WITHIN,
        lo=x.lo,
        hi=x.hi,
        least=-sys.float_info.max,
        most=_MOST,
    )


_GRADIENT = unary(lambda x, y, up: up * x.apply("Sigmoid"), frameworks={"torch": _thresholded})
OPERATORS = (
    smooth_operator(
        "Softplus",
        1,
        lambda site: SOFTPLUS.shape,
        real=lambda site, x, field: field.function(SOFTPLUS, x),
        runtime=as_one,
        in_double=(as_written,),
        uses=(SOFTPLUS, EXP, LOG),
        keeps=of_function(SOFTPLUS),
        defined=_power_held,
    ).derived(_GRADIENT),
)
