"""Softmax and LogSoftmax along `axis`; up to opset 12 over all axes from `axis` on.

The contract means the shifted algorithm: e = exp(x − max x), then e/Σe, respectively
(x − max x) − log Σe.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from encoders.arithmetic import Arithmetic, moved, sum_of_terms
from encoders.contract import RuntimeContract
from encoders.enclosure import FloatArray, Interval, add_up, multiply_up, point
from encoders.functions import Function
from encoders.operator import (
    DifferenceMap,
    Field,
    ObjectArray,
    Operator,
    Precondition,
    RoundingBound,
    Site,
    ValueMap,
)
from encoders.parameters import axis_of
from encoders.rounding_bounds import finish, rounder
from encoders.row_maps import row_differences, row_values
from encoders.rows import Rows, columns, rows_along
from encoders.signed_sum import check_float
from encoders.softmax_bounds import (
    exponentials,
    growth,
    log_error,
    log_softmax_image,
    log_softmax_jacobian,
    softmax_error,
    softmax_image,
    softmax_jacobian,
)

LEMMAS = ("relative-quotient", "function-error", "sum-any-order", "underflow-term")


def _rows(site: Site) -> Rows:
    shape = site.type_of(0).shape
    rank = len(shape)
    if site.node.opset < 13:
        first = axis_of(site, site.integer("axis", 1), rank)
        return rows_along(shape, tuple(range(first, rank)))
    return rows_along(shape, (axis_of(site, site.integer("axis", -1), rank),))


def check(site: Site) -> None:
    check_float(site)
    if site.variable != (0,):
        raise site.unsupported("its input must be computed")
    if not _rows(site).length:
        raise site.unsupported("it sums over an axis of length 0")


def _shifted(site: Site, x: Any, field: Field) -> tuple[Any, Any]:
    rows = _rows(site).split(x)
    top = reduce(field.maximum, columns(rows))
    shifted = rows - top
    return shifted, field.function(Function.EXP, shifted)


def _total(powers: Any) -> Any:
    return np.add.reduce(powers, axis=2, keepdims=True)


def real(site: Site, inputs: Sequence[ObjectArray | None], field: Field) -> tuple[Any, ...]:
    _, powers = _shifted(site, inputs[0], field)
    return (_rows(site).merge(powers / _total(powers)),)


def log_real(site: Site, inputs: Sequence[ObjectArray | None], field: Field) -> tuple[Any, ...]:
    shifted, powers = _shifted(site, inputs[0], field)
    return (_rows(site).merge(shifted - field.function(Function.LOG, _total(powers))),)


def _computed(
    site: Site, x: Any, arithmetic: Arithmetic[Any], contract: RuntimeContract
) -> tuple[Any, Any, Any]:
    rows = moved(x, _rows(site).split)
    shifted = arithmetic.subtract(rows, reduce(arithmetic.maximum, columns(rows)))
    powers = arithmetic.function(Function.EXP, shifted)
    return shifted, powers, sum_of_terms(arithmetic, contract, columns(powers))


def runtime(
    site: Site, inputs: Sequence[Any], arithmetic: Arithmetic[Any], contract: RuntimeContract
) -> tuple[Any, ...]:
    _, powers, total = _computed(site, inputs[0], arithmetic, contract)
    return (moved(arithmetic.divide(powers, total), _rows(site).merge),)


def log_runtime(
    site: Site, inputs: Sequence[Any], arithmetic: Arithmetic[Any], contract: RuntimeContract
) -> tuple[Any, ...]:
    shifted, _, total = _computed(site, inputs[0], arithmetic, contract)
    result = arithmetic.subtract(shifted, arithmetic.function(Function.LOG, total))
    return (moved(result, _rows(site).merge),)


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    rows = _rows(site)
    x = rows.of_interval(ranges[0])
    image = softmax_image(x)
    centre = point(_middle(x))
    return row_values(rows, rows, x, image, softmax_image(centre), softmax_jacobian(image))


def log_values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    rows = _rows(site)
    x = rows.of_interval(ranges[0])
    at_centre = log_softmax_image(point(_middle(x)))
    jacobian = log_softmax_jacobian(softmax_image(x))
    return row_values(rows, rows, x, log_softmax_image(x), at_centre, jacobian)


def _middle(x: Interval) -> FloatArray:
    """The float64 point that `midpoint_radius` chooses."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(x.lo == x.hi, x.lo, 0.5 * x.lo + 0.5 * x.hi)


def differences(
    site: Site, ranges: Sequence[Interval], errors: Sequence[FloatArray]
) -> DifferenceMap:
    """ŷ_i/y_i = 1/Σ y_j e^(d_j − d_i) lies within a factor e^(osc d) of 1 (lemma-free: Σ y_j = 1);
    against that, the mean value theorem."""
    rows = _rows(site)
    x, error = rows.of_interval(ranges[0]), rows.split(errors[0][None])[0]
    hull = softmax_image(x.inflate(error))
    real_image = softmax_image(x)
    apart = add_up(error, np.max(error, axis=1, keepdims=True))
    limit = multiply_up(real_image.hi, growth(apart))
    width = np.maximum(add_up(hull.hi, -hull.lo), 0.0)
    limit = np.where(np.isnan(limit), width, np.minimum(limit, width))
    return row_differences(rows, rows, softmax_jacobian(hull), error, limit)


def log_differences(
    site: Site, ranges: Sequence[Interval], errors: Sequence[FloatArray]
) -> DifferenceMap:
    rows = _rows(site)
    x, error = rows.of_interval(ranges[0]), rows.split(errors[0][None])[0]
    jacobian = log_softmax_jacobian(softmax_image(x.inflate(error)))
    limit = add_up(error, np.max(error, axis=1, keepdims=True))
    return row_differences(rows, rows, jacobian, error, limit)


def _finite_rows(x: Interval) -> Precondition:
    """A row that is −∞ throughout, or holds +∞, has no softmax."""
    largest = float(np.max(x.magnitude, initial=0.0))
    return Precondition(
        "finite-scores",
        f"no row holds an infinity or is -inf throughout: magnitudes at most {largest:.6g}",
        bool(np.isfinite(largest)),
    )


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    r, rows = rounder(site, contract), _rows(site)
    x = rows.of_interval(inputs[0])
    e = exponentials(r, contract.functions.accuracy(Function.EXP), x)
    error = softmax_error(r, e, softmax_image(x))
    return _finished(site, rows, x, error, e.spread, contract)


def log_rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    r, rows = rounder(site, contract), _rows(site)
    x = rows.of_interval(inputs[0])
    e = exponentials(r, contract.functions.accuracy(Function.EXP), x)
    log = log_error(r, contract.functions.accuracy(Function.LOG), e, rows.length)
    error = add_up(add_up(e.shift, log), 2.0 * r.flushed)
    magnitude = add_up(log_softmax_image(x).magnitude, error)
    return _finished(site, rows, x, add_up(error, r.of_sum(magnitude)), magnitude, contract)


def _finished(
    site: Site,
    rows: Rows,
    x: Interval,
    error: FloatArray,
    reached: FloatArray,
    contract: RuntimeContract,
) -> RoundingBound:
    r = rounder(site, contract)
    radius = np.zeros_like(error) if r.exact else error
    magnitude = np.maximum(np.max(reached, initial=float(rows.length) * 2.0), x.magnitude)
    condition = _finite_rows(x)
    if not condition.holds:
        radius = np.full_like(radius, np.inf)
    bound = finish(r, np.asarray(rows.merge(radius[None])[0]), magnitude, LEMMAS)
    return RoundingBound(bound.radius, (condition, *bound.preconditions), LEMMAS)


OPERATORS = (
    Operator(
        "Softmax",
        since=1,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        work=lambda site: site.outputs[0].size * _rows(site).length,
        functions=(Function.EXP,),
    ).reading("axis"),
    Operator(
        "LogSoftmax",
        since=1,
        check=check,
        real=log_real,
        runtime=log_runtime,
        values=log_values,
        differences=log_differences,
        rounding=log_rounding,
        work=lambda site: site.outputs[0].size * _rows(site).length,
        functions=(Function.EXP, Function.LOG),
    ).reading("axis"),
)
