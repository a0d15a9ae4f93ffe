"""Arithmetic: dyadic numbers, exact products of integers, sums rounded up.

Coefficients of functionals are integers times a power of two per functional (`Rows`). A product
with stored weights cuts both into slices of about 20 bits, so that every partial sum of a product
of slices is an integer below 2^53, which float64 holds exactly in whatever order a library adds.
What is cut off is charged to the bound. Everything else is rounded up: `add` and `mul` take the
next float64 above the nearest, and sums of n numbers that are not negative gain n + 4 units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
    """An upper bound of a + b."""
    s = np.asarray(a + b)
    return np.where(s == 0, s, np.nextafter(s, np.inf))


def mul(a: Array | float, b: Array | float) -> Array:
    """An upper bound of a·b, 0 where a factor is."""
    none = (np.asarray(a) == 0) | (np.asarray(b) == 0)
    return np.where(none, 0.0, np.nextafter(np.multiply(a, b), np.inf))


def raised(total: Any, terms: int) -> Array:
    """Upper bounds of sums of so many products, none negative, that float64 gave as `total`."""
    return np.asarray(total * (1.0 + (terms + 4) * 2.0**-52) + 2.0**LEAST)


def sum_up(v: Array) -> Array:
    """An upper bound of Σv, v not negative."""
    return raised(np.sum(v), v.size)


def dot_up(c: Array, v: Array) -> Array:
    """Upper bounds of Σ|c|·v for every row of c, v not negative."""
    return raised(np.abs(c) @ v, v.size)


@dataclass(frozen=True)
class Rows:
    """Functionals: c (k, n) are integers times `grid` (k, 1), powers of two, below 2^41 grids."""

    c: Array
    grid: Array


def joined(parts: Sequence[Array]) -> tuple[Rows, Array]:
    """Rows near the sum of these exact numbers, and how far a coefficient may be off, (k, 1)."""
    largest = sum(np.max(np.abs(p), axis=1, keepdims=True, initial=0.0) for p in parts)
    grid = np.ldexp(1.0, np.maximum(np.frexp(largest)[1] - TOP, LEAST))
    c = sum(np.rint(p / grid) for p in parts) * grid
    return Rows(np.asarray(c), grid), grid * (0.5 * len(parts))


class Linear:
    """A linear map y = M·x of flat tensors, given by what its weights do.

    `forward(weights, x)` maps (k, inputs) to (k, outputs) and `backward` functionals back; both are
    linear in the weights, entry by entry, with at most `terms` products in a sum. `unsure` bounds
    how far weights may be from those that are meant. `slices` are integers and units with
    Σ integer·unit near the weights, `rest` is what they leave out, None where that is nothing.
    """

    def __init__(
        self, weights: Array, forward: Apply, backward: Apply, terms: int, unsure: Any = 0.0
    ) -> None:
        self.weights, self.forward, self.backward, self.terms = weights, forward, backward, terms
        self.absolute = add(np.abs(weights), unsure) if np.any(unsure) else np.abs(weights)
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
        left = add(np.abs(left), unsure) if np.any(unsure) else np.abs(left)
        self.rest = left if np.any(left) else None

    def products(self, apply: Apply, rows: Rows) -> list[Array]:
        """Exact numbers whose sum is what the sliced weights make of these functionals."""
        integers = rows.c / rows.grid
        high = np.rint(integers * 2.0**-SLICE)
        both = (high, 2.0**SLICE), (integers - high * 2.0**SLICE, 1.0)
        pairs = [(x, w, scale * unit) for x, scale in both for w, unit in self.slices]
        return [apply(weights, x) * (rows.grid * unit) for x, weights, unit in pairs]

    def back(self, rows: Rows, size: Array) -> tuple[Rows, Array]:
        """The functionals on an input of at most this size, and what was left out of them."""
        if self.moves:
            return Rows(self.backward(self.weights, rows.c), rows.grid), np.zeros(len(rows.c))
        found, loss = joined(self.products(self.backward, rows))
        cost = mul(loss[:, 0], sum_up(size))
        if self.rest is not None:
            cost = add(cost, dot_up(rows.c, self.of(self.rest, size)))
        return found, cost

    def at(self, x: Array) -> tuple[Array, Array]:
        """What becomes of one x that lies on a grid (`middle`), and how far that may be off."""
        found, loss = joined(self.products(self.forward, joined([x[None]])[0]))
        off = np.broadcast_to(loss[0], found.c[0].shape)
        return found.c[0], off if self.rest is None else add(off, self.of(self.rest, np.abs(x)))

    def of(self, weights: Array, x: Array) -> Array:
        """Upper bounds of what these weights make of x (inputs,), neither being negative."""
        return raised(self.forward(weights, x[None])[0], self.terms)

    def size(self, x: Array) -> Array:
        """Upper bounds of |M|·x, x not negative."""
        exact = self.forward(self.absolute, x[None])[0] if self.moves else None
        return self.of(self.absolute, x) if exact is None else exact


def middle(lo: Array, hi: Array) -> tuple[Array, Array]:
    """A centre on a grid and a radius that reaches both ends."""
    mid = joined([(0.5 * lo + 0.5 * hi)[None]])[0].c[0]
    return mid, np.maximum(add(hi, -mid), add(mid, -lo))


def inner_up(rows: Rows, v: Array) -> Array:
    """Upper bounds of c·v for every functional."""
    if not np.any(v):
        return np.zeros(len(rows.c))
    linear = Linear(v, lambda w, x: x * w, lambda w, c: (c @ w)[:, None], v.size)
    found, cost = linear.back(rows, np.ones(1))  # v as a map of the number 1
    return add(found.c[:, 0], cost)
