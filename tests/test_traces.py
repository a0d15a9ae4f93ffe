"""`refine trace` and `refine trace-diff`: runs of known origin, and what is said of two of them."""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx import save as save_model
from small_models import save

from encoders.contract.presets import PRESETS
from encoders.numbers.formats import BINARY16, round_array
from gpu_check.emulator.emulator import emulate
from gpu_check.runtimes.tensors import Machine
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Array, Graph
from refine.cli.main import run
from refine.options.runtime_choice import machine, runtime_choice
from refine.results.verdict import ExitCode
from refine.traces.comparing import Status, compare, joint_bounds
from refine.traces.recording import reading, record, runs_of
from refine.traces.trace import Line, Trace, line_of, read_trace, trace_of_arrays

_RNG = np.random.default_rng(5)
W1 = _RNG.normal(0, 0.4, (12, 16)).astype(np.float32)
W2 = _RNG.normal(0, 0.4, (16, 4)).astype(np.float32)
X = _RNG.uniform(-1, 1, (1, 12)).astype(np.float32)
PAIR = (PRESETS["ieee-any"], PRESETS["ieee-any"])


def network(path: Path, first: Array = W1) -> Path:
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], "layer1"),
        helper.make_node("Relu", ["h"], ["r"], "bend"),
        helper.make_node("MatMul", ["r", "w2"], ["z"], "layer2"),
        helper.make_node("Softmax", ["z"], ["y"], "share"),
    ]
    return save(path, nodes, {"x": [1, 12]}, {"y": [1, 4]}, {"w1": first, "w2": W2})


def step(path: Path) -> Path:
    """One step of descent on half the square of W·x − t: W − rate·(W·x − t)·xᵀ."""
    nodes = [
        helper.make_node("MatMul", ["W", "x"], ["p"], "predict"),
        helper.make_node("Sub", ["p", "t"], ["e"], "error"),
        helper.make_node("Transpose", ["x"], ["xt"], "turn", perm=[1, 0]),
        helper.make_node("MatMul", ["e", "xt"], ["g"], "slope"),
        helper.make_node("Mul", ["g", "rate"], ["d"], "scale"),
        helper.make_node("Sub", ["W", "d"], ["W_next"], "move"),
    ]
    shapes: dict[str, Any] = {"W": [3, 6], "x": [6, 2], "t": [3, 2]}
    return save(path, nodes, shapes, {"W_next": [3, 6]}, {"rate": np.float32(0.125)})


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    network(tmp_path / "m.onnx")
    np.savez("x.npz", x=X)
    return tmp_path


def traced(model: str, target: str, *more: str) -> None:
    assert run(["trace", model, "--inputs", "x.npz", "-o", target, *more]) is ExitCode.VERIFIED


def compared(
    capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[ExitCode, dict[str, Any], str]:
    """Exit code, document, and the first line for people."""
    capsys.readouterr()
    code = run(["trace-diff", *arguments, "--json", "-"])
    document = json.loads(capsys.readouterr().out)
    assert run(["trace-diff", *arguments, "-q"]) is code
    return code, document, capsys.readouterr().out


def statuses(document: dict[str, Any]) -> dict[str, str]:
    return {row["tensor"]: row["status"] for row in document["tensors"]}


def test_the_same_runtime_gives_the_same_bits(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    traced("m.onnx", "a.jsonl")
    traced("m.onnx", "b.jsonl")
    code, document, line = compared(capsys, "a.jsonl", "b.jsonl")
    assert code is ExitCode.VERIFIED
    assert statuses(document) == dict.fromkeys("hrzy", "equal")
    assert "same bits" in line


def test_a_line_says_what_the_runtime_gave(files: Path) -> None:
    traced("m.onnx", "a.jsonl", "--values")
    header, *lines = [json.loads(row) for row in Path("a.jsonl").read_text().splitlines()]
    assert header["runs"] == 1
    assert [row["tensor"] for row in lines] == ["x", "h", "r", "z", "y"]
    h = np.frombuffer(base64.b64decode(lines[1]["values"]), "<f4")
    assert np.allclose(h, (X.astype(np.float64) @ W1)[0], atol=1e-5)
    assert (lines[1]["low"], lines[1]["high"]) == (float(h.min()), float(h.max()))
    assert (lines[1]["node"], lines[1]["op"], lines[1]["nan"]) == ("layer1", "MatMul", 0)


def test_two_runtimes_are_within_the_bound(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traced("m.onnx", "a.jsonl", "--values")
    traced("m.onnx", "b.jsonl", "--values", "--runtime", "numpy")
    code, document, _ = compared(capsys, "a.jsonl", "b.jsonl")
    assert code is ExitCode.VERIFIED
    assert set(statuses(document).values()) <= {"equal", "within"}
    for row in document["tensors"]:
        assert row["status"] == "equal" or row["apart"] <= row["allowed"] < 1e-5


def test_a_wrong_weight_is_named_and_what_follows_is_not(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = W1.copy()
    wrong[3, np.argmax((X @ W1)[0])] *= 1.01
    network(files / "w.onnx", wrong)
    traced("m.onnx", "a.jsonl", "--values")
    traced("w.onnx", "b.jsonl", "--values")
    code, document, line = compared(capsys, "a.jsonl", "b.jsonl")
    assert code is ExitCode.VIOLATED
    assert [row["node"] for row in document["outside"]] == ["layer1"]
    assert statuses(document)["y"] == "carried"
    assert "'layer1'" in line
    assert "the second is" in line  # and not the first, whose weights are those of the model


def test_without_numbers_only_ranges_refute(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slightly, much = W1 * np.float32(1 + 2e-7), W1 * np.float32(3)
    network(files / "s.onnx", slightly)
    network(files / "w.onnx", much)
    traced("m.onnx", "a.jsonl")
    traced("s.onnx", "s.jsonl")
    traced("w.onnx", "w.jsonl")
    code, document, line = compared(capsys, "a.jsonl", "s.jsonl")
    assert code is ExitCode.UNKNOWN
    assert "unseen" in statuses(document).values()
    assert "--values" in line
    code, document, _ = compared(capsys, "a.jsonl", "w.jsonl")
    assert code is ExitCode.VIOLATED
    assert document["outside"][0]["node"] == "layer1"


def test_without_a_model_bits_alone_are_compared(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    traced("m.onnx", "a.jsonl", "--values")
    traced("m.onnx", "b.jsonl", "--values", "--runtime", "numpy")
    (files / "m.onnx").unlink()
    code, document, line = compared(capsys, "a.jsonl", "b.jsonl")
    assert code is ExitCode.UNKNOWN
    assert document["contracts"] is None
    assert "--model" in line


def test_a_number_that_is_not_finite_is_outside(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    traced("m.onnx", "a.jsonl", "--values")
    trace = read_trace(Path("a.jsonl"))
    broken = np.array(trace.of(0)["z"].values)
    broken[0, 2] = np.nan
    np.savez("dump.npz", z=broken)
    code, document, _ = compared(capsys, "a.jsonl", "dump.npz", "--model", "m.onnx")
    assert code is ExitCode.VIOLATED
    assert document["outside"] == [{"run": 0, "node": "layer2", "op": "MatMul", "tensor": "z"}]


def polygraphy(array: Array) -> dict[str, Any]:
    """An array as Polygraphy 0.53 saves it."""
    file = io.BytesIO()
    np.save(file, array)
    text = base64.b64encode(file.getvalue()).decode()
    held = {"array": text, "polygraphy_class": "ndarray"}
    return {"values": held, "polygraphy_class": "LazyArray"}


def test_two_runners_of_polygraphy(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    h = X @ W1
    near, far = h.copy(), h.copy()
    near[0, 0] = np.nextafter(near[0, 0], np.float32(2))
    far[0, 5] += np.float32(1e-3)
    for name, other in {"near": near, "far": far}.items():
        runs = {"trt": [h, h], "ort": [h, other]}
        lst = [[k, [{"outputs": {"h": polygraphy(v)}} for v in each]] for k, each in runs.items()]
        Path(f"{name}.json").write_text(json.dumps({"lst": lst}))
    Path("in.json").write_text(json.dumps([{"x": polygraphy(X)["values"]}] * 2))
    rest = ("--inputs", "in.json", "--model", "m.onnx")
    code, document, _ = compared(capsys, "near.json", *rest)
    assert code is ExitCode.VERIFIED
    assert [row["status"] for row in document["tensors"]] == ["equal", "within"]
    code, document, _ = compared(capsys, "far.json", *rest)
    assert code is ExitCode.VIOLATED
    assert document["outside"][0]["run"] == 1
    assert document["tensors"][1]["element"] == [0, 5]


def test_training_is_fed_and_the_first_step_outside_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    step(tmp_path / "step.onnx")
    rng = np.random.default_rng(6)
    W, x, t = (rng.normal(0, 1, s).astype(np.float32) for s in ((3, 6), (4, 6, 2), (3, 2)))
    np.savez("x.npz", W=W, x=x, t=t)
    fed = ("--feed", "W=W_next", "--values")
    traced("step.onnx", "a.jsonl", *fed)
    traced("step.onnx", "b.jsonl", *fed, "--runtime", "numpy")
    a = read_trace(Path("a.jsonl"))
    assert a.runs == 4
    exact = W.astype(np.float64)
    for k in range(4):
        e = exact @ x[k] - t
        exact = exact - 0.125 * e @ x[k].T.astype(np.float64)
        assert np.allclose(np.asarray(a.of(k)["W_next"].values, np.float64), exact, atol=1e-4)
    code, *_ = compared(capsys, "a.jsonl", "b.jsonl")
    assert code is ExitCode.VERIFIED
    b = read_trace(Path("b.jsonl"))
    wrong = np.array(b.of(2)["g"].values)
    wrong[1, 4] *= np.float32(1.001)
    lines = tuple(other(e, wrong) if (e.run, e.tensor) == (2, "g") else e for e in b.lines)
    found = compare(a, replace(b, lines=lines), reading(Path("step.onnx"), tmp_path / "with"), PAIR)
    assert (found.outside[0].line.run, found.outside[0].line.node) == (2, "slope")
    assert set(found.outside[0].alone or {}) == {1}
    assert all(r.status is not Status.OUTSIDE for r in found.rows if r.line.run < 2)


def other(line: Line, values: Array) -> Line:
    return line_of(values, line.tensor, run=line.run, node=line.node, op=line.op)


@pytest.mark.parametrize("drift", [0.0, 1e-3])
def test_no_two_executions_are_further_apart_than_the_joint_bound(
    tmp_path: Path, drift: float
) -> None:
    path = network(tmp_path / "m.onnx")
    graph = load(path)
    # binary32 products in two orders, with and without FMA; exp and division correctly rounded
    ways = [PRESETS[name] for name in ("sequential", "sequential-fma", "pairwise")]
    rng, worst = np.random.default_rng(7), 0.0
    for _ in range(6):
        x = rng.uniform(-1, 1, (1, 12)).astype(np.float32)
        moved = (x + rng.uniform(-drift, drift, x.shape)).astype(np.float32)
        exact = joint_bounds((graph, graph), ({"x": x}, {"x": moved}), PAIR)
        runs = [emulate(graph, {"x": x[None]}, c, every_tensor=True) for c in ways]
        others = [emulate(graph, {"x": moved[None]}, c, every_tensor=True) for c in ways]
        for first in runs:
            for second in others:
                for t in "hrzy":
                    apart = np.abs(first[t][0].astype(np.float64) - second[t][0])
                    assert np.all(apart <= exact[t])
                    if t == "z":
                        worst = max(worst, float(np.max(apart / exact[t])))
    assert worst > 0.02


def test_what_does_not_fit_is_said(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step(files / "step.onnx")
    graph = load(files / "step.onnx")
    rows = {"W": np.zeros((3, 6)), "x": np.zeros((4, 6, 2)), "t": np.zeros((3, 2))}
    assert len(runs_of(graph, rows, {"W": "W_next"}).given) == 4
    assert len(runs_of(graph, rows, {"W": "W_next"}, 2).given) == 2
    for arrays, fed, words in (
        ({**rows, "W": np.zeros((4, 3, 6))}, {"W": "W_next"}, "that of the first run"),
        ({**rows, "t": np.zeros((3, 3, 2))}, {}, "as many rows"),
        ({**rows, "x": np.zeros((5, 2))}, {}, "'x' has shape"),
        (rows, {"V": "W_next"}, "'V' is no input"),
        (rows, {"x": "W_next"}, "another type or shape"),
        ({"x": rows["x"]}, {}, "no array for input 'W'"),
    ):
        with pytest.raises(ModelError, match=words):
            runs_of(graph, arrays, fed)
    with pytest.raises(ModelError, match="4 runs need"):
        runs_of(graph, {**rows, "x": np.zeros((2, 6, 2))}, {}, 4)
    for arguments, words in (
        (["trace", "m.onnx", "--inputs", "x.npz"], "--against"),
        (["trace", "m.onnx", "--inputs", "x.npz", "-o", "a.jsonl", "--feed", "x"], "INPUT=OUTPUT"),
        (["trace-diff", "x.npz", "x.npz"], "--model"),
        (["trace-diff", "x.npz", "x.npz", "--model", "m.onnx"], "--inputs"),
        (["trace-diff", "x.npz"], "two files"),
    ):
        assert run(arguments) is ExitCode.INPUT_ERROR
        assert words in capsys.readouterr().err


def test_a_model_without_a_meaning_is_compared_by_its_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    nodes = [
        helper.make_node("Relu", ["x"], ["h"], "first"),
        helper.make_node("Det", ["h"], ["y"], "strange"),
    ]
    save(tmp_path / "m.onnx", nodes, {"x": [12, 12]}, {"y": []})
    x = np.random.default_rng(8).normal(0, 1, (12, 12)).astype(np.float32)
    for name, values in {"a": x, "b": x * np.float32(1.5)}.items():
        np.savez("x.npz", x=values)
        traced("m.onnx", f"{name}.jsonl", "--values")
    assert run(["trace-diff", "a.jsonl", "a.jsonl"]) is ExitCode.VERIFIED
    code, document, line = compared(capsys, "a.jsonl", "b.jsonl")
    assert code is ExitCode.UNKNOWN
    assert "strange" in document["refused"]
    assert "no meaning here" in line


def test_traces_of_another_model_are_refused(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    traced("m.onnx", "a.jsonl", "--values")
    traced("m.onnx", "b.jsonl", "--values", "--runtime", "numpy")
    for shape, node in (([1, 12], "x"), ([1, 16], "y")):
        nodes = [helper.make_node("Relu", ["x"], ["h"], "other")]
        weights = {}
        if node == "y":
            nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "other")]
            weights = {"w": np.ones((12, 16), np.float32)}
        outputs = {nodes[0].output[0]: shape}
        save(files / "other.onnx", nodes, {"x": [1, 12]}, outputs, weights)
        code = run(["trace-diff", "a.jsonl", "b.jsonl", "--model", "other.onnx"])
        assert code is ExitCode.INPUT_ERROR
        assert "is it another one that ran?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text.replace("refine-trace-1", "refine-trace-9"),
        lambda text: text.replace('"run": 0', '"run": 7'),
        lambda text: text.replace('"float32"', '"float31"'),
        lambda text: text.replace("[1, 16]", "[1, 17]"),
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"bits": "', '"bits": "0'),
        lambda text: text.replace('"values": "', '"values": "%'),
    ],
)
def test_a_damaged_trace_is_refused(
    files: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[str], str]
) -> None:
    traced("m.onnx", "a.jsonl", "--values")
    Path("b.jsonl").write_text(spoil(Path("a.jsonl").read_text()))
    assert run(["trace-diff", "a.jsonl", "b.jsonl"]) is ExitCode.INPUT_ERROR
    assert "b.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_a_missing_library_is_said(
    files: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    library: str,
) -> None:
    """Python's own way to say that a module is not there, wherever it is."""
    monkeypatch.setitem(sys.modules, library, None)
    code = run(["trace", "m.onnx", "--inputs", "x.npz", "--against", library])
    assert code is ExitCode.INPUT_ERROR
    assert f"{library} cannot be imported" in capsys.readouterr().err


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_frameworks_are_within_the_bound(
    files: Path, capsys: pytest.CaptureFixture[str], library: str
) -> None:
    pytest.importorskip(library)
    code = run(["trace", "m.onnx", "--inputs", "x.npz", "--against", library, "--json", "-"])
    document = json.loads(capsys.readouterr().out)
    assert code is ExitCode.VERIFIED
    assert document["second"]["runtime"].startswith(library)
    assert len(document["tensors"]) == 4


def test_stored_weights_are_fed_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """W is a weight of the file, whose new numbers are the output next_W: W·x is a product with
    what the step before made of it."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(9)
    w = rng.normal(0, 1, (3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["y"], "product"),
        helper.make_node("Mul", ["W", "half"], ["next_W"], "shrink"),
    ]
    weights = {"W": w, "half": np.float32(0.5)}
    save(tmp_path / "s.onnx", nodes, {"x": [1, 3]}, {"y": [1, 3], "next_W": [3, 3]}, weights)
    x = rng.normal(0, 1, (1, 3)).astype(np.float32)
    np.savez("x.npz", x=x)
    for name, runtime in {"a": "onnxruntime", "b": "numpy"}.items():
        traced("s.onnx", f"{name}.jsonl", "--values", "--steps", "3", "--runtime", runtime)
    trace = read_trace(Path("a.jsonl"))
    assert dict(trace.fed) == {"W": "next_W"}
    for k in range(3):  # halves of W are exact
        exact = x.astype(np.float64) @ (w.astype(np.float64) / 2**k)
        assert np.allclose(np.asarray(trace.of(k)["y"].values, np.float64), exact, rtol=1e-5)
        assert np.array_equal(np.asarray(trace.received(k)["W"]), w / np.float32(2**k))
    code, _, _ = compared(capsys, "a.jsonl", "b.jsonl")
    assert code is ExitCode.VERIFIED
    np.savez("x.npz", x=x, W=w * np.float32(1.001))
    traced("s.onnx", "b.jsonl", "--values", "--steps", "3", "--runtime", "numpy")
    code, document, _ = compared(capsys, "a.jsonl", "b.jsonl")
    assert code is ExitCode.VERIFIED  # of each step from its own weights
    assert document["unlike_inputs"] == ["W"]


def test_each_side_has_a_bound_of_its_own(tmp_path: Path) -> None:
    """Beside the exact network all of it is the other side's."""
    graph = load(network(tmp_path / "m.onnx"))
    given = {"x": X}
    run_ = emulate(graph, {"x": X[None]}, PRESETS["sequential"], every_tensor=True)
    exact = X.astype(np.float64) @ W1.astype(np.float64)
    off = np.abs(run_["h"][0].astype(np.float64) - exact)
    assert np.max(off) > 0
    for names in (("exact", "ieee-any"), ("ieee-any", "exact")):
        pair = PRESETS[names[0]], PRESETS[names[1]]
        found = joint_bounds((graph, graph), (given, given), pair)
        assert np.all(off <= found["h"])
        both = joint_bounds((graph, graph), (given, given), PAIR)
        assert np.allclose(2 * found["h"], both["h"], rtol=1e-6)


@pytest.mark.parametrize("end", [np.argmin, np.argmax])
def test_one_end_of_a_range_refutes(files: Path, end: Callable[[Array], Any]) -> None:
    traced("m.onnx", "a.jsonl", "--values")
    a = read_trace(Path("a.jsonl"))
    moved = np.array(a.of(0)["h"].values)
    moved.reshape(-1)[end(moved)] *= np.float32(1.01)
    lines = tuple(other(e, moved) if e.tensor == "h" else e for e in a.lines)
    first, second = a.without_values, replace(a, lines=lines).without_values
    found = compare(first, second, reading(Path("m.onnx"), files / "with"), PAIR)
    assert [r.line.tensor for r in found.outside] == ["h"]


def test_inputs_are_received_in_the_format_of_the_contract(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"], "bend")]
    graph = load(save(tmp_path / "r.onnx", nodes, {"x": [1, 12]}, {"y": [1, 12]}))
    x = np.abs(X)
    short = replace(PRESETS["sequential"], compute_format=BINARY16)
    found = joint_bounds((graph, graph), ({"x": x}, {"x": x}), (PRESETS["exact"], short))
    off = np.abs(round_array(x.astype(np.float64), BINARY16) - x)
    assert np.max(off) > 0
    assert np.all(off <= found["y"])


@pytest.mark.parametrize("off", [0, 1])
def test_whole_numbers_that_are_apart_are_not_called_within(files: Path, off: int) -> None:
    """2^60 and 2^60 + 1 are one number of float64, and no execution gives the second."""
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], "whole", to=TensorProto.INT64),
        helper.make_node("Identity", ["i"], ["j"], "moved"),
        helper.make_node("Cast", ["j"], ["y"], "back", to=TensorProto.FLOAT),
    ]
    save(files / "w.onnx", nodes, {"x": [1, 2]}, {"y": [1, 2]})
    np.savez(files / "w.npz", x=np.full((1, 2), 2.0**60, np.float32))
    whole = np.full((1, 2), 2**60)
    np.savez(files / "one.npz", i=whole)
    np.savez(files / "two.npz", i=whole + off)
    sides = ["trace-diff", "one.npz", "two.npz", "--inputs", "w.npz", "--model", "w.onnx"]
    assert run(sides) == (ExitCode.UNKNOWN if off else ExitCode.VERIFIED)


def test_two_runs_on_the_same_integers_have_one_graph(files: Path) -> None:
    """Of which there is one set of bounds, too; integers are read again with each run's own."""
    nodes = [
        helper.make_node("Gather", ["w1", "k"], ["row"], "chosen"),
        helper.make_node("MatMul", ["row", "w2"], ["z"], "product"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("k", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(w, n) for n, w in {"w1": W1, "w2": W2}.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    save_model(helper.make_model(graph, opset_imports=opset, ir_version=8), files / "g.onnx")
    read = reading(files / "g.onnx", files / "with")
    asked = []

    def counted(given: Mapping[str, Array]) -> Graph:
        asked.append(given)
        return read(given)

    def trace(k: int, off: float) -> Trace:
        given = {"k": np.array([k])}
        z = (W1[[k]] @ W2 + np.float32(off)).astype(np.float32)
        return trace_of_arrays([read(given)], [given], [{"z": z}], "made")

    found = compare(trace(3, 0.0), trace(3, 1e-3), counted, PAIR)
    assert [r.line.tensor for r in found.outside] == ["z"]
    assert len(asked) == 1
    found = compare(trace(3, 0.0), trace(4, 0.0), counted, PAIR)
    assert not found.outside  # each is what its own row gives
    assert [dict(a)["k"].tolist() for a in asked[1:]] == [[3], [4]]


@pytest.mark.parametrize("runtime", ["onnxruntime", "numpy"])
def test_a_runtime_is_opened_once_for_runs_of_one_graph(files: Path, runtime: str) -> None:
    rows = _RNG.uniform(-1, 1, (3, 1, 12)).astype(np.float32)
    choice = runtime_choice(runtime)
    read = reading(files / "m.onnx", files / "with")
    opened = []

    def counted(graph: Graph) -> AbstractContextManager[Machine]:
        opened.append(graph)
        return machine(choice, graph)

    whole = record(files / "m.onnx", read, counted, runs_of(read({}), {"x": rows}, {}))
    assert len(opened) == 1
    for k, row in enumerate(rows):  # each is what it is alone
        alone = record(files / "m.onnx", read, counted, runs_of(read({}), {"x": row}, {}))
        bits = [(e.tensor, e.bits) for e in alone.lines]
        assert [(e.tensor, e.bits) for e in whole.of(k).values()] == bits
