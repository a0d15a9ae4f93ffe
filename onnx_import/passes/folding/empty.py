"""Tensors without elements: what is left of a node that joins or reduces them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Array, Node, TensorType
from onnx_import.passes.folding.values import reduced_axes


def without_empty(node: Node, types: Mapping[str, TensorType]) -> Node:
    """A Concat without the inputs that have no elements; any other node unchanged."""
    if node.op != "Concat":
        return node
    held = tuple(t for t in node.inputs if t not in types or types[t].size)
    return replace(node, inputs=held) if held else node


OF_NOTHING: Mapping[str, Callable[..., Any]] = {
    "ReduceL1": np.sum,
    "ReduceL2": np.sum,
    "ReduceProd": np.prod,
    "ReduceSum": np.sum,
    "ReduceSumSquare": np.sum,
}
"""Reductions that have a value where there is nothing to reduce, which these have too."""


def require_counted(
    node: Node, types: Mapping[str, TensorType], constants: Mapping[str, Array]
) -> None:
    """Raises UnsupportedModel for a reduction of a tensor without elements along axes that are
    counted from the end, which onnxruntime leaves out there."""
    if not node.op.startswith("Reduce") or types[node.inputs[0]].size:
        return
    stored = constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
    if any(axis < 0 for axis in reduced_axes(node, stored)):
        raise UnsupportedModel(
            f"{node.describe()}: it reduces a tensor without elements along axes counted from the "
            "end, which runtimes read differently; count them from the front"
        )


def of_nothing(node: Node, values: Sequence[Array | None]) -> Array | None:
    """What a reduction makes of a tensor without elements; None of any other tensor."""
    data = values[0]
    if data is None or data.size:
        return None
    axes = reduced_axes(node, values[1] if len(values) > 1 else None)
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        return data
    kept = bool(node.attributes.get("keepdims", 1))
    found: Any = OF_NOTHING[node.op](data, axis=axes or None, keepdims=kept)
    return np.asarray(found, data.dtype)
