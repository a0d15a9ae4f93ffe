"""A tensor seen as rows of numbers that an operator treats together (softmax, normalisation)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import prod

import numpy.typing as npt

from encoders.arithmetic.runtime import moved
from encoders.arithmetic.values import E, V
from encoders.lemmas.kernel import Radius
from encoders.lemmas.ranges.placing import range_moved, range_of
from encoders.lemmas.ranges.range import Range
from encoders.numbers.enclosure import Interval


@dataclass(frozen=True)
class Rows:
    """A tensor of `shape`, reshaped to `view`, whose `axes` together make one row."""

    shape: tuple[int, ...]
    view: tuple[int, ...]
    axes: tuple[int, ...]

    @property
    def length(self) -> int:
        """How many numbers a row has."""
        return prod(self.view[a] for a in self.axes)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return prod(n for a, n in enumerate(self.view) if a not in self.axes)

    @property
    def _order(self) -> tuple[int, ...]:
        return (*(a for a in range(len(self.view)) if a not in self.axes), *self.axes)

    def split(self, v: npt.NDArray[E]) -> npt.NDArray[E]:
        """(k, *shape) → (k, rows, length)."""
        order = (0, *(a + 1 for a in self._order))
        samples = v.shape[0]
        return (
            v.reshape(samples, *self.view)
            .transpose(order)
            .reshape(samples, self.count, self.length)
        )

    def merge(self, v: npt.NDArray[E]) -> npt.NDArray[E]:
        """(k, rows, length) → (k, *shape)."""
        order = self._order
        back = (0, *(order.index(a) + 1 for a in range(len(order))))
        permuted = v.reshape(v.shape[0], *(self.view[a] for a in order))
        return permuted.transpose(back).reshape(v.shape[0], *self.shape)

    def of_interval(self, x: Interval) -> Range:
        """Ranges of the tensor's shape as ranges (rows, length)."""
        return range_moved(range_of(x), lambda v: self.split(v[None])[0])

    def of_radius(self, radius: Radius) -> Radius:
        """Errors of the tensor's elements as errors (rows, length)."""
        return radius.moved(lambda v: self.split(v[None])[0])

    def to_radius(self, radius: Radius) -> Radius:
        """Errors (rows, length) as errors of the tensor's elements."""
        return radius.moved(lambda v: self.merge(v[None])[0])

    def to_range(self, x: Range) -> Range:
        """Ranges (rows, length) as ranges of the tensor's shape."""
        return range_moved(x, lambda v: self.merge(v[None])[0])


def rows_along(shape: tuple[int, ...], axes: tuple[int, ...]) -> Rows:
    """The rows of a tensor of this shape along axes ≥ 0, nothing reshaped before."""
    return Rows(shape, shape, axes)


def columns(rows: V) -> list[V]:
    """The elements of each row, one array (k, rows, 1) per position; for any arithmetic."""
    return [moved(rows, partial(_column, index=i)) for i in range(rows.shape[2])]


def _column(v: npt.NDArray[E], index: int) -> npt.NDArray[E]:
    return v[:, :, index : index + 1]


def reduced_rows(
    shape: tuple[int, ...], axes: tuple[int, ...], output: tuple[int, ...]
) -> tuple[Rows, Rows]:
    """A reduction over `axes`: its input as rows, its output as rows of one element each."""
    inside = rows_along(shape, axes)
    return inside, Rows(output, (inside.count, 1), (1,))
