"""The terms of a sum of products as slices of two values, which need not be cut out one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.runtime import moved
from encoders.arithmetic.values import E, V


class Slices(Sequence[tuple[V, V]]):
    """The factors of each term of a sum of products: slices of two values, of length 1 along their
    axes `left_axis` and `right_axis`, on which the terms `which` lie."""

    def __init__(self, left: V, left_axis: int, right: V, right_axis: int, which: range) -> None:
        self.left, self.left_axis = left, left_axis % len(left.shape)
        self.right, self.right_axis = right, right_axis % len(right.shape)
        self.which = which

    def __len__(self) -> int:
        return len(self.which)

    @overload
    def __getitem__(self, k: int) -> tuple[V, V]: ...

    @overload
    def __getitem__(self, k: slice) -> Slices[V]: ...

    def __getitem__(self, k: int | slice) -> tuple[V, V] | Slices[V]:
        if isinstance(k, slice):
            return Slices(self.left, self.left_axis, self.right, self.right_axis, self.which[k])
        at = self.which[k]
        return _slice(self.left, self.left_axis, at), _slice(self.right, self.right_axis, at)

    @property
    def same(self) -> bool:
        """Are both factors of each term one and the same?"""
        return self.left is self.right and self.left_axis == self.right_axis

    def stacked(self) -> tuple[V, V]:
        """All factors of either side, with the terms along a new last axis."""
        return _stacked(self.left, self.left_axis, self.which), _stacked(
            self.right, self.right_axis, self.which
        )


def steps_of(which: range) -> slice:
    """The same numbers as indices; a range that counts down may stop before the first."""
    return slice(which.start, which.stop if which.stop >= 0 else None, which.step)


def _slice(value: V, axis: int, k: int) -> V:
    at = (*(slice(None),) * axis, slice(k, k + 1))
    return moved(value, lambda array: array[at])


def _stacked(value: V, axis: int, which: range) -> V:
    at = (*(slice(None),) * axis, steps_of(which))

    def stack(array: npt.NDArray[E]) -> npt.NDArray[E]:
        return np.expand_dims(np.ascontiguousarray(np.moveaxis(array[at], axis, -1)), axis)

    return moved(value, stack)


def factors(a: V, a_axis: int, b: V, b_axis: int, terms: int) -> Sequence[tuple[V, V]]:
    """The factors of each of so many terms, which lie along an axis of `a` and one of `b`."""
    return Slices(a, a_axis, b, b_axis, range(terms))
