"""A walk over the nodes of a model: types are inferred, constants folded, operators decomposed."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx

from onnx_import.errors import ModelError, UnsupportedModel, shorten
from onnx_import.graph import Array, Fold, Handling, Node, TensorType
from onnx_import.onnx.control import Control
from onnx_import.onnx.inference import (
    constant_type,
    empty_outputs,
    infer,
    output_type,
    require_holdable,
)
from onnx_import.onnx.sequences import way_of
from onnx_import.passes.bodies import read_by
from onnx_import.passes.body import Body
from onnx_import.passes.decompose import decomposed
from onnx_import.passes.folding.empty import require_counted, without_empty
from onnx_import.passes.folding.fold import fold, needs
from onnx_import.passes.fused import DOMAIN as OPTIMISED
from onnx_import.passes.fused import FUSED, SINCE, fused
from onnx_import.passes.late import counted, explained, why_late
from onnx_import.passes.normalize import (
    interpolating,
    looking_up,
    of_whole_numbers,
    require_agreed,
    split_into_slices,
    truncating,
    with_live_input,
    without_dropout,
    without_like,
)
from onnx_import.passes.pipelines import DOMAIN, pipeline
from onnx_import.passes.sorting import with_what_is_read
from onnx_import.tensors import attribute_of, type_of

_MODERN = 13  # an opset that has all that pipelines, fused operators and layers are made of
_UNROLLED = ("GRU", "LSTM", "RNN")


@dataclass
class Walk:
    """The walk over a model's nodes. `random_masks` are the random masks met on the way, `folds`
    the nodes that were computed of stored numbers, `late` says of tensors computed of constants
    alone why that is done at run time; `modern` are nodes that were made for others, and are of
    opset 13 where the file's is older."""

    protos: Mapping[str, onnx.NodeProto]
    read: Collection[str]
    opset: int
    folder: Path
    random: bool
    handling: Handling
    random_masks: list[str] = field(default_factory=list)
    folds: list[Fold] = field(default_factory=list)
    late: dict[str, str] = field(default_factory=dict)
    modern: set[str] = field(default_factory=set)
    alike: set[str] = field(default_factory=set)

    @cached_property
    def taken(self) -> set[str]:
        """The names of nodes and tensors that the file has, and those made for others."""
        tensors = (t for proto in self.protos.values() for t in (*read_by(proto), *proto.output))
        return {*self.protos, *tensors}

    @cached_property
    def control(self) -> Control:
        return Control(self.opset, self.folder, self.taken)

    def over(
        self,
        inputs: Mapping[str, TensorType],
        stored: Mapping[str, Array],
        outputs: Sequence[str] = (),
    ) -> tuple[tuple[Node, ...], Mapping[str, TensorType], Mapping[str, Array]]:
        """The nodes left after folding, the types of all tensors, and all constants.

        Inference and folding alternate node by node, because each feeds the other: a Shape is
        constant once its argument's type is known, and a Reshape's type is known once its shape is
        constant. Of sequences among the outputs each tensor gets a name of its own. Raises
        ModelError or UnsupportedModel, naming the node.
        """
        constants = dict(stored)
        types = {**inputs, **{tensor: type_of(value) for tensor, value in stored.items()}}
        nodes: list[Node] = []
        waiting = list(self.protos.items())[::-1]
        while waiting:
            name, proto = waiting.pop()
            with explained(self.late, proto.input):
                more = self._node(name, proto, types, constants, nodes)
            waiting += more[::-1]
            if not waiting:
                waiting = self.control.spread(outputs)
        return tuple(nodes), types, constants

    def _node(
        self,
        name: str,
        proto: onnx.NodeProto,
        types: dict[str, TensorType],
        constants: dict[str, Array],
        nodes: list[Node],
    ) -> list[tuple[str, onnx.NodeProto]]:
        """Reads one node; what it is decomposed into, if anything, is still to be read."""
        way = way_of(proto, self.control.held)
        if way is not None:
            unfolded = self.control.unfolded(name, proto, types, constants, way)
            constants.update(unfolded.constants)
            types.update({t: type_of(value) for t, value in unfolded.constants.items()})
            return unfolded.protos
        self.control.require_tensors(name, proto)
        if proto.domain == DOMAIN:
            return self._pipeline(name, proto, types, constants)
        if proto.domain == OPTIMISED and proto.op_type in FUSED:
            node = read_node(name, proto, max(self.opset, _MODERN), self.folder)
            found = fused(node, types, constants, self.protos)
            self.modern.update(found.protos)
            self.alike |= found.alike
            return _taken_over(found, types, constants)
        newer = name in self.modern or proto.op_type in _UNROLLED
        opset = max(self.opset, _MODERN) if newer else self.opset
        node = read_node(name, proto, opset, self.folder)
        self.control.require_alike(name, [types[t].shape for t in node.inputs if t in types])
        inferred = infer(proto, node.describe(), types, constants, opset)
        require_holdable(proto, node.describe(), inferred, types)
        require_agreed(node, constants)
        node = without_dropout(node, constants, self.read, self.random)
        node = with_what_is_read(interpolating(without_like(node, types)), self.read)
        self.folds += counted(node, types, constants)
        require_counted(node, types, constants)
        empty = empty_outputs(node, inferred)
        if empty and node.op != "Constant":
            constants.update(empty)
            types.update({tensor: type_of(value) for tensor, value in empty.items()})
            return []
        node = without_empty(node, types)
        if node.op == "Constant":
            value: Array | None = constant_value(node)
        else:
            value = self._folded(node, types, constants)
        if value is not None:
            constants[node.outputs[0]] = value
            types[node.outputs[0]] = constant_type(inferred.get(node.outputs[0]), value)
            return []
        for tensor in node.outputs:
            if tensor:
                types[tensor] = output_type(inferred.get(tensor), tensor, node, constants)
        node = looking_up(of_whole_numbers(truncating(node, types), types), constants)
        body = decomposed(node, types, constants, self.protos)
        if body is not None:
            self.random_masks += body.random_masks
            types.update(body.random_masks)
            self.modern.update(body.protos if newer else ())
            return _taken_over(body, types, constants)
        for part in split_into_slices(node, types, self.protos):
            value = self._folded(part, types, constants) if part is not node else None
            if value is None:
                feeder, part = with_live_input(part, types, constants, self.taken)
                self.taken.update(name for n in feeder for name in (n.name, *n.outputs))
                nodes += [*feeder, part]
                types.update({n.outputs[0]: types[n.inputs[0]] for n in feeder})
            else:
                constants[part.outputs[0]] = value
        return []

    def _pipeline(
        self,
        name: str,
        proto: onnx.NodeProto,
        types: dict[str, TensorType],
        constants: dict[str, Array],
    ) -> list[tuple[str, onnx.NodeProto]]:
        """What an operator of classical pipelines is made of. NaN that are replaced are nowhere."""
        if any(a.name == "replaced_value_float" and math.isnan(a.f) for a in proto.attribute):
            return [(name, onnx.helper.make_node("Identity", proto.input, proto.output, name=name))]
        node = read_node(name, proto, max(self.opset, _MODERN), self.folder)
        body = pipeline(node, types, constants, self.protos)
        self.modern.update(body.protos)
        return _taken_over(body, types, constants)

    def _folded(
        self, node: Node, types: Mapping[str, TensorType], constants: Mapping[str, Array]
    ) -> Array | None:
        """The value of a node's output where it can be folded, and its numbers are read so."""
        kinds: Sequence[TensorType | None] = [types[t] if t else None for t in node.inputs]
        values = [constants.get(t) if t else None for t in node.inputs]
        value = folded(node, kinds, values)
        if value is None:
            self._pass_on(node, constants)
            return None
        found = needs(node, kinds, values, value)
        why = next((w for w in map(self.handling, found) if w), "")
        if why:
            self.late[node.outputs[0]] = why_late(node, why)
            return None
        if found:
            self.folds.append(Fold(node.describe(), node.outputs[0], found))
        return value

    def _pass_on(self, node: Node, constants: Mapping[str, Array]) -> None:
        """What is computed of late tensors and constants alone is late, too."""
        given = [t for t in node.inputs if t]
        if all(t in constants or t in self.late for t in given):
            why = next((self.late[t] for t in given if t in self.late), "")
            self.late.update({t: why for t in node.outputs if t and why})


def _taken_over(
    body: Body, types: dict[str, TensorType], constants: dict[str, Array]
) -> list[tuple[str, onnx.NodeProto]]:
    """The nodes of a body, whose constants are known from here on."""
    constants.update(body.constants)
    types.update({tensor: type_of(value) for tensor, value in body.constants.items()})
    return list(body.protos.items())


def read_node(name: str, proto: onnx.NodeProto, opset: int, folder: Path) -> Node:
    """The node as it is in the file. Raises ModelError or UnsupportedModel for its attributes."""
    place = f"node '{name}' ({proto.op_type})"
    stored = proto.op_type in ("Constant", "ConstantOfShape")
    attributes = {a.name: attribute_of(a, folder, place, stored) for a in proto.attribute}
    inputs, outputs = tuple(proto.input), tuple(proto.output)
    return Node(
        name,
        proto.op_type,
        inputs=inputs,
        outputs=outputs,
        attributes=attributes,
        opset=opset if proto.domain else max(opset, SINCE.get(proto.op_type, 0)),
        domain=proto.domain,
    )


def constant_value(node: Node) -> Array:
    """What a Constant node holds. Raises UnsupportedModel for strings."""
    for name, value in node.attributes.items():
        if name == "value" and isinstance(value, np.ndarray):
            return value
        if name in ("value_float", "value_floats"):
            return np.array(value, np.float32)
        if name in ("value_int", "value_ints"):
            return np.array(value, np.int64)
    raise UnsupportedModel(f"{node.describe()} holds text, which is not supported; remove it")


def folded(
    node: Node, kinds: Sequence[TensorType | None], values: Sequence[Array | None]
) -> Array | None:
    """The value of a node's output where it can be folded. Raises ModelError if it cannot be."""
    try:
        return fold(node, kinds, values)
    except (ValueError, LookupError, ArithmeticError, TypeError) as error:
        raise ModelError(
            f"{node.describe()} does not fit its constant inputs ({shorten(error)}); "
            "export the model again"
        ) from error
