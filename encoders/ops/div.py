"""Div: a/b with broadcasting, b a constant without zeros; one correctly rounded division."""

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
    divisor = site.constant(1)
    if divisor is None or site.variable != (0,):
        raise site.unsupported("the divisor must be a constant")
    size = np.abs(np.asarray(divisor, np.float64))
    if np.any((size < 2.0**-1000) | (size > 2.0**1000)):
        raise site.unsupported(
            "the constant divisor contains a zero, or a number below 2^-1000 or above 2^1000"
        )


def _affine(site: Site) -> AffineMap:
    shape = site.outputs[0].shape
    scale = 1.0 / np.asarray(site.constants[1], np.float64)
    mantissa, _ = np.frexp(scale)
    relative = 0.0 if np.all(np.abs(mantissa) == 0.5) else 2.0**-52
    part = scaled_part(scale, site.type_of(0).shape, shape, relative)
    return affine_map((part,), shape)


def real(site: Site, inputs: Sequence[ObjectArray | None], field: Field) -> tuple[ObjectArray, ...]:
    a, b = aligned(inputs)
    return (a / b,)


def runtime(
    site: Site, inputs: Sequence[Any], arithmetic: Arithmetic[Any], contract: RuntimeContract
) -> tuple[Any, ...]:
    return (arithmetic.divide(*aligned(inputs)),)


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    return affine_values(_affine(site), ranges)


def differences(
    site: Site, ranges: Sequence[Interval], errors: Sequence[FloatArray]
) -> DifferenceMap:
    return affine_differences(_affine(site), errors)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    return traced(runtime, site, inputs, contract, ("underflow-term", "quotient-error"))


OPERATORS = (
    Operator(
        "Div",
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
