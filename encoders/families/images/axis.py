"""Interpolation along one axis: weights as they are, and as a runtime computes them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from encoders.families.gathering import Index
from encoders.numbers.enclosure import FloatArray, add_up

Weights = npt.NDArray[np.floating]  # in float32 or float64
Float32s = npt.NDArray[np.float32]
Taps: TypeAlias = tuple[tuple[int, Fraction], ...]  # elements and their weights

UNIT = 2.0**-24  # of the float32 in which weights are computed
STEPS = 8  # rounded operations that give a coordinate and its weights, at most


@dataclass(frozen=True)
class Axis:
    """Interpolation along one axis of `length` elements, for every output element o.

    `taps[o]` are the elements that o is made of, as many for each, and their exact weights; `index`
    (taps, out) and `weights` (taps, out) are what a runtime computes in float32. Coordinates that
    are rounded otherwise move a weight by at most `steepness` for each unit, and weights computed
    otherwise are `loose` of them; or they are `loosest` (out, length) off.
    """

    axis: int
    length: int
    taps: tuple[Taps, ...]
    index: Index
    weights: Weights
    steepness: float = 1.0
    loose: float = 0.0
    loosest: FloatArray | None = None

    @property
    def matrix(self) -> FloatArray:
        """(out, length): the exact weights, each rounded to the nearest float64."""
        made = np.zeros((len(self.taps), self.length))
        for o, taps in enumerate(self.taps):
            for i, weight in taps:
                made[o, i] += float(weight)
        return made

    @property
    def computed(self) -> FloatArray:
        """(out, length): the weights that a runtime computes, within 2^-52 of their size."""
        made = np.zeros((len(self.taps), self.length))
        rows = np.arange(len(self.taps))
        for index, weights in zip(self.index, self.weights, strict=True):
            made[rows, index] += weights.astype(np.float64)
        return made

    def off(self, free: bool) -> FloatArray:
        """(out, length): how far a runtime's weights are from the exact ones.

        Where the algorithm is `free`, its coordinates may be rounded otherwise, into the next
        interval too, and its weights.
        """
        exact, computed = self.matrix, self.computed
        size = np.abs(exact) + np.abs(computed)
        off = add_up(np.abs(exact - computed), 2.0**-49 * size)
        if not free:
            return off
        if self.loosest is not None:
            return add_up(off, self.loosest)
        reach = self.steepness * STEPS * UNIT * (self.length + 1) + self.loose
        for o, taps in enumerate(self.taps):
            first, last = taps[0][0], taps[-1][0]
            off[o, max(first - 1, 0) : last + 2] += reach
        return np.asarray(off * (1.0 + 2.0**-50))
