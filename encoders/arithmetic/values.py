"""What an arithmetic computes with, as far as an operator's run-time semantics see it.

A value is a tensor with a leading sample axis: a numpy array of bits, terms or exact numbers, or
several such arrays under one roof (`Carried`: a range and an error). An operator reads its shape,
moves its elements about (`encoders.arithmetic.runtime.moved`, `joined`) and leaves the rest to the
arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, Self, TypeVar, overload

import numpy as np
import numpy.typing as npt

from onnx_import.errors import UnsupportedModel

T = TypeVar("T")
E = TypeVar("E", bound=np.generic)


class Movement(Protocol):
    """A movement of data (reshape, transpose, slice, gather), the same whatever is moved."""

    def __call__(self, array: npt.NDArray[E], /) -> npt.NDArray[E]: ...


class Carried(Protocol):
    """Several arrays of one shape that are moved together."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def moved(self, f: Movement, /) -> Self: ...

    def joined(self, others: Sequence[Self], axis: int, /) -> Self:
        """This one and the others, one after the other along an axis."""


V = TypeVar("V", bound=npt.NDArray[np.generic] | Carried)


class Inputs(Sequence[T]):
    """What the semantics of an operator receive, by input position; an omitted input is None in
    `given`.

    An index gives what is there; `optional` also asks for what may be omitted.
    """

    def __init__(self, given: Iterable[T | None]) -> None:
        self.given = tuple(given)

    def __len__(self) -> int:
        return len(self.given)

    @overload
    def __getitem__(self, k: int) -> T: ...

    @overload
    def __getitem__(self, k: slice) -> Inputs[T]: ...

    def __getitem__(self, k: int | slice) -> T | Inputs[T]:
        """Raises UnsupportedModel where the input is omitted."""
        if isinstance(k, slice):
            return Inputs(self.given[k])
        value = self.given[k]
        if value is None:
            raise UnsupportedModel(f"input {k} is omitted, and the operator needs it")
        return value

    def optional(self, k: int) -> T | None:
        """The input at a position, None where the node ends before it or leaves it out."""
        return self.given[k] if k < len(self.given) else None
