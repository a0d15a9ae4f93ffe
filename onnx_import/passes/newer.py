"""A graph of an old opset as one of a newer one, where its operators mean the same."""

from __future__ import annotations

from dataclasses import replace

from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Graph, Node

OLDEST, LEAST = 7, 9
"""From the first on operators broadcast as they do now; the second has Where."""
_CHANGED = frozenset({"Upsample"})  # whose scales are an attribute until 8, and then an input


def with_newer_operators(graph: Graph) -> Graph:
    """The graph at opset 9, if it is of 7 or 8: but for few operators these mean the same.

    Raises UnsupportedModel, naming the node, for an older one and for one of the few.
    """
    if all(node.opset >= LEAST for node in graph.order if not node.domain):
        return graph
    return replace(graph, order=tuple(_newer(node) for node in graph.order))


def _newer(node: Node) -> Node:
    if node.domain or node.opset >= LEAST:
        return node
    if node.opset < OLDEST or node.op in _CHANGED:
        raise UnsupportedModel(
            f"{node.describe()}: opset {node.opset} is too old for gradients; convert the model "
            "with onnx.version_converter"
        )
    kept = {name: value for name, value in node.attributes.items() if name != "spatial"}
    return replace(node, opset=LEAST, attributes=kept)
