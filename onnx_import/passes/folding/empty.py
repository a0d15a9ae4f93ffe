"""Tensors without elements: what is left of a node that joins or reduces them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnx_import.graph import Array, Node, TensorType


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


def of_nothing(node: Node, values: Sequence[Array | None]) -> Array | None:
    """What a reduction makes of a tensor without elements; None of any other tensor."""
    data = values[0]
    if data is None or data.size:
        return None
    given = node.attributes.get("axes")
    axes = tuple(given) if isinstance(given, tuple) else None
    if len(values) > 1 and values[1] is not None:
        axes = tuple(values[1].reshape(-1).tolist())
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        return data
    kept = bool(node.attributes.get("keepdims", 1))
    found: Any = OF_NOTHING[node.op](data, axis=axes or None, keepdims=kept)
    return np.asarray(found, data.dtype)
