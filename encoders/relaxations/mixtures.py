"""Matrix products whose left rows are probabilities, as in attention: mixtures of rows of v.

Over the reals Σp = 1, so that p·v = p·(v − m) + m for any m of one row: with m in the middle of all
rows of v what is read from products of ranges is small, and no mixture leaves the hull of what it
mixes. At run time Σp̂ is off from 1 by the softmax's own roundings alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from encoders.lemmas.carrying import FOLLOWED
from encoders.lemmas.kernel import Radius, apply, carried_back, enclosed
from encoders.lemmas.ranges.making import both_ranges
from encoders.lemmas.ranges.placing import range_along, range_of, range_on
from encoders.lemmas.ranges.range import Range
from encoders.lemmas.ranges.rows import MIXTURE_RANGE
from encoders.lemmas.rows import MIXTURE_MOVES, SHIFTED_MIXTURE, WEIGHTED_MEAN
from encoders.numbers.enclosure import (
    FloatArray,
    Interval,
    add_down,
    add_up,
    dot_up,
    inner_up,
    midpoint_radius,
)
from encoders.relaxations.bilinear import (
    Bilinear,
    bilinear_differences,
    bilinear_parts,
    bilinear_values,
    is_bounded,
)
from encoders.relaxing import Contribution, DifferenceMap, Moved, ValueMap


@dataclass(frozen=True)
class Mixing(Interval):
    """Ranges of a tensor whose rows, along its last axis, are probabilities over the reals: none
    negative, with a sum of 1. At run time they add up to 1 up to `off`, and are those of scores
    that are off by at most `scores` up to as much in all: radii of each row (…, 1). `plain` are the
    ranges alone."""

    off: Radius
    scores: Radius
    plain: Range


def mixed_values(b: Bilinear, p: Mixing, v: Interval) -> ValueMap:
    """Values p·v, whose last two axes are those of matrices."""
    held = enclosed(MIXTURE_RANGE, X=range_on(range_along(range_of(v), -2), b.shape))
    planes = bilinear_values(b, (p.plain, v), None)
    if not is_bounded(p, v):
        return replace(planes, range=held)
    mapped = replace(planes, range=both_ranges(planes.range, held), carry=None)
    centre, spread = midpoint_radius(mapped.range)
    (_, of_p), (_, of_v) = midpoint_radius(p), midpoint_radius(v)
    flat = ~(b.on_x(of_v).magnitude_up(of_p) < spread)

    def backward(c: FloatArray) -> Contribution:
        pulled, rest = mapped.backward(np.where(flat, 0.0, c)), np.where(flat, c, 0.0)
        hulls = add_up(inner_up(rest, centre), dot_up(rest, spread))
        return Contribution(pulled.coefficients, add_up(pulled.constant, hulls))

    return ValueMap(mapped.range, backward)


def mixed_differences(
    b: Bilinear, p: Mixing, v: Interval, errors: Sequence[Radius]
) -> DifferenceMap:
    """Differences of p·v; where what ranges say of the product of errors is more, those of a
    mixture, which moves by what its scores do and by no more than what it mixes."""
    parts = bilinear_parts(b, (p.plain, v), errors)
    if parts is None:
        return bilinear_differences(b, (p.plain, v), errors)
    plain, rest = parts
    least = (plain.radius + rest).and_also(_mixture_moved(b, p, v, errors))
    flat = ~(rest.bound < least.bound)
    around = apply(FOLLOWED, m=(~flat).astype(np.float64), r=least, q=rest)

    def backward(c: FloatArray) -> Moved:
        pulled = plain.backward(np.where(flat, 0.0, c))
        return Moved(pulled.coefficients, carried_back((pulled.cost, around.weighed(c))))

    return DifferenceMap(least, backward)


def _mixture_moved(b: Bilinear, p: Mixing, v: Interval, errors: Sequence[Radius]) -> Radius:
    """Σp̂·v̂ − Σp·v: what (p̂ − p)·(v̄ − m) is, v̄ the mean of v and v̂, and p̄·(v̂ − v), and what is
    missing of Σp̂ = 1, times m."""
    m, shifted = _shifted(v)
    worst = errors[1].worst(axis=-2).moved(lambda e: e[..., None, :])
    reach = np.max(shifted.magnitude, axis=-2, keepdims=True)
    reach = np.broadcast_to(add_up(reach, 0.5 * worst.bound), b.shape)
    off = p.off.on(b.shape)
    moved = apply(MIXTURE_MOVES, e=p.scores.on(b.shape), R=reach) + off.times(reach)
    moved = moved + apply(WEIGHTED_MEAN, e=worst.on(b.shape))
    of_p = errors[0].summed(axis=-1).moved(lambda e: e[..., None])
    moved = moved + of_p.on(b.shape).times(0.5 * worst.bound)
    return apply(SHIFTED_MIXTURE, e=moved, T=off, M=np.broadcast_to(np.abs(m), b.shape))


def _hull(v: Interval) -> Interval:
    """Where every mixture of rows lies, (…, 1, columns)."""
    return Interval(np.min(v.lo, axis=-2, keepdims=True), np.max(v.hi, axis=-2, keepdims=True))


def _shifted(v: Interval) -> tuple[FloatArray, Interval]:
    """The middle m of all rows, (…, 1, columns), and v − m."""
    m, _ = midpoint_radius(_hull(v))
    return m, Interval(add_down(v.lo, -m), add_up(v.hi, -m))
