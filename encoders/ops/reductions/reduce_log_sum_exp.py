"""ReduceLogSumExp: log Σ eˣ over some axes, computed as max x + log Σ e^(x − max x)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, moved, sum_of_terms
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.pooling import reduced_axes, with_reduced
from encoders.families.rows.softmax_bounds import (
    exponentials,
    log_error,
    log_sum_exp_range,
    mean_moved,
    softmax_range,
    two_flushed,
)
from encoders.families.signed_sum import check_float
from encoders.functions.exp import EXP
from encoders.functions.log import LOG
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.lemmas.combining import EXACT
from encoders.lemmas.domains import DEFINED_WITHIN
from encoders.lemmas.kernel import Radius, exactly_zero
from encoders.numbers.enclosure import Interval, add_up, midpoint_radius, point
from encoders.operator import (
    DifferenceMap,
    Field,
    Operator,
    RoundingBound,
    Site,
    ValueMap,
)
from encoders.relaxations.row_maps import row_differences, row_values
from encoders.relaxations.rows import Rows, columns, reduced_rows
from encoders.rounding.rounding_bounds import finish, rounder
from onnx_import.graph import DType

_SIXTEEN = (DType.FLOAT16, DType.BFLOAT16)
_FUNCTION_SINCE = 18
_MOST = 708.0  # whose power, and that of its negative, are normal numbers of float64
LEMMAS = ("weighted-mean", "sum-of-exponentials", "logarithm-moves")


def check(site: Site) -> None:
    check_float(site)
    if site.variable != (0,):
        raise site.unsupported("its first input, and no other, must be computed")
    if not reduced_axes(site):
        raise site.unsupported("it reduces no axis")


def _rows(site: Site) -> tuple[Rows, Rows]:
    return reduced_rows(site.type_of(0).shape, reduced_axes(site), site.outputs[0].shape)


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    inside, outside = _rows(site)
    x = inside.split(inputs[0])
    top = reduce(field.maximum, columns(x))
    total = np.add.reduce(field.function(EXP, x - top), axis=2, keepdims=True)
    return (outside.merge(top + field.function(LOG, total)),)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    inside, outside = _rows(site)
    x = moved(inputs[0], inside.split)
    top = reduce(arithmetic.maximum, columns(x))
    powers = arithmetic.function(EXP, arithmetic.subtract(x, top))
    total = sum_of_terms(arithmetic, contract, columns(powers))
    result = arithmetic.add(top, arithmetic.function(LOG, total))
    return (moved(result, outside.merge),)


def _jacobian(x: Interval) -> Interval:
    return softmax_range(x).move(lambda p: p[:, None, :])


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    inside, outside = _rows(site)
    x = inside.of_interval(ranges[0])
    at_middle = log_sum_exp_range(point(midpoint_radius(x)[0]))
    return row_values(
        inside,
        outside,
        x=x,
        range_=log_sum_exp_range(x),
        at_middle=at_middle,
        jacobian=_jacobian(x),
    )


def differences(site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]) -> DifferenceMap:
    inside, outside = _rows(site)
    x, given = inside.of_interval(ranges[0]), inside.of_radius(errors[0])
    return row_differences(
        inside, outside, _jacobian(x.inflate(given.bound)), given, mean_moved(given)
    )


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    r = rounder(site, contract)
    if r.exact:
        return RoundingBound(exactly_zero(EXACT, site.outputs[0].shape), (), LEMMAS)
    inside, outside = _rows(site)
    x = inside.of_interval(inputs[0])
    e = exponentials(r, contract.functions.accuracy(EXP), x)
    logarithm = log_error(r, contract.functions.accuracy(LOG), e, inside.length)
    lost = r.operand_loss(x).worst(axis=1).moved(lambda v: v[:, None])
    size = log_sum_exp_range(x).magnitude
    moved = logarithm + lost + two_flushed(r, size)
    error = r.after(r.of_sum, size, moved)
    reached = np.maximum(add_up(size, moved.bound), 2.0 * inside.length)
    bound = finish(r, outside.to_radius(error), outside.merge(reached[None])[0]).using(*LEMMAS)
    tops = [outside.merge(np.max(v, axis=1, keepdims=True)[None])[0] for v in (x.lo, x.hi)]
    return _powers_held(bound, site, Interval(*tops), inside.length)


def _powers_held(bound: RoundingBound, site: Site, top: Interval, count: int) -> RoundingBound:
    """Of 16 bits, onnxruntime computes log Σ eˣ in float64 where a file has ONNX's function: the
    powers of a row's largest number must neither overflow in the sum nor all vanish."""
    if site.type_of(0).dtype not in _SIXTEEN or site.node.opset < _FUNCTION_SINCE:
        return bound
    most = _MOST - math.log(max(count, 1))
    low, high = float(np.min(top.lo, initial=np.inf)), float(np.max(top.hi, initial=-np.inf))
    return bound.given(
        "argument-in-domain",
        f"{site.node.describe()}: the largest computed number of a row, between {low:.6g} and "
        f"{high:.6g}, is one whose power float64 tells from 0 and can add up, between "
        f"{-_MOST:.6g} and {most:.6g}",
        DEFINED_WITHIN,
        lo=top.lo,
        hi=top.hi,
        least=-_MOST,
        most=most,
    )


def gradient(r: Reverse) -> Carried:
    """The softmax of the row, by its own logarithm."""
    up, y = (with_reduced(r, t) for t in (r.up, r.output))
    return {0: up * (r.x - y).apply("Exp")}


OPERATORS = (
    Operator(
        "ReduceLogSumExp",
        since=1,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        gradient=Gradient(rule=gradient),
        work=lambda site: site.type_of(0).size,
        functions=(EXP, LOG),
    ).reading("axes", "keepdims", "noop_with_empty_axes"),
)
