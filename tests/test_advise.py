"""`refine advise`: what a newcomer is told, and that the commands do what they say."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from small_models import mlp, save

from onnx_import import load
from refine.cli.daily import advise
from refine.cli.daily.advise import answers, document_of_advice
from refine.cli.main import run
from refine.everyday import advising
from refine.everyday.advising import advised
from refine.results.verdict import ExitCode

USERS = Path(__file__).resolve().parents[2] / "shared" / "cases" / "user"


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(advising, "_BUDGET", 0.0)
    monkeypatch.chdir(tmp_path)


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[Any, dict[str, Any]]:
    code = run(["advise", *arguments, "--json", "-"])
    return code, json.loads(capsys.readouterr().out)


def half(path: Path) -> Path:
    """An addition and a product in float16, which onnxruntime computes in float32."""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["a"]),
        helper.make_node("Div", ["a", "x2"], ["d"]),
        helper.make_node("MatMul", ["d", "w"], ["y"]),
    ]
    rng = np.random.default_rng(0)
    held = {"w": rng.normal(0, 1, (8, 3)).astype(np.float16), "x2": np.float16(3)}
    made = onnx.load(save(path, nodes, {"x": [1, 8]}, {"y": [1, 3]}, held))
    for side in (*made.graph.input, *made.graph.output):
        side.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(made, path)
    return path


def test_a_newcomer_is_told_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(mlp(tmp_path / "m.onnx", widths=(4, 16, 3)))
    x = np.random.default_rng(0).uniform(-0.517, 0.723, (30, 4)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    code, found = told([path, "--inputs", str(tmp_path / "x.npz")], capsys)
    assert code == ExitCode.VERIFIED
    assert found["options"] == ["--contract", "ort-cpu"]
    assert found["honoured"] is True
    (text,) = found["domain"]
    low, _, high = text.removeprefix("x=").partition("..")
    assert -0.52 <= float(low) <= x.min()
    assert x.max() <= float(high) <= 0.73
    assert 0 < found["atol"]["y"] < found["bound"] < 1e-4
    (label,) = found["labels"]
    assert label["points"] == 8
    assert len(found["dearest"]) == 3
    assert run(["advise", path]) == ExitCode.VERIFIED
    page = capsys.readouterr().out
    assert page.startswith("bound")
    assert "a guess: --inputs with samples reads it off these" in page


def test_what_is_known_before_the_bounds_is_told_if_time_runs_out(tmp_path: Path) -> None:
    path = mlp(tmp_path / "m.onnx", widths=(4, 16, 3))
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).uniform(-1, 1, (3, 4)))
    heard: list[advising.Advice] = []
    whole = advised(path, tmp_path / "x.npz", so_far=heard.append)
    first, second = heard
    assert first.at_samples is None
    assert second.at_samples == whole.at_samples
    for found in heard:
        rows = {of: said for of, said, _ in answers(found) if of}
        assert "the time limit was reached" in rows["bound"]
        assert ("labels" in rows) == (found is second)
        assert document_of_advice(found, list(answers(found)))["bound"] == "inf"
    assert "time limit" not in dict(list(row[:2]) for row in answers(whole))["bound"]


@pytest.mark.parametrize(("asked", "limit"), [([], 60.0), (["--timeout", "9"], 9.0)])
def test_it_has_a_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str], limit: float
) -> None:
    given = {}
    monkeypatch.setattr(advise, "advised", lambda *_, **more: given.update(more) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        advise.advise_command.main([str(tmp_path), *asked], standalone_mode=False, obj=None)
    assert given["timeout"] == limit


@pytest.mark.parametrize("make", [lambda p: mlp(p, widths=(8, 16, 3)), half])
def test_every_command_runs(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    make: Any,
) -> None:
    path = str(make(tmp_path / "m.onnx"))
    kind = np.float16 if make is half else np.float32
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).uniform(1, 2, (2, 8)).astype(kind))
    _, found = told([path, "--inputs", str(tmp_path / "x.npz")], capsys)
    if make is half:
        assert found["options"][:2] == ["--as-optimised", "none"]
        assert found["honoured"] is True
    commands = [a["command"] for a in found["answers"] if a["command"]]
    assert {shlex.split(c)[1] for c in commands} == {"bound", "tolerance", "stable", "conform"}
    for number, command in enumerate(dict.fromkeys(commands)):
        alone = tmp_path / str(number)  # what another command wrote is not here
        alone.mkdir()
        monkeypatch.chdir(alone)
        code = run(shlex.split(command)[1:])
        assert code in (ExitCode.VERIFIED, ExitCode.UNKNOWN), command
        said = capsys.readouterr().out
        if "bound" in command:
            assert "does NOT honour" not in said
        assert "16 bits are added in 16 bits" not in said  # where onnxruntime casts, nothing is


def test_the_commands_say_what_the_model_leaves_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.onnx"
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    held = {"w": np.eye(8, 3, dtype=np.float32)}
    save(path, nodes, {"x": ["b", "n", 8]}, {"y": ["b", "n", 3]}, held)
    x = np.random.default_rng(0).uniform(-1, 1, (2, 5, 8)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    samples = ["--inputs", str(tmp_path / "x.npz")]
    for given in (["--dim", "b=1", "--dim", "n=5"], ["--shape", "x=1,5,8"], samples):
        _, found = told([str(path), *given], capsys)
        for command in dict.fromkeys(a["command"] for a in found["answers"] if a["command"]):
            code = run(shlex.split(command)[1:])
            assert code in (ExitCode.VERIFIED, ExitCode.UNKNOWN), command
        capsys.readouterr()


CASES = {
    "mlp": ["--contract", "ort-cpu"],
    "mlp_fp16": ["--as-optimised", "none", "--contract", "ort-cpu"],
    "cnn": ["--contract", "ort-cpu"],
    "cnn_int8_qdq": ["--contract", "ort-cpu"],
}


@pytest.mark.skipif(not USERS.exists(), reason="../shared is not here")
@pytest.mark.parametrize("case", CASES)
def test_models_of_first_users(case: str) -> None:
    found = advised(USERS / f"{case}.onnx", None)
    assert list(found.setting.options) == CASES[case]
    assert found.setting.conduct is not None
    assert found.setting.conduct.honours is True
    assert np.isfinite(found.bound)


def test_what_is_not_bounded_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [helper.make_node("Log", ["x"], ["y"], "falling")]
    path = str(save(tmp_path / "m.onnx", nodes, {"x": [2]}, {"y": [2]}))
    code, found = told([path], capsys)
    assert code == ExitCode.UNKNOWN
    assert found["bound"] == "inf"
    assert "from node 'falling' (Log) on" in found["answers"][0]["answer"]
    answers = {a["of"]: a["answer"] for a in found["answers"]}
    assert "--center" in answers["smaller"]
    assert not any("about inf" in text for text in answers.values())
    assert "on: it is not shown that" in answers["bound"]
    assert "between" in answers["bound"]
    assert "inf " not in answers["bound"]
    assert all(a["command"] == "" or "tolerance" not in a["command"] for a in found["answers"])


def test_a_bound_far_above_what_was_found_is_said_to_be(tmp_path: Path) -> None:
    found = advised(mlp(tmp_path / "m.onnx", widths=(4, 8, 3)), None)
    assert found.result is not None
    for share, said in ((0.1, False), (1e-5, True)):
        result = replace(found.result, worst_found=share * found.bound)
        rows = list(answers(replace(found, result=result)))
        smaller = [(text, command) for of, text, command in rows if of == "smaller"]
        assert len(smaller) == said
        assert all("1e+05 times" in t and "--preset thorough" in c for t, c in smaller)


def picking(path: Path, between: Sequence[str] = ()) -> Path:
    """A mean of rows of a table that token ids pick, through these operators."""
    names = ["ids", *(f"t{k}" for k in range(len(between)))]
    to: dict[str, dict[str, Any]] = {"Cast": {"to": onnx.TensorProto.INT64}}
    nodes = [
        helper.make_node(op, [a], [b], **to.get(op, {}))
        for op, a, b in zip(between, names, names[1:], strict=False)
    ]
    nodes += [
        helper.make_node("Gather", ["table", names[-1]], ["rows"]),
        helper.make_node("ReduceMean", ["rows"], ["y"], axes=[1], keepdims=0),
    ]
    table = {"table": np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)}
    path = save(path, nodes, {"ids": [1, 5]}, {"y": [1, 4]}, table)
    model = onnx.load(path)
    kind = onnx.TensorProto.INT32 if "Cast" in between else onnx.TensorProto.INT64
    model.graph.input[0].type.tensor_type.elem_type = kind
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("between", [(), ("Identity",), ("Cast",)])
def test_the_guess_for_token_ids_is_the_rows_of_their_table(
    tmp_path: Path, between: tuple[str, ...]
) -> None:
    graph = load(picking(tmp_path / "m.onnx", between))
    assert advising.ranges_of(graph, None) == (("ids=0..8",), True)


def test_operators_are_called_as_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(picking(tmp_path / "m.onnx", ("Cast",)))
    for command in (["advise"], ["bound", "--input=0..3", "--no-search", "--budget=0"]):
        run([command[0], path, *command[1:]])
        page = capsys.readouterr().out
        assert "1 Gather" in page
        assert "Lookup" not in page


def test_labels_beside_scores_do_not_hide_their_bound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A decision that may change is a step; no node of it is dear, and scores have their bound."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
    ]
    w = {"w": np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)}
    outputs = {"label": [1], "scores": [1, 3]}
    path = save(tmp_path / "m.onnx", nodes, {"x": [1, 4]}, outputs, w)
    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.save(model, path)
    said = "'label': whole numbers, such as labels, which change by steps"
    for command in (["advise"], ["bound", "--input=-1..1", "--no-search", "--budget=0"]):
        run([command[0], str(path), *command[1:]])
        page = " ".join(capsys.readouterr().out.split())
        assert said in page
        assert "refine stable tells at which of your samples one is; the largest bound" in page
    rows = list(answers(advised(path, None)))
    assert not [text for of, text, _ in rows if of == "dearest"]
    assert "each output: label 2, scores" in rows[0][1]


@pytest.mark.parametrize("many", [1, 3])
def test_token_ids_are_advised_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], many: int
) -> None:
    """Samples of integers: a domain of them, and commands that run."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("ReduceMean", ["rows"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["y"]),
    ]
    rng = np.random.default_rng(0)
    held = {n: rng.normal(size=s).astype(np.float32) for n, s in (("table", (9, 4)), ("w", (4, 3)))}
    path = save(tmp_path / "m.onnx", nodes, {"ids": [1, 5]}, {"y": [1, 3]}, held)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.save(model, path)
    np.savez(tmp_path / "ids.npz", ids=rng.integers(2, 8, (many, 5)))
    code, found = told([str(path), "--inputs", str(tmp_path / "ids.npz")], capsys)
    assert code == ExitCode.VERIFIED
    (text,) = found["domain"]
    low, _, high = text.removeprefix("ids=").partition("..")
    assert 2 <= int(low) <= int(high) <= 7
    commands = [a["command"] for a in found["answers"] if a["command"]]
    assert {shlex.split(c)[1] for c in commands} == {"bound", "tolerance", "stable", "conform"}
    for command in dict.fromkeys(commands):
        assert run(shlex.split(command)[1:]) in (ExitCode.VERIFIED, ExitCode.UNKNOWN), command
        capsys.readouterr()


@pytest.mark.parametrize(("scale", "boxed"), [(1000.0, True), (1.0, False)])
def test_features_with_ranges_of_their_own_keep_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], scale: float, boxed: bool
) -> None:
    """And the command that is advised can be given as it is printed."""
    weights = {"w": np.array([[0.5], [0.25]], np.float32)}
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = save(tmp_path / "m.onnx", [node], {"x": [1, 2]}, {"y": [1, 1]}, weights)
    rows = np.random.default_rng(0).uniform(size=(20, 2)) * np.array([scale, 1.0])
    samples = tmp_path / "s.npz"
    np.savez(samples, x=rows.astype(np.float32))
    run(["advise", str(path), "--inputs", str(samples)])
    page = capsys.readouterr().out
    assert ("each feature" in page) is boxed
    assert (f"--box={samples}" in page) is boxed
    lines = [line.strip().removeprefix("$ refine ") for line in page.splitlines()]
    asked = next(line for line in lines if line.startswith("bound /"))
    assert run([*shlex.split(asked), "--budget=0"]) == ExitCode.VERIFIED
