"""MatMul: matrix product over the last two axes, one side a constant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from encoders.affine import affine_differences, affine_map, affine_values
from encoders.arithmetic import Arithmetic, moved, sum_of_products
from encoders.contract import RuntimeContract
from encoders.enclosure import FloatArray, Interval
from encoders.matrix import (
    as_matrices,
    as_output,
    left_action,
    product_pairs,
    right_action,
)
from encoders.operator import (
    DifferenceMap,
    Field,
    ObjectArray,
    Operator,
    RoundingBound,
    Site,
    ValueMap,
)
from encoders.products import Action, ProductSum, linear_part, product_rounding
from encoders.signed_sum import check_float


def check(site: Site) -> None:
    check_float(site)
    if len(site.variable) != 1:
        raise site.unsupported("a matrix product needs exactly one constant factor")


def _action(site: Site) -> tuple[Action, FloatArray]:
    (position,) = site.variable
    weights = np.asarray(site.constants[1 - position], np.float64)
    shape, out = site.type_of(position).shape, site.outputs[0].shape
    make = right_action if position == 0 else left_action
    return make(weights.shape, shape, out), weights


def real(site: Site, inputs: Sequence[ObjectArray | None], field: Field) -> tuple[ObjectArray, ...]:
    a, b = as_matrices(inputs)
    return (as_output(field.matmul(a, b), site),)


def runtime(
    site: Site, inputs: Sequence[Any], arithmetic: Arithmetic[Any], contract: RuntimeContract
) -> tuple[Any, ...]:
    a, b = as_matrices(inputs)
    total = sum_of_products(arithmetic, contract, product_pairs(a, b))
    return (moved(total, lambda v: as_output(v, site)),)


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    action, weights = _action(site)
    part = linear_part(action, weights)
    return affine_values(affine_map((part,), site.outputs[0].shape), ranges)


def differences(
    site: Site, ranges: Sequence[Interval], errors: Sequence[FloatArray]
) -> DifferenceMap:
    action, weights = _action(site)
    part = linear_part(action, weights)
    return affine_differences(affine_map((part,), site.outputs[0].shape), errors)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    action, weights = _action(site)
    return product_rounding(site, ProductSum(action, weights, None), inputs, contract, runtime)


OPERATORS = (
    Operator(
        "MatMul",
        since=1,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        affine=True,
        work=lambda site: site.outputs[0].size * _action(site)[0].terms,
    ),
)
