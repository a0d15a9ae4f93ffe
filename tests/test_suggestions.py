"""Beside an answer under the default contract: what the model and the runtime here ask for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import small_models
from onnx import TensorProto, helper, numpy_helper

from refine.cli.main import run

ASKED = ["--input", "-1..1", "--z3", "none", "--no-search", "--conform"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def document(*asked: str) -> dict[str, Any]:
    command, *options = asked
    run([command, *ASKED, *options, "--json", "r.json"])
    found: dict[str, Any] = json.loads(Path("r.json").read_text())
    return found


def test_of_float32_the_preset_that_the_runtime_keeps_to(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_models.mlp(folder / "net.onnx", widths=(4, 64, 1))
    found = document("bound", "net.onnx")
    assert re.match(r"--contract ort-cpu: onnxruntime .* keeps to that", found["suggestion"])
    out = capsys.readouterr().out
    assert out.index("better ") < out.index("per layer")
    said = float(found["suggestion"].rpartition(" ")[2])
    asked = document("bound", "net.onnx", "--contract", "ort-cpu")
    assert asked["bound"] <= said <= asked["bound"] * 1.01 < found["bound"]
    assert asked["suggestion"] is None  # a contract was chosen
    assert document("check", "net.onnx", "--eps", "1")["suggestion"] is None
    assert document("check", "net.onnx", "--eps", "1e-9")["suggestion"] is not None
    assert document("bound", "net.onnx", "-q")["suggestion"] is None
    assert document("bound", "net.onnx", "--no-conform")["suggestion"] is None


def test_of_float16_the_graph_that_the_runtime_computes(folder: Path) -> None:
    """onnxruntime's CPU adds both terms in float32 and rounds once: it leaves the default."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["a"], "scale"),
        helper.make_node("Div", ["a", "w"], ["b"], "divide"),
        helper.make_node("Sigmoid", ["b"], ["y"], "squash"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [1, 64])],
        [numpy_helper.from_array(rng.uniform(1, 2, 64).astype(np.float16), "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "half.onnx")
    found = document("bound", "half.onnx")
    assert found["contract_broken"]
    assert found["suggestion"].startswith("--as-optimised none")
    options = found["suggestion"].partition(":")[0].split()
    assert not document("bound", "half.onnx", *options)["contract_broken"]
