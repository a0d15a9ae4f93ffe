"""And, Or and Not of truth values, which are the numbers 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.numbers.enclosure import Interval
from encoders.operator import Field, Operator, RoundingBound, Site
from encoders.ops.algebra.max import OPERATORS as EXTREMES
from encoders.relaxations.affine import AffineMap, affine_semantics, scaled_part
from encoders.rounding.rounding_bounds import no_rounding
from onnx_import.graph import DType

_MAXIMUM, _MINIMUM = EXTREMES


def _check(site: Site) -> None:
    if any(t is not None and t.dtype is not DType.BOOL for t in site.inputs):
        raise site.unsupported("its inputs must be truth values")


def _affine(site: Site) -> AffineMap:
    """1 − x."""
    shape = site.outputs[0].shape
    parts = tuple(scaled_part(np.asarray(-1.0), shape, shape) for _ in site.variable)
    stored = 0.0 if site.variable else np.asarray(site.constants[0], np.float64)
    return AffineMap(parts, np.ones(shape) - stored, np.zeros(shape))


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    (x,) = inputs
    assert x is not None
    return (field.constant(np.ones((1,) * (x.ndim - 1))) - x,)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    one = arithmetic.constant(np.ones((1,) * len(site.outputs[0].shape)))
    x = inputs[0] if site.variable else arithmetic.constant(np.asarray(site.constants[0]))
    return (arithmetic.subtract(one, x),)


values, differences = affine_semantics(_affine)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    return no_rounding(site)


def _of_truths(extreme: Operator) -> Operator:
    return replace(extreme, check=_check, element=None, dtypes=(DType.BOOL,), gradient=None)


OPERATORS = (
    replace(_of_truths(_MINIMUM), name="And", since=7),
    replace(_of_truths(_MAXIMUM), name="Or", since=7),
    Operator(
        "Not",
        1,
        check=_check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        affine=True,
        per_element=True,
        dtypes=(DType.BOOL,),
    ),
)
