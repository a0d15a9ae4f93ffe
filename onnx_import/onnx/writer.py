"""A graph as an ONNX file: what other programs read of graphs that are made here."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Graph, Node
from onnx_import.passes.attention.masks import WRITTEN
from onnx_import.passes.body import Body
from onnx_import.tensors import code_of

_SPELLED: Mapping[str, str] = {
    "RecurrentSigmoid": "Sigmoid",
    "RecurrentTanh": "Tanh",
    "WholeAdd": "Add",
    "WholeMul": "Mul",
    "WholeSub": "Sub",
}
_IR_VERSION = 8


def model_of(graph: Graph, name: str) -> onnx.ModelProto:
    """The graph as a model that any reader of ONNX takes: its constants stored, all types written.

    Raises UnsupportedModel, naming the node, for an operator that only graphs here have, and for a
    stored number that a file of its type does not hold.
    """
    opsets = {node.domain: node.opset for node in graph.order}
    stored = [_initializer(graph, tensor) for tensor in graph.constants]
    nodes: list[onnx.NodeProto] = []
    for node in graph.order:
        said = WRITTEN.get(node.op)
        if said is None:
            nodes.append(_node(node))
            continue
        body = Body(node, graph.types, graph.constants, graph.named)
        said(body)
        nodes += body.finish().protos.values()
        stored += [numpy_helper.from_array(v, t) for t, v in body.constants.items()]
    values = [
        helper.make_tensor_value_info(tensor, _code(graph, tensor), graph.types[tensor].shape)
        for tensor in (*graph.inputs, *graph.outputs)
    ]
    made = helper.make_graph(
        nodes, name, values[: len(graph.inputs)], values[len(graph.inputs) :], stored
    )
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    model = helper.make_model(made, opset_imports=imports, producer_name="refine")
    model.ir_version = _IR_VERSION
    return model


def _node(node: Node) -> onnx.NodeProto:
    op = _SPELLED.get(node.op, node.op)
    if not node.domain and not onnx.defs.has(op):
        raise UnsupportedModel(
            f"{node.describe()}: it is no operator of ONNX, but what the reader made of the file, "
            "and cannot be written"
        )
    made = helper.make_node(op, node.inputs, node.outputs, name=node.name, domain=node.domain)
    for name, value in sorted(node.attributes.items()):
        made.attribute.append(helper.make_attribute(name, value))
    return made


def _code(graph: Graph, tensor: str) -> int:
    return code_of(graph.types[tensor].dtype)


def _initializer(graph: Graph, tensor: str) -> onnx.TensorProto:
    held = graph.held(tensor)
    if not np.array_equal(held.astype(np.float64), graph.constants[tensor].astype(np.float64)):
        raise UnsupportedModel(
            f"the constant '{tensor}' is dequantised as it is read, and is no number of its type: "
            "the graph cannot be written"
        )
    made: onnx.TensorProto = numpy_helper.from_array(np.asarray(held, order="C"), tensor)
    return made
