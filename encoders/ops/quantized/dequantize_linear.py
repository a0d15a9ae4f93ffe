"""DequantizeLinear: (x − zero point)·scale, the difference exact, the product rounded.

Stored tensors never reach it: they are read as the exact products that they stand for, which the
runtime rounds (onnx_import/passes/folding/quantized.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, aligned, integers_of, moved
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import exactly_zero
from encoders.numbers.enclosure import FloatArray, Interval, multiply_up
from encoders.operator import Field, Operator, RoundingBound, Site
from encoders.quantized.grid_steps import grid_of
from encoders.quantized.integer_products import BYTES, as_whole
from encoders.quantized.parameters import along_axis, check_plain, check_scale
from encoders.quantizing import Meaning
from encoders.relaxations.affine import AffineMap, affine_semantics, scaled_part
from encoders.rounding.error_arithmetic import ErrorArithmetic, of_output
from encoders.rounding.rounding_bounds import finish, rounder
from encoders.rounding.tracked import tracked
from onnx_import.graph import DType

_WHOLE = (DType.INT8, DType.UINT8, DType.INT32)


def check(site: Site) -> None:
    check_plain(site)
    if site.type_of(0).dtype not in _WHOLE:
        raise site.unsupported(f"input 0 is {site.type_of(0).dtype.value}; use int8 or uint8")
    check_scale(site, 1)
    if site.variable != (0,):
        raise site.unsupported("only the first input may depend on the network's input")


def _stored(site: Site, position: int) -> FloatArray:
    value = site.constant(position)
    exact = np.zeros(()) if value is None else np.asarray(value, np.float64)
    return np.asarray(along_axis(site, exact[None])[0])


def _affine(site: Site) -> AffineMap:
    shape = site.outputs[0].shape
    scale = _stored(site, 1)
    bias = np.broadcast_to(-_stored(site, 2) * scale, shape)
    return AffineMap((scaled_part(scale, shape, shape),), bias, multiply_up(np.abs(bias), 2.0**-52))


def _centred(site: Site, inputs: Inputs[V], whole: Arithmetic[V]) -> V:
    x = as_whole(inputs[0])
    if inputs.optional(2) is None:
        return x
    return whole.subtract(*aligned((x, whole.constant(_stored(site, 2)))))


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    x = inputs[0]
    x, zero, scale = aligned((x, *(field.constant(_stored(site, i)) for i in (2, 1))))
    return ((x - zero) * scale,)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    numbers = integers_of(arithmetic)
    steps = numbers.converted(_centred(site, inputs, numbers.integers()))
    scale = moved(inputs[1], lambda v: along_axis(site, v))
    return (arithmetic.multiply(*aligned((steps, scale))),)


values, differences = affine_semantics(_affine)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    r = rounder(site, contract)
    x = tracked(inputs[0], exactly_zero(EXACT, inputs[0].shape))
    arithmetic = ErrorArithmetic(r, contract)
    scale = arithmetic.stored(np.asarray(site.constants[1]))
    held = site.constant(2)
    zero = None if held is None else arithmetic.stored(held)
    (y,) = runtime(site, Inputs((x, scale, zero)), arithmetic, contract)
    return finish(r, of_output(y, site), np.asarray(y.largest))


def meant(site: Site) -> Meaning | None:
    """The number that a stored one stands for."""
    if site.type_of(0).dtype not in BYTES:
        return None
    grid = grid_of(site.type_of(0).dtype).of(_stored(site, 1), _stored(site, 2))
    return Meaning("", ((0, grid),))


OPERATORS = (
    Operator(
        "DequantizeLinear",
        since=10,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        affine=True,
        dtypes=_WHOLE,
        meant=meant,
    ).reading("axis", "block_size", "output_dtype"),
)
