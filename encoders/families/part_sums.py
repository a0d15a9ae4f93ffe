"""What sums of products add up at most, where more is known of that than ranges of the terms say.

Terms of one sum hang on the same inputs, and seldom are all at their largest at once: the sum of
those above 0 is a functional of the tensor that is read, which is pulled back to the network's
inputs like any other (refine/bounds/local/part_sums.py). No partial sum, in any order, is more than
that, nor less than minus the sum of those below 0; and half an ulp of a partial sum is what its
rounding costs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.numbers.enclosure import FloatArray, Interval, LinearPart, add_up
from encoders.operator import Site
from encoders.rounding.prefixes import Prefixes


@dataclass(frozen=True)
class PartSums:
    """Of the sums Σ w·x over the reals that the operator at `site` makes with its stored weights,
    the bias left out: terms above 0 add up to at most `above`, those below to at least −`below`;
    arrays of the output's shape. `prefixes` are of these products, taken in their order."""

    site: Site
    above: FloatArray
    below: FloatArray
    prefixes: Prefixes | None = None

    def of(self, x: Interval) -> Summing:
        """The ranges, with what is known besides."""
        return Summing(x.lo, x.hi, self, np.zeros(x.lo.shape))


@dataclass(frozen=True)
class Summing(Interval):
    """Ranges of numbers that lie within `off` of real ones, of whose sums `sums` holds."""

    sums: PartSums
    off: FloatArray

    def inflate(self, radius: FloatArray) -> Interval:
        """All points within `radius`, of which the same is known."""
        wide = Interval(self.lo, self.hi).inflate(radius)
        off = np.broadcast_to(add_up(self.off, radius), self.lo.shape)
        return Summing(wide.lo, wide.hi, self.sums, off)


@dataclass(frozen=True)
class Limits:
    """Of numbers that lie within a radius of real ones: Σ|w·x̂| is at most `total`, and no partial
    sum, a bias left out, above `above` or below −`below`; `prefixes` are of them too."""

    total: FloatArray
    above: FloatArray
    below: FloatArray
    prefixes: Prefixes | None


def limits_of(x: Interval, site: Site, part: LinearPart) -> Limits | None:
    """Of the sums that the operator at this very site makes of x; `part` is their linear part.

    A term w·x̂ is within |w|·e of w·x, and so is what of it is above 0."""
    if not isinstance(x, Summing) or x.sums.site is not site:
        return None
    moved, above, below = part.magnitude_up(x.off), x.sums.above, x.sums.below
    total = add_up(add_up(above, below), moved)
    prefixes = None if x.sums.prefixes is None else x.sums.prefixes.inflate(moved)
    return Limits(total, add_up(above, moved), add_up(below, moved), prefixes)
