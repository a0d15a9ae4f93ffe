"""A float32 model's copy in float16, as converters make it: weights and tensors, casts around."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def half_copy(model: Path, target: Path) -> Path:
    """Write the copy: every float32 weight rounded to float16, and a Cast at either end."""
    proto = onnx.load(str(model))
    graph = proto.graph
    stored = {t.name for t in graph.initializer}
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                narrow = numpy_helper.to_array(attribute.t).astype(np.float16)
                attribute.t.CopyFrom(numpy_helper.from_array(narrow))
    given = [v.name for v in graph.input if v.name not in stored]
    made = [v.name for v in graph.output]
    for node in graph.node:
        node.input[:] = [f"{t}/half" if t in given else t for t in node.input]
        node.output[:] = [f"{t}/half" if t in made else t for t in node.output]
        node.input[:] = [f"{t}/half" if t in made else t for t in node.input]
    before = [
        helper.make_node("Cast", [t], [f"{t}/half"], f"{t}/narrow", to=TensorProto.FLOAT16)
        for t in given
    ]
    after = [
        helper.make_node("Cast", [f"{t}/half"], [t], f"{t}/widen", to=TensorProto.FLOAT)
        for t in made
    ]
    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    kept = [v for v in graph.input if v.name in given]
    del graph.input[:]
    graph.input.extend(kept)
    onnx.save(proto, str(target))
    return target
