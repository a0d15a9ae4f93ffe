"""Truncate: a Cast to integers, as the reader names it: towards zero. No ONNX operator.

Exact where no jump is crossed. A number beyond the type is undefined at run time, so none may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.lemmas.combining import EXACT
from encoders.lemmas.domains import INTEGERS_FIT
from encoders.lemmas.kernel import Radius, exactly_zero
from encoders.numbers.enclosure import Interval
from encoders.operator import (
    FLOATS,
    DifferenceMap,
    Field,
    LinearBounds,
    Operator,
    RoundingBound,
    Site,
    ValueMap,
)
from encoders.relaxations.elementwise import Secant, elementwise_differences, elementwise_values
from encoders.relaxations.steps import LEMMAS, read_jump, step_differences, step_values
from encoders.rounding.rounding_bounds import rounder
from encoders.traits import Discontinuity
from onnx_import.graph import DType

_WHOLE = tuple(DType(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64))
_EXACT = 2**53  # integers up to here are float64 numbers


def check(site: Site) -> None:
    if site.variable != (0,) or site.outputs[0].dtype not in _WHOLE:
        raise site.unsupported("it makes integers of one computed input")


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    x = inputs[0]
    assert x is not None
    if not site.type_of(0).dtype.is_float:
        return (x,)
    zero = field.constant(np.zeros((1,) * (x.ndim - 1)))
    return (field.floor(field.maximum(x, zero)) - field.floor(field.maximum(-x, zero)),)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    x = inputs[0]
    if not site.type_of(0).dtype.is_float:
        return (x,)
    zero = arithmetic.constant(np.zeros((1,) * len(site.outputs[0].shape)))
    above = arithmetic.floor(arithmetic.maximum(x, zero))
    below = arithmetic.floor(arithmetic.maximum(arithmetic.negate(x), zero))
    return (arithmetic.subtract(above, below),)


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    (x,) = ranges
    if site.type_of(0).dtype.is_float:
        return step_values(np.trunc, x, (-1.0, 1.0))
    one, zero = np.ones(x.shape), np.zeros(x.shape)
    return elementwise_values(x, LinearBounds(one, zero, one, zero), x)


def differences(site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]) -> DifferenceMap:
    (x,), (error,) = ranges, errors
    if site.type_of(0).dtype.is_float:
        return step_differences(np.trunc, x, error, 2.0)
    unmoved = Secant(np.ones(x.shape), exactly_zero(EXACT, x.shape))
    return elementwise_differences(unmoved, error, error)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    (x,), source = inputs, site.type_of(0)
    limits = np.iinfo(site.outputs[0].dtype.value)
    whole = x.move(np.trunc)
    low, high = float(np.min(whole.lo)), float(np.max(whole.hi))
    radius = exactly_zero(EXACT, x.shape)
    if source.dtype.is_float:
        radius = read_jump(np.trunc, rounder(replace(site, outputs=(source,)), contract), x)
    found = RoundingBound(radius).given(
        "integer-fits",
        f"{site.node.describe()}: integers between {low + 0.0:.6g} and {high + 0.0:.6g} are "
        f"numbers of {site.outputs[0].dtype.value}, and at most 2^53",
        INTEGERS_FIT,
        lo=whole.lo,
        hi=whole.hi,
        least=float(max(limits.min, -_EXACT)),
        most=float(min(limits.max, _EXACT)),
    )
    return found.using(*LEMMAS)


OPERATORS = (
    Operator(
        "Truncate",
        6,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        converts=True,
        jump=Discontinuity.STEP,
        dtypes=(*FLOATS, DType.BOOL, *_WHOLE),
    ).reading("round_mode", "saturate", "to"),
)
