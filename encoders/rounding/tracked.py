"""A value with what rounding has done to it so far: the numbers of `ErrorArithmetic`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from encoders.lemmas.kernel import Radius
from encoders.numbers.enclosure import BoolArray, FloatArray, Interval, add_up


@dataclass(frozen=True)
class Tracked:
    """A value before rounding, in `ideal`, and |computed − ideal| ≤ `error`; arrays of one shape
    with a leading sample axis. `largest` is the largest magnitude met on the way, for overflow."""

    ideal: Interval
    error: Radius
    largest: float

    def moved(self, f: Callable[[FloatArray], FloatArray]) -> Tracked:
        return Tracked(self.ideal.move(f), self.error.moved(f), self.largest)

    def joined(self, others: Sequence[Tracked], axis: int) -> Tracked:
        every = (self, *others)

        def join(arrays: list[FloatArray]) -> FloatArray:
            return np.concatenate(arrays, axis=axis)

        return Tracked(
            Interval(join([t.ideal.lo for t in every]), join([t.ideal.hi for t in every])),
            self.error.joined([t.error for t in others], axis),
            max(t.largest for t in every),
        )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.ideal.shape

    @property
    def sample(self) -> Radius:
        """What the one sample is off by."""
        return self.error.moved(lambda v: np.asarray(v[0]))

    @property
    def computed(self) -> Interval:
        """What the runtime may hold."""
        return self.ideal.inflate(self.error.bound)


def largest_of(magnitude: FloatArray) -> float:
    """The largest of all magnitudes; +∞ where one of them is NaN."""
    largest = float(np.max(magnitude, initial=0.0))
    return float("inf") if np.isnan(largest) else largest


def is_zero(a: Tracked) -> BoolArray:
    """Where the number is 0 in every execution."""
    return np.asarray((a.ideal.lo == 0) & (a.ideal.hi == 0) & (a.error.bound == 0))


def is_zero_product(a: Tracked, b: Tracked) -> BoolArray:
    """Where a·b is 0 in every execution."""
    return np.asarray(is_zero(a) | is_zero(b))


def is_one(a: Tracked) -> BoolArray:
    """Where the number is 1 or −1 in every execution."""
    point = (a.ideal.lo == a.ideal.hi) & (a.error.bound == 0)
    return np.asarray(point & (np.abs(a.ideal.lo) == 1.0))


def is_power_of_two(a: Tracked) -> BoolArray:
    """Where the number is one and the same in every execution, 0 or ±2^k: products by it are
    scalings."""
    point = (a.ideal.lo == a.ideal.hi) & (a.error.bound == 0) & np.isfinite(a.ideal.lo)
    mantissa, _ = np.frexp(np.where(point, a.ideal.lo, 1.0))
    return np.asarray(point & ((np.abs(mantissa) == 0.5) | (a.ideal.lo == 0)))


def tracked(ideal: Interval, error: Radius) -> Tracked:
    """A tensor's values (no sample axis yet) with what rounding has done to them so far."""
    magnitude = add_up(ideal.magnitude, error.bound)
    return Tracked(
        ideal.move(lambda v: v[None]), error.moved(lambda v: v[None]), largest_of(magnitude)
    )
