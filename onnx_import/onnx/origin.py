"""What of a graph stands in the file itself: which nodes, and which of their constants.

A runtime has kernels for the nodes of the file, and may choose another one where a constant is
stored than where it is computed. Of what the reader wrote out or folded, nothing is known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx

from onnx_import.graph import Node

_LISTED = 4  # the IR version from which an initializer among the inputs may be replaced


@dataclass(frozen=True)
class Origin:
    """The nodes of a file, as operators between tensors, and the tensors that it stores."""

    nodes: frozenset[tuple[str, str, tuple[str, ...], tuple[str, ...]]]
    stored: frozenset[str]

    def marked(self, node: Node) -> Node:
        """The node with `written` and `stored` as the file has it."""
        written = (node.op, node.domain, node.inputs, node.outputs) in self.nodes
        stored = frozenset(i for i, tensor in enumerate(node.inputs) if tensor in self.stored)
        return replace(node, written=written, stored=stored)


def origin_of(model: onnx.ModelProto) -> Origin:
    """What the model holds before anything is rewritten.

    An initializer that is also an input is no constant: a caller may replace it.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    if model.ir_version >= _LISTED:
        stored -= {value.name for value in model.graph.input}
    constants = (node for node in model.graph.node if node.op_type == "Constant")
    stored |= {tensor for node in constants for tensor in node.output}
    return Origin(frozenset(_key(node) for node in model.graph.node), frozenset(stored))


def _key(node: onnx.NodeProto) -> tuple[str, str, tuple[str, ...], tuple[str, ...]]:
    domain = "" if node.domain == "ai.onnx" else node.domain
    return node.op_type, domain, tuple(node.input), tuple(node.output)
