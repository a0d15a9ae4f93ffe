"""Where an operator stands: a node with the types and the constants around it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.values import Inputs
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Array, Node, Remembering, TensorType

FloatArray = npt.NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True)
class Site(Remembering):
    """An operator where it stands in a graph: the node, its tensor types, its constant inputs.

    `inputs` and `constants` follow the node's input positions; an omitted input is None in both.
    """

    node: Node
    inputs: tuple[TensorType | None, ...]
    outputs: tuple[TensorType, ...]
    constants: tuple[Array | None, ...]

    @cached_property
    def _coefficients(self) -> dict[int, FloatArray]:
        return {}

    @cached_property
    def variable(self) -> tuple[int, ...]:
        """Positions of the inputs that depend on the network's input."""
        return tuple(
            i
            for i, (t, c) in enumerate(zip(self.inputs, self.constants, strict=True))
            if t is not None and c is None
        )

    def arguments(
        self, variable: Iterable[T], constant: Callable[[Array, TensorType], T]
    ) -> Inputs[T]:
        """What the semantics receive, by input position: `constant` of a stored array and its type,
        and of the inputs that vary the given ones in their order."""
        given = iter(variable)
        return Inputs(
            None if kind is None else next(given) if held is None else constant(held, kind)
            for kind, held in zip(self.inputs, self.constants, strict=True)
        )

    def type_of(self, position: int) -> TensorType:
        """The type of an input. Raises UnsupportedModel, naming the node, where it is omitted."""
        tensor = self.inputs[position] if position < len(self.inputs) else None
        if tensor is None:
            raise self.unsupported(f"input {position} is missing")
        return tensor

    def constant(self, position: int) -> Array | None:
        """The stored array of an input; None where the input varies or is omitted."""
        return self.constants[position] if position < len(self.constants) else None

    def coefficients(self, position: int) -> FloatArray:
        """A constant input of a floating-point type in float64, one copy for all who ask."""
        if position not in self._coefficients:
            self._coefficients[position] = np.asarray(self.constants[position], np.float64)
        return self._coefficients[position]

    def integer(self, name: str, default: int) -> int:
        """An integer attribute. Raises UnsupportedModel, naming the node, for another type."""
        value = self.node.attributes.get(name, default)
        if not isinstance(value, int):
            raise self.unsupported(f"attribute '{name}' is not an integer")
        return value

    def integers(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...] | None:
        """An attribute that lists integers. Raises UnsupportedModel, naming the node, for another
        type."""
        value = self.node.attributes.get(name)
        if value is None:
            return None if default is None else tuple(default)
        if not isinstance(value, tuple) or not all(isinstance(v, int) for v in value):
            raise self.unsupported(f"attribute '{name}' is not a list of integers")
        return tuple(int(v) for v in value)

    def real(self, name: str, default: float) -> float:
        """A float attribute, exactly. ONNX stores these as float32, and means that of its
        defaults; other files may hold float64 numbers."""
        if name not in self.node.attributes:
            return float(np.float32(default))
        value = self.node.attributes[name]
        if not isinstance(value, int | float):
            raise self.unsupported(f"attribute '{name}' is not a number")
        return float(value)

    def unsupported(self, why: str) -> UnsupportedModel:
        """The error that says, with the node, why it has no meaning here."""
        return UnsupportedModel(f"{self.node.describe()}: {why}")


@dataclass(frozen=True)
class Element:
    """A site whose tensors hold one number each, and the flat position that each variable input
    has in the whole tensor it was taken from."""

    site: Site
    positions: tuple[int, ...]


def remembered(make: Callable[[Site], T]) -> Callable[[Site], T]:
    """The function of a site, called once for each: index maps, and what is built from them.

    What it gives is shared by all who ask; an array can be read only.
    """

    @wraps(make)
    def found(site: Site) -> T:
        return site.once(shared)

    def shared(site: Site) -> T:
        made = make(site)
        if isinstance(made, np.ndarray):
            made.flags.writeable = False
        return made

    return found
