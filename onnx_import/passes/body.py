"""What a node is decomposed into: other nodes, in order, the constants they read, and masks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from onnx_import.errors import UnsupportedModel, shorten
from onnx_import.graph import Array, Node, TensorType

_AXES_AS_INPUT = {"ReduceSum": 13}
_AXES_SINCE = 18  # of the other reductions


@dataclass
class Body:
    """What a node is decomposed into: nodes in order, ending with its output, constants, and the
    random masks that it draws. `alike` names the nodes that `run_alike` is said of."""

    node: Node
    types: Mapping[str, TensorType]
    known: Mapping[str, Array]
    taken: Collection[str]
    protos: dict[str, onnx.NodeProto] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    random_masks: dict[str, TensorType] = field(default_factory=dict)
    alike: set[str] = field(default_factory=set)

    def run_alike(self, tensor: str) -> str:
        """Says that the node that makes this tensor is computed, within the kernel of what is
        decomposed, as by a kernel of its own; the tensor."""
        self.alike |= {name for name, made in self.protos.items() if tensor in made.output}
        return tensor

    def add(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """One more node; its output's name, chosen here unless it is given."""
        name = self._fresh(f"{self.node.name}.{len(self.protos)}")
        written = [output or f"{name}:{op}"]
        made = onnx.helper.make_node(op, inputs, written, name=name, **attributes)
        self.protos[name] = made
        return str(made.output[0])

    def store(self, value: Array) -> str:
        """The name under which the body holds a new constant."""
        name = self._fresh(f"{self.node.name}.constant.{len(self.constants)}")
        self.constants[name] = value
        return name

    def mask(self) -> str:
        """As many random numbers, 0 or 1, as the first input has."""
        name = self._fresh(f"{self.node.name}.mask")
        self.random_masks[name] = self.types[self.node.inputs[0]]
        return name

    def reshape(self, tensor: str, *shape: int) -> str:
        """The tensor, under a new name, in another shape."""
        return self.add("Reshape", tensor, self.store(np.array(shape, np.int64)))

    def over(self, op: str, tensor: str, axes: Sequence[int], keepdims: int = 0) -> str:
        """A reduction that drops its axes, or keeps them with length 1."""
        if self.node.opset < _AXES_AS_INPUT.get(op, _AXES_SINCE):
            return self.add(op, tensor, axes=list(axes), keepdims=keepdims)
        places = self.store(np.array(axes, np.int64))
        return self.add(op, tensor, places, keepdims=keepdims)

    def finish(self) -> Body:
        """The last node writes what the whole node wrote, unless another one was told to."""
        written = {t for proto in self.protos.values() for t in proto.output}
        if self.node.outputs[0] and self.node.outputs[0] not in written:
            list(self.protos.values())[-1].output[0] = self.node.outputs[0]
        return self

    def shape(self, position: int) -> tuple[int, ...]:
        return self.types[self.node.inputs[position]].shape

    def number(self, name: str, default: Any) -> Any:
        return self.node.attributes.get(name, default)

    def axis(self, default: int, rank: int) -> int:
        """The attribute `axis`, counted from the front. Raises UnsupportedModel, naming the node,
        for one that a tensor of this rank has not."""
        axis: int = self.number("axis", default)
        if not -rank <= axis < rank:
            raise self.unsupported(f"attribute 'axis' is {axis}, out of range for {rank} axes")
        return axis % rank

    def constant(self, position: int, what: str) -> Array:
        tensor = self.node.inputs[position]
        if tensor not in self.known:
            raise self.unsupported(f"{what} (input {position}) must be constant")
        return self.known[tensor]

    def written_by(self, rewriting: Callable[[Body], None]) -> None:
        """Have it written. Raises UnsupportedModel, naming the node, for a node whose inputs and
        attributes `rewriting` trips over."""
        try:
            rewriting(self)
        except (ValueError, LookupError, ArithmeticError, TypeError) as error:
            raise self.unsupported(
                f"its inputs do not fit each other ({shorten(error)}); export the model again"
            ) from error

    def unsupported(self, why: str) -> UnsupportedModel:
        """The error that says why the node that is decomposed has no meaning here."""
        return UnsupportedModel(f"{self.node.describe()}: {why}")

    def _fresh(self, name: str) -> str:
        while name in self.taken or name in self.types:
            name += "_"
        return name
