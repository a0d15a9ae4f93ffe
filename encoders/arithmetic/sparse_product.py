"""Products with a matrix that skip what is zero throughout: the elements behind dead Relus."""

from __future__ import annotations

from typing import Any

import numpy as np


def sparse_product(rows: Any, matrix: Any) -> Any:
    """rows @ matrix for rows (k, …, n) and a matrix (…, n, m).

    One matrix takes all rows at once, which numpy would multiply by one at a time. Columns of
    `rows` that are zero throughout are left out where that saves at least half of the work; they
    contribute nothing, whatever the matrix holds there.
    """
    inner, outer = matrix.shape[-2:]
    if rows.ndim < max(matrix.ndim, 2) or matrix.size != inner * outer:
        return rows @ matrix
    flat, plain = rows.reshape(-1, inner), matrix.reshape(inner, outer)
    used = np.flatnonzero(np.any(flat, axis=0))
    if 2 * len(used) <= inner:
        flat, plain = flat[:, used], plain[used]
    return (flat @ plain).reshape(*rows.shape[:-1], outer)
