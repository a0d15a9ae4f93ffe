"""A model of one operator, for questions about operators alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx
from onnx import helper

from onnx_import.errors import ModelError
from onnx_import.graph import DType
from onnx_import.tensors import code_of

_OPSET = 22
_LETTERS = "ABCDEFGHIJ"
_MOST = 2**26  # numbers of one tensor


def operator_model(
    op: str, shapes: str, dtype: str, attributes: Sequence[str] = ()
) -> onnx.ModelProto:
    """The operator on inputs A, B, … of these shapes (`4x1024,1024x64`; `1` and the empty text for
    a scalar) and this type; attributes as NAME=VALUE.

    Raises ModelError for what is no operator of ONNX, no shape, no type or no attribute.
    """
    if not onnx.defs.has(op, max_inclusive_version=_OPSET):
        raise ModelError(
            f"--op: ONNX has no operator '{op}' (names are written as in 'LayerNormalization')"
        )
    kinds = {d.value: d for d in DType if d.is_float}
    if dtype not in kinds:
        raise ModelError(f"--dtype is one of {', '.join(kinds)}, not '{dtype}'")
    schema = onnx.defs.get_schema(op, max_inclusive_version=_OPSET)
    sizes = [_shape(text) for text in shapes.split(",")]
    if not schema.min_input <= len(sizes) <= min(schema.max_input, len(_LETTERS)):
        raise ModelError(
            f"--shapes: {op} has {schema.min_input} to {schema.max_input} inputs, and "
            f"{len(sizes)} shapes are given"
        )
    inputs = list(_LETTERS[: len(sizes)])
    outputs = [o.name for o in schema.outputs[: max(schema.min_output, 1)]]
    try:
        node = helper.make_node(op, inputs, outputs, op)
        node.attribute.extend(helper.make_attribute(*_attribute(a)) for a in attributes)
        code = code_of(kinds[dtype])
        given = [
            helper.make_tensor_value_info(name, code, size)
            for name, size in zip(inputs, sizes, strict=True)
        ]
        made = [helper.make_tensor_value_info(name, code, None) for name in outputs]
        graph = helper.make_graph([node], op, given, made)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
        model.ir_version = 10
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)
    except (ValueError, TypeError, onnx.shape_inference.InferenceError) as error:
        first = str(error).strip().splitlines()[-1]
        raise ModelError(f"--op {op} does not take these shapes and attributes: {first}") from error


def _shape(text: str) -> list[int]:
    try:
        shape = [int(extent) for extent in text.strip().split("x") if extent]
    except ValueError:
        shape = [-1]
    if any(extent < 1 for extent in shape) or math.prod(shape) > _MOST:
        raise ModelError(f"--shapes: '{text}' is no shape such as 4x1024")
    return shape


def _attribute(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ModelError(f"--attribute '{text}' is not NAME=VALUE")
    parts = [_number(part) for part in value.split(",")]
    return name, parts if len(parts) > 1 else parts[0]


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
