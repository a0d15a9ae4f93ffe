"""Tensors that differ by leading axes of 1 alone, as of one graph written with a batch and another
one without: the specification's are read in the implementation's shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from onnx_import.graph import Array, DType, Graph, Node, Shape, TensorType

_OPSET = 13  # of a graph without nodes


def in_shapes(graph: Graph, shapes: Mapping[str, Shape]) -> Graph:
    """The graph with some of its inputs and outputs in other shapes, of as many elements: a Reshape
    stands behind the input or in front of the output. A tensor that is both stays as it is."""
    both = set(graph.inputs) & set(graph.outputs)
    changed = {
        t: shape
        for t, shape in shapes.items()
        if shape != graph.types[t].shape and t not in both and not graph.is_constant(t)
    }
    if not changed:
        return graph
    taken = set(graph.types) | set(graph.named)
    inner = {t: _fresh(f"{t}/inside", taken) for t in changed}
    opset = max((node.opset for node in graph.order), default=_OPSET)
    types = dict(graph.types)
    constants: dict[str, Array] = dict(graph.constants)
    before: list[Node] = []
    after: list[Node] = []
    for t, shape in changed.items():
        kind = graph.types[t]
        types[inner[t]], types[t] = kind, replace(kind, shape=shape)
        is_input = t in graph.inputs
        wanted = np.array(kind.shape if is_input else shape, np.int64)
        sizes = _fresh(f"{t}/sizes", taken)
        constants[sizes] = wanted
        types[sizes] = TensorType(DType.INT64, wanted.shape)
        ends = (t, inner[t]) if is_input else (inner[t], t)
        name = _fresh(f"{t}/reshaped", taken)
        node = Node(name, "Reshape", (ends[0], sizes), (ends[1],), {}, max(opset, _OPSET))
        (before if is_input else after).append(node)
    order = [
        replace(
            node,
            inputs=tuple(inner.get(t, t) for t in node.inputs),
            outputs=tuple(inner.get(t, t) for t in node.outputs),
        )
        for node in graph.order
    ]
    return replace(
        graph, types=types, constants=constants, order=(*before, *order, *after), late=graph.late
    )


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "'"
    taken.add(name)
    return name
