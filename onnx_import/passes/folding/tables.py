"""Tables of stored rows that an input picks from, as token ids do."""

from __future__ import annotations

from onnx_import.graph import Graph
from onnx_import.passes.folding.fold import MOVING

_SAME_NUMBERS = {*MOVING, "Cast", "Truncate", "Narrow"}  # as their first input holds


def rows_picked(graph: Graph, name: str) -> int | None:
    """How many rows the least table has that this input picks from, however it gets there; None
    where it picks from none."""
    same, rows = {name}, []
    for node in graph.order:
        read = [k for k, t in enumerate(node.inputs) if t in same]
        if node.op == "Lookup" and read == [1]:
            axis = node.attributes.get("axis", 0)
            rows.append(graph.types[node.inputs[0]].shape[axis if isinstance(axis, int) else 0])
        elif read == [0] and node.op in _SAME_NUMBERS:
            same.update(node.outputs)
    return min(rows, default=None)
