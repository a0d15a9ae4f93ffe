"""A TorchLean node among its parents, and the ONNX steps that it becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from onnx_import.errors import ModelError
from onnx_import.graph import Array
from onnx_import.torchlean.documents import Entry, Reals, Shape, reals
from onnx_import.torchlean.weights import shaped


@dataclass(frozen=True)
class OnnxStep:
    """One ONNX operator on the value so far; the first step starts with the first parent.

    `others` are its further inputs: positions of parents, or constants (float64: to be rounded to
    the graph's type).
    """

    op: str
    others: tuple[int | Array, ...] = ()
    attributes: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Place:
    """A node with the shapes of its parents and its tensors from the weights beside the graph."""

    entry: Entry
    parents: tuple[Shape, ...]
    stored: Mapping[str, Reals]
    flat: bool = False

    @property
    def shape(self) -> Shape:
        assert self.entry.shape is not None
        return self.entry.shape

    def tensor(self, inline: str, stored: str, shape: Shape) -> Reals:
        """A weight by its inline name, else by its name beside the graph. Raises ModelError."""
        place = f"{self.entry.describe()}: weight '{inline}'"
        if inline in self.entry.fields:
            return reals(self.entry.fields[inline], place, shape)
        if stored not in self.stored:
            raise ModelError(
                f"{self.entry.describe()} has no weight '{inline}', neither in the graph nor "
                "beside it; put its weights in GRAPH.weights.json"
            )
        value = self.stored[stored]
        if self.flat:
            return shaped(value, shape, place)
        if value.shape != shape:
            raise self.wrong(f"weight '{inline}' has the shape {list(value.shape)}", shape)
        return value

    def wrong(self, found: str, expected: Any) -> ModelError:
        """The error for what was found at this node in place of what its kind asks for."""
        wanted = list(expected) if isinstance(expected, tuple) else expected
        return ModelError(f"{self.entry.describe()}: {found}, not {wanted}; export the model again")

    def agree(self, what: str, found: Any, expected: Any) -> None:
        """Raises ModelError, naming the node, unless what was found is what its kind asks for."""
        if found != expected:
            shown = list(found) if isinstance(found, tuple) else found
            raise self.wrong(f"{what} is {shown}", expected)

    def axis(self, name: str, rank: int) -> int:
        """An axis from 0 on; a negative one counts from the end."""
        axis = self.entry.integer(name)
        if not -rank <= axis < rank:
            raise self.wrong(f"attribute '{name}' is {axis}", f"one of {rank} axes")
        return axis % rank


Lowering: TypeAlias = Callable[[Place], Sequence[OnnxStep]]


@dataclass(frozen=True)
class Kind:
    """A kind of node: how many parents it has (None: any number), its fields, and its meaning.

    `weights` are the names of its parameters beside the graph, in the order of the file.
    """

    parents: int | None
    lower: Lowering
    fields: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()


def reshape(shape: Shape) -> OnnxStep:
    """The step that gives the value so far another shape of the same size."""
    return OnnxStep("Reshape", (np.array(shape, np.int64),))


def within(
    inner: Shape, steps: Sequence[OnnxStep], shape: Shape, outer: Shape
) -> Sequence[OnnxStep]:
    """The steps on a tensor of `shape` seen as `inner`; the result is seen as `outer`."""
    before = () if shape == inner else (reshape(inner),)
    return (*before, *steps) if shape == inner else (*before, *steps, reshape(outer))
