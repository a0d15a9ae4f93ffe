"""Products of two computed tensors: elementwise, matrix, and what is written with them.

With m the middles and r the radii of the ranges of x and y, x·y = m_y·x + m_x·y − m_x·m_y + ρ and
|ρ| ≤ r_x·r_y (lemma `bilinear-value`); of a square, 0 ≤ ρ ≤ r². Differences are exact in the means
x̄ = (x̂ + x)/2: x̂·ŷ − x·y = ȳ·d_x + x̄·d_y (lemma `bilinear-difference`), so their remainder is
r_ȳ·|d_x| + r_x̄·|d_y|.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from encoders.lemmas.combining import HELD_NUMBER
from encoders.lemmas.kernel import Radius, apply, carried_back, nothing_known
from encoders.lemmas.ranges.making import hull_of
from encoders.lemmas.ranges.operations import FROM_MIDDLE
from encoders.lemmas.ranges.placing import range_of, range_of_cases
from encoders.lemmas.ranges.range import Range
from encoders.numbers.enclosure import (
    SMALLEST,
    FloatArray,
    Interval,
    LinearPart,
    add_up,
    gamma,
    midpoint_radius,
    multiply_up,
)
from encoders.operator import Contribution, DifferenceMap, Moved, ValueMap
from encoders.relaxations.affine import AffineMap, affine_differences, affine_values

LEMMAS = (
    "bilinear-plane",
    "bilinear-value",
    "square-value",
    "bilinear-difference",
    "coefficient-remainder",
)


@dataclass(frozen=True)
class Bilinear:
    """A bilinear map (x, y) ↦ z: `on_x(v)` is its action on x for y = v, `on_y(v)` that on y for
    x = v, `product` its float64 value, a sum of `terms` products; `square` says that x is y.

    `outer(X, Y)` are the matrices (*shape, m, m) of the quadratic forms that z is of t where x is
    X·t and y is Y·t, X and Y with a last axis of m: the sums of `terms` products each."""

    on_x: Callable[[FloatArray], LinearPart]
    on_y: Callable[[FloatArray], LinearPart]
    product: Callable[[FloatArray, FloatArray], FloatArray]
    shape: tuple[int, ...]
    terms: int
    square: bool = False
    outer: Callable[[FloatArray, FloatArray], FloatArray] | None = None


def bilinear_values(b: Bilinear, ranges: Sequence[Interval], range_: Range | None) -> ValueMap:
    """Values through b; `range_` where it is known better than by the planes."""
    x, y = ranges
    (mx, _), (my, _) = midpoint_radius(x), midpoint_radius(y)
    if not is_bounded(x, y):
        return ValueMap(range_of_cases(b.shape, ()) if range_ is None else range_, _unbounded(2))
    off_x, off_y = (apply(FROM_MIDDLE, X=range_of(v), m=m) for v, m in ((x, mx), (y, my)))
    remainder = off_x.carried(b.on_x(off_y.bound), off_y)
    shift = None
    if b.square:
        remainder = remainder.times(0.5)
        shift = remainder.bound
    affine = _at_middles(b, mx, my, shift)
    assert affine.off is not None
    off = remainder + affine.off
    affine = replace(affine, bias_radius=off.bound, off=off)
    mapped = affine_values(affine, ranges, range_)
    return ValueMap(mapped.range, mapped.backward)


def exact_part(
    b: Bilinear, ranges: Sequence[Interval], at: tuple[FloatArray, FloatArray]
) -> Callable[[FloatArray], Contribution]:
    """Pulls back m_y·x + m_x·y − m_x·m_y, with these m: all of x·y but (x − m_x)·(y − m_y)."""
    affine = _at_middles(b, *at, None)
    return affine_values(affine, ranges, range_of_cases(b.shape, ())).backward


def _at_middles(b: Bilinear, mx: FloatArray, my: FloatArray, shift: FloatArray | None) -> AffineMap:
    """m_y·x + m_x·y − m_x·m_y, and a `shift` that is not negative: off by what float64 loses of its
    constant."""
    size, centre = b.on_x(np.abs(my)).magnitude_up(np.abs(mx)), -b.product(mx, my)
    if shift is not None:
        size, centre = add_up(size, shift), centre + shift
    slack = multiply_up(size, gamma(b.terms + 2) * (1.0 + 2.0**-40))
    slack = add_up(slack, 4.0 * b.terms * SMALLEST if np.any(size) else 0.0)
    off = apply(HELD_NUMBER, U=slack)
    return AffineMap((b.on_x(my), b.on_y(mx)), centre, off.bound, off)


def bilinear_differences(
    b: Bilinear, ranges: Sequence[Interval], errors: Sequence[Radius]
) -> DifferenceMap:
    """Differences through b, given |d_x| and |d_y| in `errors`."""
    parts = bilinear_parts(b, ranges, errors)
    if parts is None:
        nothing = nothing_known(b.shape)
        return DifferenceMap(nothing, lambda c: Moved((None, None), nothing.weighed(c)))
    plain, remainder = parts

    def backward(c: FloatArray) -> Moved:
        pulled = plain.backward(c)
        return Moved(pulled.coefficients, carried_back((pulled.cost, remainder.weighed(c))))

    return DifferenceMap(plain.radius + remainder, backward)


def bilinear_parts(
    b: Bilinear, ranges: Sequence[Interval], errors: Sequence[Radius]
) -> tuple[DifferenceMap, Radius] | None:
    """Differences through b are those of its linear part at the middles, up to a radius; None where
    ranges or errors are not bounded."""
    x, y = (hull_of(r, e.times(0.5)) for r, e in zip(ranges, errors, strict=True))
    (mx, _), (my, _) = midpoint_radius(x), midpoint_radius(y)
    if not (is_bounded(x, y) and _finite(*(e.bound for e in errors))):
        return None
    parts = (b.on_x(my), b.on_y(mx))
    plain = affine_differences(AffineMap(parts, np.zeros(b.shape), np.zeros(b.shape)), errors)
    off_x, off_y = (apply(FROM_MIDDLE, X=v, m=m) for v, m in ((x, mx), (y, my)))
    remainder = errors[0].carried(b.on_x(off_y.bound), off_y)
    return plain, remainder + errors[1].carried(b.on_y(off_x.bound), off_x)


def is_bounded(x: Interval, y: Interval) -> bool:
    """Are all middles and radii of both numbers?"""
    return _finite(*midpoint_radius(x), *midpoint_radius(y))


def _finite(*arrays: FloatArray) -> bool:
    return all(bool(np.all(np.isfinite(a))) for a in arrays)


def _unbounded(inputs: int) -> Callable[[FloatArray], Contribution]:
    """Nothing is known of a functional that is not zero."""

    def backward(c: FloatArray) -> Contribution:
        some = np.any(c.reshape(c.shape[0], -1) != 0, axis=1)
        return Contribution((None,) * inputs, np.where(some, np.inf, 0.0))

    return backward
