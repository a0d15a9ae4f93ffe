"""Rounding to a grid of stored integers: q = clamp(⌊t⌉ + z), ties to even, z whole.

Like every step function it has no slope (encoders/relaxations/steps.py): where real and run-time
arguments may lie on different sides of a boundary the jump is charged. It never leaves clamp(t + z)
by more than half a step, so with u = t + z the abstractions are those of the clamp, half a step or
a whole one wider; as q is whole, so is a difference of two of them.

Whatever happens at run time, overflow and 0/0 included, q is a number of its type: two of them are
never further apart than its ends. So nothing is owed here but that the real t exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, Relation, integers_of
from encoders.arithmetic.values import V
from encoders.lemmas.carrying import FOLLOWED, STEP_APART
from encoders.lemmas.grids import WHOLE_STEPS
from encoders.lemmas.kernel import Radius, apply, enclosed, nothing_known
from encoders.lemmas.ranges.functions import MONOTONE_RANGE
from encoders.lemmas.ranges.placing import range_of
from encoders.lemmas.ranges.range import Range
from encoders.numbers.enclosure import FloatArray, Interval, add_down, add_up
from encoders.operator import DifferenceMap, Field, LinearBounds, ValueMap
from encoders.quantizing import Grid, Stored, nearest_integers
from encoders.relaxations.elementwise import Secant, elementwise_differences, elementwise_values
from encoders.relaxations.piecewise import LEMMAS as PIECES
from encoders.relaxations.piecewise import clamp, piecewise_bounds, piecewise_secant
from encoders.rounding.rounding_bounds import Rounder
from encoders.rounding.tracked import Tracked
from onnx_import.graph import DType

LEMMAS = ("grid-step", "step-jump", "secant-step", *PIECES)


@dataclass(frozen=True)
class IntegerGrid:
    """The least and the greatest integer of the stored type."""

    lowest: float
    highest: float

    def range(self, u: Interval) -> Range:
        """Stored numbers for t + z in these ranges, either way of breaking ties."""
        q = nearest_integers(u)
        lo, hi = (np.clip(v, self.lowest, self.highest) for v in (q.lo, q.hi))
        return enclosed(MONOTONE_RANGE, X=range_of(u), a=lo, b=hi)

    def real(self, t: ObjectArray, zero: ObjectArray, field: Field) -> ObjectArray:
        """clip(round(t) + zero): the stored number over the reals, ties to even."""
        q = field.nearest(t) + zero
        low, high = (np.asarray(field.number(Fraction(v))) for v in (self.lowest, -self.highest))
        return np.asarray(-field.maximum(-field.maximum(q, low), high))

    def runtime(self, t: V, zero: V, arithmetic: Arithmetic[V]) -> V:
        """Exact but for what happened to t; NaN becomes the least number, as in onnxruntime."""
        whole = integers_of(arithmetic).integers()
        q = whole.add(arithmetic.nearest(t), zero)
        ones = (1,) * (len(q.shape) - 1)
        low, high = (whole.constant(np.full(ones, v)) for v in (self.lowest, self.highest))
        q = whole.select(whole.compare(Relation.EQUAL, q, q), q, low)
        return whole.minimum(whole.maximum(q, low), high)

    def of(self, scale: FloatArray, zero: FloatArray) -> Grid:
        """What they stand for with this scale and zero point."""
        return Grid(scale, zero, lowest=self.lowest, highest=self.highest)


def grid_of(dtype: DType) -> IntegerGrid:
    """The integers of a stored type."""
    limits = np.iinfo(dtype.value)
    return IntegerGrid(float(limits.min), float(limits.max))


def step_values(steps: IntegerGrid, u: Interval) -> ValueMap:
    """Values of q over u = t + z."""
    range_ = steps.range(u)
    _, near = piecewise_bounds(clamp(steps.lowest, steps.highest), u)
    flat = range_.hi - range_.lo <= 1.0
    zero = np.zeros(u.shape)
    bounds = LinearBounds(
        np.where(flat, zero, near.low_slope),
        np.where(flat, range_.lo, add_down(near.low, -0.5)),
        np.where(flat, zero, near.high_slope),
        np.where(flat, range_.hi, add_up(near.high, 0.5)),
    )
    return elementwise_values(range_, bounds, u)


def step_differences(steps: IntegerGrid, u: Interval, given: Radius) -> DifferenceMap:
    """Differences of q for real u and |û − u| ≤ `error`, infinite where û may be no number."""
    error = given.bound
    real = np.isfinite(u.lo) & np.isfinite(u.hi)
    reached = steps.range(u.inflate(error))
    jump = np.where(error == 0, 0.0, _width(reached))
    near, moved = piecewise_secant(clamp(steps.lowest, steps.highest), u, given)
    distance = moved.bound
    follows = real & (jump > 1.0) & (distance < jump)
    stepped = apply(
        WHOLE_STEPS,
        e=given,
        k=_whole_beyond(error),
        lo=np.where(real, reached.lo, np.nan),
        hi=reached.hi,
        M=np.where(real, 0.0, np.inf),
        limit=0.0,
    )
    slope = np.where(follows, near.slope, 0.0)
    apart = near.remainder + apply(STEP_APART, e=moved, A=1.0)
    remainder = apply(FOLLOWED, m=follows.astype(np.float64), r=stepped, q=apart)
    return elementwise_differences(Secant(slope, remainder), stepped, given)


def step_rounding(
    steps: IntegerGrid,
    t: Tracked,
    zero: Interval,
    r: Rounder,
    shape: tuple[int, ...],
    largest: float = np.inf,
) -> Radius:
    """How far rounding before the step moves q, t having been followed under a contract; `largest`
    is where a runtime's conversion to an integer overflows, which says nothing of q."""
    moved = t.sample.on(shape)
    error = moved.bound
    ideal = t.ideal.move(lambda v: np.broadcast_to(v[0], shape))
    reach = ideal.inflate(error)
    u = steps.range(Interval(add_down(reach.lo, zero.lo), add_up(reach.hi, zero.hi)))
    limit = np.inf if r.exact else float(r.format.largest_finite)
    size = np.where(reach.magnitude < largest, t.largest, np.inf)
    known = np.isfinite(error) & (size <= limit) & ~np.isnan(u.hi - u.lo)
    return apply(
        WHOLE_STEPS,
        e=moved,
        k=np.where(known, _whole_beyond(error), np.inf),
        lo=np.where(known, u.lo, steps.lowest),
        hi=np.where(known, u.hi, steps.highest),
        M=size,
        limit=limit,
    )


def stored_steps(r: Rounder, t: Tracked, shape: tuple[int, ...], largest: float = np.inf) -> Stored:
    """A number of steps, followed under a contract, that is taken to the nearest integer; `largest`
    as in `step_rounding`."""
    limit = np.inf if r.exact else float(r.format.largest_finite)
    if not np.all(t.computed.magnitude < largest):
        return Stored(nothing_known(shape), largest=np.inf, limit=limit)
    return Stored(t.sample.on(shape), largest=t.largest, limit=limit)


def _whole_beyond(error: FloatArray) -> FloatArray:
    """The next whole number above."""
    return np.asarray(np.floor(add_up(error, 1.0)))


def _width(range_: Interval) -> FloatArray:
    """NaN ends mean that nothing is known."""
    return np.asarray(np.where(np.isnan(range_.hi - range_.lo), np.inf, range_.hi - range_.lo))
