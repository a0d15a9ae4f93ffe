"""Jacobians of rows that are a diagonal plus a few outer products, without their n·n entries.

For i ≠ j an entry is within Σ_k a_k[i]·b_k[j] of Σ_k l_k[i]·r_k[j]; those on the diagonal have
ranges of their own. The linear part M = diag(g) + Σ_k l_k·r_kᵀ is what these float64 numbers say,
read as exact reals: g is chosen so that M's diagonal is near the middle of those ranges, and what
its few roundings miss is part of their spread. Everything takes time and memory linear in the
length n of a row.

Rounding. An element of Mᵀc is Σ_k r_k[j]·(Σ_i l_k[i]·c_i) + g_j·c_j: sums of n products, one more
product each, and a sum of K + 1 terms, so off by at most
γ(n + K + 4)·(|g_j·c_j| + Σ_k |r_k[j]|·Σ_i |l_k[i]·c_i|); the same goes for M·x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from encoders.numbers.enclosure import (
    SMALLEST,
    UNIT,
    FloatArray,
    Interval,
    add_up,
    gamma,
    midpoint_radius,
    multiply_up,
    sum_up,
)

Pairs = Sequence[tuple[FloatArray, FloatArray]]


def is_wide(x: Interval, most: int) -> bool:
    """Would the Jacobian of these rows (rows, n) have more entries than `most`?"""
    return x.lo.size * x.shape[1] > most


def multiply_adds(rows: int, n: int, most: int) -> int:
    """What a Jacobian of so many rows costs per functional."""
    return rows * n * n if rows * n * n <= most else 8 * rows * n


@dataclass(frozen=True)
class LowRank:
    """An enclosure of Jacobians (rows, n, n): g is `diagonal`, (l_k, r_k) are `pairs`, (a_k, b_k)
    `loose`; `own` bounds the magnitude of entries on the diagonal, and they are within `own_spread`
    of M's. All arrays are (rows, n); l, r and g are finite, the others may be infinite."""

    diagonal: FloatArray
    pairs: Pairs
    own: FloatArray
    own_spread: FloatArray
    loose: Pairs

    @property
    def terms(self) -> int:
        """Roundings in an element of M·x or of Mᵀc."""
        return int(self.diagonal.shape[1]) + len(self.pairs) + 4

    def without(self, rows: npt.NDArray[np.bool_]) -> LowRank:
        """No linear part in the outputs where `rows` (rows, n) is true."""
        pairs = tuple((np.where(rows, 0.0, left), right) for left, right in self.pairs)
        return replace(self, diagonal=np.where(rows, 0.0, self.diagonal), pairs=pairs)

    def pulled(self, c: FloatArray) -> FloatArray:
        """Mᵀc for functionals c (k, rows, n)."""
        total = c * self.diagonal
        for left, right in self.pairs:
            total += np.einsum("krn,rn->kr", c, left)[:, :, None] * right
        return np.asarray(total)

    def times(self, x: FloatArray) -> FloatArray:
        """M·x for x (rows, n)."""
        total = self.diagonal * x
        for left, right in self.pairs:
            total += left * np.sum(right * x, axis=1, keepdims=True)
        return np.asarray(total)

    def reach(self, magnitude: FloatArray) -> FloatArray:
        """An upper bound on |g_i|·v_i + Σ_k |l_k[i]|·Σ_j |r_k[j]|·v_j for v ≥ 0."""
        total = multiply_up(np.abs(self.diagonal), magnitude)
        for left, right in self.pairs:
            inner = sum_up(multiply_up(np.abs(right), magnitude), axis=1)[:, None]
            total = add_up(total, multiply_up(np.abs(left), inner))
        return total

    def charge(self, magnitude: FloatArray) -> FloatArray:
        """What float64 rounding of `pulled` may cost per unit of |c|."""
        return multiply_up(self.reach(magnitude), gamma(self.terms))

    def remainder(self, radius: FloatArray) -> FloatArray:
        """Σ_j of the spreads times `radius`_j, (rows, n)."""
        return add_up(multiply_up(self.own_spread, radius), _apart(self.loose, radius))

    def steepest(self, radius: FloatArray) -> FloatArray:
        """Σ_j of the largest magnitudes times `radius`_j, (rows, n)."""
        sizes = tuple((np.abs(left), np.abs(right)) for left, right in self.pairs)
        total = add_up(_apart(sizes, radius), _apart(self.loose, radius))
        return add_up(multiply_up(self.own, radius), total)

    def underflow(self, magnitude: FloatArray) -> float:
        """What underflowing products in `pulled` may cost at most."""
        largest = float(np.max(magnitude, initial=0.0))
        if largest == 0.0:
            return 0.0
        steep = sum(max(float(np.max(np.abs(r), initial=0.0)), 1.0) for _, r in self.pairs)
        products = 4.0 * self.diagonal.size * (1.0 + self.terms * steep)
        return max(largest, 1.0) * SMALLEST * products


def low_rank(pairs: Pairs, loose: Pairs, diagonal: Interval) -> LowRank:
    """An enclosure from `pairs` (l, r), finite, and `loose` (a, b) ≥ 0 off the diagonal, and the
    ranges of what is on it, which may be unbounded."""
    known = np.isfinite(diagonal.lo) & np.isfinite(diagonal.hi)
    safe = Interval(np.where(known, diagonal.lo, 0.0), np.where(known, diagonal.hi, 0.0))
    middle, spread = midpoint_radius(safe)
    g, size = middle, np.abs(middle)
    for left, right in pairs:
        g = g - left * right
        size = size + np.abs(left * right)
    missed = multiply_up(size, 4.0 * (len(pairs) + 2) * UNIT)
    missed = add_up(missed, np.where(size > 0, 4.0 * len(pairs) * SMALLEST, 0.0))
    return LowRank(
        diagonal=g,
        pairs=tuple(pairs),
        own=np.where(known, diagonal.magnitude, np.inf),
        own_spread=np.where(known, add_up(spread, missed), np.inf),
        loose=tuple(loose),
    )


def _apart(pairs: Pairs, v: FloatArray) -> FloatArray:
    """Upper bounds on Σ_k a_k[i]·Σ_{j≠i} b_k[j]·v_j of numbers that are not negative."""
    total = np.zeros_like(v)
    for a, b in pairs:
        total = add_up(total, multiply_up(a, _others(multiply_up(b, v))))
    return total


def _others(terms: FloatArray) -> FloatArray:
    """Upper bounds on Σ_{j≠i} of numbers that are not negative, (rows, n), without subtracting."""
    zero = np.zeros_like(terms[:, :1])
    before = np.concatenate([zero, np.cumsum(terms, axis=1)[:, :-1]], axis=1)
    behind = np.cumsum(terms[:, ::-1], axis=1)[:, ::-1]
    total = before + np.concatenate([behind[:, 1:], zero], axis=1)
    return np.asarray(total * (1.0 + gamma(2 * terms.shape[1] + 4)))
