"""Small networks for the soundness tests, written as ONNX nodes and read back as graphs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnx_import import load
from onnx_import.graph import Array, Graph

Shape = tuple[int, ...]
NodeText = tuple[str, Sequence[str], str, Mapping[str, Any]]


def node(op: str, inputs: str, output: str, **attributes: Any) -> NodeText:
    """`inputs` are tensor names separated by blanks; `-` stands for an omitted one."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return op, names, output, attributes


def model(
    nodes: Sequence[NodeText],
    inputs: Mapping[str, Shape],
    constants: Mapping[str, Array] | None = None,
    outputs: Sequence[str] = ("y",),
    dtype: type[np.floating[Any]] = np.float32,
    opset: int = 15,
) -> onnx.ModelProto:
    """An ONNX model; constants of a floating type become `dtype`."""
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    stored = {
        name: value.astype(dtype) if value.dtype.kind == "f" else value
        for name, value in (constants or {}).items()
    }
    graph = helper.make_graph(
        [helper.make_node(op, i, [o], name=f"{op}:{o}", **a) for op, i, o, a in nodes],
        "small",
        [helper.make_tensor_value_info(name, code, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, code, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 8
    return onnx.shape_inference.infer_shapes(made)


def network(*arguments: Any, **keywords: Any) -> Graph:
    """The graph of `model(...)`."""
    return loaded(model(*arguments, **keywords))


def loaded(made: onnx.ModelProto) -> Graph:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(made, path)
        return load(path)


def numbers(*values: Any) -> Array:
    """Constants in float64; `model` gives them the network's type."""
    return np.array(values[0] if len(values) == 1 else values, dtype=np.float64)
