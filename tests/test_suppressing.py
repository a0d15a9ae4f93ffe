"""NonMaxSuppression of stored boxes: what is chosen beside onnxruntime's choice, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Array


def written(
    folder: Path, boxes: Array, scores: Array | None, *, share: float = 0.5, centred: int = 0
) -> Path:
    """A model whose output is a number and the chosen boxes; scores are an input where none are
    stored."""
    stored = {"b": boxes, "m": np.array([len(boxes[0])]), "o": np.array([share], np.float32)}
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])]
    if scores is None:
        shape = [1, 1, boxes.shape[1]]
        inputs.append(helper.make_tensor_value_info("s", TensorProto.FLOAT, shape))
    else:
        stored["s"] = scores
    node = helper.make_node("NonMaxSuppression", ["b", "s", "m", "o"], ["i"], name="nms")
    node.attribute.append(helper.make_attribute("center_point_box", centred))
    nodes = [
        node,
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["f", "x"], ["y"]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    tensors = [numpy_helper.from_array(v, k) for k, v in stored.items()]
    graph = helper.make_graph(nodes, "chosen", inputs, outputs, tensors)
    opset = helper.make_opsetid("", 17)
    path = folder / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


def chosen(path: Path) -> Array:
    (found,) = [v for v in load(path).constants.values() if v.ndim == 2 and v.shape[1] == 3]
    return found


@pytest.mark.parametrize("centred", [0, 1])
@pytest.mark.parametrize("coarse", [False, True])
def test_it_chooses_as_onnxruntime(tmp_path: Path, centred: int, coarse: bool) -> None:
    """Boxes on a coarse grid touch, coincide and overlap by just the share."""
    rng = np.random.default_rng(centred)
    for share in (0.0, 0.25, 0.5):
        boxes = rng.uniform(0, 3, (1, 40, 4))
        boxes = np.round(boxes * 4) / 4 if coarse else boxes
        scores = rng.permutation(40).reshape(1, 1, 40).astype(np.float32)
        path = written(tmp_path, boxes.astype(np.float32), scores, share=share, centred=centred)
        run = OnnxRuntime(path).run({"x": np.zeros(1, np.float32)})["y"]
        np.testing.assert_array_equal(chosen(path), run)


def test_many_boxes_are_chosen_among(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    corner = rng.uniform(0, 1000, (1, 2048, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 80, corner.shape)], axis=2)
    scores = rng.permutation(2048).reshape(1, 1, 2048).astype(np.float32)
    path = written(tmp_path, boxes.astype(np.float32), scores)
    run = OnnxRuntime(path).run({"x": np.zeros(1, np.float32)})["y"]
    np.testing.assert_array_equal(chosen(path), run)


def test_what_is_computed_or_undecided_is_refused_with_the_reason(tmp_path: Path) -> None:
    boxes = np.array([[[0, 0, 1, 1], [0, 0, 1, 1.0000001]]], np.float32)
    with pytest.raises(UnsupportedModel, match="hangs on the values of 's', which are computed"):
        load(written(tmp_path, boxes, None))
    with pytest.raises(UnsupportedModel, match="which of two equal ones comes first"):
        load(written(tmp_path, boxes, np.ones((1, 1, 2), np.float32)))
