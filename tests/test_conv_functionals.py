"""Functionals pulled back through a convolution, few and many, beside its matrix in onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from encoders.contract.presets import SEQUENTIAL
from encoders.numbers.enclosure import Interval
from onnx_import import load
from refine.bounds.backward import pull_back
from refine.bounds.network import InputBox, network_bounds

Shape = tuple[int, ...]


@pytest.mark.parametrize("many", [1, 3, 40])
@pytest.mark.parametrize(
    ("shape", "weights", "attributes"),
    [
        ((1, 3, 6, 5), (4, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
        ((1, 4, 7, 6), (6, 2, 3, 2), {"group": 2, "strides": [2, 1], "pads": [0, 1, 2, 0]}),
        ((2, 2, 8, 7), (3, 2, 2, 3), {"dilations": [2, 1], "strides": [1, 3]}),
        ((1, 3, 5, 5), (3, 1, 3, 3), {"group": 3, "auto_pad": "SAME_UPPER"}),
        ((1, 2, 9), (3, 2, 4), {"strides": [2]}),
        ((1, 2, 4, 3, 4), (2, 2, 2, 2, 3), {"pads": [0, 1, 0, 1, 0, 1]}),
        ((1, 3, 4, 4), (5, 3, 1, 1), {}),
    ],
)
def test_functionals_are_those_of_the_matrix(
    shape: Shape, weights: Shape, attributes: dict[str, Any], many: int, tmp_path: Path
) -> None:
    """Small integers, of which float64 and float32 round nothing."""
    rng = np.random.default_rng(len(shape) * many)
    held = numpy_helper.from_array(rng.integers(-4, 5, weights).astype(np.float32), "W")
    node = helper.make_node("Conv", ["x", "W"], ["y"], **attributes)
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    model = helper.make_model(
        helper.make_graph([node], "conv", given, made, [held]),
        opset_imports=[helper.make_opsetid("", 22)],
        ir_version=10,
    )
    path = tmp_path / "conv.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    graph = load(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    size = int(np.prod(shape))
    units = np.eye(size, dtype=np.float32).reshape(size, *shape)
    matrix = np.stack([np.ravel(np.asarray(session.run(None, {"x": u})[0])) for u in units], axis=1)
    output = graph.types["y"].shape
    functionals = rng.integers(-8, 9, (many, *output)).astype(np.float64)
    box = InputBox({"x": Interval(-np.ones(shape), np.ones(shape))}, {"x": np.zeros(shape)})
    maps = network_bounds(graph, box, SEQUENTIAL, backward=False).maps
    pulled = pull_back(maps, {"y": functionals}, {})
    expected = functionals.reshape(many, -1) @ matrix
    np.testing.assert_array_equal(pulled.on_inputs["x"].reshape(many, -1), expected)
    assert np.all(pulled.upper >= np.abs(expected).sum(axis=1))
