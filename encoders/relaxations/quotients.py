"""Quotients x/y of computed tensors whose divisor stays away from zero.

With w = 1/y, chord slope s and intercepts such that w = s·y + t ± ρ on the divisor's range (f(y) =
1/y is convex for y > 0, and 1/y − s·y ≥ 2·√−s there), the product x·w is treated as in
`encoders.relaxations.bilinear`. Differences: x̂/ŷ − x/y = d_x/ŷ − x/(y·ŷ)·d_y (lemma
`quotient-difference`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from encoders.lemmas.combining import EXACT
from encoders.lemmas.domains import DEFINED_QUOTIENT, DEFINED_WHERE_FINITE
from encoders.lemmas.kernel import Radius, apply, carried_back, enclosed, exactly_zero
from encoders.lemmas.ranges.operations import QUOTIENT_RANGE
from encoders.lemmas.ranges.placing import (
    range_of,
    range_of_cases,
    range_on,
    range_signed,
    range_taken,
)
from encoders.lemmas.ranges.range import Range
from encoders.numbers.enclosure import (
    FloatArray,
    Interval,
    LinearPart,
    add_up,
    midpoint_radius,
    multiply_up,
)
from encoders.operator import DifferenceMap, Moved, ValueMap
from encoders.relaxations.affine import AffineMap, affine_differences, affine_values, scaled_part
from encoders.rounding.error_arithmetic import (
    interval_product,
    interval_quotient,
    quotient_moved,
)

LEMMAS = (
    "reciprocal-tangent",
    "bilinear-plane",
    "bilinear-value",
    "quotient-difference",
    "coefficient-remainder",
)


@dataclass(frozen=True)
class Quotient:
    """Numerator and divisor: their shapes, and whether they vary."""

    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    varies: tuple[bool, bool]
    output: tuple[int, ...]

    def part(self, position: int, scale: FloatArray) -> LinearPart:
        """The linear part scale·x of one argument, broadcast to the quotient's shape."""
        return scaled_part(scale, self.shapes[position], self.output)


def away_from_zero(y: Interval) -> npt.NDArray[np.bool_]:
    """Where a range is finite and does not contain 0."""
    finite = np.isfinite(y.lo) & np.isfinite(y.hi)
    return np.asarray(finite & ((y.lo > 0) | (y.hi < 0)))


def quotient_values(q: Quotient, x: Interval, y: Interval) -> ValueMap:
    """Values of x/y; nothing is known where the divisor may be zero."""
    away = away_from_zero(y)
    safe = Interval(np.where(away, y.lo, 1.0), np.where(away, y.hi, 1.0))
    known = np.broadcast_to(away, q.output) & np.isfinite(x.magnitude)
    range_ = quotient_range(range_of(x), range_of(y), known)
    slope, middle, rho = _reciprocal_band(safe)
    w = interval_quotient(Interval(np.ones(y.shape), np.ones(y.shape)), safe)
    mw, rw = midpoint_radius(w)
    mx, rx = midpoint_radius(Interval(*(np.where(np.isfinite(v), v, 0.0) for v in (x.lo, x.hi))))
    coefficient = mx * slope
    # float64 errors of the coefficient and of the constant, charged generously
    noise = multiply_up(np.abs(coefficient), safe.magnitude)
    noise = add_up(noise, multiply_up(np.abs(mx), np.abs(middle) + np.abs(mw)))
    radius = add_up(multiply_up(np.abs(mx), rho), multiply_up(noise, 2.0**-49))
    radius = add_up(radius, multiply_up(rx, rw))
    bias = mx * middle
    parts = []
    if q.varies[0]:
        parts.append(q.part(0, mw))
        bias = bias - mx * mw
    if q.varies[1]:
        parts.append(q.part(1, np.broadcast_to(coefficient, q.output)))
    radius = np.where(known, np.broadcast_to(radius, q.output), np.inf)
    affine = AffineMap(tuple(parts), np.broadcast_to(bias, q.output), radius)
    ranges = [r for r, varies in zip((x, safe), q.varies, strict=True) if varies]
    return ValueMap(range_, affine_values(affine, ranges, range_).backward)


def quotient_range(x: Range, y: Range, known: npt.NDArray[np.bool_]) -> Range:
    """Of x/y where that is known: y keeps to one side of zero there, and both are made positive
    or negative so that it is above."""
    places = np.flatnonzero(known)
    x, y = (range_taken(range_on(v, known.shape), places) for v in (x, y))
    side = np.where(y.hi < 0.0, -1.0, 1.0)
    found = enclosed(QUOTIENT_RANGE, X=range_signed(x, side), Y=range_signed(y, side))
    return range_of_cases(known.shape, [(places, found)])


def _reciprocal_band(y: Interval) -> tuple[FloatArray, FloatArray, FloatArray]:
    """s, t, ρ with |1/y − s·y − t| ≤ ρ on a range on one side of zero."""
    negative = y.hi < 0
    near = np.where(negative, -y.hi, y.lo)
    far = np.where(negative, -y.lo, y.hi)
    with np.errstate(over="ignore", under="ignore"):
        slope = -np.maximum(1.0 / near / far, 2.0**-1000)
        ends = [np.nextafter(1.0 / p, np.inf) for p in (near, far)]
    high = np.maximum(
        add_up(ends[0], multiply_up(-slope, near)), add_up(ends[1], multiply_up(-slope, far))
    )
    low = 2.0 * np.sqrt(-slope) * (1.0 - 2.0**-50)
    middle, radius = midpoint_radius(Interval(np.minimum(low, high), high))
    return slope, np.where(negative, -middle, middle), radius


def quotient_differences(
    q: Quotient, x: Interval, y: Interval, errors: Sequence[Radius]
) -> DifferenceMap:
    """Differences of x/y for real ranges x and y; `errors` of numerator and divisor."""
    hull = y.inflate(errors[1].bound)
    clear = away_from_zero(hull)
    safe = Interval(np.where(clear, hull.lo, 1.0), np.where(clear, hull.hi, 1.0))
    ones = np.ones(safe.shape)
    by_x = interval_quotient(Interval(ones, ones), safe)
    near = np.minimum(np.abs(safe.lo), np.abs(safe.hi))
    square = interval_product(Interval(near, safe.magnitude), Interval(near, safe.magnitude))
    low = np.maximum(square.lo, near * near * (1.0 - 2.0**-50))
    numerator = Interval(*(np.where(np.isfinite(v), v, 0.0) for v in (x.lo, x.hi)))
    by_y = interval_quotient(numerator, Interval(low, square.hi))
    (mx, rx), (my, ry) = midpoint_radius(by_x), midpoint_radius(Interval(-by_y.hi, -by_y.lo))
    parts, given, rest = [], [], exactly_zero(EXACT, q.output)
    for position, middle, radius in ((0, mx, rx), (1, my, ry)):
        if q.varies[position]:
            parts.append(q.part(position, np.broadcast_to(middle, q.output)))
            given.append(errors[position])
            rest = rest + errors[position].times(radius).on(q.output)
    zero = np.zeros(q.output)
    plain = affine_differences(AffineMap(tuple(parts), zero, zero), given)
    limit = sys.float_info.max
    rest = apply(DEFINED_QUOTIENT, e=rest, lo=hull.lo, hi=hull.hi, limit=limit)
    rest = apply(DEFINED_WHERE_FINITE, e=rest, M=x.magnitude, limit=limit)

    def backward(c: FloatArray) -> Moved:
        pulled = plain.backward(c)
        return Moved(pulled.coefficients, carried_back((pulled.cost, rest.weighed(c))))

    moved = quotient_moved(interval_quotient(x, y).magnitude, y, hull, *errors)
    return DifferenceMap(moved.on(q.output), backward)
