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
    gamma,
    inner_up,
    midpoint_radius,
    multiply_up,
    sum_up,
)
from encoders.numbers.forms import Formed
from encoders.numbers.row_forms import RowForms
from encoders.relaxations.bending import bent_product, lower_of
from encoders.relaxations.bilinear import (
    Bilinear,
    bilinear_differences,
    bilinear_parts,
    bilinear_values,
    exact_part,
    is_bounded,
)
from encoders.relaxing import Contribution, DifferenceMap, Moved, ValueMap

_AT_ONCE = 2**22  # numbers in what functionals of mixtures become


@dataclass(frozen=True)
class Mixing(Formed):
    """Ranges of a tensor whose rows, along its last axis, are probabilities over the reals: none
    negative, with a sum of 1. At run time they add up to 1 up to `off`, and are those of scores
    that are off by at most `scores` up to as much in all: radii of each row (…, 1). `plain` are the
    ranges alone."""

    off: Radius
    scores: Radius
    plain: Range
    near: Near | None = None


@dataclass(frozen=True)
class Near:
    """Weights p̃ that are not negative, of the shape of the probabilities p: Σ|p − p̃| of each row is
    at most `apart`, (…, 1). `forms` enclose the rows of what is mixed, as they stand in its
    tensor."""

    weights: FloatArray
    apart: FloatArray
    forms: RowForms | None


@dataclass(frozen=True)
class Mix:
    """What the weights of each row (…, 1) that a step mixes with, probabilities, are off by: their
    sum from 1, and the scores that they were made of; and weights near them."""

    off: Radius
    scores: Radius
    near: Near | None

    def enclosed(self, forms: RowForms | None) -> Mix:
        """The same, of rows that these forms enclose."""
        near = None if self.near is None else replace(self.near, forms=forms)
        return replace(self, near=near)


def mixed_values(b: Bilinear, p: Mixing, v: Interval) -> ValueMap:
    """Values p·v, whose last two axes are those of matrices."""
    held = enclosed(MIXTURE_RANGE, X=range_on(range_along(range_of(v), -2), b.shape))
    planes = bilinear_values(b, (p.plain, v), None)
    if not is_bounded(p, v):
        return replace(planes, range=held)
    mapped = replace(planes, range=both_ranges(planes.range, held), carry=None)
    centre, spread = midpoint_radius(mapped.range)
    (_, of_p), (m, of_v) = midpoint_radius(p), midpoint_radius(v)
    flat = ~(b.on_x(of_v).magnitude_up(of_p) < spread)

    def backward(c: FloatArray) -> Contribution:
        pulled, rest = mapped.backward(np.where(flat, 0.0, c)), np.where(flat, c, 0.0)
        hulls = add_up(inner_up(rest, centre), dot_up(rest, spread))
        return Contribution(pulled.coefficients, add_up(pulled.constant, hulls))

    bent = bent_product(b, (p, v))
    near = p.near
    if near is None or not _same_batch(b, p, v):
        return ValueMap(mapped.range, lower_of(backward, bent, (p, v)))
    around = exact_part(b, (p.plain, v), (near.weights, m))
    each = np.maximum(add_up(p.hi, -near.weights), add_up(near.weights, -p.lo))

    def joint(c: FloatArray) -> Contribution:
        linear = around(c)
        left = _left(near, c, m, of_v, np.maximum(each, 0.0))
        return Contribution(linear.coefficients, add_up(linear.constant, left))

    best = lower_of(lower_of(backward, joint, (p, v)), bent, (p, v))
    return ValueMap(mapped.range, best)


def _left(
    near: Near, c: FloatArray, m: FloatArray, of_v: FloatArray, each: FloatArray
) -> FloatArray:
    """Upper bounds (k,) on c·(p − p̃)(v − m), m the middle of v, which is within `of_v` of it: of
    each row of p and each of v, how much what c takes of the latter is off, times how much the
    weight is; and of each row of p by its largest."""
    reach = np.matmul(np.abs(c), np.swapaxes(of_v, -1, -2))
    reach = reach * (1.0 + gamma(2 * c.shape[-1] + 4)) + 2.0**-900
    if near.forms is not None:
        many = max(_AT_ONCE // (near.forms.moves[..., 0, :].size * c.shape[-2]), 1)
        parts = [c[at : at + many] for at in range(0, len(c), many)]
        joint = [_reach(near.forms, part, m) for part in parts]
        reach = np.minimum(reach, np.concatenate(joint))
    weighed = sum_up(multiply_up(reach, each), axis=-1)
    whole = multiply_up(np.max(reach, axis=-1), near.apart[..., 0])
    left = np.minimum(weighed, whole)
    return sum_up(left, axis=tuple(range(1, left.ndim)))


def _reach(forms: RowForms, c: FloatArray, m: FloatArray) -> FloatArray:
    """(k, …, rows of c, rows of v): how far functionals c of a row of v are from what they are of
    m, by forms of all rows of v."""
    batch, columns, count = c.shape[1:-2], c.shape[-1], m.shape[-2]
    moves = forms.moves.reshape(*batch, count, columns, -1)
    side_by_side = np.moveaxis(moves, -2, -3).reshape(*batch, columns, -1)
    pulled = np.matmul(c, side_by_side).reshape(*c.shape[:-1], count, -1)
    lost = sum_up(np.abs(moves), axis=-1) * gamma(columns + 4) + 2.0**-900
    off = np.abs(forms.middle.reshape(*batch, count, columns) - m) * (1.0 + 2.0**-50)
    rest = add_up(add_up(forms.rest.reshape(*batch, count, columns), lost), off)
    beside = np.matmul(np.abs(c), np.swapaxes(rest, -1, -2))
    beside = beside * (1.0 + gamma(2 * columns + 4)) + 2.0**-900
    return add_up(sum_up(np.abs(pulled), axis=-1), beside)


def _same_batch(b: Bilinear, p: Interval, v: Interval) -> bool:
    return p.lo.ndim == v.lo.ndim == len(b.shape) and p.lo.shape[:-2] == v.lo.shape[:-2]


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
