"""Concat: joins tensors along `axis`; some of them may be constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, joined
from encoders.contract.contract import RuntimeContract
from encoders.numbers.enclosure import FloatArray, Interval, LinearPart
from encoders.operator import Field, Operator, RoundingBound, Site
from encoders.relaxations.affine import AffineMap, affine_meanings, moved_part
from encoders.rounding.rounding_bounds import no_rounding, rounder, stored_loss
from onnx_import.graph import DType


def _axis(site: Site) -> int:
    """The joined axis, counted with the sample axis in front."""
    rank = len(site.outputs[0].shape)
    axis = site.integer("axis", 0 if site.node.opset < 4 else rank)
    if not -rank <= axis < rank:
        raise site.unsupported(f"attribute 'axis' is missing or out of range ({axis})")
    return axis % rank + 1


def check(site: Site) -> None:
    _axis(site)


def real(site: Site, inputs: Sequence[ObjectArray | None], field: Field) -> tuple[ObjectArray, ...]:
    present = [x for x in inputs if x is not None]
    samples = max(x.shape[0] for x in present)
    full = [np.broadcast_to(x, (samples, *x.shape[1:])) for x in present]
    return (np.concatenate(full, axis=_axis(site)),)


def runtime(
    site: Site, inputs: Sequence[Any], arithmetic: Arithmetic[Any], contract: RuntimeContract
) -> tuple[Any, ...]:
    return (joined(inputs, _axis(site)),)


def _place(site: Site, position: int) -> slice:
    axis = _axis(site) - 1
    start = sum(site.type_of(i).shape[axis] for i in range(position))
    return slice(start, start + site.type_of(position).shape[axis])


def _part(site: Site, position: int) -> LinearPart:
    shape, axis = site.outputs[0].shape, _axis(site)
    where = (slice(None),) * axis + (_place(site, position),)

    def forward(v: FloatArray) -> FloatArray:
        out = np.zeros((v.shape[0], *shape))
        out[where] = v
        return out

    return moved_part(forward, lambda c: c[where])


def _affine(site: Site) -> AffineMap:
    shape = site.outputs[0].shape
    bias = np.zeros(shape)
    for position, constant in enumerate(site.constants):
        if constant is not None:
            where = (slice(None),) * (_axis(site) - 1) + (_place(site, position),)
            bias[where] = np.asarray(constant, np.float64)
    return AffineMap(tuple(_part(site, i) for i in site.variable), bias, np.zeros(shape))


values, differences = affine_meanings(_affine)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    """Exact, but for constants that the compute format cannot hold."""
    if not site.outputs[0].dtype.is_float:
        return no_rounding(site)
    return RoundingBound(stored_loss(rounder(site, contract), _affine(site).bias))


OPERATORS = (
    Operator(
        "Concat",
        since=4,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        movement=True,
        affine=True,
        dtypes=tuple(DType),
    ).reading("axis"),
)
