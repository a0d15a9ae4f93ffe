"""Arithmetic and linear maps in float64; every rounding is charged, n + 4 units to a sum of n."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.typing.NDArray[np.float64]
Index = np.typing.NDArray[np.int64]
Apply = Callable[[Array, Array], Array]
LEAST = -900  # 2^LEAST is charged for what is lost to underflow


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
    """Upper (-1: lower) bounds of sums of products, none negative, that gave `total` in float64."""
    return np.asarray(total * (1.0 + sign * (terms + 4) * 2.0**-52) + sign * 2.0**LEAST)


def positive(apply: Apply, weights: Array, lo: Array, hi: Array) -> Array:
    """Float64's sums of positive parts of products weights·x, at their largest for lo ≤ x ≤ hi."""
    rising = apply(np.maximum(weights, 0.0), np.maximum(hi, 0.0))
    return rising + apply(np.maximum(-weights, 0.0), np.maximum(-lo, 0.0))


def upper(weights: Array, lo: Array, hi: Array, apply: Apply = np.matmul, terms: int = 0) -> Array:
    """Upper bounds of sums of products weights·x, at most `terms` in one, for x from lo to hi."""
    more, less, n = positive(apply, weights, lo, hi), positive(apply, weights, -lo, -hi), len(lo)
    most = add(raised(more, 2 * (terms or n)), -raised(less, 2 * (terms or n), -1.0))
    return np.where(np.isfinite(less), most, np.inf)


def last_bits(c: Array, size: Array) -> Array:
    """What rounding the coefficients of functionals once may change of them."""
    return upper(np.abs(c) * 2.0**-52 + 2.0**LEAST, -size, size)


class Linear:
    """A linear map y = M·x of flat tensors, given by what its weights do.

    `forward(weights, x)` gives (outputs,), `backward(weights, c)` of (k, outputs) (k, inputs), sums
    of at most `terms` products. Weights may be 4 units off, but where a map only `moves` numbers.
    """

    def __init__(
        self, weights: Array, forward: Apply, backward: Apply, terms: int, moves: bool = False
    ) -> None:
        self.weights, self.forward, self.backward = weights, forward, backward
        self.terms, self.moves, self.absolute = terms, moves, np.abs(weights)

    def back(self, c: Array, size: Array) -> tuple[Array, Array]:
        """The functionals on an input of at most this size, and what may be missing of them."""
        found = self.backward(self.weights, c)
        if self.moves:
            return found, np.zeros(len(c))
        off = self.backward(self.absolute, np.abs(c)) * ((self.terms + 12) * 2.0**-52)
        return found, upper(off + 2.0**LEAST, -size, size)

    def over(self, lo: Array, hi: Array) -> Array:
        """Upper bounds of M·x for x from lo to hi."""
        if self.moves:
            return np.maximum(self.forward(self.weights, lo), self.forward(self.weights, hi))
        return upper(self.weights, lo, hi, self.forward, self.terms + 4)

    def of(self, weights: Array, x: Array) -> Array:
        """Upper bounds of what these weights make of x, neither being negative."""
        return raised(self.forward(weights, x), self.terms + 4)

    def size(self, x: Array) -> Array:
        """Upper bounds of |M|·x, x not negative."""
        return self.forward(self.absolute, x) if self.moves else self.of(self.absolute, x)


def chosen(index: Index, size: int, scale: Any = 1.0) -> Linear:
    """y = scale·x[index], -1 where there is none of `size`; a scale that is one number is ±1."""
    used = int(np.max(np.bincount(index[index >= 0]), initial=1))

    def backward(w: Array, c: Array) -> Array:
        sums = np.zeros((size + 1, len(c)))  # the last for what -1 chooses
        if used > 1:
            np.add.at(sums, index, (c * w).T)
        else:
            sums[index] = (c * w).T
        return np.ascontiguousarray(sums[:size].T)

    flat = np.broadcast_to(scale, index.shape).astype(np.float64)
    forward = lambda w, x: np.append(x, 0.0)[index] * w  # noqa: E731
    return Linear(flat, forward, backward, used, used == 1 and type(scale) is float)


def convolution(weights: Array, index: Index, channels: int, pixels: int, groups: int) -> Linear:
    """x (n, channels, pixels) with W (m, channels/groups, places), whose places read the pixels
    index (places, outputs), -1 in the padding; a matrix product where there is one of each."""
    m, places, outputs = weights.shape[0], *index.shape
    inside = weights[0].size

    def forward(w: Array, x: Array) -> Array:
        padded = np.pad(x.reshape(-1, channels, pixels), ((0, 0), (0, 0), (0, 1)))
        columns = padded[:, :, index].reshape(-1, groups, inside, outputs)
        return np.asarray((w.reshape(groups, -1, inside) @ columns).reshape(-1))

    def backward(w: Array, c: Array) -> Array:
        inner = c.reshape(-1, groups, m // groups, outputs).transpose(1, 2, 0, 3)
        wide = w.reshape(groups, -1, inside).swapaxes(1, 2)
        columns = wide @ inner.reshape(groups, m // groups, -1)
        columns = columns.reshape(channels, places, -1, outputs)
        padded = np.zeros((channels, columns.shape[2], pixels + 1))
        for k, row in enumerate(index):
            padded[:, :, row] += columns[:, k]
        return np.asarray(padded[:, :, :pixels].swapaxes(0, 1).reshape(len(c), -1))

    return Linear(weights, forward, backward, max(inside, m // groups * places))
