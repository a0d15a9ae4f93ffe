"""QuantizeLinear: x/scale rounded to the nearest integer, plus zero point, clamped.

The real semantics rounds as well: it is the step function, and a runtime whose quotient is rounded
onto the other side of a boundary is one step away from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, aligned, integers_of, moved
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, exactly_zero
from encoders.numbers.enclosure import FloatArray, Interval, point
from encoders.operator import DifferenceMap, Field, Operator, RoundingBound, Site, ValueMap
from encoders.ops.algebra.div import OPERATORS as QUOTIENTS
from encoders.quantized.grid_steps import (
    LEMMAS,
    IntegerGrid,
    grid_of,
    step_differences,
    step_rounding,
    step_values,
    stored_steps,
)
from encoders.quantized.integer_products import BYTES, as_whole
from encoders.quantized.parameters import along_axis, check_plain, check_scale
from encoders.quantizing import Meaning, Stored
from encoders.relaxations.affine import AffineMap, affine_differences, affine_values, scaled_part
from encoders.relaxations.composed import (
    added_differences,
    added_values,
    composed_differences,
    composed_values,
)
from encoders.rounding.error_arithmetic import ErrorArithmetic
from encoders.rounding.rounding_bounds import Rounder, rounder_of
from encoders.rounding.tracked import Tracked, tracked
from encoders.traits import Discontinuity
from onnx_import.graph import DType, TensorType

_DIV = QUOTIENTS[0]


def check(site: Site) -> None:
    check_plain(site)
    x, scale, y = site.type_of(0), site.type_of(1), site.outputs[0]
    if y.dtype not in BYTES:
        raise site.unsupported(f"quantising to {y.dtype.value} is not supported; use int8 or uint8")
    if not x.dtype.is_float or x.dtype is not scale.dtype:
        raise site.unsupported(
            f"input {x.dtype.value} and scale {scale.dtype.value} must be of one floating-point "
            "type"
        )
    if site.constant(1) is not None:
        check_scale(site, 1)
    for position in (1, 2):
        if position in site.variable and site.type_of(position).size != 1:
            raise site.unsupported(f"a computed input {position} must be a single number")
    if 0 not in site.variable:
        raise site.unsupported("its first input is constant while its scale is computed")
    _DIV.check(_quotient(site))


def _steps(site: Site) -> IntegerGrid:
    return grid_of(site.outputs[0].dtype)


def _quotient(site: Site) -> Site:
    """The division alone."""
    x, scale = site.type_of(0), site.constant(1)
    stored = None if scale is None else np.asarray(along_axis(site, scale[None])[0])
    kind = site.type_of(1) if stored is None else TensorType(x.dtype, stored.shape)
    node = replace(site.node, inputs=site.node.inputs[:2])
    return Site(node, (x, kind), (x,), (None, stored))


def _zero(site: Site) -> tuple[AffineMap, int]:
    """The zero point, spread over the tensor; how many computed inputs it has."""
    shape = site.outputs[0].shape
    nothing = np.zeros(shape)
    if 2 in site.variable:
        part = scaled_part(np.asarray(1.0), site.type_of(2).shape, shape)
        return AffineMap((part,), nothing, nothing), 1
    return AffineMap((), np.broadcast_to(_stored_zero(site), shape), nothing), 0


def _stored_zero(site: Site) -> FloatArray:
    zero = site.constant(2)
    exact = np.zeros(()) if zero is None else np.asarray(zero, np.float64)
    return np.asarray(along_axis(site, exact[None])[0])


def _divided(site: Site, ranges: Sequence[Interval]) -> tuple[ValueMap, ValueMap]:
    """x/scale and the zero point."""
    zero, count = _zero(site)
    cut = len(ranges) - count
    return _DIV.values(_quotient(site), ranges[:cut]), affine_values(zero, ranges[cut:])


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    x, scale = aligned((inputs[0], along_axis(site, inputs[1])))
    zero = field.constant(_stored_zero(site)) if 2 not in site.variable else inputs[2]
    assert zero is not None
    _, zero = aligned((x, zero))
    return (_steps(site).real(x / scale, zero, field),)


def _taken(site: Site, x: V, scale: V, arithmetic: Arithmetic[V]) -> V:
    return arithmetic.divide(*aligned((x, moved(scale, lambda v: along_axis(site, v)))))


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    t = _taken(site, inputs[0], inputs[1], arithmetic)
    whole = integers_of(arithmetic).integers()  # a zero point need not be a number of the format
    zero = inputs[2] if 2 in site.variable else whole.constant(_stored_zero(site))
    _, zero = aligned((t, as_whole(zero)))
    return (_steps(site).runtime(t, zero, arithmetic),)


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    shifted = added_values(*_divided(site, ranges))
    return composed_values(shifted, lambda u: step_values(_steps(site), u))


def differences(site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]) -> DifferenceMap:
    zero, count = _zero(site)
    cut = len(ranges) - count
    u = added_values(*_divided(site, ranges)).range
    quotient = _DIV.differences(_quotient(site), ranges[:cut], errors[:cut])
    shifted = added_differences(quotient, affine_differences(zero, errors[cut:]))
    return composed_differences(shifted, lambda e: step_differences(_steps(site), u, e))


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    r, t = _followed(site, inputs, contract)
    zero = inputs[-1] if 2 in site.variable else point(_stored_zero(site))
    radius = step_rounding(_steps(site), t, zero, r, result.shape)
    return RoundingBound(radius).using(*LEMMAS)


def _followed(
    site: Site, inputs: Sequence[Interval], contract: RuntimeContract
) -> tuple[Rounder, Tracked]:
    """The quotient as a runtime computes it."""
    r = rounder_of(site.type_of(0).dtype, contract)
    arithmetic = ErrorArithmetic(r, contract)
    given: list[Tracked] = [tracked(x, exactly_zero(EXACT, x.shape)) for x in inputs]
    scale = site.constant(1)
    divisor = given[1] if scale is None else arithmetic.stored(scale)
    return r, _taken(site, given[0], divisor, arithmetic)


def _storing(site: Site, inputs: Sequence[Interval], contract: RuntimeContract) -> Stored:
    return stored_steps(*_followed(site, inputs, contract), site.outputs[0].shape)


def meant(site: Site) -> Meaning | None:
    """The number itself, put on a grid; nothing is said where the scale is computed."""
    scale = site.constant(1)
    if site.variable != (0,) or scale is None:
        return None
    steps = np.asarray(along_axis(site, np.asarray(scale, np.float64)[None])[0])
    grid = grid_of(site.outputs[0].dtype).of(steps, _stored_zero(site))
    return Meaning("", ((0, None),), written=grid, storing=_storing)


OPERATORS = (
    Operator(
        "QuantizeLinear",
        since=10,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        jump=Discontinuity.STEP,
        meant=meant,
        dtypes=(DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16),
    ).reading("axis", "block_size", "output_dtype", "precision", "saturate"),
)
