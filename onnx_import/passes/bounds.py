"""Bounds that are infinite, as exporters write those that are none: they are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from onnx_import.graph import Array, Node, TensorType

_NOTHING = {"Max": -np.inf, "Min": np.inf}  # what an extreme never is, if there is another number


def without_infinite_bounds(
    node: Node, constants: Mapping[str, Array], types: Mapping[str, TensorType]
) -> Node:
    """A Clip without a lower bound of −∞ and an upper one of +∞, a Max without a −∞ that is one
    number, a Min without such a +∞, every other node as it is."""
    if node.domain:
        return node
    if node.op in _NOTHING:
        return _without_nothing(node, constants, types)
    if node.op != "Clip":
        return node
    nothing = (None, -np.inf, np.inf)
    inputs = tuple(
        "" if t in constants and bound is not None and _is(constants[t], bound) else t
        for t, bound in zip(node.inputs, nothing, strict=False)
    )
    return replace(node, inputs=inputs)


def _without_nothing(
    node: Node, constants: Mapping[str, Array], types: Mapping[str, TensorType]
) -> Node:
    rank = len(types[node.outputs[0]].shape)
    kept = tuple(
        t for t in node.inputs if not (t in constants and _is(constants[t], _NOTHING[node.op]))
    )
    shapes = [types[t].shape for t in kept]
    same = bool(kept) and np.broadcast_shapes(*shapes) == types[node.outputs[0]].shape
    return replace(node, inputs=kept) if same and max(map(len, shapes)) == rank else node


def _is(value: Array, bound: float) -> bool:
    return value.size == 1 and bool(value.astype(np.float64).reshape(())[()] == bound)
