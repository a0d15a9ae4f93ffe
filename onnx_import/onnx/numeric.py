"""Outputs that are no numbers: maps of them are read as the tensors in them, texts are left out."""

from __future__ import annotations

import onnx

from onnx_import.errors import UnsupportedModel
from onnx_import.passes.pipelines import DOMAIN


def with_numeric_outputs(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model with the tensors that its ZipMaps make maps of as outputs in their place, and
    without outputs of texts; and notes on them. The model itself is changed.

    Raises UnsupportedModel where no output is left.
    """
    graph, notes = model.graph, []
    maps = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.domain == DOMAIN and node.op_type == "ZipMap"
    }
    kept = []
    for value in graph.output:
        if value.name in maps:
            notes.append(f"output '{value.name}' is read as the tensor '{maps[value.name]}' in it")
            kept.append(onnx.ValueInfoProto(name=maps[value.name]))
        elif value.type.tensor_type.elem_type == onnx.TensorProto.STRING:
            notes.append(f"output '{value.name}' holds texts and is left out")
        else:
            kept.append(value)
    if not notes:
        return model, ()
    if not kept:
        raise UnsupportedModel("the model has no outputs but texts; export it with numbers")
    del graph.output[:]
    graph.output.extend(kept)
    nodes = [n for n in graph.node if not (n.domain == DOMAIN and n.op_type == "ZipMap")]
    del graph.node[:]
    graph.node.extend(nodes)
    return model, tuple(notes)
