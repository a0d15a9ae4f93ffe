"""Types and shapes: of the graph's inputs, and of a node's outputs by ONNX's own inference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference
from onnx.checker import ValidationError
from onnx.defs import SchemaError
from onnx.shape_inference import InferenceError

from onnx_import.errors import ModelError, UnsupportedModel, shorten
from onnx_import.graph import Array, DType, Node, TensorType
from onnx_import.onnx.foreign import FOREIGN, Typed
from onnx_import.onnx.sizes import known_size
from onnx_import.onnx.transposed import transposed_shape
from onnx_import.passes.folding.fold import frozen
from onnx_import.passes.fused import SINCE
from onnx_import.tensors import code_of, dtype_of, given_dtype, type_of

MOST_COMPUTED = 2**26  # elements of one tensor: bounds keep a dozen float64 numbers of each
MOST_MADE = 2**28  # elements that one node makes out of fewer, be they constant
_UNFIT = (
    *(ValidationError, InferenceError, SchemaError),
    *(RuntimeError, TypeError, ValueError, LookupError),
)
_LIKE_THEIR_INPUT = ("GroupNormalization",)  # ONNX infers nothing for these
# before opset 16 these are functions, and ONNX infers nothing for them either
_INFERRED_AS = {"GreaterOrEqual": "Greater", "LessOrEqual": "Less"}


def input_type(
    value: onnx.ValueInfoProto, batch: int | None = None
) -> tuple[TensorType, str | None]:
    """The type of a graph input, with a note if its batch dimension was unknown and read as 1, or
    as `batch`, which also takes the place of a 1, with a note too.

    Raises UnsupportedModel, naming the input, if it is no tensor, its rank or a dimension other
    than the first is unknown, or a dimension is 0.
    """
    place = f"input '{value.name}'"
    if not value.type.HasField("tensor_type"):
        raise UnsupportedModel(f"{place} is not a tensor; export the model with tensor inputs")
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        raise UnsupportedModel(f"{place} has no shape; export the model with fixed input shapes")
    shape: list[int] = []
    note = None
    for position, dim in enumerate(tensor.shape.dim):
        size = known_size(dim)
        if size is None and position == 0:
            symbol = f" '{dim.dim_param}'" if dim.dim_param else ""
            size = 1 if batch is None else batch
            note = f"the first dimension{symbol} of {place} is not fixed and was read as {size}"
        if size is None:
            symbol = f" ('{dim.dim_param}')" if dim.dim_param else ""
            raise UnsupportedModel(
                f"dimension {position}{symbol} of {place} is unknown, and only the first may be; "
                "export the model with fixed input shapes"
            )
        if batch is not None and position == 0:
            if size not in (1, batch):
                raise UnsupportedModel(f"{place} has a first dimension of {size}, not {batch}")
            if note is None and size != batch:
                note = f"the first dimension of {place} is 1 in the file and was read as {batch}"
            size = batch
        if size == 0:
            raise UnsupportedModel(
                f"dimension {position} of {place} is 0, so it holds no numbers; "
                "export the model with fixed input shapes"
            )
        shape.append(size)
    return TensorType(given_dtype(tensor.elem_type, place), tuple(shape)), note


def infer(
    proto: onnx.NodeProto,
    place: str,
    types: Mapping[str, TensorType],
    constants: Mapping[str, Array],
    opset: int,
) -> Mapping[str, onnx.TypeProto]:
    """ONNX's strict type and shape inference for one node whose input types are known.

    Constants short enough to be a shape or a list of axes are shown to it; its result may still
    leave shapes unknown. Raises ModelError, naming the node, if the input types do not fit.
    """
    foreign = FOREIGN.get((proto.domain, proto.op_type))
    if foreign is not None:
        return _infer_foreign(foreign, proto, place, types, opset)
    present = {t for t in proto.input if t}
    if proto.op_type in _LIKE_THEIR_INPUT:
        return {proto.output[0]: type_proto(types[proto.input[0]])}
    if proto.op_type in _INFERRED_AS:
        proto = onnx.NodeProto.FromString(proto.SerializeToString())
        proto.op_type = _INFERRED_AS[proto.op_type]
    if proto.op_type == "ConvTranspose":
        shape = transposed_shape(proto, place, types)
        if shape is not None:
            return {proto.output[0]: type_proto(replace(types[proto.input[0]], shape=shape))}
    if proto.op_type == "MaxUnpool" and len(proto.input) > 2 and proto.input[2] in constants:
        sizes = tuple(int(n) for n in np.ravel(constants[proto.input[2]]))  # ONNX leaves it open
        return {proto.output[0]: type_proto(replace(types[proto.input[0]], shape=sizes))}
    opset = max(opset, SINCE.get(proto.op_type, 0))
    if proto.op_type == "Range":  # runtimes take vectors of one element for scalars
        types = {t: replace(k, shape=()) if k.shape == (1,) else k for t, k in types.items()}
        constants = {t: constants[t].reshape(types[t].shape) for t in present & constants.keys()}

    def as_of(version: int) -> Mapping[str, onnx.TypeProto]:
        return shape_inference.infer_node_outputs(
            onnx.defs.get_schema(proto.op_type, version, ""),
            proto,
            {t: type_proto(types[t]) for t in present},
            {
                t: numpy_helper.from_array(constants[t].astype(types[t].dtype.numpy), t)
                for t in present
                if t in constants and constants[t].size <= 1024
            },
            opset_imports=[onnx.helper.make_opsetid("", version)],
        )

    try:
        return as_of(opset)
    except _UNFIT as error:
        later = _first_that_fits(as_of, opset)
        raise ModelError(
            f"{place} does not fit its inputs {describe(proto.input, types)} "
            + (
                f"({shorten(error)}); export the model again"
                if later is None
                else f"in opset {opset}; it does from opset {later} on: export the model with that"
            )
        ) from error


def _first_that_fits(as_of: Callable[[int], object], opset: int) -> int | None:
    """The first later operator set in which a node fits its inputs: a newer exporter's habit with
    an older version in the file."""
    for version in range(opset + 1, onnx.defs.onnx_opset_version() + 1):
        with suppress(*_UNFIT):
            as_of(version)
            return version
    return None


def _infer_foreign(
    foreign: Typed,
    proto: onnx.NodeProto,
    place: str,
    types: Mapping[str, TensorType],
    opset: int,
) -> Mapping[str, onnx.TypeProto]:
    if len(proto.input) <= max(*foreign.inputs, foreign.result or 0):
        raise UnsupportedModel(f"{place} has only {len(proto.input)} inputs, which has no meaning")
    needed = (*foreign.inputs, *(() if foreign.result is None else (foreign.result,)))
    left = next((i for i in needed if proto.input[i] not in types), None)
    if left is not None:
        raise UnsupportedModel(f"{place} leaves out input {left}, without which it has no meaning")
    plain = onnx.helper.make_node(
        foreign.like, [proto.input[i] for i in foreign.inputs], proto.output
    )
    plain.attribute.extend(a for a in proto.attribute if a.name not in foreign.own)
    wide = {t: replace(types[t], dtype=DType.FLOAT32) for t in plain.input}
    found = infer(plain, place, wide, {}, opset)
    if foreign.result is not None:
        for kind in found.values():
            kind.tensor_type.elem_type = type_proto(
                types[proto.input[foreign.result]]
            ).tensor_type.elem_type
    return found


def describe(names: Sequence[str], types: Mapping[str, TensorType]) -> str:
    """`float32[1, 5], float32[5, 50]`, in the order of the names."""
    return ", ".join(f"{types[t].dtype.value}{list(types[t].shape)}" for t in names if t)


def require_holdable(
    proto: onnx.NodeProto,
    place: str,
    inferred: Mapping[str, onnx.TypeProto],
    types: Mapping[str, TensorType],
) -> None:
    """Raises ModelError for a node that makes a tensor of more elements than can be worked with
    out of smaller ones, before anybody computes them."""
    given = sum(types[t].size for t in proto.input if t in types)
    for tensor, kind in inferred.items():
        sizes = [d.dim_value for d in kind.tensor_type.shape.dim if d.HasField("dim_value")]
        if math.prod(sizes) > max(MOST_MADE, given):
            raise ModelError(
                f"{place}: its output '{tensor}' of shape {sizes} has more than "
                f"2^{MOST_MADE.bit_length() - 1} elements; correct the shapes"
            )


def type_proto(tensor: TensorType) -> onnx.TypeProto:
    """Raises ModelError for a size that a file cannot hold."""
    if max(tensor.shape, default=0) >= 2**63:
        raise ModelError(f"a tensor of shape {list(tensor.shape)} is too long; correct the shapes")
    return onnx.helper.make_tensor_type_proto(code_of(tensor.dtype), tensor.shape)


def constant_type(inferred: onnx.TypeProto | None, value: Array) -> TensorType:
    """The type of a folded constant: its own shape, and the element type that was inferred, which
    a constant may hold more exactly than a runtime does."""
    if inferred is None or not inferred.tensor_type.elem_type:
        return type_of(value)
    return TensorType(dtype_of(inferred.tensor_type.elem_type, "a constant"), value.shape)


def empty_outputs(node: Node, inferred: Mapping[str, onnx.TypeProto]) -> Mapping[str, Array]:
    """The outputs of a node that has none but empty tensors: nothing is computed for them. No
    array where one of them is not empty, or is not known to be."""
    found: dict[str, Array] = {}
    for tensor in filter(None, node.outputs):
        kind = inferred.get(tensor)
        if kind is None or not kind.HasField("tensor_type"):
            return {}
        sizes = [known_size(dim) for dim in kind.tensor_type.shape.dim]
        if 0 not in sizes or None in sizes:
            return {}
        held = output_type(kind, tensor, node, {})
        found[tensor] = frozen(np.empty(held.shape, held.dtype.numpy))
    return found


_SELECTING = ("Compress", "NonMaxSuppression", "NonZero", "Unique")


def output_type(
    inferred: onnx.TypeProto | None, tensor: str, node: Node, constants: Mapping[str, Array]
) -> TensorType:
    """A node output's type from what was inferred.

    Raises UnsupportedModel, naming the node, if the shape is not fully known or it is no tensor.
    """
    place = node.describe()
    if inferred is not None and inferred.WhichOneof("value") not in (None, "tensor_type"):
        raise UnsupportedModel(
            f"{place}: its output '{tensor}' is not a tensor; export the model with tensors only"
        )
    sizes = None
    if inferred is not None and inferred.tensor_type.HasField("shape"):
        sizes = [known_size(dim) for dim in inferred.tensor_type.shape.dim]
    if inferred is None or sizes is None or None in sizes:
        raise UnsupportedModel(
            f"{place}: the shape of its output '{tensor}' is not known before the network runs"
            f"{_why_unknown(node, constants)}"
        )
    dtype = dtype_of(inferred.tensor_type.elem_type, f"output '{tensor}' of {place}")
    return TensorType(dtype, tuple(s for s in sizes if s is not None))


def _why_unknown(node: Node, constants: Mapping[str, Array]) -> str:
    """The end of a sentence: what a shape hangs on, and what to do."""
    if node.op not in _SELECTING:
        return "; export the model with fixed shapes"
    computed = [t for t in node.inputs if t and t not in constants]
    if not computed:
        return (
            ": what it selects of stored numbers is decided by rounding, or by which of two equal "
            "ones comes first; store what it selects instead"
        )
    return (
        f": how much it selects hangs on the values of '{computed[0]}', which are computed; let "
        "the model end before this node, with what it reads as outputs (onnx.utils.extract_model)"
    )
