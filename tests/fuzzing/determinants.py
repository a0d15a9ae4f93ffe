"""Det: as a sum over permutations of balls, and by elimination on a machine."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
from reading import Reading

from encoders.contract.contract import Subnormals

Array = Any


def determinant(r: Reading) -> Array:
    x = r.x[0]
    return _by_permutations(x) if r.a.exact else _by_elimination(r, x)


def _by_permutations(x: Array) -> Array:
    n, total = x.shape[-1], 0
    for order in permutations(range(n)):
        term = 1
        for i, j in enumerate(order):
            term = term * x[..., i, j]
        odd = sum(a > b for i, a in enumerate(order) for b in order[i + 1 :]) % 2
        total = total - term if odd else total + term
    return total


def _by_elimination(r: Reading, x: Array) -> Array:
    """The first of the largest entries is the pivot. What may be read as 0 divides nothing."""
    a, n = r.a, x.shape[-1]
    place = r.place(terms=n, rows=1, columns=1)
    held = x.reshape(-1, n, n).astype(np.float64)
    sign = np.ones(len(held))
    matrices = np.arange(len(held))

    def left(i: int, j: int, k: int) -> Array:
        if not k:
            return held[:, i, j]
        return a.products(-held[:, i, :k], held[:, :k, j], held[:, i, j], place, False)

    for k in range(n):
        for i in range(k, n):
            held[:, i, k] = left(i, k, k)
        if k == n - 1:
            break
        best, at = np.abs(held[:, k, k]), np.full(len(held), k)
        for i in range(k + 1, n):
            size = np.abs(held[:, i, k])
            better = a.less(best, size)
            best, at = np.where(better, size, best), np.where(better, i, at)
        rows = held[matrices, at].copy()
        held[matrices, at], held[:, k] = held[:, k].copy(), rows
        sign = np.where(at > k, -sign, sign)
        pivot = held[:, k, k]
        lost = (np.abs(pivot) < a.tiny) & (a.contract.operands is not Subnormals.KEEP)
        none = (pivot == 0) | lost
        for i in range(k + 1, n):
            divided = a.divide(held[:, i, k], np.where(none, 1.0, pivot))
            held[:, i, k] = np.where(none, held[:, i, k], divided)
        for j in range(k + 1, n):
            held[:, k, j] = left(k, j, k)
    found = held[:, 0, 0]
    for k in range(1, n):
        found = a.multiply(found, held[:, k, k])
    return a.multiply(sign, found).reshape(x.shape[:-2])
