"""`refine ops --model`: all that of a model is not understood, at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from small_models import mlp, save

from refine.cli.main import run
from refine.everyday.understood import not_understood
from refine.options.sizes import sizes_of
from refine.results.verdict import ExitCode


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """Two operators that nobody knows, one of them twice, and a use without a meaning."""
    nodes = [
        helper.make_node("DFT", ["x"], ["a"], name="first"),
        helper.make_node("DFT", ["x"], ["b"], name="second"),
        helper.make_node("Frob", ["a"], ["c"], name="third", domain="com.example"),
        helper.make_node("Add", ["b", "c"], ["y"]),
    ]
    path = save(tmp_path / "strange.onnx", nodes, {"x": [1, 2, 2]}, {"y": None})
    proto = onnx.load(path)
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(proto, path)
    return path


def test_every_operator_is_listed_once(strange: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not_understood(strange) == (
        "2 nodes of DFT, which has no meaning here ('first', 'second')",
        "1 node of com.example.Frob, which has no meaning here ('third')",
    )
    assert run(["ops", "--model", str(strange)]) is ExitCode.INPUT_ERROR
    assert capsys.readouterr().out.count("no meaning here") == 2


def test_a_function_of_a_preview_is_not_listed_beside_what_is_unknown(tmp_path: Path) -> None:
    """The model is refused for one operator; FlexAttention, which is read, is none of it."""
    domain = "ai.onnx.preview"
    nodes = [
        helper.make_node("FlexAttention", ["x", "x", "x"], ["a"], domain=domain),
        helper.make_node("Frob", ["a"], ["y"], name="one", domain="com.example"),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": [1, 2, 4, 4]}, {"y": None})
    proto = onnx.load(path)
    proto.opset_import.extend(helper.make_opsetid(d, 1) for d in (domain, "com.example"))
    onnx.save(proto, path)
    (text,) = not_understood(path)
    assert text == "1 node of com.example.Frob, which has no meaning here ('one')"


def test_every_use_without_a_meaning_is_listed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("GridSample", ["x", "g"], ["a"], name="one"),
        helper.make_node("DFT", ["m"], ["d"], name="two"),
        helper.make_node("ReduceMax", ["k"], ["e"], name="three"),
        helper.make_node("Add", ["d", "e"], ["f"]),
        helper.make_node("Add", ["a", "f"], ["y"]),
    ]
    stored = {"k": np.array([1.0, 2.0], np.float32)}
    inputs = {"x": [1, 1, 2, 2], "g": [1, 2, 2, 2], "m": [1, 2, 2]}
    path = save(tmp_path / "m.onnx", nodes, inputs, {"y": None}, stored)
    found = not_understood(path)
    assert found[0].startswith("1 node of DFT")
    assert any("'one' (GridSample): its grid" in text for text in found[1:])


def test_open_dimensions_are_asked_for(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    path = save(tmp_path / "open.onnx", nodes, {"x": [1, "n"]}, {"y": None})
    (text,) = not_understood(path)
    assert "--dim n=N" in text
    assert not_understood(path, sizes=sizes_of([], ["n=3"])) == ()


def test_a_model_that_is_understood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = mlp(tmp_path / "net.onnx")
    assert run(["ops", "--model", str(path)]) is ExitCode.VERIFIED
    assert "all of the model is understood" in capsys.readouterr().out
