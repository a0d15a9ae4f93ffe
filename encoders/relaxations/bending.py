"""How functions of several numbers bend away from their planes, where these numbers move together.

With x = x̃ + X·t ± e and y = ỹ + Y·t ± f, |t| ≤ 1, a product's (x − x̃)·(y − ỹ) is tᵀ(XᵀY)t up to
|e|·|y − ỹ| + |X·t|·|f|. A functional of many of these is one quadratic form in t: what the numbers'
signs take away from each other is not lost, as it is where every product is taken at its largest.
|tᵀQt| over the box is at most Σ|Q_kl|, of which squares t_k² ≥ 0 count on one side only; and with
D = diag(d) > 0 and λ ≥ 0 no less than the largest eigenvalue of D^(−1/2)·Q·D^(−1/2), at most λ·Σd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from encoders.lemmas.ranges.range import Range
from encoders.numbers.enclosure import (
    SMALLEST,
    BoolArray,
    FloatArray,
    Interval,
    add_up,
    dot_up,
    gamma,
    midpoint_radius,
    multiply_up,
    sum_up,
)
from encoders.numbers.forms import forms_in
from encoders.relaxations.bilinear import Bilinear, bilinear_values, exact_part
from encoders.relaxing import Contribution, ValueMap

_TINY = 2.0**-900  # more than float64 loses in products of small numbers
_MOST = 2**22  # coefficients of quadratic forms that are kept of one tensor

Backward = Callable[[FloatArray], Contribution]


@dataclass(frozen=True)
class Bends:
    """Numbers that are within `beside` of quadratic forms in t, |t| ≤ 1: of each number what t_k²
    is multiplied by, `squares` (numbers, m), and what t_k·t_l, k < l, is, `products`
    (numbers, m(m − 1)/2)."""

    squares: FloatArray
    products: FloatArray
    beside: FloatArray

    def most(self, c: FloatArray) -> FloatArray:
        """Upper bounds (k,) on functionals c (k, numbers)."""
        size = add_up(sum_up(np.abs(self.squares), axis=1), sum_up(np.abs(self.products), axis=1))
        beside = add_up(self.beside, size * gamma(c.shape[1] + 4))
        squares, products = c @ self.squares, c @ self.products
        entries = sum_up(np.maximum(squares, 0.0), axis=1)
        entries = add_up(entries, sum_up(np.abs(products), axis=1))
        tiny = SMALLEST * 4.0 * (self.squares.size + self.products.size)
        return add_up(add_up(entries, tiny), dot_up(c, beside))


def bends_of(matrices: FloatArray, beside: FloatArray) -> Bends:
    """Of matrices (numbers, m, m), and what their numbers are off by beside these."""
    m = matrices.shape[1]
    at = np.triu_indices(m, 1)
    both = matrices + matrices.transpose(0, 2, 1)
    lost = sum_up(np.abs(both).reshape(len(both), -1), axis=1) * gamma(2)
    squares = 0.5 * both[:, range(m), range(m)]
    return Bends(squares, both[:, at[0], at[1]], add_up(beside.reshape(-1), lost))


def affordable(numbers: int, unknowns: int) -> bool:
    """Are the quadratic forms of so many numbers kept?"""
    return numbers * unknowns * unknowns <= _MOST


def bent_product(b: Bilinear, ranges: Sequence[Interval]) -> Backward | None:
    """Pulls back x·y by its plane at the middles of forms of both, and what it bends by; None where
    there are none."""
    x, y = (forms_in(r) for r in ranges)
    if x is None or y is None or b.outer is None:
        return None
    if not affordable(int(np.prod(b.shape)), x.moves.shape[-1]):
        return None
    matrices = b.outer(x.moves, y.moves)
    m = matrices.shape[-1]
    beside = b.on_x(y.wide).magnitude_up(x.rest)
    beside = add_up(beside, b.on_x(y.rest).magnitude_up(x.moved))
    lost = multiply_up(b.on_x(y.moved).magnitude_up(x.moved), gamma(b.terms + 4))
    lost = lost + _TINY
    bends = bends_of(matrices.reshape(-1, m, m), add_up(beside, lost))
    plane = exact_part(b, ranges, (x.middle, y.middle))

    def backward(c: FloatArray) -> Contribution:
        pulled = plane(c)
        bent = bends.most(c.reshape(len(c), -1))
        return Contribution(pulled.coefficients, add_up(pulled.constant, bent))

    return backward


def bending_of(b: Bilinear, ranges: Sequence[Interval]) -> float:
    """About how much of what a product varies is not linear."""
    x, y = ranges
    (mx, rx), (my, ry) = midpoint_radius(x), midpoint_radius(y)
    bent = float(np.sum(b.on_x(ry).magnitude_up(rx)))
    plain = float(np.sum(b.on_x(np.abs(my)).magnitude_up(rx)))
    plain += float(np.sum(b.on_y(np.abs(mx)).magnitude_up(ry)))
    return bent / (bent + plain) if bent > 0.0 else 0.0


def bent_values(b: Bilinear, ranges: Sequence[Interval], range_: Range | None) -> ValueMap:
    """Values through b, whatever of its planes and its bends is better."""
    mapped = bilinear_values(b, ranges, range_)
    return ValueMap(mapped.range, lower_of(mapped.backward, bent_product(b, ranges), ranges))


def lower_of(first: Backward, second: Backward | None, ranges: Sequence[Interval]) -> Backward:
    """Of two ways to pull back, of each functional the one that is about the lower over ranges."""
    if second is None:
        return first

    def backward(c: FloatArray) -> Contribution:
        one, two = first(c), second(c)
        lower = _about(two, ranges) < _about(one, ranges)
        return Contribution(
            tuple(
                _chosen(lower, other, ours)
                for ours, other in zip(one.coefficients, two.coefficients, strict=True)
            ),
            np.where(lower, two.constant, one.constant),
        )

    return backward


def _about(pulled: Contribution, ranges: Sequence[Interval]) -> FloatArray:
    """About what functionals that were pulled back are at most, where numbers vary half as much at
    once as each."""
    total = np.array(pulled.constant)
    for c, x in zip(pulled.coefficients, ranges, strict=True):
        if c is not None:
            mid, radius = midpoint_radius(x)
            rows = c.reshape(len(c), -1)
            total += rows @ mid.reshape(-1) + 0.5 * np.abs(rows) @ radius.reshape(-1)
    return total


def _chosen(first: BoolArray, a: FloatArray | None, b: FloatArray | None) -> FloatArray | None:
    if a is None and b is None:
        return None
    a = np.zeros(()) if a is None else a
    b = np.zeros(a.shape) if b is None else b
    a = np.broadcast_to(a, b.shape)
    return np.where(first.reshape(-1, *(1,) * (a.ndim - 1)), a, b)
