"""How large partial sums of a layer's products can be: pulled back to the network's inputs.

The terms above 0 of Σ w·x add up to Σ w⁺·x where no x is negative, as behind a Relu, and likewise
where none is positive: a functional of x like any other. Of an x of either sign the range of its
term is taken. What is larger of the two sums, above and below 0, decides how large partial sums can
be, so that it is pulled back first, and the other only where it could be larger than what was found
of that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from encoders.families.part_sums import PartSums
from encoders.numbers.enclosure import FloatArray, Interval, add_up, dot_up
from encoders.operator import is_affine
from encoders.program import Step
from refine.bounds.backward import Maps, pull_back, unit_functionals
from refine.bounds.optimising import chunks
from refine.bounds.pruning import largest_of


def part_sums(
    maps: Maps, step: Step, tick: Callable[[], None], most: int | None, affordable: int
) -> PartSums | None:
    """Of the sums that a step makes with stored weights, of no more than `affordable` elements;
    None where it makes none, or of the network's inputs, whose ranges say all."""
    sums = step.operator.sums
    if maps.kept or len(step.reads) != 1 or sums is None or not sums.products:
        return None
    tensor = step.reads[0]
    x, carry = maps.values[tensor], maps.value_maps[step.name].carry
    bounded = bool(np.all(np.isfinite(x.hi - x.lo)))
    inside = tensor in maps.program.writers and is_affine(step.operator, step.site)
    if not (inside and bounded) or carry is None or affordable < 1:
        return None
    coefficients, shape = carry().coefficients, step.site.outputs[0].shape
    above, below = np.full(shape, np.inf), np.full(shape, np.inf)
    for chunk in chunks(maps.graph, np.arange(above.size), copies=4):
        (w,) = coefficients(unit_functionals(shape, chunk))
        for sign, side in ((1.0, above), (-1.0, below)):
            side.reshape(-1)[chunk] = _Sides(x, sign * w).at_most
    rows = np.arange(above.size)
    if affordable < len(rows):
        rows = rows[largest_of(np.maximum(above, below).reshape(-1), affordable)]
    for chunk in chunks(maps.graph, rows, copies=4):
        (w,) = coefficients(unit_functionals(shape, chunk))
        at = np.unravel_index(chunk, shape)
        swapped = below[at] > above[at]
        flipped = np.where(swapped, -1.0, 1.0).reshape(-1, *(1,) * (w.ndim - 1))
        large = _pulled(maps, tensor, flipped * w, tick, most)
        large = np.minimum(large, np.maximum(above[at], below[at]))
        small = np.minimum(above[at], below[at])
        open_ = small > large
        if np.any(open_):
            found = _pulled(maps, tensor, -(flipped * w)[open_], tick, most)
            small[open_] = np.minimum(small[open_], found)
        above[at] = np.where(swapped, small, large)
        below[at] = np.where(swapped, large, small)
    return PartSums(step.site, above, below)


@dataclass(frozen=True)
class _Sides:
    """The terms above 0 of functionals w of x."""

    x: Interval
    w: FloatArray

    @property
    def at_most(self) -> FloatArray:
        """The most that ranges say they add up to."""
        plus, minus = np.maximum(self.w, 0.0), np.maximum(-self.w, 0.0)
        up, down = np.maximum(self.x.hi, 0.0), np.maximum(-self.x.lo, 0.0)
        return add_up(dot_up(plus, up), dot_up(minus, down))

    def linear(self) -> tuple[FloatArray, FloatArray]:
        """A functional of x, and what to add to it for at least their sum."""
        lo, hi = self.x.lo, self.x.hi
        positive, negative = lo >= 0.0, (hi <= 0.0) & (lo < 0.0)
        either = ~(positive | negative)
        c = np.where(positive, np.maximum(self.w, 0.0), 0.0)
        c = np.where(negative, np.minimum(self.w, 0.0), c)
        if not np.any(either):
            return c, np.zeros(len(c))
        return c, _Sides(self.x, np.where(either, self.w, 0.0)).at_most


def _pulled(
    maps: Maps, tensor: str, w: FloatArray, tick: Callable[[], None], most: int | None
) -> FloatArray:
    c, beside = _Sides(maps.values[tensor], w).linear()
    return add_up(pull_back(maps, {tensor: c}, {}, tick, most=most).upper, beside)
