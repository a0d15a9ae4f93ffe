"""A copy of an ONNX file in which some nodes run in 16 bits: weights stored in that format, and
casts where data go from one format into the other."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, defs, helper, numpy_helper

from onnx_import.graph import DType

_STANDARD = ("", "ai.onnx")
_SEPARATE = 4  # the version of ONNX's files from which on weights are no inputs
_TYPED = ("to", "dtype", "output_dtype")  # attributes that say a type
_ONNX_TYPES: Mapping[DType, int] = {
    DType.FLOAT16: TensorProto.FLOAT16,
    DType.BFLOAT16: TensorProto.BFLOAT16,
}
_SPELLED: Mapping[DType, str] = {
    DType.FLOAT16: "tensor(float16)",
    DType.BFLOAT16: "tensor(bfloat16)",
}


@dataclass(frozen=True)
class Moved:
    """Which inputs and outputs of a node become 16 bits, by position, where it runs in these."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def movable(model: onnx.ModelProto, kinds: Mapping[str, DType], to: DType) -> dict[str, Moved]:
    """The nodes, by their first output, that ONNX lets compute in this format, of those that read
    or write float32; `kinds` are the types of tensors."""
    found = {}
    version = next((o.version for o in model.opset_import if o.domain in _STANDARD), 1)
    for node in model.graph.node:
        moved = _moved(node, kinds, to, version)
        if moved is not None:
            found[node.output[0]] = moved
    return found


def _moved(
    node: onnx.NodeProto, kinds: Mapping[str, DType], to: DType, version: int
) -> Moved | None:
    standard = node.domain in _STANDARD and defs.has(node.op_type, node.domain)
    if not standard or not node.output or not node.output[0]:
        return None
    if any(
        a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute
    ):
        return None
    if any(a.name in _TYPED for a in node.attribute):
        return None
    schema = defs.get_schema(node.op_type, version, node.domain)
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    wanted = _SPELLED[to]
    inputs, outputs = [], []
    for place, tensor in enumerate(node.input):
        kind = _formal(schema.inputs, place)
        if tensor and kinds.get(tensor) is DType.FLOAT32 and wanted in allowed.get(kind, set()):
            inputs.append(place)
    for place, tensor in enumerate(node.output):
        if not tensor or kinds.get(tensor) is not DType.FLOAT32:
            continue
        if wanted not in allowed.get(_formal(schema.outputs, place), set()):
            return None
        outputs.append(place)
    together = {_formal(schema.inputs, i) for i in inputs}
    if not inputs or not outputs:
        return None
    if any(_formal(schema.outputs, i) not in together for i in outputs):
        return None
    return Moved(tuple(inputs), tuple(outputs))


def _formal(formals: object, place: int) -> str:
    """The type of an input or output, whose last may stand for many."""
    every = list(formals)  # type: ignore[call-overload]
    return str(every[min(place, len(every) - 1)].type_str)


@dataclass(frozen=True)
class Mixed:
    """The copy; by the first output of its nodes that of the node each is in the original, and of
    the casts that were added what they read."""

    model: onnx.ModelProto
    origins: Mapping[str, str]
    casts: Mapping[str, str]


@dataclass
class _Copy:
    """A graph under way: names that are taken, and the nodes and weights that it has so far."""

    to: DType
    taken: set[str]
    weights: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]
    short: dict[str, str] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    casts: dict[str, str] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    stored: list[onnx.TensorProto] = field(default_factory=list)

    def named(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self.taken:
            name, number = f"{wanted}_{number}", number + 1
        self.taken.add(name)
        return name

    def of(self, tensor: str) -> str:
        """The tensor in 16 bits: a weight stored so, or a Cast of what was computed."""
        if tensor in self.short:
            return self.short[tensor]
        name = self.short[tensor] = self.named(f"{tensor}_{self.to.value}")
        if tensor in self.weights:
            kind = ml_dtypes.bfloat16 if self.to is DType.BFLOAT16 else np.float16
            with np.errstate(over="ignore"):
                narrow = self.weights[tensor].astype(kind)
            self.stored.append(numpy_helper.from_array(narrow, name))
        else:
            self._cast(tensor, name, _ONNX_TYPES[self.to])
        return name

    def widened(self, tensor: str, source: str) -> None:
        self._cast(source, tensor, TensorProto.FLOAT)

    def _cast(self, source: str, target: str, to: int) -> None:
        node = self.named(f"{target}_cast")
        self.nodes.append(helper.make_node("Cast", [source], [target], node, to=to))
        self.casts[target] = source


def weights_of(
    model: onnx.ModelProto,
) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """The float32 numbers that a file stores, by tensor."""
    found = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.domain in _STANDARD:
            held = next((a.t for a in node.attribute if a.name == "value"), None)
            if held is not None:
                found[node.output[0]] = held
    of_float = {name: t for name, t in found.items() if t.data_type == TensorProto.FLOAT}
    return {name: np.asarray(numpy_helper.to_array(t), np.float32) for name, t in of_float.items()}


def mixed(
    model: onnx.ModelProto, moved: Mapping[str, Moved], chosen: Collection[str], to: DType
) -> Mixed:
    """The copy in which the chosen nodes (by their first output) run in 16 bits.

    `model` has its weights inside. Inputs and outputs keep their types. What a node in float32
    reads of one in 16 bits is cast back; a weight is stored in each format in which it is read.
    """
    graph = model.graph
    read_wide = _read_wide(graph, moved, chosen)
    names = {t for n in graph.node for t in (*n.input, *n.output)}
    names |= {n.name for n in graph.node} | {t.name for t in graph.initializer}
    copy = _Copy(to, names | {v.name for v in graph.input}, weights_of(model))
    for node in graph.node:
        if node.output[0] not in chosen:
            copy.nodes.append(node)
            copy.origins[node.output[0]] = node.output[0]
            continue
        how = moved[node.output[0]]
        short = onnx.NodeProto()
        short.CopyFrom(node)
        for place in how.inputs:
            short.input[place] = copy.of(node.input[place])
        for place in how.outputs:
            tensor = node.output[place]
            short.output[place] = copy.short[tensor] = copy.named(f"{tensor}_{to.value}")
        copy.nodes.append(short)
        copy.origins[short.output[0]] = node.output[0]
        for place in how.outputs:
            if node.output[place] in read_wide:
                copy.widened(node.output[place], short.output[place])
    return Mixed(_with(model, copy, read_wide), copy.origins, copy.casts)


def _read_wide(
    graph: onnx.GraphProto, moved: Mapping[str, Moved], chosen: Collection[str]
) -> set[str]:
    """Tensors that something reads in float32: nodes, graphs inside nodes, and whoever runs it."""
    found = {v.name for v in graph.output}
    for node in graph.node:
        short = moved[node.output[0]].inputs if node.output[0] in chosen else ()
        found |= {t for i, t in enumerate(node.input) if i not in short}
        for inner in _graphs(node):
            found |= {t for n in _every_node(inner) for t in n.input}
            found |= {v.name for v in inner.output}
    return found


def _graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _every_node(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for inner in _graphs(node):
            yield from _every_node(inner)


def _with(model: onnx.ModelProto, copy: _Copy, read_wide: set[str]) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    del graph.node[:], graph.value_info[:]
    graph.node.extend(copy.nodes)
    kept = [t for t in graph.initializer if t.name in read_wide or t.name not in copy.short]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *copy.stored])
    gone = {t for t in copy.weights if t not in {k.name for k in kept}}
    inputs = [v for v in graph.input if v.name not in gone]
    del graph.input[:]
    graph.input.extend(inputs)
    if model.ir_version < _SEPARATE:
        graph.input.extend(
            helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in copy.stored
        )
    return made
