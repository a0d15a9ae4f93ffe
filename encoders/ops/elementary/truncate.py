"""Truncate: a Cast to integers, as the reader names it: towards zero. No ONNX operator.

Exact where no jump is crossed. A number beyond the type is undefined at run time, so none may be;
of types of less than eight bits ONNX says that its higher bits are dropped, which is what it means
over the reals, but no bound covers it. To these types onnxruntime rounds to the nearest integer
where ONNX says towards zero: the bound covers both, and there is none where either leaves the type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.integers import INTEGERS, ends_of, fitting
from encoders.lemmas.combining import EXACT
from encoders.lemmas.grids import CUT_OR_ROUNDED
from encoders.lemmas.kernel import Radius, apply, enclosed, exactly_zero
from encoders.lemmas.operations import JUMP
from encoders.lemmas.ranges.functions import STATED_RANGE
from encoders.lemmas.ranges.placing import range_of
from encoders.numbers.enclosure import BoolArray, FloatArray, Interval
from encoders.numbers.formats import NARROW_FORMATS
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
from encoders.quantizing import nearest_integers
from encoders.relaxations.elementwise import Secant, elementwise_differences, elementwise_values
from encoders.relaxations.steps import LEMMAS, jumping, read_jump, step_differences, step_values
from encoders.rounding.rounding_bounds import rounder
from encoders.traits import Discontinuity
from onnx_import.graph import DType


def check(site: Site) -> None:
    if site.variable != (0,) or not site.outputs[0].dtype.is_integer:
        raise site.unsupported("it makes integers of one computed input")
    if site.type_of(0).dtype in NARROW_FORMATS:
        raise site.unsupported(f"it makes integers of {site.type_of(0).dtype.value}")


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    x = inputs[0]
    assert x is not None
    ones = (1,) * (x.ndim - 1)
    if site.type_of(0).dtype.is_float:
        zero = field.constant(np.zeros(ones))
        x = field.floor(field.maximum(x, zero)) - field.floor(field.maximum(-x, zero))
    if not site.outputs[0].dtype.is_narrow:
        return (x,)
    least, most = ends_of(site.outputs[0].dtype)
    low, count = (field.constant(np.full(ones, v)) for v in (least, most - least + 1.0))
    return (x - count * field.floor((x - low) / count),)


def _is_whole(x: Interval) -> FloatArray:
    """1 where the number is known, and an integer."""
    return np.asarray((x.lo == x.hi) & (x.lo == np.trunc(x.lo)), np.float64)


def _leaves(site: Site, x: Interval) -> BoolArray:
    """Where an integer may lose its higher bits."""
    least, most = ends_of(site.outputs[0].dtype)
    beyond: BoolArray = (np.trunc(x.lo) < least) | (np.trunc(x.hi) > most)
    return beyond & site.outputs[0].dtype.is_narrow


def _integers(site: Site, x: Interval) -> Interval:
    """Where the integer is that a runtime makes: cut off, of types of less than eight bits also the
    nearest one."""
    cut = x.move(np.trunc)
    if not (site.type_of(0).dtype.is_float and site.outputs[0].dtype.is_narrow):
        return cut
    near = nearest_integers(x)
    return Interval(np.minimum(cut.lo, near.lo), np.maximum(cut.hi, near.hi))


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
    if _leaves(site, x).any():
        zero = np.zeros(x.shape)
        least, most = ends_of(site.outputs[0].dtype)
        every = enclosed(STATED_RANGE, X=range_of(x), a=least, b=most)
        return elementwise_values(every, LinearBounds(zero, every.lo, zero, every.hi), x)
    if site.type_of(0).dtype.is_float:
        return step_values(np.trunc, x, (-1.0, 1.0))
    one, zero = np.ones(x.shape), np.zeros(x.shape)
    return elementwise_values(range_of(x), LinearBounds(one, zero, one, zero), x)


def differences(site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]) -> DifferenceMap:
    (x,), (error,) = ranges, errors
    if _leaves(site, x.inflate(error.bound)).any():
        least, most = ends_of(site.outputs[0].dtype)
        return jumping(apply(JUMP, lo=least, hi=most, e=error), 1)
    if site.type_of(0).dtype.is_float:
        return step_differences(np.trunc, x, error, 2.0)
    unmoved = Secant(np.ones(x.shape), exactly_zero(EXACT, x.shape))
    return elementwise_differences(unmoved, error, error)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    (x,), source = inputs, site.type_of(0)
    radius = exactly_zero(EXACT, x.shape)
    if source.dtype.is_float:
        radius = read_jump(np.trunc, rounder(replace(site, outputs=(source,)), contract), x)
        if site.outputs[0].dtype.is_narrow:
            radius = apply(CUT_OR_ROUNDED, e=radius, whole=_is_whole(x))
    return fitting(RoundingBound(radius), site, _integers(site, x)).using(*LEMMAS)


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
        dtypes=(*FLOATS, DType.BOOL, *INTEGERS),
    ).reading("round_mode", "saturate", "to"),
)
