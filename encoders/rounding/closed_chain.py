"""Very many chains of multiply-adds side by side, each bounded as a sum in any order.

Step by step (`encoders.rounding.sequential_chain`) such a bound takes hundreds of operations for
each product. Here it takes a few: with T ≥ Σ|a_k·b_k| and s the sum, no partial sum of the terms,
in whatever order, is more than (T + |s|)/2, which is all that `any_order_sum` asks for.
"""

from __future__ import annotations

import numpy as np

from encoders.arithmetic.slices import Slices
from encoders.lemmas.kernel import apply
from encoders.lemmas.products import PRODUCT_ERRORS
from encoders.numbers.enclosure import (
    SMALLEST,
    FloatArray,
    Interval,
    add_down,
    add_up,
    gamma,
    midpoint_radius,
    multiply_up,
    raised,
    some,
)
from encoders.rounding.any_order import any_order_sum
from encoders.rounding.rounding_bounds import Rounder
from encoders.rounding.tracked import Tracked, largest_of


def closed_chain(r: Rounder, pairs: Slices[Tracked], shape: tuple[int, ...]) -> Tracked | None:
    """Σ a_k·b_k of operands without errors, of this shape; None where it is not known so: numbers
    that are flushed, aligned steps, unbounded ranges."""
    if r.flushed or r.alignment is not None:
        return None
    a, b = pairs.stacked()
    if any(np.any(t.error.bound) or not np.all(np.isfinite(t.ideal.magnitude)) for t in (a, b)):
        return None
    terms = len(pairs)
    total = _sum_up(a.ideal.magnitude, b.ideal.magnitude)
    ideal = _ideal(a.ideal, b.ideal, total, terms)
    partial = 0.5 * add_up(total, np.minimum(ideal.magnitude, total))
    products = apply(PRODUCT_ERRORS, S=total, v=r.relative, C=0.0, n=float(terms), eta=r.underflow)
    additions = np.full(total.shape, float(terms - 1))
    error = any_order_sum(r, partial, additions, products, total=total)
    if not np.all(np.isfinite(error.bound)):
        return None
    met = (largest_of(add_up(partial, error.bound)), largest_of(total), a.largest, b.largest)
    whole = Interval(np.broadcast_to(ideal.lo, shape), np.broadcast_to(ideal.hi, shape))
    return Tracked(whole, error.on(shape), max(met))


def _sum_up(a: FloatArray, b: FloatArray) -> FloatArray:
    """At least Σ a·b along the last axis, of numbers that are not negative."""
    sums = np.einsum("...k,...k->...", raised(a), raised(b))
    return np.asarray(sums * (1.0 + gamma(2 * a.shape[-1] + 4)))


def _ideal(a: Interval, b: Interval, total: FloatArray, terms: int) -> Interval:
    """Around Σ a·b, whose terms are at most `total` in all."""
    (mid_a, off_a), (mid_b, off_b) = midpoint_radius(a), midpoint_radius(b)
    middle = np.einsum("...k,...k->...", mid_a, mid_b)
    off = add_up(multiply_up(total, gamma(terms + 8)), 2.0 * terms * SMALLEST)
    if some(off_a) or some(off_b):
        off = add_up(off, _sum_up(np.abs(mid_a), off_b))
        off = add_up(off, _sum_up(off_a, add_up(np.abs(mid_b), off_b)))
    return Interval(add_down(middle, -off), add_up(middle, off))
