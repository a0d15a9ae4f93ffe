"""Counterexamples on real runtimes: the table, the first diverging node, the script, optimised
models."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import small_models
from onnx import TensorProto, helper

import refine
from encoders.arithmetic.exact_fields import Rationals, fraction
from encoders.contract.presets import PRESETS
from gpu_check.conformance.divergence import DivergingNode, first_diverging_node
from gpu_check.emulator.exact import evaluate_exact
from gpu_check.runtimes.replay import NotReplayed
from gpu_check.runtimes.runtimes import OnnxRuntime
from gpu_check.runtimes.torch_replay import replay_on_torch
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.onnx.proto import sha256_of
from refine.cli.main import run
from refine.options.optimised import as_optimised
from refine.results.verdict import ExitCode
from refine.witness.file import load_witness
from refine.witness.replay import every_output, run_again

X = {"x": np.array([[0.3, -0.7]], np.float32)}


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return small_models.mlp(tmp_path / "net.onnx", (2, 8, 8, 1))


def violated(model: str, *more: str) -> None:
    arguments = ["check", model, "--input", "-1..1", "--eps", "1e-9", "-q", "--z3", "none", *more]
    assert run(arguments) is ExitCode.VIOLATED


def test_a_script_shows_the_violation_alone(net: Path, tmp_path: Path) -> None:
    violated("net.onnx", "--contract", "sequential-fma")
    assert run(["replay", "net-counterexample.json", "--script", "bug.py"]) is ExitCode.VIOLATED
    alone = {"cwd": tmp_path, "capture_output": True, "text": True, "check": False}
    text = (tmp_path / "bug.py").read_text()
    assert "refine" not in "".join(x for x in text.splitlines() if x.startswith("import"))
    shown = subprocess.run([sys.executable, "bug.py"], **alone)  # type: ignore[call-overload]
    assert shown.returncode == 1, shown.stderr
    assert "violated" in shown.stdout
    kinder = text.replace("EPS = Fraction('1/1000000000')", "EPS = Fraction(1)")
    assert kinder != text
    (tmp_path / "kind.py").write_text(kinder)
    shown = subprocess.run([sys.executable, "kind.py"], **alone)  # type: ignore[call-overload]
    assert shown.returncode == 0, shown.stderr
    small_models.mlp(net, (2, 8, 8, 1), seed=1)
    shown = subprocess.run([sys.executable, "bug.py"], **alone)  # type: ignore[call-overload]
    assert "not the model" in shown.stderr


def test_replay_names_every_setting(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    violated("net.onnx")
    capsys.readouterr()
    run(["replay", "net-counterexample.json"])
    shown = capsys.readouterr().out
    for expected in ("optimisation none", "optimisation all", "torch (cuda)", "diverges"):
        assert expected in shown
    order = ("counterexample at output", "diverges", "evaluated exactly")
    assert sorted(order, key=shown.index) == list(order)


def test_what_replaces_another_counterexample_says_so(
    net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    violated("net.onnx")
    capsys.readouterr()
    violated("net.onnx")
    assert "replaces" not in capsys.readouterr().err
    violated("net.onnx", "--contract", "sequential-fma")
    assert "net-counterexample.json held another counterexample" in capsys.readouterr().err


def test_every_output_is_compared_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = small_models.mlp(tmp_path / "net.onnx", (2, 8, 3))
    violated("net.onnx", "--contract", "sequential-fma")
    capsys.readouterr()
    run(["replay", "net-counterexample.json"])
    shown = capsys.readouterr().out
    assert all(title in shown for title in ("at every output", "[0, 0]", "[0, 1]", "[0, 2]"))
    saved = load_witness(Path("net-counterexample.json"), load)
    witness = run_again(saved.graph, saved.candidate)
    exact = evaluate_exact(saved.graph, witness.real_inputs, Rationals())["y"]
    given = OnnxRuntime(model).run(witness.inputs)["y"]
    rows = every_output(witness, saved.graph)
    assert rows[0].errors["y"][witness.index[-1]] == witness.error
    written = next(r for r in rows if "optimisation none, 1" in r.runtime)
    for error, real, value in zip(written.errors["y"], exact[0], given[0], strict=True):
        assert error.lo == error.hi == abs(Fraction(float(value)) - fraction(real))


def test_the_first_diverging_node_is_named(net: Path) -> None:
    """gemm2's weights are changed in the graph, not in the file: gemm1 still agrees."""
    whole = load(net)
    weights: np.ndarray = whole.constants["w2"]
    changed = {**whole.constants, "w2": weights * np.float32(1.5)}
    graph = dataclasses.replace(whole, constants=changed)
    found = first_diverging_node(graph, net, X, PRESETS["ort-cpu"])
    assert isinstance(found, DivergingNode)
    assert (found.node, found.op) == ("gemm2", "Gemm")
    assert found.emulated != found.given


def test_no_divergence_where_the_contract_is_right(net: Path) -> None:
    assert first_diverging_node(load(net), net, X, PRESETS["ort-cpu"]) is None


@pytest.mark.parametrize(("x", "parts"), [([1.0, 2.0, 3.0], False), ([1.0, 1.75, 3.0], True)])
def test_nodes_are_compared_around_numbers_that_come_out_as_no_array(
    tmp_path: Path, x: list[float], parts: bool
) -> None:
    """ONNX cuts 1.75 off to an int4, onnxruntime rounds it: seen where it is a float again."""
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.INT4),
        helper.make_node("Cast", ["h"], ["z"], name="back", to=TensorProto.FLOAT),
        helper.make_node("Neg", ["z"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(t, TensorProto.FLOAT, [3]) for t in "xy"]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    path = tmp_path / "m.onnx"
    opset = [helper.make_opsetid("", 23)]
    onnx.save(helper.make_model(made, opset_imports=opset, ir_version=11), path)
    given = {"x": np.array(x, np.float32)}
    found = first_diverging_node(load(path), path, given, PRESETS["ort-cpu"])
    assert (isinstance(found, DivergingNode) and found.node == "back") if parts else found is None


def test_torch_runs_the_graph(net: Path) -> None:
    pytest.importorskip("torch")
    outcome = replay_on_torch(load(net), X)
    assert not isinstance(outcome, NotReplayed)
    got: np.ndarray = outcome.outputs["y"]
    want: np.ndarray = OnnxRuntime(net).run(X)["y"]
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_the_optimised_model_computes_what_onnxruntime_does(net: Path) -> None:
    """FusedGemm is read as Gemm and Relu; the file gives the optimised session's bits."""
    from gpu_check.runtimes.runtimes import OnnxRuntimeOptions

    written = as_optimised(net, "all")
    assert {n.domain for n in onnx.load(str(written)).graph.node} <= {"", "ai.onnx"}
    optimised = OnnxRuntime(net, OnnxRuntimeOptions("all")).run(X)["y"]
    np.testing.assert_array_equal(OnnxRuntime(written).run(X)["y"], optimised)
    violated("net.onnx", "--as-optimised", "all")


def test_an_operator_of_onnxruntimes_own_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Softmax between quantised numbers becomes QLinearSoftmax of com.microsoft."""
    monkeypatch.chdir(tmp_path)
    scalars: dict[str, Any] = {"s": np.float32(0.1), "z": np.uint8(128)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "d"),
        helper.make_node("Softmax", ["d"], ["e"], "e"),
        helper.make_node("QuantizeLinear", ["e", "s", "z"], ["r"], "r"),
        helper.make_node("DequantizeLinear", ["r", "s", "z"], ["y"], "y"),
    ]
    small_models.save(tmp_path / "softmax.onnx", nodes, {"x": [1, 4]}, {"y": [1, 4]}, scalars)
    given = ["bound", "softmax.onnx", "--input", "-1..1", "--as-optimised", "extended"]
    assert run(given) is ExitCode.INPUT_ERROR
    assert "com.microsoft.QLinearSoftmax" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("contract", "said"), [("ieee-any", "leaves open"), ("sequential", "'sequential' says nothing")]
)
def test_layouts_that_are_switched_off_are_said(
    contract: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = {"w": np.ones((2, 1, 3, 3), np.float32)}
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    shapes: dict[str, dict[str, Any]] = {"i": {"x": [1, 1, 3, 3]}, "o": {"y": [1, 2, 1, 1]}}
    small_models.save(tmp_path / "conv.onnx", [node], shapes["i"], shapes["o"], weights)
    given = ["bound", "conv.onnx", "--input", "-1..1", "--contract", contract, "--no-search"]
    assert run([*given, "--no-conform", "--as-optimised", "extended"]) is ExitCode.VERIFIED
    assert "NCHWc" not in capsys.readouterr().out
    assert run([*given, "--no-conform", "--as-optimised", "all"]) is ExitCode.VERIFIED
    told = " ".join(capsys.readouterr().out.split())
    assert "(NCHWc)" in told
    assert said in told


def test_what_has_no_semantics_is_refused_by_every_command(
    net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A runtime is not held to what nobody says, nor is a counterexample to it believed."""
    scales = {"s": np.array([1, 1, 2, 2], np.float32)}
    node = helper.make_node("Resize", ["x", "", "s"], ["y"], coordinate_transformation_mode="none")
    small_models.save(Path("odd.onnx"), [node], {"x": [1, 1, 2, 2]}, {"y": [1, 1, 4, 4]}, scales)
    violated("net.onnx", "--contract", "sequential-fma")
    saved = json.loads(Path("net-counterexample.json").read_text())
    saved |= {"model": "odd.onnx", "sha256": sha256_of(Path("odd.onnx"))}
    Path("odd.json").write_text(json.dumps(saved))
    for command in (
        ["bound", "odd.onnx", "--input", "0..1"],
        ["conform", "odd.onnx", "--contract", "ieee-any"],
        ["probe", "odd.onnx"],
        ["check", "odd.onnx", "--input", "0..1", "--eps", "1", "--contract", "probe:onnxruntime"],
        ["replay", "odd.json"],
    ):
        capsys.readouterr()
        assert run(command) is ExitCode.INPUT_ERROR
        assert "'coordinate_transformation_mode' is 'none'" in capsys.readouterr().err


@pytest.mark.parametrize(("key", "value"), [("model", None), ("eps", [1]), ("index", "x")])
def test_a_damaged_file_is_told_in_words(tmp_path: Path, key: str, value: Any) -> None:
    """No name of an exception; what is missing is named."""
    document: dict[str, Any] = {
        **{"schema": "refine-counterexample-1", "model": "m.onnx", "sha256": "", "index": [0]},
        **{"execution": None, "output": "y", "eps": None, "inputs": "w.npz"},
        "specification": {"execution": None, "model": "m.onnx", "sha256": ""},
        key: value,
    }
    if value is None:
        del document[key]
    path = tmp_path / "w.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ModelError, match="not a complete counterexample: ") as refusal:
        refine.replay(path)
    assert "Error" not in str(refusal.value)
    assert value or f"it has no '{key}'" in str(refusal.value)
