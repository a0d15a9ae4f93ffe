"""The ONNX reader: a file in, a graph out, of which every tensor has a known type and shape."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from onnx_import.errors import ModelError, UnsupportedModel
from onnx_import.graph import (
    Array,
    Graph,
    Handling,
    Sizes,
    TensorType,
    as_written,
    build_graph,
)
from onnx_import.onnx.foreign import require_known
from onnx_import.onnx.given import with_given, with_pinned
from onnx_import.onnx.inferable import require_inferable
from onnx_import.onnx.inference import (
    input_type,
)
from onnx_import.onnx.numeric import with_numeric_outputs
from onnx_import.onnx.origin import origin_of
from onnx_import.onnx.proto import opset_of, read_proto
from onnx_import.onnx.sequences import UNFOLDED
from onnx_import.onnx.sizes import require_sizes, with_sizes
from onnx_import.onnx.walking import Walk
from onnx_import.passes.attention.masks import without_infinities
from onnx_import.passes.attention.parting import require_one_reading
from onnx_import.passes.attention.scores import with_unscaled_sums
from onnx_import.passes.bodies import read_by
from onnx_import.passes.bounds import without_infinite_bounds
from onnx_import.passes.decompose import ALWAYS
from onnx_import.passes.dynamic import with_dynamic_products
from onnx_import.passes.normalize import (
    FUNCTIONS,
    PARTING,
    live,
    unique_names,
    without_dead,
    without_functions,
)
from onnx_import.passes.statistics import with_bare_deviations
from onnx_import.tensors import array_of, require_finite, type_of

DECOMPOSED = ALWAYS | FUNCTIONS | {*UNFOLDED, "CastLike", "Dropout", "Split"}  # what no graph holds
MADE: Mapping[str, str] = {
    "DynamicQuantizeConv": "DynamicQuantizeLinear before ConvInteger",
    "DynamicQuantizeMatMul": "DynamicQuantizeLinear before MatMulInteger",
    "Interpolate": "Resize and Upsample",
    "Lookup": "Gather from stored data by computed indices",
    "MaskedLogSoftmax": "LogSoftmax behind a mask of -inf",
    "MaskedSoftmax": "Softmax behind a mask of -inf",
    "MaskedWhere": "Where in place of a mask of -inf",
    "Rational": "numbers of FPCore files",
    "Narrow": "Cast to floating-point types of at most eight bits",
    "RecurrentSigmoid": "Sigmoid of a GRU",
    "RecurrentTanh": "Tanh of an RNN or GRU",
    "RunsInstead": "two graphs that are compared",
    "Truncate": "Cast to integers",
    "WholeAdd": "Add of integers",
    "WholeMul": "Mul of integers",
    "WholeSub": "Sub of integers",
}


def load(
    path: str | Path,
    batch: int | None = None,
    random: bool = False,
    allowed: tuple[Path, ...] = (),
    handling: Handling = as_written,
    given: Mapping[str, Array] | None = None,
    sizes: Sizes | None = None,
    pinned: Mapping[str, Array] | None = None,
) -> Graph:
    """Read an ONNX file into a graph in which every tensor has a known type and shape.

    Initializers and Constant nodes become constants, and data movement on constants is folded; a
    first dimension of an input that is not fixed becomes 1; the notes say what was decided. With
    `batch`, the first dimension of every input becomes that, where it is not fixed or is 1. With
    `random`, the masks of Dropouts in training mode become inputs, `Graph.random_masks`. `allowed`
    are places outside the model's folder where its external data may lie. What `handling` says of a
    runtime's stored numbers decides which nodes are folded; the others are computed at run time.
    Inputs of integers or truth values that are `given` become constants. `sizes` says what the
    dimensions are that the file leaves open. Those that are `pinned` stay inputs, which nothing
    reads.
    Raises ModelError for a file that cannot be read or is not a valid model, UnsupportedModel for a
    valid one that uses something without a meaning here. Nothing else escapes.
    """
    source = Path(path)
    model, sha256, file_notes = read_proto(source, allowed)
    sizes = sizes or Sizes()
    model, size_notes = with_sizes(model, sizes, batch)
    model, output_notes = with_numeric_outputs(model)
    model, given_notes = with_given(model, given or {})
    require_sizes(model.graph)
    model, pinned_notes = with_pinned(model, pinned or {})
    opset = opset_of(model, source)
    require_inferable(model)
    origin = origin_of(model)
    model, function_notes = without_functions(model, opset)
    outputs = tuple(value.name for value in model.graph.output)
    inputs, input_notes = runtime_inputs(model.graph, batch)
    protos, node_notes = live_nodes(model)
    initializers = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    protos, product_notes = with_dynamic_products(protos, initializers)
    read = {t for proto in protos.values() for t in read_by(proto)} | set(outputs)
    stored = stored_constants(model.graph, source.parent, read)
    work = Walk(protos, read, opset=opset, folder=source.parent, random=random, handling=handling)
    nodes, types, constants = work.over(inputs, stored, outputs)
    outputs, sequence_notes = work.control.spelled(outputs)
    random_masks = tuple(work.random_masks)
    for tensor in outputs:
        if tensor not in types:
            raise ModelError(
                f"the model's output '{tensor}' is written by no node; export the model again"
            )
    # Folding Shape can cut the last use of the nodes that computed its argument.
    nodes = without_dead(nodes, outputs)
    nodes = tuple(without_infinite_bounds(node, constants, types) for node in nodes)
    require_one_reading(nodes, types, constants)
    nodes, types, constants = with_unscaled_sums(nodes, protos, types, constants)
    nodes, types, constants = with_bare_deviations(nodes, types, constants)
    nodes, types, constants = without_infinities(nodes, types, constants, outputs)
    nodes = tuple(replace(origin.marked(n), alike=n.name in work.alike) for n in nodes)
    received = (*inputs, *random_masks)
    used = {t for node in nodes for t in (*node.inputs, *node.outputs)} | {*received, *outputs}
    require_finite_constants(constants, used, stored, protos)
    try:
        graph = build_graph(
            nodes,
            {tensor: kind for tensor, kind in types.items() if tensor in used},
            constants={tensor: value for tensor, value in constants.items() if tensor in used},
            inputs=received,
            outputs=outputs,
            source=source,
            sha256=sha256,
            notes=(
                *file_notes,
                *size_notes,
                *output_notes,
                *given_notes,
                *pinned_notes,
                *function_notes,
                *input_notes,
                *node_notes,
                *sequence_notes,
                *product_notes,
                *dropout_notes(protos, random_masks),
            ),
            random_masks=random_masks,
        )
    except ValueError as error:
        raise ModelError(f"'{source}' is not a valid ONNX model: {error}") from error
    return replace(
        graph,
        allowed=allowed,
        sizes=sizes,
        pinned=dict(pinned or {}),
        folds=tuple(work.folds),
        late=work.late,
    )


def interface(
    path: str | Path, allowed: tuple[Path, ...] = (), sizes: Sizes | None = None
) -> Graph:
    """A graph with the inputs of a file alone. Raises ModelError as `load` does of them."""
    source = Path(path)
    model, sha256, _ = read_proto(source, allowed)
    model, _ = with_sizes(model, sizes or Sizes())
    require_sizes(model.graph)
    types, notes = runtime_inputs(model.graph)
    return Graph(types, {}, tuple(types), (), source, sha256, notes)


def runtime_inputs(
    graph: onnx.GraphProto, batch: int | None = None
) -> tuple[Mapping[str, TensorType], tuple[str, ...]]:
    """Types of the inputs that are given at run time, in order, and notes on them.

    Files of IR version 3 list initializers among the inputs: those are constants. From version 4
    on that makes them defaults that a caller may replace; here they are still constants, and a
    note says so. Raises UnsupportedModel, naming the input, if its shape is not known.
    """
    stored = {tensor.name for tensor in graph.initializer}
    stored |= {tensor.values.name for tensor in graph.sparse_initializer}
    types: dict[str, TensorType] = {}
    notes: list[str] = []
    for value in graph.input:
        if value.name not in stored:
            types[value.name], note = input_type(value, batch)
            notes += [note] if note else []
    defaults = len(graph.input) - len(types)
    if defaults:
        notes.append(f"{defaults} initializer(s) also listed as inputs are read as constants")
    return types, tuple(notes)


def live_nodes(
    model: onnx.ModelProto,
) -> tuple[Mapping[str, onnx.NodeProto], tuple[str, ...]]:
    """The nodes that reach an output by their unique names, in order, and notes on the others.

    Raises UnsupportedModel if one of them is not a standard ONNX operator.
    """
    graph = model.graph
    ports = [(tuple(read_by(n)), n.output) for n in graph.node]
    kept = live(ports, [v.name for v in graph.output])
    named = zip(unique_names(graph.node), graph.node, kept, strict=True)
    protos = {name: proto for name, proto, keep in named if keep}
    functions = {(function.domain, function.name) for function in model.functions}
    for name, proto in protos.items():
        require_standard(name, proto, functions)
    notes: list[str] = []
    if len(protos) < len(graph.node):
        count = len(graph.node) - len(protos)
        notes.append(f"{count} node(s) that reach no output are left out")
    written = sorted({proto.op_type for proto in protos.values()} & (ALWAYS | {*UNFOLDED}))
    if written:
        notes.append(f"{', '.join(written)}: decomposed into other operators")
    notes += [PARTING[op] for op in written if op in PARTING]
    return protos, tuple(notes)


def dropout_notes(
    protos: Mapping[str, onnx.NodeProto], random_masks: Collection[str]
) -> tuple[str, ...]:
    """What became of the model's Dropouts, of which some sample masks."""
    notes: list[str] = []
    still = sum(proto.op_type == "Dropout" for proto in protos.values()) - len(random_masks)
    if still:
        notes.append(f"{still} Dropout node(s) are read as Identity, as at inference")
    if random_masks:
        notes.append(
            f"{len(random_masks)} Dropout node(s) are in training mode: what is proved holds for "
            f"every mask of zeros and ones that may be sampled ({', '.join(random_masks)}), the "
            "same on both sides; the runtime computes x·mask/(1 − ratio), as onnxruntime does"
        )
    return tuple(notes)


def require_standard(
    name: str, proto: onnx.NodeProto, functions: Collection[tuple[str, str]]
) -> None:
    """Raises UnsupportedModel for a model-local function or an operator of another domain."""
    if (proto.domain, proto.op_type) in functions:
        raise UnsupportedModel(
            f"node '{name}' ({proto.op_type}) calls a function defined in the model, which is not "
            "supported; inline it with onnx.inliner.inline_local_functions"
        )
    require_known(name, proto)


def stored_constants(
    graph: onnx.GraphProto, folder: Path, read: Collection[str]
) -> Mapping[str, Array]:
    """The initializers that something reads. Raises ModelError or UnsupportedModel by name."""
    for sparse in graph.sparse_initializer:
        if sparse.values.name in read:
            raise UnsupportedModel(
                f"initializer '{sparse.values.name}' is sparse, which is not supported; "
                "export the model with dense weights"
            )
    return {
        tensor.name: array_of(tensor, folder, f"initializer '{tensor.name}'")
        for tensor in graph.initializer
        if tensor.name in read
    }


def require_finite_constants(
    constants: Mapping[str, Array],
    used: Collection[str],
    stored: Collection[str],
    protos: Mapping[str, onnx.NodeProto],
) -> None:
    """Raises ModelError for NaN or an infinity in a constant that a node left after folding reads.

    An infinity that a comparison or a choice has already used up does no harm. The message names
    where the number stands in the file, which may be before some folding.
    """

    def is_finite(tensor: str) -> bool:
        value = constants[tensor]
        return not type_of(value).dtype.is_float or bool(np.all(np.isfinite(value)))

    places = {tensor: f"initializer '{tensor}'" for tensor in stored}
    for name, proto in protos.items():
        what = ": attribute 'value'" if proto.op_type == "Constant" else ""
        for output in proto.output:
            if output in constants:
                origins = (places[t] for t in proto.input if t in places and not is_finite(t))
                places[output] = next(origins, f"node '{name}' ({proto.op_type}){what}")
    for tensor in constants:
        if tensor in used and not is_finite(tensor):
            require_finite(constants[tensor], places.get(tensor, f"constant '{tensor}'"))
