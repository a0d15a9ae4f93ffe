"""ReduceL2: the Euclidean norm over some axes, √Σx²; products may be fused into the sum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, moved, sum_of_products
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.pooling import reduced_axes, with_reduced
from encoders.families.signed_sum import check_float
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, enclosed, exactly_zero
from encoders.lemmas.ranges.functions import MONOTONE_RANGE
from encoders.lemmas.ranges.operations import MAGNITUDE_RANGE
from encoders.lemmas.ranges.placing import range_along, range_of
from encoders.lemmas.ranges.range import Range
from encoders.numbers.enclosure import (
    Interval,
    add_up,
    gamma,
    midpoint_radius,
    multiply_up,
    norms_up,
    point,
)
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
from encoders.rounding.error_arithmetic import interval_quotient
from encoders.rounding.norms import lost_of_sum, norm_moved, relative_sum, root_of_squares
from encoders.rounding.rounding_bounds import finish, rounder
from encoders.rounding.signs import not_negative

LEMMAS = ("norm-moves", "root-of-squares")


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
    return (outside.merge(field.sqrt(np.add.reduce(x * x, axis=2, keepdims=True))),)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    inside, outside = _rows(site)
    pairs = [(c, c) for c in columns(moved(inputs[0], inside.split))]
    total = sum_of_products(arithmetic, contract, pairs)
    return (moved(arithmetic.sqrt(total), outside.merge),)


def _range(x: Interval) -> Range:
    least = np.maximum(np.maximum(x.lo, -x.hi), 0.0)
    n = x.shape[1]
    squares = np.sum(least * least, axis=1, keepdims=True) * (1.0 - gamma(2 * n + 8))
    low = np.sqrt(np.maximum(squares - n * 2.0**-1000, 0.0)) * (1.0 - 2.0**-50)
    high = norms_up(x.magnitude, axis=1)[:, None]
    sizes = enclosed(MAGNITUDE_RANGE, X=range_along(range_of(x), axis=1))
    return enclosed(MONOTONE_RANGE, X=sizes, a=low, b=high)


def _jacobian(x: Interval, y: Interval) -> Interval:
    """x_j/y, within [−1, 1]; where y may be 0 the norm is 1-Lipschitz all the same."""
    full = Interval(*(np.broadcast_to(v, x.shape) for v in (y.lo, y.hi)))
    slopes = interval_quotient(x, full)
    return Interval(np.maximum(slopes.lo, -1.0)[:, None, :], np.minimum(slopes.hi, 1.0)[:, None, :])


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    inside, outside = _rows(site)
    x = inside.of_interval(ranges[0])
    range_ = _range(x)
    at_middle = _range(point(midpoint_radius(x)[0]))
    return row_values(
        inside, outside, x=x, range_=range_, at_middle=at_middle, jacobian=_jacobian(x, range_)
    )


def differences(site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]) -> DifferenceMap:
    inside, outside = _rows(site)
    x, given = inside.of_interval(ranges[0]), inside.of_radius(errors[0])
    hull = x.inflate(given.bound)
    return row_differences(inside, outside, _jacobian(hull, _range(hull)), given, norm_moved(given))


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    """Flushed operands move the norm by at most their own norm."""
    r = rounder(site, contract)
    if r.exact:
        return RoundingBound(exactly_zero(EXACT, site.outputs[0].shape), (), LEMMAS)
    inside, outside = _rows(site)
    x = inside.of_interval(inputs[0])
    n, y = inside.length, _range(x)
    root = root_of_squares(r, n, y.hi)
    error = r.after(r.of_product, y.hi, root + norm_moved(r.operand_loss(x)))
    reached = add_up(multiply_up(y.hi, y.hi), lost_of_sum(r, n)) * (1.0 + relative_sum(r, n))
    return finish(
        r, outside.to_radius(error), np.asarray(np.max(reached, initial=0.0) * (1.0 + 2.0**-50))
    ).using(*LEMMAS)


def gradient(r: Reverse) -> Carried:
    """x·(up/norm), which is 0/0 at 0."""
    up, norm = (with_reduced(r, t) for t in (r.up, r.output))
    return {0: r.x * (up / norm)}


def _masked_gradient(r: Reverse) -> Carried:
    up, norm = (with_reduced(r, t) for t in (r.up, r.output))
    return {0: r.x * norm.equals(0).chosen(0, up / norm)}


OPERATORS = (
    Operator(
        "ReduceL2",
        since=1,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        gradient=Gradient(rule=gradient, frameworks={"torch": _masked_gradient}),
        work=lambda site: site.type_of(0).size,
        keeps=not_negative,
    ).reading("axes", "keepdims", "noop_with_empty_axes"),
)
