"""Sums and means without weights: pooling, reductions, Sum, Mean.

Every output element is Σ of some input elements, then perhaps divided by their number. How a mean
is divided is not pinned by `ieee-any`-like contracts: where sums go in any order, both a division
and a product with the rounded reciprocal are covered; pinned contracts divide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from encoders.affine import AffineMap, affine_map, affine_values
from encoders.arithmetic import Arithmetic
from encoders.contract import AnyOrder, RuntimeContract
from encoders.enclosure import FloatArray, Interval, LinearPart, add_up, multiply_up
from encoders.error_arithmetic import ErrorArithmetic
from encoders.operator import RoundingBound, Site
from encoders.rounding_bounds import Rounder, any_order_sum, finish, rounder
from encoders.tracked import Tracked, tracked

SUM_LEMMAS = ("sum-any-order", "flush-operand-sum", "sequential-step")
MEAN_LEMMAS = (*SUM_LEMMAS, "underflow-term", "quotient-error", "product-error")


def divided(total: Any, counts: FloatArray, arithmetic: Arithmetic[Any]) -> Any:
    """total/counts, one division; counts are whole numbers, stored exactly or rounded."""
    return arithmetic.divide(total, arithmetic.constant(counts))


def times_reciprocal(total: Any, counts: FloatArray, arithmetic: Arithmetic[Any]) -> Any:
    one = arithmetic.constant(np.ones_like(counts))
    reciprocal = arithmetic.divide(one, arithmetic.constant(counts))
    return arithmetic.multiply(total, reciprocal)


def mean_map(part: LinearPart, counts: FloatArray, shape: tuple[int, ...]) -> AffineMap:
    """x ↦ part(x)/counts; the float64 reciprocal errs by at most U."""
    scale = np.broadcast_to(1.0 / counts, shape)
    mantissa, _ = np.frexp(scale)
    exact = bool(np.all(np.abs(mantissa) == 0.5))
    if np.all(scale == 1.0):
        return affine_map((part,), shape)
    mean = LinearPart(
        lambda x: part.apply(x) * scale,
        lambda x: part.apply_abs(x) * scale,
        lambda c: part.adjoint(c * scale),
        terms=part.terms + 2,
        adjoint_terms=part.adjoint_terms + 2,
        relative=0.0 if exact else 2.0**-52,
    )
    return affine_map((mean,), shape)


def any_order_total(
    r: Rounder, part: LinearPart, terms: FloatArray, x: Interval, shape: tuple[int, ...]
) -> Tracked:
    """Σ of elements of x in any order; `terms` counts them.

    Partial sums lie between the sum of the negative and the sum of the positive parts.
    """
    up = part.magnitude_up(np.maximum(x.hi, 0.0))
    down = part.magnitude_up(np.maximum(-x.lo, 0.0))
    lost = part.magnitude_up(r.operand_loss(x))
    additions = np.maximum(np.broadcast_to(terms, shape) - 1.0, 0.0)
    lost = np.where(additions > 0, lost, 0.0)
    partial = np.maximum(up, down)
    radius = any_order_sum(r, partial, additions, add_up(lost, np.where(additions > 0, r.flushed, 0.0)))
    image = affine_values(affine_map((part,), shape), (x,)).image
    return tracked(image, radius)


def sum_rounding(
    site: Site,
    total: Tracked,
    r: Rounder,
    contract: RuntimeContract,
    counts: FloatArray | None,
    reach: FloatArray,
) -> RoundingBound:
    """The rounding bound of a sum in any order, or of a mean by either way of dividing.

    `reach` bounds every partial sum, for overflow.
    """
    shape = site.outputs[0].shape
    if counts is None or np.all(counts == 1):
        return finish(r, total.error[0], np.maximum(reach, total.largest), SUM_LEMMAS)
    arithmetic = ErrorArithmetic(r, contract)
    means = [f(total, counts, arithmetic) for f in (divided, times_reciprocal)]
    error = np.broadcast_to(np.maximum(means[0].error[0], means[1].error[0]), shape)
    largest = np.maximum(reach, max(total.largest, means[0].largest, means[1].largest))
    return finish(r, error, largest, MEAN_LEMMAS)


def partial_reach(part: LinearPart, x: Interval, error: FloatArray) -> FloatArray:
    """An upper bound on every computed partial sum."""
    return add_up(part.magnitude_up(x.magnitude), np.where(np.isfinite(error), error, 0.0))


def any_order(contract: RuntimeContract) -> bool:
    return isinstance(contract.order, AnyOrder)


def summed_rounding(
    site: Site,
    part: LinearPart,
    terms: FloatArray,
    counts: FloatArray | None,
    x: Interval,
    contract: RuntimeContract,
) -> RoundingBound:
    """The bound for one variable input whose elements are added in any order."""
    r = rounder(site, contract)
    total = any_order_total(r, part, terms, x, site.outputs[0].shape)
    reach = partial_reach(part, x, total.error[0])
    return sum_rounding(site, total, r, contract, counts, reach)


def terms_of(values: Any, index: Any, count: int, term: Any) -> Sequence[Any]:
    """The `count` terms of every sum, in order."""
    return [term(values, index[k]) for k in range(count)]


__all__ = [
    "MEAN_LEMMAS",
    "SUM_LEMMAS",
    "any_order",
    "any_order_total",
    "divided",
    "mean_map",
    "multiply_up",
    "sum_rounding",
    "summed_rounding",
    "times_reciprocal",
]
