"""Exact sums of products of floating-point numbers, as products of integer matrices."""

from __future__ import annotations

from dataclasses import dataclass

import flint
import numpy as np

from encoders.arithmetic.exact_fields import Rationals
from encoders.numbers.enclosure import FloatArray
from encoders.numbers.formats import power_of_two

_BITS = 53


@dataclass(frozen=True)
class Scaled:
    """A matrix of integers times 2^exponent."""

    matrix: flint.fmpz_mat
    exponent: int

    def times(self, other: Scaled) -> Scaled:
        """The exact product of two matrices."""
        return Scaled(self.matrix * other.matrix, self.exponent + other.exponent)

    def rationals(self) -> list[list[flint.fmpq]]:
        """The numbers, row by row."""
        factor = Rationals().number(power_of_two(self.exponent))
        return [[v * factor for v in row] for row in self.matrix.tolist()]


def scaled(values: FloatArray) -> Scaled:
    """A matrix of finite float64 numbers, exactly."""
    mantissas, exponents = np.frexp(values)
    whole = np.asarray(mantissas * 2.0**_BITS, np.int64)
    powers = exponents.astype(np.int64) - _BITS
    least = int(np.min(powers, where=whole != 0, initial=0))
    shifts = np.where(whole != 0, powers - least, 0).tolist()
    rows = [
        [m << s for m, s in zip(row, shift, strict=True)]
        for row, shift in zip(whole.tolist(), shifts, strict=True)
    ]
    return Scaled(flint.fmpz_mat(rows), least)


@dataclass(frozen=True)
class RowSums:
    """Of x·W, for each sample and column: the exact sum, and the sums of its positive and of its
    negative terms, found from other products than the sum."""

    total: list[list[flint.fmpq]]
    positive: list[list[flint.fmpq]]
    negative: list[list[flint.fmpq]]


def row_sums(x: FloatArray, weights: FloatArray) -> RowSums:
    """For x (samples, terms) and weights (terms, columns)."""
    up_x, down_x = scaled(np.maximum(x, 0.0)), scaled(np.minimum(x, 0.0))
    up_w, down_w = scaled(np.maximum(weights, 0.0)), scaled(np.minimum(weights, 0.0))
    return RowSums(
        scaled(x).times(scaled(weights)).rationals(),
        _added(up_x.times(up_w), down_x.times(down_w)),
        _added(up_x.times(down_w), down_x.times(up_w)),
    )


def _added(one: Scaled, other: Scaled) -> list[list[flint.fmpq]]:
    pairs = zip(one.rationals(), other.rationals(), strict=True)
    return [[a + b for a, b in zip(*rows, strict=True)] for rows in pairs]
