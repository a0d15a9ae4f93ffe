"""Mul: a·b with broadcasting, one side a constant; one rounding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from encoders.affine import AffineMap, affine_differences, affine_map, affine_values, scaled_part
from encoders.arithmetic import Arithmetic, aligned
from encoders.contract import RuntimeContract
from encoders.elements import broadcast_element
from encoders.enclosure import FloatArray, Interval
from encoders.error_arithmetic import traced
from encoders.operator import (
    DifferenceMap,
    Field,
    ObjectArray,
    Operator,
    RoundingBound,
    Site,
    ValueMap,
)
from encoders.signed_sum import check_float


def check(site: Site) -> None:
    check_float(site)
    if len(site.variable) != 1:
        raise site.unsupported("a product needs exactly one constant factor")


def _affine(site: Site) -> AffineMap:
    (position,) = site.variable
    scale = np.asarray(site.constants[1 - position], np.float64)
    shape = site.outputs[0].shape
    return affine_map((scaled_part(scale, site.type_of(position).shape, shape),), shape)


def real(site: Site, inputs: Sequence[ObjectArray | None], field: Field) -> tuple[ObjectArray, ...]:
    a, b = aligned(inputs)
    return (a * b,)


def runtime(
    site: Site, inputs: Sequence[Any], arithmetic: Arithmetic[Any], contract: RuntimeContract
) -> tuple[Any, ...]:
    return (arithmetic.multiply(*aligned(inputs)),)


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    return affine_values(_affine(site), ranges)


def differences(
    site: Site, ranges: Sequence[Interval], errors: Sequence[FloatArray]
) -> DifferenceMap:
    return affine_differences(_affine(site), errors)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    return traced(runtime, site, inputs, contract, ("underflow-term", "product-error"))


OPERATORS = (
    Operator(
        "Mul",
        since=7,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        affine=True,
        element=broadcast_element,
    ),
)
