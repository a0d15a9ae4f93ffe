"""Errors of all elements of a tensor, taken together: an ellipsoid beside the box.

Through curved or unstable elements a pull-back pays Σ|c|·σ·e, as if all errors of the tensor were
at their worst at once, each with the sign that hurts. They come from the same roundings, and
cannot be. Of the difference d of a tensor, unit functionals of which were carried back, d is
M·τ + κ·θ: τ are the roundings and what relaxations left on the way, each in units of its bound, M
the coefficients that arrived there, and κ what else was charged; all |τ|, |θ| ≤ 1. So with scales
s > 0

    √Σ(d/s)² ≤ ‖diag(1/s)·M·τ‖ + ‖κ/s‖,

the first bounded over the box of τ by a matrix norm (`norms.py`); and what the next relaxation
leaves of a functional c, Σ c·ρ with |ρ| ≤ σ·|d|, is at most √Σ(c·σ·s)² times that (lemma
`within-ellipsoid`). What an earlier relaxation left may enter as the ellipsoid of its argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from encoders.lemmas.carrying import WITHIN_ELLIPSOID
from encoders.lemmas.kernel import Radius, apply, carried_back
from encoders.numbers.enclosure import (
    SMALLEST,
    BoolArray,
    FloatArray,
    add_up,
    dot_up,
    multiply_up,
    sum_up,
)
from encoders.operator import Scaled
from refine.bounds.ellipsoids.norms import box_norm_up, frobenius_up, root_up, spectral_up, up
from refine.bounds.pruning import Rows

_FEWEST = 8  # elements: of fewer there is little to gain
_MOST = 1024
_LITTLE = 0.01  # of the errors: sources of so little are not told apart
_MOST_COEFFICIENTS = 2**22
_SMALL = 2.0**-200  # scales are above it
UNDERFLOWN = 2.0**-700  # more than quotients by scales of numbers that underflow


@dataclass(frozen=True)
class Ellipsoid:
    """Σ(d/scale)² ≤ `squares` for the difference d of what a node reads, over the elements where
    `scale` is positive; it is 0 elsewhere. `sources` is what it was made of, where it is known."""

    scale: FloatArray
    squares: float
    sources: Sources | None = None

    def moved(self, f: Callable[[FloatArray], FloatArray]) -> Ellipsoid:
        """The same of some of the elements."""
        return Ellipsoid(f(self.scale), self.squares)


@dataclass(frozen=True)
class Sources:
    """The differences of the flat elements `rows` are `matrix`·τ with all |τ| ≤ 1, but for what
    float64 lost in each number of the matrix, which is the rounding of a product."""

    rows: Rows
    matrix: FloatArray


@dataclass(frozen=True)
class Apart:
    """What a node adds to k functionals, not charged: coefficients (k, *shape) of numbers of at
    most `size` in magnitude, the same ones for all of them.

    Of what its relaxation left, `left` says how it scales, and `held` in which ellipsoid it is.
    """

    coefficients: FloatArray
    size: FloatArray
    left: Scaled | None = None
    held: Ellipsoid | None = None


def charged_within(left: Scaled, held: Ellipsoid, c: FloatArray) -> Radius:
    """What a relaxation leaves of functionals c (k, *shape): a radius of each."""
    weight = multiply_up(left.share, held.scale)
    weighed = dot_up(multiply_up(c, c), multiply_up(weight, weight))
    return within(left, c, held.scale > 0, weighed, held.squares)


def within(
    left: Scaled, c: FloatArray, inside: BoolArray, weighed: FloatArray, squares: FloatArray | float
) -> Radius:
    """What a relaxation leaves of functionals c (k, *shape): the squares of their scaled
    coefficients where `inside` add up to at most `weighed` (k,), those of the scaled differences
    to at most `squares`."""
    with np.errstate(all="ignore"):
        root = np.sqrt(weighed * squares) * (1.0 + 2.0**-40)
    by_each = left.remainder.weighed(np.where(inside, c, 0.0))
    others = left.remainder.weighed(np.where(inside, 0.0, c))
    ours = apply(WITHIN_ELLIPSOID, e=by_each, A=weighed, B=squares, R=root)
    return carried_back((ours, others, left.rest.weighed(c)))


def rows_of(left: Scaled, sizes: Sequence[int]) -> Rows | None:
    """The flat elements whose errors are worth being taken together, where sources of so many
    elements count for them; None where they are too few, or too many."""
    rows = np.flatnonzero(left.share)
    few = _FEWEST <= len(rows) <= _MOST
    return rows if few and len(rows) * sum(sizes) <= _MOST_COEFFICIENTS else None


def ellipsoid_of(
    left: Scaled, rows: Rows, sources: Sequence[Apart], others: FloatArray
) -> Ellipsoid | None:
    """Of unit functionals of these elements (k,), what was found apart on the way back and what
    else was charged them, `others` (k,)."""
    share = left.share.reshape(-1)[rows]
    everything = [_columns(s.coefficients, s.size) for s in sources]
    lengths = np.sqrt(sum(np.sum(m * m, axis=1) for m in everything)) + others
    with np.errstate(all="ignore"):
        scale = np.sqrt(lengths / share)
    if not (np.all(np.isfinite(scale)) and np.all(scale > _SMALL)):
        return None
    with np.errstate(all="ignore"):
        rest = frobenius_up(multiply_up(others / scale, 1.0 + 2.0**-50))
    found = up(_box([m / scale[:, None] for m in everything]) + rest)
    if any(s.held is not None for s in sources):
        boxes, norm = list[FloatArray](), rest
        for source, matrix in zip(sources, everything, strict=True):
            if source.held is None or source.left is None:
                boxes.append(matrix / scale[:, None])
                continue
            inside = (source.held.scale > 0).reshape(-1)
            boxes.append(matrix[:, ~inside] / scale[:, None])
            weight = (source.left.share * source.held.scale).reshape(-1)[inside]
            c = source.coefficients.reshape(len(rows), -1)[:, inside]
            part = c * weight / scale[:, None]
            size = up(spectral_up(part) + frobenius_up(part) * 2.0**-48 + UNDERFLOWN)
            norm = up(norm + up(size * root_up(source.held.squares)))
        found = min(found, up(norm + _box(boxes)))
    if not found < 2.0**500:
        return None
    whole = np.zeros(left.share.size)
    whole[rows] = scale
    matrix = np.concatenate([np.zeros((len(rows), 0)), *everything], axis=1)
    known = _sources(rows, matrix, others)
    return Ellipsoid(whole.reshape(left.share.shape), up(found * found), known)


def _sources(rows: Rows, matrix: FloatArray, others: FloatArray) -> Sources | None:
    """What moves the errors of the rows; columns that together are next to nothing are charged each
    row by itself, as the others are."""
    if not (np.all(np.isfinite(matrix)) and np.all(np.isfinite(others))):
        return None
    sizes = np.abs(matrix)
    lengths = sum_up(sizes, axis=1)
    with np.errstate(all="ignore"):
        shares = np.nan_to_num(np.sum(sizes / lengths[:, None], axis=0))
    order = np.argsort(shares, kind="stable")
    few = order[np.cumsum(shares[order]) <= _LITTLE * len(rows)]
    rest = multiply_up(sum_up(sizes[:, few], axis=1), 1.0 + 2.0**-50)
    rest = add_up(rest, len(few) * SMALLEST)  # what of their products underflows
    apart = np.diag(add_up(rest, others))
    return Sources(rows, np.concatenate([np.delete(matrix, few, axis=1), apart], axis=1))


def _columns(c: FloatArray, size: FloatArray) -> FloatArray:
    """c·size as a matrix (k, n)."""
    flat = c.reshape(len(c), -1)
    return np.asarray(flat * np.broadcast_to(size, c.shape[1:]).reshape(-1))


def _box(parts: Sequence[FloatArray]) -> float:
    """An upper bound on ‖M·τ‖ over |τ| ≤ 1, M being these columns, of which each number was rounded
    three times; 0 where there are none."""
    if not parts:
        return 0.0
    matrix = np.concatenate(list(parts), axis=1)
    if not np.all(np.isfinite(matrix)):
        return float("inf")
    inexact = frobenius_up(matrix) * root_up(float(matrix.shape[1])) * 2.0**-49
    return up(box_norm_up(matrix) + inexact + UNDERFLOWN)
