"""Truncate: a Cast to integers, as the reader names it: towards zero. No ONNX operator.

Exact where no jump is crossed. A number beyond the type is undefined at run time, so none may be;
of types of less than eight bits ONNX says that its higher bits are dropped, which is what it means
over the reals, but no bound covers it. To these types onnxruntime rounds to the nearest integer
where ONNX says towards zero: the bound covers both.
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
from encoders.lemmas.grids import CUT_OR_ROUNDED
from encoders.lemmas.kernel import Radius, apply, exactly_zero
from encoders.lemmas.operations import JUMP
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
from onnx_import.tensors import integer_limits

_WHOLE = tuple(DType(f"{sign}int{bits}") for sign in ("", "u") for bits in (2, 4, 8, 16, 32, 64))
_COMPUTED = tuple(dtype for dtype in _WHOLE if not dtype.is_narrow)
_EXACT = 2**53  # integers up to here are float64 numbers


def check(site: Site) -> None:
    if site.variable != (0,) or site.outputs[0].dtype not in _WHOLE:
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
    least, most = _limits(site)
    low, count = (field.constant(np.full(ones, v)) for v in (least, most - least + 1.0))
    return (x - count * field.floor((x - low) / count),)


def _limits(site: Site) -> tuple[float, float]:
    """The least and the largest integer of its type, no larger than 2^53."""
    least, most = integer_limits(site.outputs[0].dtype.value)
    return float(max(least, -_EXACT)), float(min(most, _EXACT))


def _is_whole(x: Interval) -> FloatArray:
    """1 where the number is known, and an integer."""
    return np.asarray((x.lo == x.hi) & (x.lo == np.trunc(x.lo)), np.float64)


def _leaves(site: Site, x: Interval) -> BoolArray:
    """Where an integer may lose its higher bits."""
    least, most = _limits(site)
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
        every = Interval(*(np.full(x.shape, v) for v in _limits(site)))
        return elementwise_values(every, LinearBounds(zero, every.lo, zero, every.hi), x)
    if site.type_of(0).dtype.is_float:
        return step_values(np.trunc, x, (-1.0, 1.0))
    one, zero = np.ones(x.shape), np.zeros(x.shape)
    return elementwise_values(x, LinearBounds(one, zero, one, zero), x)


def differences(site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]) -> DifferenceMap:
    (x,), (error,) = ranges, errors
    if _leaves(site, x.inflate(error.bound)).any():
        least, most = _limits(site)
        return jumping(apply(JUMP, lo=least, hi=most, e=error), 1)
    if site.type_of(0).dtype.is_float:
        return step_differences(np.trunc, x, error, 2.0)
    unmoved = Secant(np.ones(x.shape), exactly_zero(EXACT, x.shape))
    return elementwise_differences(unmoved, error, error)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    (x,), source = inputs, site.type_of(0)
    least, most = _limits(site)
    whole = _integers(site, x)
    low, high = float(np.min(whole.lo)), float(np.max(whole.hi))
    radius = exactly_zero(EXACT, x.shape)
    if source.dtype.is_float:
        radius = read_jump(np.trunc, rounder(replace(site, outputs=(source,)), contract), x)
        if site.outputs[0].dtype.is_narrow:
            radius = apply(CUT_OR_ROUNDED, e=radius, whole=_is_whole(x))
    found = RoundingBound(radius).given(
        "integer-fits",
        f"{site.node.describe()}: integers between {low + 0.0:.6g} and {high + 0.0:.6g} are "
        f"numbers of {site.outputs[0].dtype.value}, and at most 2^53",
        INTEGERS_FIT,
        lo=whole.lo,
        hi=whole.hi,
        least=least,
        most=most,
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
        dtypes=(*FLOATS, DType.BOOL, *_COMPUTED),
    ).reading("round_mode", "saturate", "to"),
)
