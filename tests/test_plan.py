"""Plans in 16 bits: what is proved is proved of the mixed file, and holds where it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from quantised_networks import transformer
from small_models import mlp, save

import refine
from encoders.arithmetic.exact_fields import Balls
from gpu_check.emulator.exact import evaluate_exact
from onnx_import import load
from onnx_import.errors import ModelError
from refine.cli.main import run
from refine.everyday.planning import Why

ROOT = Path(__file__).resolve().parents[1]
MNIST = ROOT.parent / "shared" / "models" / "mnist_fc"
QUICK: dict[str, Any] = {"budget": 0}


def furthest(model: Path, mixed: Path, points: list[np.ndarray[Any, Any]]) -> float:
    """The largest |onnxruntime on the mixed file − exact values of the original|."""
    graph, settings = load(model), onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(mixed), settings)
    (name,), worst = graph.inputs, 0.0
    for x in points:
        outputs = dict(zip(graph.outputs, session.run(list(graph.outputs), {name: x}), strict=True))
        exact = evaluate_exact(graph, {name: x}, Balls(200))
        for t in graph.outputs:
            real = np.array([float(v) for v in exact[t].reshape(-1)])
            gap = np.abs(np.asarray(outputs[t], np.float64).reshape(-1) - real)
            worst = max(worst, float(np.max(gap)))
    return worst


def sampled(shape: tuple[int, ...], low: Any, high: Any, count: int = 8) -> list[Any]:
    rng = np.random.default_rng(5)
    return [rng.uniform(low, high, shape).astype(np.float32) for _ in range(count)]


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    every = (*inferred.value_info, *inferred.input, *inferred.output)
    return {v.name: v.type.tensor_type.elem_type for v in every}


def test_a_part_of_a_network_runs_in_16_bits(tmp_path: Path) -> None:
    net, place = mlp(tmp_path / "net.onnx", (4, 24, 24, 3)), tmp_path / "mixed.onnx"
    whole = refine.plan(net, "-1..1", 100, place, **QUICK)
    assert whole.share == 1.0
    assert whole.block_list == ()
    eps = 0.6 * whole.result.bound
    found = refine.plan(net, "-1..1", eps, place, **QUICK)
    assert found
    assert found.result.verdict == "verified"
    assert 0.0 < found.share < 1.0
    assert found.result.bound <= eps
    assert {n.why for n in found.nodes} == {Why.SHORT, Why.BUDGET}
    assert set(found.block_list) == {n.name for n in found.nodes if not n.short}
    written = onnx.load(str(place))
    onnx.checker.check_model(written, full_check=True)
    assert written == found.model
    types, short = types_of(written), {n.name for n in found.nodes if n.short}
    stored = {t.name: t.data_type for t in written.graph.initializer}
    for node in written.graph.node:
        if node.op_type == "Cast":
            continue
        wanted = TensorProto.FLOAT16 if node.name in short else TensorProto.FLOAT
        assert {(types | stored)[t] for t in (*node.input, *node.output)} == {wanted}
    assert [v.type.tensor_type.elem_type for v in written.graph.input] == [TensorProto.FLOAT]
    again = refine.diff(net, place, "-1..1", contract="fp16", no_search=True, conform=False)
    assert again.bound == pytest.approx(found.result.bound)
    assert 0 < furthest(net, place, sampled((1, 4), -1, 1)) <= found.result.bound


def test_what_overflows_stays_in_float32(tmp_path: Path) -> None:
    """A layer whose values pass 65504, and one whose weight does."""
    rng = np.random.default_rng(1)
    weights = {
        "up": (1e5 * rng.uniform(1, 2, (4, 4))).astype(np.float32) / 8,
        "down": np.full((4, 4), 1e-5, np.float32),
        "huge": np.full((1, 4), 7e4, np.float32),
        "tiny": np.full((1, 4), 1e-5, np.float32),
        "plain": rng.normal(size=(4, 4)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "plain"], ["a"], name="before"),
        helper.make_node("MatMul", ["x", "up"], ["b"], name="beyond"),
        helper.make_node("MatMul", ["b", "down"], ["c"], name="back"),
        helper.make_node("Mul", ["a", "tiny"], ["d"], name="small"),
        helper.make_node("Mul", ["d", "huge"], ["e"], name="large weight"),
        helper.make_node("Add", ["c", "e"], ["y"], name="after"),
    ]
    net = save(tmp_path / "net.onnx", nodes, {"x": [1, 4]}, {"y": [1, 4]}, weights)
    found = refine.plan(net, "0.5..1.5", 0.5, tmp_path / "mixed.onnx", **QUICK)
    why = {n.name: (n.why, n.detail) for n in found.nodes}
    assert found.result.verdict == "verified"
    assert why["beyond"][0] is why["large weight"][0] is Why.OVERFLOW
    assert "beyond 65504" in why["beyond"][1]
    assert "its weight 'huge' reaches 70000" in why["large weight"][1]
    assert why["back"][0] is Why.OVERFLOW  # it reads what is beyond
    assert [why[n][0] for n in ("before", "small", "after")] == [Why.SHORT] * 3
    assert {"beyond", "back", "large weight"} == set(found.block_list)
    points = sampled((1, 4), 0.5, 1.5)
    assert furthest(net, tmp_path / "mixed.onnx", points) <= found.result.bound


def test_a_graph_with_turns(tmp_path: Path) -> None:
    """A weight of two readers, a Constant, nodes without names, an output that is read again, and
    one that moves the input alone."""
    held = numpy_helper.from_array(np.full((3, 3), 0.25, np.float32))
    nodes = [
        helper.make_node("Constant", [], ["c"], value=held),
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Softmax", ["a"], ["s"]),
        helper.make_node("MatMul", ["s", "w"], ["y"]),
        helper.make_node("MatMul", ["y", "c"], ["z"]),
        helper.make_node("Shape", ["x"], ["n"]),
        helper.make_node("Reshape", ["x", "n"], ["moved"]),
    ]
    weights = {"w": np.random.default_rng(2).normal(size=(3, 3)).astype(np.float32)}
    outputs = {"y": [2, 3], "z": [2, 3], "moved": [2, 3]}
    backwards = nodes[1:] + nodes[:1]  # runtimes take nodes in any order, ONNX's checker does not
    net = save(tmp_path / "net.onnx", backwards, {"x": [2, 3]}, outputs, weights)
    place = tmp_path / "mixed.onnx"
    for eps in (1.0, {"y": "2e-3", "z": "1e-2", "moved": 0.1}, 1e-4):
        found = refine.plan(net, "-1..1", eps, place, **QUICK)
        onnx.checker.check_model(onnx.load(str(place)), full_check=True)
        assert found, eps
        assert furthest(net, place, sampled((2, 3), -1, 1)) <= found.result.bound
    assert found.share == 0.0


@pytest.mark.parametrize("contract", ["fp16", "ieee-any"])
def test_both_ways_to_accumulate(tmp_path: Path, contract: str) -> None:
    net, place = mlp(tmp_path / "net.onnx", (4, 24, 3)), tmp_path / "mixed.onnx"
    found = refine.plan(net, "-1..1", 0.05, place, contract=contract, **QUICK)
    assert found
    assert found.contract.name == contract
    bfloat = refine.plan(net, "-1..1", 0.5, place, format="bfloat16", **QUICK)
    assert bfloat
    assert bfloat.contract.name == "bf16"
    assert TensorProto.BFLOAT16 in {t.data_type for t in onnx.load(str(place)).graph.initializer}


def test_where_nothing_can_be_kept(tmp_path: Path) -> None:
    net = mlp(tmp_path / "net.onnx")
    found = refine.plan(net, "-1..1", 1e-9, tmp_path / "mixed.onnx", **QUICK)
    assert not found
    assert found.result.verdict == "unknown"
    assert found.share == 0.0
    assert {n.why for n in found.nodes} == {Why.BUDGET}
    late = refine.plan(net, "-1..1", 1e-9, tmp_path / "mixed.onnx", timeout=1e-3, **QUICK)
    assert not late
    with pytest.raises(ModelError, match="is the model itself"):
        refine.plan(net, "-1..1", 1, net)
    with pytest.raises(ModelError, match="float16 or bfloat16"):
        refine.plan(net, "-1..1", 1, tmp_path / "mixed.onnx", format="float8")


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    mlp(Path("net.onnx"), (4, 24, 24, 3))
    asked = ["plan", "net.onnx", "--input=-1..1", "-o", "mixed.onnx", "--budget=0"]
    files = ["--json=plan.json", "--block-list=blocked.txt", "--report=plan.html"]
    assert run([*asked, "--eps=0.8", *files]).value == 0
    out = capsys.readouterr().out
    document = json.loads(Path("plan.json").read_text())
    assert out.startswith("verified: ")
    assert f"{100 * document['share']:.1f} % of the multiply-adds in float16" in out
    assert document["verdict"] == "verified"
    assert document["bound"] <= 0.8
    assert "|model(x) − spec(x)|" in Path("plan.html").read_text(encoding="utf-8")
    assert Path("blocked.txt").read_text().split() == document["node_block_list"]
    assert {n["format"] for n in document["nodes"]} == {"float16", "float32"}
    assert "every node stays in float32" not in out
    assert run([*asked, "--eps=1e-9"]).value == 3
    assert "not even with every node in float32" in capsys.readouterr().out
    assert run([*asked, "--eps=2e-3"]).value == 0  # of float32, which is not what was hoped for
    assert "every node stays in float32" in capsys.readouterr().out


@pytest.mark.skipif(not MNIST.exists(), reason="needs ../shared/models/mnist_fc")
def test_a_network_of_digits(tmp_path: Path) -> None:
    net, place = MNIST / "mnist-net_256x4.onnx", tmp_path / "mixed.onnx"
    found = refine.plan(net, MNIST / "prop_0_0.03.vnnlib", "1e-2", place, **QUICK)
    assert found.result.verdict == "verified"
    assert found.share >= 0.7
    (box,) = found.result.domain.boxes
    (name,) = box.lo
    points = sampled(box.lo[name].shape, box.lo[name], box.hi[name], count=2)
    assert furthest(net, place, points) <= found.result.bound <= 1e-2


def test_an_encoder_block(tmp_path: Path) -> None:
    net, place = tmp_path / "net.onnx", tmp_path / "mixed.onnx"
    network = transformer(seed=1)
    onnx.save(network.model, str(net))
    centre = np.random.default_rng(1).uniform(-1, 1, network.shape).astype(np.float32)
    found = refine.plan(net, centre, "1e-2", place, radius="1e-3", **QUICK)
    assert found.result.verdict == "verified"
    assert found.share >= 0.7
    points = sampled(centre.shape, centre - 9e-4, centre + 9e-4, count=1)
    assert furthest(net, place, points) <= found.result.bound <= 1e-2
