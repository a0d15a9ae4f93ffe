"""Products with a matrix that skip what is zero throughout: the elements behind dead Relus."""

from __future__ import annotations

from typing import Any

import numpy as np


def sparse_product(rows: Any, matrix: Any) -> Any:
    """rows @ matrix for rows (k, …, n) and a matrix (…, n, m).

    Columns of `rows` that are zero throughout are left out where that saves at least half of the
    work; they contribute nothing, whatever the matrix holds there.
    """
    if rows.ndim < 2 or matrix.size != matrix.shape[-1] * matrix.shape[-2]:
        return rows @ matrix
    used = np.flatnonzero(np.any(rows, axis=tuple(range(rows.ndim - 1))))
    if 2 * len(used) > rows.shape[-1]:
        return rows @ matrix
    return rows[..., used] @ matrix[..., used, :]
