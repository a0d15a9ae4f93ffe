"""Norms of matrices, bounded from above by arithmetic in float64 that is accounted for.

For any matrix V with ‖I − VᵀV‖ ≤ t < 1, ‖P‖ ≤ ‖VᵀP‖/√(1 − t), and with T = VᵀP the square of ‖T‖ is
the norm of TTᵀ, at most its largest row sum of magnitudes. With V about the singular vectors of P,
TTᵀ is all but diagonal, so that little is lost; that they are is not trusted. A product of float64
with n terms is off by at most γ(n)·|A||B|, whose Frobenius norm is at most γ(n)·‖A‖·‖B‖ in those
norms (`encoders/numbers/enclosure.py`), and the norm of a matrix is at most its Frobenius norm.
"""

from __future__ import annotations

import numpy as np

from encoders.numbers.enclosure import FloatArray, add_up, gamma, multiply_up, norms_up, sum_up

_TINY = 2.0**-1000  # more than products that underflow may add to any number here


def frobenius_up(matrix: FloatArray) -> float:
    """An upper bound on the root of the sum of squares of a matrix (m, n)."""
    return root_up(float(sum_up(multiply_up(matrix.reshape(-1), matrix.reshape(-1)))))


def spectral_up(matrix: FloatArray) -> float:
    """An upper bound on the largest singular value of a matrix (m, n); +∞ where there is none."""
    if not matrix.size or not np.any(matrix):
        return 0.0
    whole = frobenius_up(matrix)
    if not whole < np.inf:
        return float("inf")
    rows = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    k, n = rows.shape
    vectors = _about_singular(rows)
    if vectors is None:
        return whole
    turned = vectors.T @ rows
    size = frobenius_up(vectors)
    off = gamma(k + 1) * (size * whole) * (1.0 + 2.0**-40) + _TINY
    product = turned @ turned.T
    longest = frobenius_up(turned)
    square = float(np.max(sum_up(np.abs(product), axis=1)))
    rounded = gamma(n + 1) * k * (longest * longest) * (1.0 + 2.0**-40) + _TINY
    most = up(root_up(up(square + rounded)) + off)
    apart = np.abs(np.eye(k) - vectors.T @ vectors)
    tilt = up(float(np.max(sum_up(apart, axis=1))) + gamma(k + 2) * k * (size * size + 1.0))
    if not tilt < 0.5:
        return whole
    found = up(most * (1.0 + tilt))  # 1/√(1 − t) ≤ 1 + t for t ≤ 1/2
    return min(found, whole) if np.isfinite(found) else whole


def _about_singular(rows: FloatArray) -> FloatArray | None:
    """Whatever matrix (k, k) comes of looking for the left singular vectors."""
    with np.errstate(all="ignore"):
        try:
            vectors = np.asarray(np.linalg.eigh(rows @ rows.T)[1], np.float64)
        except np.linalg.LinAlgError:
            return None
    return vectors if bool(np.all(np.isfinite(vectors))) else None


def gram_up(matrix: FloatArray, off: float = 0.0) -> float:
    """As `spectral_up`, of a matrix with many columns, by its product with its transpose; and of
    what this matrix is, where each number of it is known up to `off` of itself."""
    count = matrix.shape[1]
    with np.errstate(all="ignore"):
        product = matrix @ matrix.T
    squares = float(sum_up(np.diagonal(product)))
    if not squares < np.inf:
        return float("inf")
    # what is summed there is not negative; so rounded up it is the square of the Frobenius norm
    squares = up(squares * (1.0 + gamma(2 * count + 4)))
    rounded = gamma(count + 1) * squares * (1.0 + 2.0**-40)
    return up(root_up(up(spectral_up(product) + rounded)) + root_up(squares) * off)


def box_norm_up(matrix: FloatArray) -> float:
    """An upper bound on ‖M·τ‖ of a matrix (m, n) over all |τ| ≤ 1.

    For any β > 0, ‖M·τ‖² ≤ ‖M·diag(β)^(−½)‖²·Σβ·τ² (Nesterov 1998; here with β the norms of the
    columns), and the triangle inequality bounds it by Σ of these.
    """
    kept = matrix[:, np.any(matrix, axis=0)]
    if not kept.size:
        return 0.0
    lengths = norms_up(kept, axis=0)
    columns = float(sum_up(lengths))
    if not columns < np.inf or not np.all(lengths > _TINY):
        return columns + _TINY
    roots = np.sqrt(lengths)
    squares = multiply_up(roots, roots)
    # each quotient is off by U of itself, a matrix of norm at most U times that of magnitudes
    scaled = kept / roots
    size = spectral_up(scaled)
    size = up(size + frobenius_up(scaled) * 2.0**-52)
    return min(columns, up(size * root_up(float(sum_up(squares)))))


def root_up(x: float) -> float:
    """An upper bound on √x, x ≥ 0."""
    return up(float(np.sqrt(x)))


def up(x: float) -> float:
    """A little more than a number ≥ 0 that a few operations of float64 have given."""
    return float(add_up(x * (1.0 + 2.0**-48), 0.0)) + _TINY
