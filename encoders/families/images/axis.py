"""Interpolation along one axis: weights as they are, and as a runtime computes them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.families.gathering import Index
from encoders.numbers.enclosure import FloatArray, add_up
from encoders.operator import Field

Weights = npt.NDArray[np.floating]  # in float32 or float64
Float32s = npt.NDArray[np.float32]
Taps: TypeAlias = tuple[tuple[int, Fraction], ...]  # elements and their weights

UNIT = 2.0**-24  # of the float32 in which weights are computed
STEPS = 8  # rounded operations that give a coordinate, at most


@dataclass(frozen=True)
class Axis:
    """Interpolation along one axis of `length` elements, for every output element o.

    `taps[o]` are the elements that o is made of, as many for each, and their exact weights; `index`
    (taps, out) and `weights` (taps, out) are what a runtime computes in float32. Those that are
    computed in float32 in another way are within `free` (out, length) of the exact ones.
    """

    axis: int
    length: int
    taps: tuple[Taps, ...]
    index: Index
    weights: Weights
    free: FloatArray

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
        """(out, length): how far a runtime's weights are from the exact ones, where the algorithm
        is `free` of whatever way of computing them."""
        exact, computed = self.matrix, self.computed
        size = np.abs(exact) + np.abs(computed)
        off = add_up(np.abs(exact - computed), 2.0**-49 * size)
        return add_up(off, self.free) if free else off


def rational_weights(field: Field, values: npt.NDArray[np.object_]) -> ObjectArray:
    """Rationals as numbers of a field, with a sample axis of length 1 in front."""
    made = field.constant(np.zeros(values.shape))
    for place, value in np.ndenumerate(values):
        made[(slice(None), *place)] = field.number(value)
    return made


def power_of_two(x: Fraction) -> bool:
    """Is x a power of two? Multiplied by one, numbers of float32 stay such."""
    return x > 0 and all(v & (v - 1) == 0 for v in (x.numerator, x.denominator))


def coordinate_error(mode: str, scale: Fraction, n: int, out: int) -> float:
    """How far coordinates along an axis of n elements may be from the exact ones, computed in
    float32 in whatever way; 0 where every step of it is exact."""
    if mode == "align_corners":
        ratio = Fraction(n - 1, max(out - 1, 1))
        settled = not ratio or power_of_two(ratio)
    else:
        settled = power_of_two(scale)
    few = max(n, out) * max(scale.denominator, scale.numerator, 1) < 2**20
    return 0.0 if settled and few else STEPS * UNIT * (n + 1)


def exactly_cubed(a: Fraction, t: Fraction) -> bool:
    """Are all numbers on the way to a cubic polynomial in t, with multiples of a for coefficients
    and a few integers, numbers of float32? They are multiples of one power of two."""
    dyadic = power_of_two(Fraction(a.denominator)) and power_of_two(Fraction(t.denominator))
    return dyadic and abs(a) <= 2 and abs(t) <= 2 and a.denominator * t.denominator**3 <= 2**17


def steepness_of_keys(a: float) -> float:
    """The largest slope of Keys' kernel (1981) with the parameter a: within 1 of the middle that of
    3(a + 2)t² − 2(a + 3)t, |a| at its end, and beyond at most |a|."""
    if a + 2.0 > 0.0:
        return max(abs(a), (a + 3.0) ** 2 / (3.0 * (a + 2.0))) * (1.0 + 2.0**-40)
    return 3.0 * abs(a + 2.0) + 2.0 * abs(a + 3.0) + abs(a)


def cost_of_keys(a: float, outer: bool) -> float:
    """What computing it in float32 costs at most: of each of its monomials on [0, 1], or on [1, 2],
    eight roundings."""
    return 8.0 * UNIT * (48.0 * abs(a) if outer else abs(a + 2.0) + abs(a + 3.0) + 1.0) * 1.01
