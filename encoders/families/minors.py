"""Minors of matrices whose entries are in ranges: their determinants and cofactors.

A minor of the first rows, or of the last, in some of the columns is expanded along the row that it
has more than a smaller one; a cofactor is a sum of products of minors of the rows above and below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import combinations
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from encoders.lemmas.kernel import enclosed
from encoders.lemmas.ranges.operations import PRODUCT_RANGE
from encoders.lemmas.ranges.placing import (
    range_moved,
    range_signed,
    range_taken,
    ranges_joined,
    stored_range,
)
from encoders.lemmas.ranges.range import Range
from encoders.lemmas.ranges.reals import RANGE_SUM
from encoders.numbers.enclosure import FloatArray

Places: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True)
class _Expansion:
    """Σ sign·a·b over the last axis: places of a and of b, and signs, arrays (results, terms)."""

    first: Places
    second: Places
    sign: FloatArray

    def of(self, a: Range, b: Range) -> Range:
        """Of rows a (rows, …) and b (rows, …): (rows, results)."""
        products = enclosed(PRODUCT_RANGE, X=_taken(a, self.first), Y=_taken(b, self.second))
        return _total(range_signed(products, self.sign))


def _taken(x: Range, places: Places) -> Range:
    """(rows, n) to (rows, *places.shape)."""
    rows, n = x.shape
    return range_taken(x, np.arange(rows).reshape(-1, 1, 1) * n + places)


def _total(x: Range) -> Range:
    """The sum along the last axis: the induction of `range-sum`, of halves."""
    while (n := x.shape[-1]) > 1:
        half = n // 2
        pairs = enclosed(RANGE_SUM, X=_cut(x, 0, half), Y=_cut(x, half, 2 * half))
        x = ranges_joined([pairs, _cut(x, 2 * half, n)], axis=-1) if n % 2 else pairs
    return range_moved(x, lambda v: v[..., 0])


def _cut(x: Range, start: int, end: int) -> Range:
    return range_moved(x, lambda v: v[..., start:end])


@cache
def _columns(n: int, k: int) -> dict[tuple[int, ...], int]:
    """Every k of n columns, and its place."""
    return {chosen: place for place, chosen in enumerate(combinations(range(n), k))}


def _signs(exponents: Sequence[Sequence[int]]) -> FloatArray:
    return 1.0 - 2.0 * (np.array(exponents) % 2)


@cache
def _expansion(n: int, k: int, below: bool) -> _Expansion:
    """Minors of k rows through those of k − 1: the row that is added is the last, or, of rows from
    `below`, the first."""
    smaller = _columns(n, k - 1)
    chosen = list(_columns(n, k))
    rest = [[smaller[c[:p] + c[p + 1 :]] for p in range(k)] for c in chosen]
    exponents = [[p if below else k - 1 + p for p in range(k)]] * len(chosen)
    return _Expansion(np.array(chosen), np.array(rest), _signs(exponents))


@cache
def _cofactor(n: int, row: int) -> _Expansion:
    """What the entries of a row are multiplied by in the determinant, through minors of the `row`
    rows above and of those below."""
    above, under = _columns(n, row), _columns(n, n - row - 1)
    first, second, exponents = [], [], []
    for j in range(n):
        others = [c for c in range(n) if c != j]
        chosen = list(combinations(others, row))
        left = [tuple(c for c in others if c not in s) for s in chosen]
        first.append([above[s] for s in chosen])
        second.append([under[s] for s in left])
        # columns s, j and those left, in this order, against 0 … n − 1
        exponents.append([_inversions((*s, j, *r)) for s, r in zip(chosen, left, strict=True)])
    return _Expansion(np.array(first), np.array(second), _signs(exponents))


def _inversions(order: Sequence[int]) -> int:
    return sum(a > b for i, a in enumerate(order) for b in order[i + 1 :])


def _row(v: FloatArray, at: int, n: int) -> FloatArray:
    return v[:, at * n : (at + 1) * n]


def _minors(x: Range, n: int, below: bool) -> list[Range]:
    """Minors of no row, of one and so on, from above or from below: each (rows, column sets)."""
    found = [stored_range(np.ones((x.shape[0], 1)))]
    for k in range(1, n + 1):
        row = n - k if below else k - 1
        entries = range_moved(x, partial(_row, at=row, n=n))
        found.append(_expansion(n, k, below).of(entries, found[-1]))
    return found


def determinant_range(x: Range, n: int) -> Range:
    """Where determinants lie of n × n matrices whose entries are in the rows of x (rows, n²):
    (rows, 1)."""
    return _minors(x, n, below=False)[-1]


def cofactor_ranges(x: Range, n: int) -> Range:
    """The derivatives of these determinants by each entry: (rows, n²)."""
    above, under = _minors(x, n, below=False), _minors(x, n, below=True)
    rows = [_cofactor(n, i).of(above[i], under[n - 1 - i]) for i in range(n)]
    return ranges_joined(rows, axis=1)
