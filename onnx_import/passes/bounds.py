"""Clip by an infinity, as exporters write a bound that is none: the input is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from onnx_import.graph import Array, Node


def without_infinite_bounds(node: Node, constants: Mapping[str, Array]) -> Node:
    """A Clip without a lower bound of −∞ and an upper one of +∞, every other node as it is."""
    if node.op != "Clip" or node.domain:
        return node
    nothing = (None, -np.inf, np.inf)
    inputs = tuple(
        "" if t in constants and bound is not None and _is(constants[t], bound) else t
        for t, bound in zip(node.inputs, nothing, strict=False)
    )
    return replace(node, inputs=inputs)


def _is(value: Array, bound: float) -> bool:
    return value.size == 1 and bool(value.astype(np.float64).reshape(())[()] == bound)
