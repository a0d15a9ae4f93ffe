"""Rewriting that changes no bit at run time: unique names, liveness, dropout, CastLike, Split."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from heapq import heappop, heappush

import onnx
import onnx.inliner
from onnx.checker import ValidationError

from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Array, DType, Node, TensorType
from onnx_import.passes.bodies import read_by
from onnx_import.passes.function_inputs import require_valid
from onnx_import.tensors import code_of

# Decomposed although a runtime may have a kernel of its own, which then rounds differently.
_WHOLE = ("Add", "Sub", "Mul")
FUNCTIONS = frozenset(
    (
        "AffineGrid",
        "Attention",
        "BlackmanWindow",
        "CausalConvWithState",
        "CenterCropPad",
        "HammingWindow",
        "HannWindow",
        "LinearAttention",
        "MeanVarianceNormalization",
        "NegativeLogLikelihoodLoss",
        "ReduceLogSum",
        "RotaryEmbedding",
        "SequenceMap",
        "SoftmaxCrossEntropyLoss",
        "SwiGLU",
        "ThresholdedRelu",
    )
)


PREVIEW = "ai.onnx.preview"
_PREVIEWED = frozenset(("FlexAttention",))  # functions of that domain

# Where a runtime is known to compute another function than ONNX defines.
PARTING = {
    "DynamicQuantizeLinear": "DynamicQuantizeLinear: where all numbers are 0 onnxruntime gives a "
    "scale of 1, and ONNX 0",
}


def unique_names(nodes: Sequence[onnx.NodeProto]) -> tuple[str, ...]:
    """A unique, non-empty name for each node: its own where that is the first of its kind."""
    given = {node.name for node in nodes}
    names: dict[str, None] = {}
    for position, node in enumerate(nodes):
        name = node.name
        if not name or name in names:
            name = f"{node.name or node.op_type}_{position}"
            while name in given or name in names:
                name += "_"
        names[name] = None
    return tuple(names)


def sort_nodes(graph: onnx.GraphProto) -> bool:
    """Put a graph's nodes in topological order; True if they were in order already.

    Stable: a node stays where it is unless it reads what a later one writes. Nodes on a cycle are
    left at the end, for the checker to reject.
    """
    writer = {t: i for i, node in enumerate(graph.node) for t in node.output if t}
    waiting = [{writer[t] for t in read_by(node) if t in writer} for node in graph.node]
    readers: dict[int, list[int]] = {}
    for position, sources in enumerate(waiting):
        for source in sources:
            readers.setdefault(source, []).append(position)
    ready = [position for position, sources in enumerate(waiting) if not sources]
    order: list[int] = []
    while ready:
        position = heappop(ready)
        order.append(position)
        for reader in readers.get(position, ()):
            waiting[reader].discard(position)
            if not waiting[reader]:
                heappush(ready, reader)
    if order == list(range(len(graph.node))):
        return True
    rest = sorted(set(range(len(graph.node))) - set(order))
    nodes = [graph.node[position] for position in (*order, *rest)]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    return False


def without_functions(
    model: onnx.ModelProto, opset: int
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model with operators that have no meaning of their own here decomposed, and a note.

    ONNX defines each of them as a function of other operators, among which there may be more of
    them. Where it cannot say what function that is, the types of the node's inputs being unknown,
    the model stays as it is.
    """
    written: list[str] = []
    while found := sorted({n.op_type for n in model.graph.node if is_function(n)}):
        try:
            prepared = typed(model)
            spell_out_defaults(prepared, found, opset)
            require_valid(prepared, found)
            inlined = onnx.inliner.inline_selected_functions(
                prepared,
                [(PREVIEW if op in _PREVIEWED else "", op) for op in found],
                False,
                inline_schema_functions=True,
            )
        except (RuntimeError, ValueError, TypeError, ValidationError):
            break
        if len(inlined.graph.node) == len(model.graph.node):
            break
        model, written = inlined, written + found
    names = list(dict.fromkeys(written))
    if not names:
        return model, ()
    parting = tuple(PARTING[name] for name in names if name in PARTING)
    return model, (f"{', '.join(names)}: decomposed into the functions that ONNX defines", *parting)


def is_function(node: onnx.NodeProto) -> bool:
    """Is it an operator that is read as the function ONNX defines for it?"""
    functions = {"": FUNCTIONS, PREVIEW: _PREVIEWED}
    return node.op_type in functions.get(node.domain, ())


def spell_out_defaults(model: onnx.ModelProto, ops: Collection[str], opset: int) -> None:
    """Give nodes of these operators every attribute that has a default.

    ONNX's inliner drops an attribute of a function body that refers to one the node leaves out.
    """
    for node in model.graph.node:
        if node.op_type not in ops or not is_function(node):
            continue
        given = {attribute.name for attribute in node.attribute}
        schema = onnx.defs.get_schema(node.op_type, 1 if node.domain else opset, node.domain)
        for name, attribute in schema.attributes.items():
            if name not in given and attribute.default_value.name:
                node.attribute.append(attribute.default_value)


def typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the types of its stored and, where ONNX can tell, its computed tensors.

    ONNX's inliner asks for the type of an input that is left out, too, and does not look at it.
    """
    inferred = onnx.shape_inference.infer_shapes(model)
    declared = {value.name for value in (*inferred.graph.input, *inferred.graph.value_info)}
    inferred.graph.value_info.append(
        onnx.helper.make_tensor_value_info("", onnx.TensorProto.FLOAT, None)
    )
    for tensor in inferred.graph.initializer:
        if tensor.name not in declared:
            inferred.graph.value_info.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return inferred


def live(
    ports: Sequence[tuple[Collection[str], Collection[str]]], outputs: Collection[str]
) -> tuple[bool, ...]:
    """Which nodes, given as (inputs, outputs) in topological order, reach one of the outputs."""
    needed = set(outputs)
    reached: list[bool] = []
    for reads, writes in reversed(ports):
        reached.append(not needed.isdisjoint(w for w in writes if w))
        if reached[-1]:
            needed.update(r for r in reads if r)
    return tuple(reversed(reached))


def without_dead(nodes: Sequence[Node], outputs: Collection[str]) -> tuple[Node, ...]:
    """The nodes, given in topological order, that reach one of the outputs."""
    kept = live([(node.inputs, node.outputs) for node in nodes], outputs)
    return tuple(node for node, reaches in zip(nodes, kept, strict=True) if reaches)


def without_dropout(
    node: Node, constants: Mapping[str, Array], read: Collection[str], random: bool
) -> Node:
    """A Dropout that drops nothing, as at inference, as an Identity; any other node unchanged.

    `read` holds every tensor that something reads. Raises UnsupportedModel if the mask is read, if
    training mode is not constant, or on and `random` false, unless the ratio is a constant 0.
    """
    if node.op != "Dropout":
        return node
    if len(node.outputs) > 1 and node.outputs[1] in read:
        raise UnsupportedModel(
            f"{node.describe()}: its mask '{node.outputs[1]}' is used, which has no meaning at "
            "inference; export the model for inference"
        )
    training = node.inputs[2] if len(node.inputs) > 2 else ""
    ratio = node.inputs[1] if len(node.inputs) > 1 else ""
    none = ratio in constants and not constants[ratio].any()
    if training and not none and (training not in constants or constants[training].any()):
        known = training in constants
        if random and known:
            return node
        raise UnsupportedModel(
            f"{node.describe()}: its training mode is {'on' if known else 'not constant'}, and its "
            "output would be random; export the model for inference"
            + (" (refine check and refine bound say what holds for every mask)" if known else "")
        )
    return replace(
        node, op="Identity", inputs=node.inputs[:1], outputs=node.outputs[:1], attributes={}
    )


def interpolating(node: Node) -> Node:
    """A Resize or Upsample that interpolates as an Interpolate: it computes where others move."""
    if node.op not in ("Resize", "Upsample") or node.attributes.get("mode") not in (
        "linear",
        "cubic",
    ):
        return node
    return replace(node, op="Interpolate")


def truncating(node: Node, types: Mapping[str, TensorType]) -> Node:
    """A Cast to integers as a Truncate: it cuts off what a Cast between floats rounds; one to
    floating-point numbers of at most eight bits as a Narrow: these end where it says."""
    if node.op != "Cast":
        return node
    dtype = types[node.outputs[0]].dtype
    if dtype.is_narrow and not dtype.is_integer:
        return replace(node, op="Narrow")
    return node if dtype.is_float or dtype is DType.BOOL else replace(node, op="Truncate")


def of_whole_numbers(node: Node, types: Mapping[str, TensorType]) -> Node:
    """An Add, Sub or Mul of integers as one that is exact, or leaves its type."""
    whole = node.op in _WHOLE and not types[node.outputs[0]].dtype.is_float
    return replace(node, op=f"Whole{node.op}") if whole else node


def looking_up(node: Node, constants: Mapping[str, Array]) -> Node:
    """A Gather from stored data by computed indices as a Lookup, which moves none."""
    stored = [t in constants for t in node.inputs]
    return replace(node, op="Lookup") if node.op == "Gather" and stored == [True, False] else node


def without_like(node: Node, types: Mapping[str, TensorType]) -> Node:
    """A CastLike as the Cast that it is once types are known; any other node unchanged."""
    if node.op != "CastLike":
        return node
    attributes = {**node.attributes, "to": code_of(types[node.inputs[1]].dtype)}
    return replace(node, op="Cast", inputs=node.inputs[:1], attributes=attributes)


def require_agreed(node: Node, constants: Mapping[str, Array]) -> None:
    """Raises UnsupportedModel for a Squeeze with an empty list of axes, a Squeeze or Unsqueeze with
    negative axes where there are none, and a Slice back to front that ends at the largest integer.

    ONNX's shape inference takes the first to drop no dimension, onnxruntime to drop all of size 1;
    it ignores the second, which runtimes count from the end; onnxruntime takes the third for a
    Slice to the front, the text for an empty one.
    """
    if node.op not in ("Squeeze", "Unsqueeze", "Slice"):
        return
    listed = {
        name: _integers(node, position, name, constants)
        for name, position in (("axes", 1), ("ends", 2), ("steps", 4))
    }
    if node.op == "Squeeze" and listed["axes"] == ():
        raise UnsupportedModel(
            f"{node.describe()}: its list of axes is empty, which runtimes read differently; "
            "leave the axes out or name them"
        )
    if node.op in ("Squeeze", "Unsqueeze") and node.opset < 11 and min(listed["axes"] or (0,)) < 0:
        raise UnsupportedModel(
            f"{node.describe()}: its axes {list(listed['axes'] or ())} must not be negative before "
            "opset 11; convert the model to opset 13"
        )
    backwards = zip(listed["ends"] or (), listed["steps"] or (), strict=False)
    if node.op == "Slice" and any(step < 0 and end in _LARGEST for end, step in backwards):
        raise UnsupportedModel(
            f"{node.describe()}: it goes backwards and ends at the largest integer, which runtimes "
            "read differently; end it at the smallest, or where it ends"
        )


_LARGEST = (2**31 - 1, 2**63 - 1)


def _integers(
    node: Node, position: int, name: str, constants: Mapping[str, Array]
) -> tuple[int, ...] | None:
    """A list of integers from the attribute or the constant input at this position."""
    value = node.attributes.get(name)
    if isinstance(value, tuple):
        return tuple(int(v) for v in value if isinstance(v, int))
    stored = constants.get(node.inputs[position]) if len(node.inputs) > position else None
    if stored is None or stored.dtype.kind not in "iu":
        return None
    return tuple(int(v) for v in stored.reshape(-1))


def split_into_slices(
    node: Node, types: Mapping[str, TensorType], taken: Collection[str]
) -> tuple[Node, ...]:
    """A Split as one Slice per output, bounds as attributes; any other node as it is.

    The types of its outputs say where the cuts are. `taken` are the names of the model's nodes.
    """
    if node.op != "Split":
        return (node,)
    data = node.inputs[0]
    axis = node.attributes.get("axis", 0)
    assert isinstance(axis, int)
    axis %= len(types[data].shape)
    slices: list[Node] = []
    start = 0
    for position, output in enumerate(node.outputs):
        if not output:
            raise UnsupportedModel(f"{node.describe()} leaves out its output {position}")
        end = start + types[output].shape[axis]
        name = free(f"{node.name}.{position}", taken)
        bounds = {"starts": (start,), "ends": (end,), "axes": (axis,)}
        slices.append(
            Node(
                name,
                "Slice",
                inputs=(data,),
                outputs=(output,),
                attributes=bounds,
                opset=min(node.opset, 9),
            )
        )
        start = end
    if start != types[data].shape[axis]:
        raise UnsupportedModel(
            f"{node.describe()}: its parts add up to {start}, not to the "
            f"{types[data].shape[axis]} elements of axis {axis}"
        )
    return tuple(slices)


def free(stem: str, taken: Collection[str]) -> str:
    """A name that begins so and is none of those taken."""
    while stem in taken:
        stem += "_"
    return stem


def with_live_input(
    node: Node,
    types: Mapping[str, TensorType],
    constants: Mapping[str, Array],
    taken: Collection[str],
) -> tuple[tuple[Node, ...], Node]:
    """A node whose inputs are all constant reads the first number among them through an Identity,
    a DequantizeLinear the integers that it scales.

    Its arithmetic belongs to the run time, and this way it has an operand that is computed. `taken`
    are names of nodes and tensors that others have.
    """
    present = [t for t in node.inputs if t]
    floats = [t for t in present if t in constants and types[t].dtype.is_float]
    if not floats or len([t for t in present if t in constants]) < len(present):
        return (), node
    stored = present[0] if node.op == "DequantizeLinear" else floats[0]
    live_name = free(f"{stored}@{node.name}", taken)
    feeder = Node(
        free(f"{node.name}@{stored}", taken),
        "Identity",
        inputs=(stored,),
        outputs=(live_name,),
        attributes={},
        opset=node.opset,
    )
    position = node.inputs.index(stored)
    inputs = (*node.inputs[:position], live_name, *node.inputs[position + 1 :])
    return (feeder,), replace(node, inputs=inputs)
