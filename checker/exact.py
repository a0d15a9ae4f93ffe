"""Arithmetic: dyadic numbers, exact products of integers, sums rounded up.

Coefficients of functionals are integers times a power of two per functional (`Rows`). A product
with stored weights cuts both into slices of about 20 bits, so that every partial sum of a product
of slices is an integer below 2^53, which float64 holds exactly in whatever order a library adds.
What is cut off is charged to the bound. Everything else is rounded up: `add` and `mul` take the
next float64 above the nearest, and sums of n numbers that are not negative gain n + 4 units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Apply = Callable[[Array, Array], Array]

TOP, SLICE = 40, 20  # bits of a coefficient above the grid of its functional, and of a slice
LEAST = -900  # exponent of the finest grid


class Rejected(Exception):
    """The certificate does not show what it claims; the message says where."""


class Outside(Exception):
    """The certificate or the model is not in the checker's language, or cannot be read."""


def add(a: Array | float, b: Array | float) -> Array:
    """An upper bound of a + b; that itself where one of the three is 0."""
    s = np.asarray(a + b)
    exact = (s == 0) | (np.asarray(a) == 0) | (np.asarray(b) == 0)
    return np.where(exact, s, np.nextafter(s, np.inf))


def mul(a: Array | float, b: Array | float) -> Array:
    """An upper bound of a·b, 0 where a factor is."""
    none = (np.asarray(a) == 0) | (np.asarray(b) == 0)
    return np.where(none, 0.0, np.nextafter(np.multiply(a, b), np.inf))


def raised(total: Any, terms: int, sign: float = 1.0) -> Array:
    """Upper bounds (of sign -1, lower ones) of sums of so many products, none negative, that
    float64 gave as `total`."""
    return np.asarray(total * (1.0 + sign * (terms + 4) * 2.0**-52) + sign * 2.0**LEAST)


def positive(apply: Apply, weights: Array, lo: Array, hi: Array) -> Array:
    """What float64 makes of the sums of the positive parts of the products weights·x, each as large
    as it can be for x from lo to hi."""
    rising = apply(np.maximum(weights, 0.0), np.maximum(hi, 0.0))
    return rising + apply(np.maximum(-weights, 0.0), np.maximum(-lo, 0.0))


def upper(weights: Array, lo: Array, hi: Array, apply: Apply = np.matmul, terms: int = 0) -> Array:
    """Upper bounds of sums of products weights·x, at most `terms` in one, for x from lo to hi."""
    more, less, n = positive(apply, weights, lo, hi), positive(apply, weights, -lo, -hi), len(lo)
    most = add(raised(more, 2 * (terms or n)), -raised(less, 2 * (terms or n), -1.0))
    return np.where(np.isfinite(less), most, np.inf)


class Rows(NamedTuple):
    """Functionals: c (k, n) are integers times `grid` (k, 1), powers of two, below 2^41 grids."""

    c: Array
    grid: Array


def joined(parts: Sequence[Array], size: Array) -> tuple[Rows, Array]:
    """Rows near the sum of these arrays, each of which may be rounded, and how much that changes
    of functionals of an x of at most this size."""
    largest = sum(np.max(np.abs(p), axis=1, keepdims=True, initial=0.0) for p in parts)
    grid = np.ldexp(1.0, np.maximum(np.frexp(largest)[1] - TOP, LEAST))
    c = sum(np.rint(p / grid) for p in parts) * grid
    return Rows(c, grid), mul(grid[:, 0] * len(parts), raised(np.sum(size), size.size))


class Linear:
    """A linear map y = M·x of flat tensors, given by what its weights do.

    `forward(weights, x)` maps (inputs,) to (outputs,) and `backward` (k, outputs) to (k, inputs);
    both are linear in the weights, entry by entry, with at most `terms` products in a sum. `unsure`
    bounds how far weights may be from those that are meant. `slices` are integers and units with
    Σ integer·unit near the weights, `rest` bounds what they leave out.
    """

    def __init__(
        self, weights: Array, forward: Apply, backward: Apply, terms: int, unsure: Any = 0.0
    ) -> None:
        self.weights, self.forward, self.backward, self.terms = weights, forward, backward, terms
        self.unsure = np.broadcast_to(unsure, weights.shape)
        self.absolute = add(np.abs(weights), self.unsure)
        self.moves = terms == 1 and bool(np.all(self.absolute == 1.0))
        bits = 52 - SLICE - int(terms).bit_length()
        if bits < 8:
            raise Outside(f"a sum of {terms} terms is too long for exact arithmetic")
        top, left = int(np.frexp(np.max(np.abs(weights), initial=0.0))[1]), weights
        self.slices: list[tuple[Array, float]] = []
        for unit in (2.0 ** (top - bits), 2.0 ** (top - 2 * bits)):
            integers = np.rint(left / unit)
            left = left - integers * unit
            self.slices += [(integers, unit)] if np.any(integers) or not self.slices else []
        self.rest = add(np.abs(left), self.unsure)

    def back(self, rows: Rows, size: Array) -> tuple[Rows, Array]:
        """The functionals on an input of at most this size, and what was left out of them."""
        if self.moves:
            return Rows(self.backward(self.weights, rows.c), rows.grid), np.zeros(len(rows.c))
        integers = rows.c / rows.grid
        high = np.rint(integers * 2.0**-SLICE)
        halves = (high, rows.grid * 2.0**SLICE), (integers - high * 2.0**SLICE, rows.grid)
        exact = [self.backward(w, x) * (g * unit) for x, g in halves for w, unit in self.slices]
        found, cost = joined(exact, size)
        left = self.of(self.rest, size)
        return found, add(cost, upper(rows.c, -left, left))

    def over(self, lo: Array, hi: Array) -> Array:
        """Upper bounds of M·x for x from lo to hi."""
        if self.moves:
            return np.maximum(self.forward(self.weights, lo), self.forward(self.weights, hi))
        most = upper(self.weights, lo, hi, self.forward, self.terms)
        return add(most, self.of(self.unsure, np.maximum(-lo, hi)))

    def of(self, weights: Array, x: Array) -> Array:
        """Upper bounds of what these weights make of x, neither being negative."""
        return raised(self.forward(weights, x), self.terms)

    def size(self, x: Array) -> Array:
        """Upper bounds of |M|·x, x not negative."""
        return self.forward(self.absolute, x) if self.moves else self.of(self.absolute, x)
