"""Rounding of sums of products whose factors both vary at run time: lemma `sum-any-order`."""

from __future__ import annotations

import numpy as np

from encoders.lemmas.kernel import Radius, apply, nothing_known
from encoders.lemmas.products import PRODUCT_ERRORS
from encoders.numbers.enclosure import FloatArray, Interval, add_up
from encoders.operator import RoundingBound
from encoders.relaxations.bilinear import Bilinear
from encoders.rounding.any_order import any_order_sum
from encoders.rounding.rounding_bounds import Rounder, finish


def varying_rounding(
    r: Rounder,
    b: Bilinear,
    x: Interval,
    y: Interval,
    bias: Interval | None = None,
    bias_error: Radius | None = None,
) -> RoundingBound:
    """|computed − Σ x·y − bias| for run-time factors in their ranges, in any order, FMA or not.

    A product's positive part is at most x⁺y⁺ + x⁻y⁻ and its negative part x⁺y⁻ + x⁻y⁺, which
    bounds every partial sum.
    """
    xp, xn = np.maximum(x.hi, 0.0), np.maximum(-x.lo, 0.0)
    yp, yn = np.maximum(y.hi, 0.0), np.maximum(-y.lo, 0.0)
    if not all(np.all(np.isfinite(v)) for v in (xp, xn, yp, yn)):
        return finish(r, nothing_known(b.shape), np.full(b.shape, np.inf))

    def total(of_x: FloatArray, of_y: FloatArray) -> FloatArray:
        return b.on_x(of_y).magnitude_up(of_x)

    up, down = add_up(total(xp, yp), total(xn, yn)), add_up(total(xp, yn), total(xn, yp))
    size = every = total(x.magnitude, y.magnitude)
    additions = float(b.terms - 1)
    if bias is not None:
        up = add_up(up, np.maximum(bias.hi, 0.0))
        down = add_up(down, np.maximum(-bias.lo, 0.0))
        additions += 1.0
        every = add_up(every, bias.magnitude)
    partial = np.maximum(up, down)
    charged, share, each = np.zeros(()), 0.0, 0.0
    if not r.exact:
        share, each = r.relative, r.underflow
        lost_x, lost_y = r.operand_loss(x).bound, r.operand_loss(y).bound
        charged = add_up(total(lost_x, y.magnitude), total(x.magnitude, lost_y))
    counts = np.full(b.shape, float(b.terms))
    wrong = apply(PRODUCT_ERRORS, S=size, v=share, C=charged, n=counts, eta=each)
    wrong = r.with_finished_sum(wrong, partial)
    if bias_error is not None:
        wrong = wrong + bias_error
    counts, clamped = np.full(b.shape, additions), r.clamped(x.magnitude, y.magnitude)
    radius = any_order_sum(
        r,
        partial,
        additions=counts,
        products=wrong,
        steps=float(b.terms),
        clamped=clamped,
        total=every,
    )
    reached = add_up(partial, np.where(np.isfinite(radius.bound), radius.bound, 0.0))
    reached = np.maximum(reached, max(np.max(x.magnitude), np.max(y.magnitude)))
    return finish(r, radius, reached)
