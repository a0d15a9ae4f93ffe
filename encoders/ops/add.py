"""Add: a + b with broadcasting, of computed tensors or constants; one rounding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from encoders.arithmetic import Arithmetic, aligned
from encoders.contract import RuntimeContract
from encoders.elements import broadcast_element
from encoders.enclosure import FloatArray, Interval
from encoders.operator import DifferenceMap, Field, ObjectArray, Operator, Site, ValueMap
from encoders.signed_sum import check_float, sum_differences, sum_rounding, sum_values

SIGNS = (1.0, 1.0)


def real(site: Site, inputs: Sequence[ObjectArray | None], field: Field) -> tuple[ObjectArray, ...]:
    a, b = aligned(inputs)
    return (a + b,)


def runtime(
    site: Site, inputs: Sequence[Any], arithmetic: Arithmetic[Any], contract: RuntimeContract
) -> tuple[Any, ...]:
    return (arithmetic.add(*aligned(inputs)),)


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    return sum_values(site, ranges, SIGNS)


def differences(
    site: Site, ranges: Sequence[Interval], errors: Sequence[FloatArray]
) -> DifferenceMap:
    return sum_differences(site, errors, SIGNS)


OPERATORS = (
    Operator(
        "Add",
        since=7,
        check=check_float,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=sum_rounding,
        affine=True,
        element=broadcast_element,
    ),
)
