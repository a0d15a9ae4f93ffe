"""Tolerances for tests: what accepts every execution, and how the command says so."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from small_models import mlp, save

from encoders.contract.presets import PRESETS
from encoders.numbers.enclosure import Interval
from gpu_check.emulator.emulator import emulate
from onnx_import import load
from onnx_import.errors import ModelError
from refine.cli.main import run
from refine.everyday.allowance import allowance, rounded_up
from refine.everyday.one_operator import operator_model
from refine.everyday.points import given_by
from refine.results.verdict import ExitCode
from refine.testing import assert_close


def test_numbers_of_three_digits_are_not_below() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([10.0 ** rng.uniform(-320, 300, 3000), [0.0, 999.4, 1e-5, np.inf]])
    found = rounded_up(values)
    assert np.all(found >= values)
    assert np.all(found[values > 1e-300] <= 1.0101 * values[values > 1e-300])
    for value in found[np.isfinite(found)].tolist():
        assert float(f"{value:.2e}") == value


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("rtol", [Fraction(0), Fraction(1, 1000), Fraction(10)])
def test_what_is_allowed_is_accepted(reference: bool, rtol: Fraction) -> None:
    """By the formula of numpy's allclose, at the ends of what a and b may be."""
    rng = np.random.default_rng(1)
    middle, width = rng.normal(0, 1, 500), np.abs(rng.normal(0, 1e-3, 500))
    real = Interval(middle - width, middle + width)
    bound, beside = (np.abs(rng.normal(0, 0.01, 500)) for _ in range(2))
    found = allowance("y", bound, real, beside if reference else None, rtol)
    for f in (real.lo, real.hi):
        for sign in (-1.0, 1.0):
            a = f + sign * bound
            b = f - sign * beside * (1 - 2**-40) if reference else f
            close = np.abs(a - b) <= found.atol + float(rtol) * np.abs(b)
            assert np.all(close)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return mlp(tmp_path / "m.onnx", widths=(4, 16, 3))


def answer(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[Any, dict[str, Any]]:
    code = run(["tolerance", *arguments, "--json", "-"])
    return code, json.loads(capsys.readouterr().out)


def test_runs_at_points_keep_within_what_is_written(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(2)
    x = rng.uniform(-1, 1, (5, 4)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    written = tmp_path / "tol.npz"
    code, found = answer(
        [str(network), "--inputs", str(tmp_path / "x.npz"), "-o", str(written)], capsys
    )
    assert code == ExitCode.VERIFIED
    assert len(found["parts"]) == 5
    assert {"contract", "semantics", "test"} <= {a["name"] for a in found["assumptions"]}
    held = np.load(written)
    session = onnxruntime.InferenceSession(network)
    runs: list[Any] = [session.run(None, {"x": row[None]})[0] for row in x]
    graph = load(network)
    runs += [emulate(graph, {"x": x[:, None]}, PRESETS["sequential"])["y"][k] for k in range(5)]
    assert held["y"].shape == (5, 3)
    for k, y in enumerate(runs):
        off = np.abs(y[0].astype(np.float64) - held["real:y"][k % 5])
        assert np.all(off <= held["y"][k % 5])
    assert held["y"].max() == found["atol"]["y"] == float.fromhex(found["atol_hex"]["y"])


def test_two_runs_may_differ_by_both_errors(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "x.npz", x=np.array([0.5, -0.25, 0.75, 1.0], np.float32))
    given = [str(network), "--inputs", str(tmp_path / "x.npz"), "--contract", "sequential"]
    _, one = answer(given, capsys)
    _, other = answer([*given[:-1], "ort-cpu"], capsys)
    _, both = answer([*given, "--against", "ort-cpu"], capsys)
    total = one["atol"]["y"] + other["atol"]["y"]
    assert 0.98 * total <= both["atol"]["y"] <= 1.02 * total


@pytest.mark.parametrize(("x", "held"), [(0.5, True), (0.48425308, False)])
def test_both_runs_receive_the_same_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], x: float, held: bool
) -> None:
    nodes = [helper.make_node("Mul", ["x", "c"], ["y"])]
    weights = {"c": np.array(1000.0, np.float32)}
    path = str(save(tmp_path / "m.onnx", nodes, {"x": [1]}, {"y": [1]}, weights))
    (tmp_path / "half.toml").write_text('name = "half"\nbase = "sequential"\nformat = "float16"\n')
    given = np.array([x], np.float32)
    np.savez(tmp_path / "x.npz", x=given)
    asked = [path, "--inputs", str(tmp_path / "x.npz"), "--contract", "sequential"]
    asked += ["--against", str(tmp_path / "half.toml")]
    if not held:
        assert run(["tolerance", *asked]) == ExitCode.INPUT_ERROR
        assert "input 'x' has float32 numbers" in capsys.readouterr().err
        return
    code, found = answer(asked, capsys)
    half = given.astype(np.float16) * np.float16(1000)
    apart = abs(float(half[0]) - float((given * np.float32(1000))[0]))
    assert code == ExitCode.VERIFIED
    assert apart <= found["atol"]["y"]


def test_a_domain_needs_no_less_than_its_points(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "x.npz", x=np.full(4, 0.5, np.float32))
    _, point = answer([str(network), "--inputs", str(tmp_path / "x.npz")], capsys)
    _, whole = answer([str(network), "--input", "x=-1..1", "--budget", "0"], capsys)
    assert point["atol"]["y"] <= whole["atol"]["y"] < np.inf


def test_an_infinite_tolerance_names_the_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [
        helper.make_node("Neg", ["x"], ["n"], "first"),
        helper.make_node("Exp", ["n"], ["y"], "bursting"),
    ]
    path = str(save(tmp_path / "m.onnx", nodes, {"x": [2]}, {"y": [2]}))
    code, found = answer([path, "--input", "-100..100"], capsys)
    assert code == ExitCode.UNKNOWN
    assert found["atol"] == {"y": "inf"}
    assert found["unbounded"]["node"] == "bursting"
    assert run(["tolerance", path, "--input", "-100..100"]) == ExitCode.UNKNOWN
    assert "node 'bursting' (Exp)" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_one_operator_alone(dtype: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--op", "MatMul", "--shapes", "3x40,40x2", "--dtype", dtype, "--range=-1..1"]
    _, narrow = answer(given, capsys)
    code, wide = answer([*given, "--accumulate", "float32"], capsys)
    assert code == ExitCode.VERIFIED
    rng = np.random.default_rng(3)
    kind = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}[dtype]
    a, b = (rng.uniform(-1, 1, s).astype(kind) for s in ((200, 3, 40), (200, 40, 2)))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    ran = (a.astype(np.float32) @ b.astype(np.float32)).astype(kind).astype(np.float64)
    (atol,) = wide["atol"].values()
    assert np.max(np.abs(ran - exact)) <= atol < next(iter(narrow["atol"].values()))
    for more, hinted in (([], True), (["--accumulate", "float32"], False)):
        run(["tolerance", *given, *more])
        assert ("--accumulate float32" in capsys.readouterr().out) == hinted


@pytest.mark.parametrize(
    ("op", "shapes", "attributes", "said"),
    [
        ("MatMull", "2x2,2x2", [], "no operator 'MatMull'"),
        ("MatMul", "2x2", [], "2 to 2 inputs, and 1 shapes"),
        ("MatMul", "2x3,2x3", [], "does not take these shapes"),
        ("Relu", "2xx", ["axis"], "not NAME=VALUE"),
        ("Relu", "2y", [], "no shape"),
    ],
)
def test_what_is_no_operator_is_refused(
    op: str, shapes: str, attributes: list[str], said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        operator_model(op, shapes, "float32", attributes)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["m.onnx", "--op", "Relu"],
        ["--op", "Relu"],
        ["m.onnx", "--shapes", "2"],
        ["m.onnx", "--inputs", "x.npz", "--input", "-1..1"],
        ["m.onnx", "--input", "-1..1", "--rtol=-1"],
    ],
)
def test_what_does_not_go_together_is_refused(arguments: list[str]) -> None:
    assert run(["tolerance", *arguments]) == ExitCode.INPUT_ERROR


def test_inputs_that_do_not_fit_are_refused_in_one_sentence(network: Path) -> None:
    graph, fmt_of = load(network), PRESETS["ieee-any"].format_of
    assert len(given_by({"x": np.zeros((1, 4))}, graph, fmt_of).points) == 1
    assert len(given_by({"x": np.zeros((7, 1, 4))}, graph, fmt_of).points) == 7
    for wrong, said in (
        ({}, "no array for input 'x'"),
        ({"x": np.zeros(3)}, "has shape"),
        ({"x": np.full(4, np.nan)}, "not finite"),
        ({"x": np.array(["a"] * 4)}, "expected numbers"),
    ):
        with pytest.raises(ModelError, match=said):
            given_by(wrong, graph, fmt_of)


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """Rows of a table chosen by integers, scaled by numbers that vary, and a dense layer."""
    rng = np.random.default_rng(5)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Mul", ["rows", "x"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "w"], ["y"]),
    ]
    shapes = {"table": (10, 6), "w": (6, 2)}
    held = {n: rng.normal(0, 1, s).astype(np.float32) for n, s in shapes.items()}
    path = save(tmp_path / "t.onnx", nodes, {"ids": ["n"], "x": [6]}, {"y": ["n", 2]}, held)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.save(model, path)
    return path


def test_integers_are_constants_of_one_run(
    tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given: Any = {
        "ids": np.array([7, 0, 3], np.int64),
        "x": np.linspace(-1, 1, 6, dtype=np.float32),
    }
    np.savez(tmp_path / "in.npz", **given)
    code, found = answer([str(tokens), "--inputs", str(tmp_path / "in.npz")], capsys)
    assert code == ExitCode.VERIFIED
    assert any("'ids'" in note for note in found["notes"])
    y: Any = onnxruntime.InferenceSession(tokens).run(None, given)[0]
    assert y.shape == tuple(found["parts"][0]["outputs"][0]["shape"])
    assert_close(y, tokens, given)
    with pytest.raises(AssertionError):
        assert_close(y, tokens, {**given, "ids": np.array([7, 0, 4])})
    with pytest.raises(ModelError, match="no array for input 'ids'"):
        assert_close(y, tokens, {"x": given["x"]})


def test_a_dimension_that_integers_name_is_that_of_every_input(tmp_path: Path) -> None:
    """Rows of ids and rows of numbers are those of one run, as onnxruntime takes them."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Mul", ["rows", "x"], ["y"]),
    ]
    held = {"table": np.random.default_rng(1).normal(0, 1, (10, 3)).astype(np.float32)}
    shapes: Any = {"ids": ["N", 2], "x": ["N", 1, 1]}
    path = save(tmp_path / "m.onnx", nodes, shapes, {"y": ["N", 2, 3]}, held)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.save(model, path)
    ids, x = np.array([[1, 2], [3, 4]]), np.array([[[0.5]], [[0.1]]], np.float32)
    y: Any = onnxruntime.InferenceSession(path).run(None, {"ids": ids, "x": x})[0]
    assert_close(y, path, {"ids": ids, "x": x})
    with pytest.raises(AssertionError):
        assert_close(y[::-1], path, {"ids": ids, "x": x})
    with pytest.raises(ModelError, match="shape"):
        assert_close(y, path, {"ids": ids, "x": np.concatenate([x, x[:1]])})


@pytest.mark.parametrize(
    ("ids", "said"),
    [(np.zeros((2, 2), np.int64), "has shape"), (np.array([0.5, 1, 2]), "int64 numbers")],
)
def test_integers_that_do_not_fit_are_refused(tokens: Path, ids: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        assert_close(np.zeros((3, 2)), tokens, {"ids": ids, "x": np.ones(6, np.float32)})
