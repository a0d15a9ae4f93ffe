"""The grid of a quantised tensor, and how far quantising moves a number.

A stored whole number q in [lowest, highest] stands for (q − zero point)·scale. Over the reals,
QuantizeLinear takes x to q(x) = clamp(⌊x/scale⌉ + zero point), the quotient rounded to the nearest
whole number, ties to even, and DequantizeLinear takes q to the number that it stands for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.enclosure import FloatArray, Interval, add_up, multiply_up, point


@dataclass(frozen=True)
class Grid:
    """Scale > 0 and whole zero point, broadcasting to the tensor; the ends of the stored type."""

    scale: FloatArray
    zero_point: FloatArray
    lowest: float
    highest: float

    def clamped(self, steps: FloatArray) -> FloatArray:
        """The stored number for a whole number of steps from zero; monotone, exact."""
        return np.clip(steps + self.zero_point, self.lowest, self.highest)

    def quotient(self, x: Interval) -> Interval:
        """An enclosure of x/scale, outward-rounded; zeros and infinities stay as they are."""
        return Interval(_quotient(x.lo, self.scale, -np.inf), _quotient(x.hi, self.scale, np.inf))

    def stored(self, x: Interval, moved: FloatArray | float = 0.0) -> Interval:
        """The least and the greatest stored number of x in the ranges.

        `moved` ≥ 0 says how far the quotient that is rounded may be from x/scale.
        """
        steps = self.quotient(x).inflate(np.broadcast_to(np.asarray(moved), x.shape))
        return steps.move(np.rint).move(self.clamped)

    def values(self, stored: Interval) -> Interval:
        """Enclosures of the numbers that stored numbers in these ranges stand for."""
        lo, hi = stored.lo - self.zero_point, stored.hi - self.zero_point
        return Interval(-multiply_up(-lo, self.scale), multiply_up(hi, self.scale))


def quantisation_error(x: Interval, grid: Grid, moved: FloatArray | float = 0.0) -> FloatArray:
    """An upper bound on |(q − zero point)·scale − x|, q the stored number of x, per element.

    Half a scale, or the distance to the last grid point beyond the grid's ends; less where all of
    a range is stored as one number. `moved` ≥ 0 says how far the quotient that is rounded may be
    from x/scale, in steps (what a runtime's division loses): q is then ⌊x/scale + m⌉ clamped for
    any |m| ≤ moved. No jump is charged: this is the distance from the identity, which is never
    more than half a step wherever the boundaries lie. Infinite for an unbounded range.

    |⌊a + m⌉ − a| ≤ ½ + |m|, and clamping moves a whole number only towards the ends: beyond the
    last point t of the grid the result is either t, at x − t, or as close as without clamping.
    """
    near = multiply_up(grid.scale, add_up(0.5, moved))
    top = grid.values(point(np.asarray(grid.highest))).lo
    bottom = grid.values(point(np.asarray(grid.lowest))).hi
    spread = np.maximum(near, np.maximum(add_up(x.hi, -top), add_up(bottom, -x.lo)))
    stored = grid.stored(x, moved)
    held = grid.values(stored)
    single = np.maximum(add_up(x.hi, -held.lo), add_up(held.hi, -x.lo))
    bound = np.where(stored.lo == stored.hi, np.minimum(single, spread), spread)
    return np.where(np.isfinite(x.lo) & np.isfinite(x.hi), bound, np.inf)


def _quotient(x: FloatArray, scale: FloatArray, towards: float) -> FloatArray:
    with np.errstate(over="ignore", under="ignore"):
        quotient = np.asarray(x / scale)
    exact = (x == 0) | ~np.isfinite(x)
    return np.where(exact, quotient, np.nextafter(quotient, towards))
