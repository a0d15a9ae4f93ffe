"""Rounding of sums of products whose factors both vary at run time, and of sums that are scaled:
lemma `sum-any-order`."""

from __future__ import annotations

import numpy as np

from encoders.lemmas.kernel import Radius, apply, nothing_known
from encoders.lemmas.products import PRODUCT_ERRORS
from encoders.numbers.enclosure import FloatArray, Interval, add_up, multiply_up
from encoders.operator import RoundingBound
from encoders.relaxations.bilinear import Bilinear
from encoders.rounding.any_order import any_order_sum
from encoders.rounding.rounding_bounds import Rounder, finish
from encoders.rounding.tracked import Tracked, is_power_of_two

SCALED_AT_ONCE = 64
"""At least so many products are summed before a kernel scales what they give: onnxruntime scales
the sums of blocks of 128 products or more, and adds these up, a bias first."""


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


def scaled_by_blocks(
    r: Rounder,
    plain: Radius,
    size: FloatArray,
    *,
    terms: int,
    factor: Tracked,
    bias: Tracked | None,
) -> RoundingBound:
    """|computed − α·Σ x·y − bias| for sums that are scaled block by block, α being the one number
    in `factor`: Σ over blocks of α·(Σ x·y), and the bias, in any order, FMA or not.

    `plain` bounds the error of the sum of all products in any order, which those of the blocks add
    up to at most: a block is a part of some tree, whose further additions err by nothing. Σ|x·y| is
    at most `size`, and so are the magnitudes of the blocks' exact sums together, however they are
    cut; scaling costs a relative error of that.
    """
    blocks = float(-(-terms // SCALED_AT_ONCE))
    alpha = float(np.max(factor.ideal.magnitude))
    off = float(np.max(factor.error.bound))
    most = float(add_up(np.asarray(alpha), np.asarray(off)))
    computed = add_up(size, plain.bound)
    if not (np.all(np.isfinite(computed)) and np.isfinite(most)):
        return finish(r, nothing_known(size.shape), np.full(size.shape, np.inf))
    scaled = multiply_up(computed, most)
    charged = add_up(multiply_up(plain.bound, most), multiply_up(size, off))
    share, each = 0.0, 0.0
    if not r.exact:
        share = 0.0 if bool(np.all(is_power_of_two(factor))) else r.relative
        each = float(add_up(np.asarray(r.underflow), multiply_up(np.asarray(r.flushed), most)))
    partial, additions = multiply_up(size, alpha), blocks - 1.0
    counts = np.full(size.shape, blocks)
    wrong = apply(PRODUCT_ERRORS, S=scaled, v=share, C=charged, n=counts, eta=each)
    if bias is not None:
        partial = add_up(partial, np.broadcast_to(bias.ideal.magnitude[0], size.shape))
        additions += 1.0
        wrong = wrong + bias.sample.on(size.shape)
    wrong = r.with_finished_sum(wrong, partial)
    radius = any_order_sum(r, partial, np.full(size.shape, additions), wrong, total=partial)
    reached = add_up(partial, np.where(np.isfinite(radius.bound), radius.bound, 0.0))
    largest = max(most, factor.largest, 0.0 if bias is None else bias.largest)
    return finish(r, radius, np.maximum(np.maximum(reached, scaled), largest))
