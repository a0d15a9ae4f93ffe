"""Rows of numbers that move together: enclosed by affine forms in shared unknowns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from encoders.numbers.enclosure import (
    UNIT,
    FloatArray,
    add_up,
    dot_up,
    gamma,
    norms_up,
    sum_up,
)

_MOST = 2**24  # entries of what is computed at once


@dataclass(frozen=True)
class RowForms:
    """Row r lies in `middle`[r] + `moves`[r]·t ± `rest`[r] for one t with |t| ≤ 1: shapes
    (rows, n), (rows, n, m) and (rows, n). Exact: no rounding is left out of `rest`."""

    middle: FloatArray
    moves: FloatArray
    rest: FloatArray

    @cached_property
    def wide(self) -> FloatArray:
        """(rows, n): how far elements are from the middle."""
        return add_up(sum_up(np.abs(self.moves), axis=2), self.rest)

    @cached_property
    def reach(self) -> FloatArray:
        """(rows,): how far rows are from the middle, as vectors. ‖Mt‖² = tᵀMᵀMt ≤ Σ|MᵀM|."""
        apart = norms_up(self.wide, axis=1)
        rows, n, m = self.moves.shape
        if rows * m * m > _MOST:
            return apart
        size = np.sqrt(sum_up(self.moves * self.moves, axis=1))
        products = np.abs(np.einsum("rni,rnj->rij", self.moves, self.moves))
        lost = gamma(n + 4) * size[:, :, None] * size[:, None, :]
        square = sum_up((products + lost).reshape(rows, -1), axis=1)
        together = np.sqrt(square) * (1.0 + 2.0**-50) + 2.0**-500
        return np.minimum(apart, add_up(together, norms_up(self.rest, axis=1)))

    def holding(self, rows: FloatArray, off: float) -> RowForms:
        """The same, and rows within `off` of these (rows, n), at t = 0: so that `wide` and `reach`
        are of what lies between them and the others, too."""
        apart = add_up(np.abs(rows - self.middle) * (1.0 + 2.0**-50), off)
        return RowForms(self.middle, self.moves, np.maximum(self.rest, apart))

    def inflated(self, radius: FloatArray) -> RowForms:
        """Rows whose numbers are within `radius` (rows, n) of those: less their means, they are off
        by the means of that as well."""
        mean = sum_up(radius, axis=1)[:, None] / radius.shape[1] * (1.0 + 2.0**-50)
        return RowForms(self.middle, self.moves, add_up(self.rest, add_up(radius, mean)))

    def towards(self, apart: RowForms) -> RowForms:
        """Of every point of the way from these rows to others that are off from them by `apart`, in
        unknowns of its own: the middle is half way."""
        half = 0.5 * apart.middle
        lost = (np.abs(self.middle) + np.abs(half)) * UNIT
        return RowForms(
            self.middle + half,
            np.concatenate([self.moves, apart.moves, half[:, :, None]], axis=2),
            add_up(add_up(self.rest, apart.rest), lost),
        )

    def along(self, v: FloatArray) -> FloatArray:
        """(k, rows): how far functionals v (k, rows, n) are from what they are of the middle."""
        rows, n, m = self.moves.shape
        each = sum_up(np.abs(self.moves), axis=2)
        lost = dot_up(v, gamma(n + 4) * each + 2.0**-900, 1)
        many = max(_MOST // max(rows * m, 1), 1)
        moved = [self._moved(v[at : at + many]) for at in range(0, len(v), many)]
        return add_up(add_up(np.concatenate(moved), lost), dot_up(v, self.rest, 1))

    def _moved(self, v: FloatArray) -> FloatArray:
        """(k, rows): Σ|Mᵀv|, of sums as float64 computes them."""
        pulled = np.matmul(v.transpose(1, 0, 2), self.moves)
        return np.asarray(sum_up(np.abs(pulled), axis=2).T)
