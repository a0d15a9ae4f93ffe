"""The TorchLean reader: a graph in `torchlean.ir.v1` JSON, of either dialect, as the same Graph."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from onnx_import.errors import ModelError, UnsupportedModel
from onnx_import.graph import (
    Array,
    DType,
    Fold,
    Graph,
    Handling,
    Node,
    TensorType,
    as_written,
    build_graph,
)
from onnx_import.onnx.proto import read_bytes
from onnx_import.onnx.walking import Walk
from onnx_import.passes.normalize import live, without_dead
from onnx_import.tensors import require_finite, type_of
from onnx_import.torchlean.assignment import Reader, assign
from onnx_import.torchlean.documents import (
    Entry,
    Reals,
    is_integer,
    naturals,
    read_object,
    reals,
    shape_of,
)
from onnx_import.torchlean.kinds import KINDS, Dialect
from onnx_import.torchlean.place import Kind, OnnxStep, Place
from onnx_import.torchlean.weights import NONE, Weights, weights_beside

FORMAT = "torchlean.ir.v1"
OPSET = 17
_ANYWHERE = ("id", "kind", "parents", "value_kind", "shape")
_LABELS = ("debug_target", "onnx_op_type", "onnx_name")
_WITHOUT_SEMANTICS = {
    "rand_uniform": "its result is random",
    "bernoulli_mask": "its result is random",
    "custom": "its meaning is not in the file",
    "mse_loss": "it is a loss for training",
    "hard_masked_softmax": "the file cannot hold its mask",
    "tuple_getitem": "it reads a tuple, which was not lowered to tensors",
    "multihead_attention": "it gives a tuple, which was not lowered to tensors",
    "py_tuple": "it gives a tuple, which was not lowered to tensors",
}


@dataclass(frozen=True)
class Document:
    """A TorchLean graph as its file says it: every node in order, and which are in and out."""

    dialect: Dialect
    input_id: int
    output_ids: tuple[int, ...]
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Read:
    """The file that is read and what a runtime does to stored numbers; what was computed of them on
    the way, and what not (`Graph.folds`, `Graph.late`)."""

    source: Path
    handling: Handling
    folds: list[Fold] = field(default_factory=list)
    late: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Lowered:
    """What one node became: ONNX nodes, and the types and constants that they add."""

    nodes: tuple[Node, ...]
    types: Mapping[str, TensorType]
    constants: Mapping[str, Array]
    rounded: int


@dataclass(frozen=True)
class Whole:
    """All nodes in ONNX operators, all types and constants, how many weights were rounded, and
    what was decided about whose they are."""

    nodes: list[Node]
    types: Mapping[str, TensorType]
    constants: Mapping[str, Array]
    rounded: int
    notes: tuple[str, ...]


def load(path: str | Path, handling: Handling = as_written) -> Graph:
    """Read a TorchLean graph into a graph of ONNX operators, its tensors named KIND_ID.

    The weights are in the nodes or in a file beside the graph. Numbers are float32 unless exact
    bits hold one that is not. Raises ModelError for a file that is no valid graph, UnsupportedModel
    for one that uses something without a meaning here, each naming the node.
    """
    source = Path(path)
    data = read_bytes(source)
    fields = read_object(data, source)
    document = document_of(fields, source)
    used = live(
        [([str(p) for p in e.parents], [str(e.id)]) for e in document.entries],
        [str(i) for i in document.output_ids],
    )
    entries = [e for e, keep in zip(document.entries, used, strict=True) if keep]
    kinds = {e.id: kind_of(e, document) for e in entries if e.kind not in ("input", "const")}
    outside = any(_weights_wanted(e, kinds) for e in entries)
    weights = weights_beside(source, fields) if outside else NONE
    dtype = DType.FLOAT64 if weights.needs_float64 else DType.FLOAT32
    file = Read(source, handling)
    whole = lower_all(document, entries, kinds=kinds, weights=weights, dtype=dtype, file=file)
    names = {e.id: e.name for e in document.entries}
    outputs = tuple(dict.fromkeys(names[i] for i in document.output_ids))
    nodes = without_dead(whole.nodes, outputs)
    read = {t for node in nodes for t in (*node.inputs, *node.outputs)} | set(outputs)
    inputs = (names[document.input_id],)
    dropped = len(document.entries) - len(entries)
    try:
        graph = build_graph(
            nodes,
            {t: kind for t, kind in whole.types.items() if t in read or t in inputs},
            constants={t: value for t, value in whole.constants.items() if t in read},
            inputs=inputs,
            outputs=outputs,
            source=source,
            sha256=hashlib.sha256(data).hexdigest(),
            notes=(
                *notes_on(document, dtype, whole.rounded, dropped),
                *weights.notes,
                *whole.notes,
            ),
        )
    except ValueError as error:
        raise ModelError(f"'{source}' is not a valid TorchLean graph: {error}") from error
    return replace(graph, folds=tuple(file.folds), late=file.late)


def notes_on(document: Document, dtype: DType, rounded: int, dropped: int) -> tuple[str, ...]:
    """What the reader decided for the user."""
    exact = "every weight is exactly as stored"
    changed = f"{rounded} weight(s) written in decimals changed when rounded to {dtype.value}"
    return (
        f"read as a TorchLean graph ({FORMAT}) in its {document.dialect.value} dialect",
        f"the graph's element type is {dtype.value}; {changed if rounded else exact}",
        *([f"{dropped} node(s) that reach no output are left out"] if dropped else []),
    )


def document_of(fields: Mapping[str, Any], source: Path) -> Document:
    """The graph in a JSON object. Raises ModelError or UnsupportedModel, naming what is wrong."""
    advice = "export the graph again"
    if "nodes" not in fields or "input_id" not in fields:
        raise ModelError(
            f"'{source}' is JSON but no TorchLean graph: it has no 'nodes' or no 'input_id'; "
            "give a TorchLean graph or an .onnx file"
        )
    if ("output_ids" in fields) == ("output_id" in fields):
        raise ModelError(f"'{source}' must have either 'output_ids' or 'output_id'; {advice}")
    dialect = Dialect.NEWER if "output_ids" in fields else Dialect.OLDER
    if fields.get("format", None if dialect is Dialect.NEWER else FORMAT) != FORMAT:
        raise UnsupportedModel(
            f"'{source}' has the format {fields.get('format')!r}, and only '{FORMAT}' is "
            f"supported; {advice}"
        )
    items = fields["nodes"]
    if not isinstance(items, list):
        raise ModelError(f"'{source}': 'nodes' is not a list; {advice}")
    entries = tuple(entry_of(item, position) for position, item in enumerate(items))
    given = fields["output_ids"] if dialect is Dialect.NEWER else [fields["output_id"]]
    outputs = naturals(given, f"'{source}': the output")
    if not outputs or max(outputs) >= len(entries):
        raise ModelError(f"'{source}' names no node as its output; {advice}")
    require_one_input(entries, fields["input_id"])
    for output in outputs:
        if entries[output].kind in ("input", "const"):
            raise UnsupportedModel(
                f"{entries[output].describe()} is an output that computes nothing; {advice}"
            )
    return Document(dialect, int(fields["input_id"]), outputs, entries)


def entry_of(item: Any, position: int) -> Entry:
    """The node at a position. Raises ModelError if its id or its parents are out of order."""
    if not isinstance(item, dict) or not isinstance(item.get("kind"), str):
        raise ModelError(f"node {position} is not an object with a 'kind'; export the graph again")
    entry = Entry(position, item["kind"], (), None, item)
    place = entry.describe()
    if not is_integer(item.get("id")) or item["id"] != position:
        raise ModelError(
            f"{place} has the id {item.get('id')!r}, which must be its position; "
            "export the graph again"
        )
    parents = naturals(entry.field("parents"), f"{place}: attribute 'parents'")
    if any(p >= position for p in parents):
        raise ModelError(
            f"{place} reads node {max(parents)}, and parents must have smaller ids; "
            "export the graph again"
        )
    value_kind = item.get("value_kind", "tensor")
    if value_kind not in ("tensor", "tuple"):
        raise UnsupportedModel(f"{place} has the value_kind {value_kind!r}; use 'tensor'")
    is_tensor = value_kind == "tensor"
    shape = shape_of(entry.field("shape"), f"{place}: the shape") if is_tensor else None
    return Entry(position, entry.kind, parents, shape, item)


def require_one_input(entries: Sequence[Entry], input_id: Any) -> None:
    """Raises ModelError or UnsupportedModel unless `input_id` is the only node of kind input."""
    inputs = [e for e in entries if e.kind == "input"]
    if len(inputs) > 1:
        raise UnsupportedModel(
            f"{inputs[1].describe()} is a second input, and a TorchLean graph has one; "
            "store lifted weights as constants"
        )
    if not inputs or not is_integer(input_id) or inputs[0].id != input_id:
        raise ModelError(
            f"'input_id' is {input_id!r}, which is not a node of the kind 'input'; "
            "export the graph again"
        )
    if inputs[0].parents or inputs[0].shape is None:
        raise ModelError(f"{inputs[0].describe()} must be a tensor without parents; correct it")


def kind_of(entry: Entry, document: Document) -> Kind:
    """What a node means in its dialect. Raises ModelError or UnsupportedModel, naming it."""
    place = entry.describe()
    if entry.kind in _WITHOUT_SEMANTICS or entry.shape is None:
        why = _WITHOUT_SEMANTICS.get(
            entry.kind, "it gives a tuple, which was not lowered to tensors"
        )
        raise UnsupportedModel(f"{place} has no meaning here: {why}; export the model without it")
    kinds = KINDS[document.dialect]
    if entry.kind not in kinds:
        other = any(entry.kind in table for table in KINDS.values())
        what = "is of a kind of the other dialect" if other else "is of an unknown kind"
        raise UnsupportedModel(
            f"{place} {what}, which has no meaning in the {document.dialect.value} dialect; "
            "export the model again"
        )
    kind = kinds[entry.kind]
    if len(entry.parents) != kind.parents and (kind.parents is not None or not entry.parents):
        raise ModelError(
            f"{place} has {len(entry.parents)} parents, not {kind.parents or 'one or more'}; "
            "export the graph again"
        )
    for name in entry.fields:
        if name not in (*_ANYWHERE, *_LABELS, *kind.fields):
            raise UnsupportedModel(
                f"{place} has the attribute '{name}', which has no meaning here; remove it or "
                "export the model without it"
            )
    for parent in (document.entries[p] for p in entry.parents):
        if parent.shape is None:
            raise UnsupportedModel(
                f"{place} reads the tuple of {parent.describe()}, which was not lowered to "
                "tensors; export the model without it"
            )
    return kind


def lower_all(
    document: Document,
    entries: Sequence[Entry],
    kinds: Mapping[int, Kind],
    *,
    weights: Weights,
    dtype: DType,
    file: Read,
) -> Whole:
    """Every node in ONNX operators, with the weights beside the graph that are its own."""
    without = [e for e in entries if _weights_wanted(e, kinds)]
    readers = [_reader(document, e, kinds, weights, dtype) for e in without]
    assigned, notes = assign(weights, readers)
    stored = {e.id: found for e, found in zip(without, assigned, strict=True)}
    origin = document.entries[document.input_id]
    assert origin.shape is not None
    types = {origin.name: TensorType(dtype, origin.shape)}
    constants: dict[str, Array] = {}
    nodes: list[Node] = []
    rounded = 0
    for entry in entries:
        if entry.kind == "input":
            continue
        parents = [document.entries[p] for p in entry.parents]
        place = Place(
            entry, tuple(p.shape or () for p in parents), stored.get(entry.id, {}), weights.flat
        )
        if entry.kind == "const":
            part = lower_constant(place, dtype)
        else:
            steps = kinds[entry.id].lower(place)
            part = lower(entry, [p.name for p in parents], steps, types, constants, dtype, file)
            found = part.types[entry.name].shape
            if found != entry.shape:
                raise ModelError(
                    f"{entry.describe()} declares the shape {list(entry.shape or ())}, and its "
                    f"result has the shape {list(found)}; export the graph again"
                )
        nodes += part.nodes
        types.update(part.types)
        constants.update(part.constants)
        rounded += part.rounded
    return Whole(nodes, types, constants, rounded, notes)


def _reader(
    document: Document,
    entry: Entry,
    kinds: Mapping[int, Kind],
    weights: Weights,
    dtype: DType,
) -> Reader:
    """The node as one that asks for weights."""
    parents = tuple(document.entries[p].shape or () for p in entry.parents)

    def require(tensors: Mapping[str, Reals]) -> None:
        place = Place(entry, parents, tensors, weights.flat)
        if entry.kind == "const":
            lower_constant(place, dtype)
        else:
            kinds[entry.id].lower(place)

    module = entry.fields.get("debug_target")
    named = module if isinstance(module, str) else None
    return Reader(entry.describe(), named, _weights_wanted(entry, kinds), require)


def _weights_wanted(entry: Entry, kinds: Mapping[int, Kind]) -> tuple[str, ...]:
    """The parameters that a node needs from beside the graph: those of a node without its own."""
    if entry.kind == "const":
        return () if "values" in entry.fields else ("value",)
    names = kinds[entry.id].weights if entry.id in kinds else ()
    inline = {"weight", "bias", "gamma", "beta", "mean", "var"} & entry.fields.keys()
    return () if inline else names


def lower_constant(place: Place, dtype: DType) -> Lowered:
    """A const: its `values` are flat, its shape is `value_shape` or the node's own."""
    entry = place.entry
    if entry.shape is None or entry.parents:
        raise ModelError(f"{entry.describe()} must be a tensor without parents; correct it")
    given = entry.fields.get("value_shape", list(entry.shape))
    place.agree("attribute 'value_shape'", shape_of(given, entry.describe()), entry.shape)
    size = int(np.prod(entry.shape))
    if "values" in entry.fields:
        values = reals(entry.fields["values"], f"{entry.describe()}: attribute 'values'", (size,))
    else:
        values = place.tensor("values", "value", entry.shape)
    value, rounded = stored_as(dtype, values.reshape(entry.shape), entry.describe())
    return Lowered((), {entry.name: type_of(value)}, {entry.name: value}, rounded)


def lower(
    entry: Entry,
    parents: Sequence[str],
    steps: Sequence[OnnxStep],
    types: Mapping[str, TensorType],
    constants: Mapping[str, Array],
    dtype: DType,
    file: Read,
) -> Lowered:
    """A node's steps as ONNX nodes, inferred and folded as the ONNX reader does."""
    own: dict[str, Array] = {}
    protos: dict[str, onnx.NodeProto] = {}
    rounded = 0
    value = parents[0]
    for number, step in enumerate(steps):
        last = number == len(steps) - 1
        output = entry.name if last else f"{entry.name}.{number}"
        inputs = [value]
        for position, other in enumerate(step.others):
            if isinstance(other, int):
                inputs.append(parents[other])
                continue
            name = f"{entry.name}.{number}.{step.op}.{position + 1}"
            own[name], changed = stored_as(dtype, other, f"a weight of {entry.describe()}")
            rounded += changed
            inputs.append(name)
        attributes = step.attributes or {}
        protos[output] = helper.make_node(step.op, inputs, [output], output, **attributes)
        value = output
    known = {t: types[t] for t in parents if t not in constants}
    before = {t: constants[t] for t in parents if t in constants}
    stored = {**before, **own}
    walk = Walk(
        protos,
        {entry.name},
        OPSET,
        file.source.parent,
        random=False,
        handling=file.handling,
        folds=file.folds,
        late=file.late,
    )
    nodes, found, values = walk.over(known, stored)
    nodes = tuple(_with_all_bits(node, protos, steps) for node in nodes)
    for node in nodes:  # inference takes a Reshape's target as it is
        if node.op == "Reshape" and found[node.inputs[0]].size != found[node.outputs[0]].size:
            raise ModelError(
                f"{entry.describe()} does not fit its declared shape {list(entry.shape or ())}; "
                "export the graph again"
            )
    return Lowered(nodes, found, values, rounded)


def _with_all_bits(node: Node, protos: Mapping[str, Any], steps: Sequence[OnnxStep]) -> Node:
    """The node with the float64 numbers that the file has, which ONNX holds as float32 ones."""
    given = dict(zip(protos, steps, strict=True)).get(node.name)
    attributes = {} if given is None else given.attributes or {}
    floats = {k: v for k, v in attributes.items() if isinstance(v, float)}
    return replace(node, attributes={**node.attributes, **floats}) if floats else node


def stored_as(dtype: DType, value: Array, place: str) -> tuple[Array, int]:
    """A constant in the graph's element type, read-only, and how many of its numbers changed."""
    if value.dtype.kind == "i":
        return value, 0
    with np.errstate(over="ignore", under="ignore"):
        result = np.ascontiguousarray(value).astype(dtype.numpy).reshape(value.shape)
    require_finite(result, place)
    result.setflags(write=False)
    return result, int(np.count_nonzero(result.astype(np.float64) != value))
