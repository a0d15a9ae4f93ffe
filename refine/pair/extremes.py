"""Choices by a comparison of the two numbers that are chosen between, as the maxima and minima that
they are: Where(x < c, c, x) is Max(x, c), bit for bit where x is a number, but for subnormal
numbers that a comparison takes for 0, which Max and Min are charged for too."""

from __future__ import annotations

from dataclasses import replace

from encoders.program import program_of
from onnx_import.graph import Graph, Node
from onnx_import.passes.normalize import without_dead

_OPSET = 13


def with_extremes(graph: Graph) -> Graph:
    """The graph with such choices replaced; comparisons that nobody reads any more are left out."""
    nodes = [_extreme(graph, node) or node for node in graph.order]
    if nodes == list(graph.order):
        return graph
    return replace(graph, order=without_dead(nodes, graph.outputs))


def _extreme(graph: Graph, node: Node) -> Node | None:
    steps = program_of(graph)
    if not steps.step(node).operator.likeness.chooses:
        return None
    condition = graph.writers.get(node.inputs[0])
    lower = None if condition is None else steps.step(condition).operator.likeness.lower
    if condition is None or lower is None:
        return None
    a, b = condition.inputs
    if a == b or set(node.inputs[1:]) != {a, b}:
        return None
    takes_lower = node.inputs[1] == condition.inputs[lower]
    version = max(node.opset, _OPSET)
    return replace(
        node,
        op="Min" if takes_lower else "Max",
        inputs=(a, b),
        attributes={},
        opset=version,
        stored=frozenset(),
    )
