"""ONNX's stored tensors, element types and attributes as plain Python and numpy values."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.checker import ValidationError

from onnx_import.errors import ModelError, UnsupportedModel, shorten
from onnx_import.files import open_plain
from onnx_import.graph import Array, AttributeValue, DType, TensorType


def dtype_of(code: int, place: str) -> DType:
    """The element type of an ONNX type code.

    Raises UnsupportedModel, naming the place, for a type that the graph cannot hold.
    """
    try:
        return DType(onnx.helper.tensor_dtype_to_np_dtype(code).name)
    except (KeyError, ValueError) as error:
        known = onnx.TensorProto.DataType.values()
        name = onnx.TensorProto.DataType.Name(code).lower() if code in known else f"number {code}"
        raise UnsupportedModel(
            f"{place} has the element type {name}, which is not supported; "
            f"use one of {', '.join(d.value for d in DType)}"
        ) from error


def code_of(dtype: DType) -> int:
    """ONNX's number of an element type, which a Cast names."""
    return int(onnx.helper.np_dtype_to_tensor_dtype(dtype.numpy))


def given_dtype(code: int, place: str) -> DType:
    """The element type of a tensor that is given at run time.

    Raises UnsupportedModel, naming the place, for one that the graph cannot hold, or holds of
    stored tensors only.
    """
    found = dtype_of(code, place)
    if found.is_narrow:
        raise UnsupportedModel(
            f"{place} has the element type {found.value}, in which no inputs are given; "
            f"use one of {', '.join(d.value for d in DType if not d.is_narrow)}"
        )
    return found


def integer_limits(name: str) -> tuple[int, int]:
    """The least and the largest number of an integer type, `int4` or `uint16`."""
    bits = int(name.removeprefix("u").removeprefix("int"))
    return (0, 2**bits - 1) if name[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def type_of(value: Array) -> TensorType:
    """Element type and shape of an array whose element type the graph can hold."""
    return TensorType(DType(value.dtype.name), value.shape)


def external_file(tensor: onnx.TensorProto) -> str | None:
    """Where a tensor's bytes are, relative to the model's folder; None if inside the model."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return None
    return next((e.value for e in tensor.external_data if e.key == "location"), "")


def every_tensor(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor stored anywhere in a model: in its graph, subgraphs, functions and attributes of
    whatever type they say they are, used or not."""
    graphs = [
        model.graph,
        *(g for t in model.training_info for g in (t.initialization, t.algorithm)),
    ]
    nodes = [node for function in model.functions for node in function.node]
    attributes = [a for function in model.functions for a in function.attribute_proto]
    while graphs or nodes or attributes:
        if graphs:
            graph = graphs.pop()
            nodes.extend(graph.node)
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        elif nodes:
            attributes.extend(nodes.pop().attribute)
        else:
            attribute = attributes.pop()
            graphs.extend(attribute.graphs)
            yield from attribute.tensors
            if attribute.HasField("g"):
                graphs.append(attribute.g)
            if attribute.HasField("t"):
                yield attribute.t
            several = (*attribute.sparse_tensors, attribute.sparse_tensor)
            for sparse in several if attribute.HasField("sparse_tensor") else several[:-1]:
                yield from (sparse.values, sparse.indices)


def array_of(tensor: onnx.TensorProto, folder: Path, place: str) -> Array:
    """A stored tensor as a read-only array, without a copy where its bytes allow.

    Raises UnsupportedModel for an unknown element type and ModelError, naming the place, for data
    that do not fill the shape. Whether its numbers are finite is not looked at.
    """
    dtype_of(tensor.data_type, place)
    try:
        _require_bits(tensor)
        value: Array = numpy_helper.to_array(_with_bytes(tensor, folder))
    except (ValidationError, ValueError, TypeError, OverflowError, OSError) as error:
        raise ModelError(
            f"{place} cannot be read ({shorten(error)}); export the model again"
        ) from error
    value.setflags(write=False)
    return value


def _with_bytes(tensor: onnx.TensorProto, folder: Path) -> onnx.TensorProto:
    """The tensor with its bytes, which `proto.external_files` let it have, read from their file.

    Raises OSError, and ValueError for a place that the file does not have.
    """
    name = external_file(tensor)
    if name is None:
        return tensor
    given = {entry.key: entry.value for entry in tensor.external_data}
    copy = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    with open_plain(folder / name) as file:
        size = os.fstat(file.fileno()).st_size
        offset = _count(given, "offset", 0)
        length = _count(given, "length", size - offset)
        if not (offset >= 0 and length >= 0 and offset + length <= size):
            raise ValueError(f"'{name}' has {size} bytes, not {length} from {offset} on")
        file.seek(offset)
        copy.raw_data = file.read(length)
    return copy


def _count(given: Mapping[str, str], key: str, default: int) -> int:
    """A number of bytes, in plain digits as every reader takes them. Raises ValueError."""
    text = given.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"the {key} {shorten(repr(text))} of its external data is no number")
    return int(text)


def _require_bits(tensor: onnx.TensorProto) -> None:
    """Raises ValueError where numbers of 16 bits are stored in more."""
    kinds = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    if tensor.data_type in kinds and any(not 0 <= v < 2**16 for v in tensor.int32_data):
        raise ValueError("a number of 16 bits is stored in more than these")


def require_finite(value: Array, place: str) -> None:
    """Raises ModelError if any element is NaN or infinite."""
    bad = np.flatnonzero(~np.isfinite(value))
    if bad.size:
        what = "NaN" if np.isnan(value.reshape(-1)[bad[0]]) else "an infinite value"
        raise ModelError(
            f"{place} holds {what} at flat index {bad[0]} ({bad.size} of {value.size} elements are "
            "not finite), which has no real meaning; repair the weights"
        )


def attribute_of(
    attribute: onnx.AttributeProto, folder: Path, place: str, stored: bool = False
) -> AttributeValue:
    """An attribute as a plain value; tensors become arrays, strings that are not UTF-8 bytes.

    A tensor that is only stored may hold infinities: whoever reads it decides.

    Raises UnsupportedModel for subgraphs, sparse tensors, types and references, ModelError for a
    number that is not finite.
    """
    named = f"{place}: attribute '{attribute.name}'"
    kinds = onnx.AttributeProto
    match attribute.type:
        case kinds.INT:
            return attribute.i
        case kinds.INTS:
            return tuple(attribute.ints)
        case kinds.FLOAT:
            return finite(attribute.f, named)
        case kinds.FLOATS:
            return tuple(finite(f, named) for f in attribute.floats)
        case kinds.STRING:
            return text_of(attribute.s)
        case kinds.STRINGS:
            return tuple(text_of(s) for s in attribute.strings)
        case kinds.TENSOR:
            value = array_of(attribute.t, folder, named)
            if not stored and type_of(value).dtype.is_float:
                require_finite(value, named)
            return value
        case kinds.GRAPH | kinds.GRAPHS:
            raise UnsupportedModel(
                f"{place} contains a subgraph, and control flow is not supported; "
                "export the model without it"
            )
        case _:
            kind = kinds.AttributeType.Name(attribute.type).lower().replace("_", " ")
            raise UnsupportedModel(
                f"{named} is of the kind '{kind}', which is not supported; "
                "export the model with dense tensors and plain attributes"
            )


def finite(value: float, place: str) -> float:
    """The value itself. Raises ModelError if it is NaN or infinite."""
    if not math.isfinite(value):
        raise ModelError(f"{place} is {value}, which has no real meaning; use a finite number")
    return value


def text_of(raw: bytes) -> str | bytes:
    """An attribute's text; the bytes themselves where they are not UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw
