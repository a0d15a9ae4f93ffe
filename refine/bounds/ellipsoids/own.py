"""An ellipsoid for each functional: scales that suit it, in place of some that suit all.

What a relaxation leaves of a functional c is at most Σ|c|·σ·|d|, and d = M·τ over |τ| ≤ 1
(`errors.py`): the largest of Σ ±w·M·τ over signs and τ, w = |c|·σ, is the norm of diag(w)·M from
the largest magnitude to the sum of magnitudes. With weights α of rows and β of columns it is at
most ‖diag(w/√α)·M·diag(1/√β)‖·√(Σα·Σβ), which with the best weights exceeds it by a factor of 1.79
at most (Grothendieck; Krivine 1979). These are looked for by vectors of length one, a few numbers
each, in place of the signs and of τ, each in turn made parallel to what multiplies it (Burer &
Monteiro 2003): α and β are then how long these multipliers are. Nothing hangs on their being the
best; what is proved is that d lies in the ellipsoid of scales √α/w.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from encoders.lemmas.kernel import Radius
from encoders.numbers.enclosure import BoolArray, FloatArray, multiply_up, sum_up
from encoders.operator import Scaled
from refine.bounds.ellipsoids.errors import UNDERFLOWN, Sources, within
from refine.bounds.ellipsoids.norms import gram_up, root_up, up

_LENGTH, _TURNS = 4, 10  # of the vectors, and of making them parallel
_TOGETHER = 2**24  # numbers of all vectors, of functionals that are treated at once
_SMALL = 2.0**-150  # scales are above it, and below its inverse
_FIRST, _GAINED = 6, 0.97  # so many show whether to go on: one of them is to gain that
_LEAST = 2.0**-12  # of the mean: weights are that large


def charged_each(
    left: Scaled,
    sources: Sources,
    c: FloatArray,
    *,
    known: FloatArray,
    worth: BoolArray,
    late: Callable[[], bool],
) -> Radius:
    """What a relaxation leaves of functionals c (k, *shape): a radius of each, by an ellipsoid of
    its own where that is `worth` it (k,), until it is late, or the first few show that `known`
    (k,), what is known otherwise, is as good."""
    k, share = len(c), left.share.reshape(-1)
    with np.errstate(all="ignore"):
        weights = np.abs(c.reshape(k, -1)[:, sources.rows]) * share[sources.rows]
    scales, squares = np.zeros((k, left.share.size)), np.zeros(k)
    wanted = np.flatnonzero(
        worth & np.any(weights > 0, axis=1) & np.all(np.isfinite(weights), axis=1)
    )
    shown, best = 0, 1.0
    together = max(_TOGETHER // (_LENGTH * sources.matrix.shape[1]), 1)
    for start in range(0, len(wanted), together):
        chosen = wanted[start : start + together]
        rows = np.flatnonzero(np.any(weights[chosen] > 0, axis=0))
        matrix = sources.matrix[rows]
        matrix = matrix[:, np.any(matrix, axis=0)]
        found = best_weights(weights[chosen][:, rows], matrix)
        for row, w, alpha, beta in zip(chosen, weights[chosen][:, rows], *found, strict=True):
            if late() or (shown >= _FIRST and best > _GAINED):
                break
            scale, square = _ellipsoid(matrix, w, alpha, beta)
            scales[row, sources.rows[rows]], squares[row] = scale, square
            reached = float(np.sqrt(np.sum((w * scale) ** 2) * square)) if square else np.inf
            shown, best = shown + 1, min(best, reached / known[row])
    scale = scales.reshape(c.shape)
    weight = multiply_up(multiply_up(np.abs(c), left.share), scale)
    weighed = sum_up(multiply_up(weight, weight).reshape(k, -1), axis=1)
    return within(left, c, scale > 0, weighed, squares)


def best_weights(w: FloatArray, matrix: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weights (k, m) and (k, n) of the rows and columns of k matrices diag(w)·M, about the best."""
    k, (m, n) = len(w), matrix.shape
    vectors = np.random.default_rng(0).normal(size=(1, _LENGTH, m)).repeat(k, axis=0)
    rows, columns = w, np.zeros((k, n))
    with np.errstate(all="ignore"):
        for _ in range(_TURNS):
            turned = ((vectors * w[:, None, :]).reshape(-1, m) @ matrix).reshape(k, _LENGTH, n)
            columns = np.linalg.norm(turned, axis=1)
            turned /= np.where(columns > 0, columns, 1.0)[:, None, :]
            vectors = (turned.reshape(-1, n) @ matrix.T).reshape(k, _LENGTH, m) * w[:, None, :]
            rows = np.linalg.norm(vectors, axis=1)
            vectors /= np.where(rows > 0, rows, 1.0)[:, None, :]
    return rows, columns


def _ellipsoid(
    matrix: FloatArray, w: FloatArray, alpha: FloatArray, beta: FloatArray
) -> tuple[FloatArray, float]:
    """Scales (m,), 0 where an element is left out, and what the squares of scaled elements add up
    to at most; no scale at all where nothing is known.

    For roots β > 0, ‖P·τ‖² ≤ ‖P·diag(1/β)‖²·Σβ² over all |τ| ≤ 1 (Nesterov 1998).
    """
    none = np.zeros(len(w)), 0.0
    with np.errstate(all="ignore"):
        scale = np.where(w > 0, np.sqrt(alpha + _LEAST * np.mean(alpha)) / w, 0.0)
    inside = (scale > _SMALL) & (scale < 1.0 / _SMALL)
    if not np.any(inside):
        return none
    with np.errstate(all="ignore"):
        roots = np.sqrt(beta + _LEAST * np.mean(beta))
        # a number of the matrix, two quotients and their product are off by U of themselves each
        part = matrix[inside] * ((1.0 / scale[inside])[:, None] * (1.0 / roots))
    if not (np.all(np.isfinite(part)) and np.all(roots > _SMALL)):
        return none
    size = up(gram_up(part, 2.0**-49) + UNDERFLOWN)
    size = up(size * root_up(float(sum_up(multiply_up(roots, roots)))))
    if not size < 2.0**500:
        return none
    return np.where(inside, scale, 0.0), up(size * size)
