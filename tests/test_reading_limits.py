"""Files that a reader of ours or of a library stumbled over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import small_models
from onnx import helper

from onnx_import import load
from onnx_import.errors import ModelError


def test_functions_that_call_themselves(tmp_path: Path) -> None:
    path = small_models.mlp(tmp_path / "net.onnx")
    model = onnx.load(path)
    body = [helper.make_node("F", ["a"], ["b"], domain="loc")]
    opset = [helper.make_opsetid("loc", 1)]
    model.functions.append(helper.make_function("loc", "F", ["a"], ["b"], body, opset))
    model.opset_import.append(opset[0])
    model.graph.node[0].op_type, model.graph.node[0].domain = "F", "loc"
    model.graph.node.append(helper.make_node("LogSoftmax", ["y"], ["z"]))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError):
        load(path)


def test_kernels_nested_deeply(tmp_path: Path) -> None:
    path = tmp_path / "k.fpcore"
    body = "(if (< x 1) 1 " * 390 + "x" + ")" * 390
    path.write_text(f"(FPCore (x) :pre (<= 0 x 1) {body})")
    with pytest.raises(ModelError, match="nested"):
        load(path)


def test_tensors_that_nobody_holds(tmp_path: Path) -> None:
    path = small_models.save(
        tmp_path / "m.onnx",
        [helper.make_node("Pad", ["x", "pads"], ["y"], "pad")],
        {"x": (1, 2)},
        {"y": (1, 2)},
        {"pads": np.array([2**40, 0, 0, 0], np.int64)},
    )
    with pytest.raises(ModelError):
        load(path)
