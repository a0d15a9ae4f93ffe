"""The command line as a user meets it: exit codes, one sentence for bad input, JSON, manners."""

from __future__ import annotations

import json
import math
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import small_models
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interrupts import listen
from onnx import helper

from encoders.registry import operators
from gpu_check.common.writing import NoPlainFile, write_whole
from onnx_import.onnx.reader import DECOMPOSED
from onnx_import.passes.folding.fold import ALONE
from refine.cli.main import run
from refine.proof import z3_solver as solve
from refine.results.verdict import ExitCode

ROOT = Path(__file__).resolve().parents[1]
QUICK = ["--z3", "none", "--quiet"]
DOCUMENTED = (
    "schema", "verdict", "reason", "eps", "bound", "bounds", "worst_found", "domain", "contract",
    "assumptions", "nodes", "counterexample", "model", "versions", "seconds",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with `net.onnx` in it."""
    monkeypatch.chdir(tmp_path)
    small_models.mlp(tmp_path / "net.onnx")
    return tmp_path


@pytest.fixture
def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must be refused; gives its one sentence. No file may appear."""

    def command(*arguments: str) -> str:
        before = sorted(folder.rglob("*"))
        capsys.readouterr()
        code = run(list(arguments))
        out, err = capsys.readouterr()
        assert code is ExitCode.INPUT_ERROR, (code, out, err)
        assert out == ""
        assert err.startswith("refine: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1, err
        assert "Traceback" not in err
        assert sorted(folder.rglob("*")) == before
        return err

    return command


def check(model: str = "net.onnx", *more: str, eps: str = "1e-3") -> list[str]:
    domain = () if any(m in ("--input", "--vnnlib", "--center", "--box") for m in more) else (
        "--input", "-1..1",
    )  # fmt: skip
    return ["check", model, "--eps", eps, *domain, *QUICK, *more]


# Bad model files


def test_a_missing_file(refused: Any) -> None:
    assert "nowhere.onnx" in refused(*check("nowhere.onnx"))


def test_a_folder(refused: Any, folder: Path) -> None:
    (folder / "sub").mkdir()
    assert "sub" in refused(*check("sub"))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x08\x12", bytes(range(256)), b"\0" * 99])
def test_something_that_is_not_onnx(refused: Any, folder: Path, content: bytes) -> None:
    (folder / "bad.onnx").write_bytes(content)
    assert "bad.onnx" in refused(*check("bad.onnx"))


def test_an_unsupported_operator_is_named_with_its_node(refused: Any, folder: Path) -> None:
    node = helper.make_node("RandomNormalLike", ["x"], ["y"], "the_node")
    small_models.save(folder / "h.onnx", [node], {"x": [1, 2]}, {"y": [1, 2]})
    sentence = refused(*check("h.onnx"))
    assert "RandomNormalLike" in sentence
    assert "the_node" in sentence


def test_an_unsupported_attribute_is_named_with_its_node(refused: Any, folder: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], "the_node", auto_pad="SAME_UPPER", group=7)
    weights = {"w": np.ones((1, 1, 2, 2), np.float32)}
    small_models.save(folder / "c.onnx", [node], {"x": [1, 1, 4, 4]}, {"y": [1, 1, 4, 4]}, weights)
    assert "the_node" in refused(*check("c.onnx"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_no_number(refused: Any, folder: Path, value: float) -> None:
    weights = {"weight": np.array([1.0, value], np.float32)}
    node = helper.make_node("Mul", ["x", "weight"], ["y"], "scale")
    small_models.save(folder / "w.onnx", [node], {"x": [1, 2]}, {"y": [1, 2]}, weights)
    assert "weight" in refused(*check("w.onnx"))


def test_missing_external_data(refused: Any, folder: Path) -> None:
    model = onnx.load(small_models.mlp(folder / "e.onnx", (2, 600, 1)))
    onnx.save(model, folder / "e.onnx", save_as_external_data=True, location="weights.bin")
    (folder / "weights.bin").unlink()
    assert "weights.bin" in refused(*check("e.onnx"))


# Bad domains


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--input", "z=-1..1"], "z"),
        (["--input", "1..-1"], "above"),
        (["--input", "nan..1"], "nan"),
        (["--input", "0..inf"], "inf"),
        (["--input", "0...1"], "0...1"),
        (["--input", "zero..one"], "zero"),
        (["--input", "-1..1", "--input", "-1..1"], "two ranges"),
        (["--input", "-1..1", "--center", "0", "--radius", "1"], "--center"),
        (["--center", "0"], "--radius"),
        (["--center", "0", "--radius", "-1"], "negative"),
        (["--center", "nan", "--radius", "1"], "nan"),
        (["--input", "-1..1", "--radius", "1"], "--center"),
        (["--center", "nothing.npy", "--radius", "1"], "nothing.npy"),
        (["--box", "nothing.npz"], "nothing.npz"),
        (["--box", "net.onnx"], "net.onnx"),
        (["--vnnlib", "nothing.vnnlib"], "nothing.vnnlib"),
        (["--vnnlib", "net.onnx"], "net.onnx"),
        (["--vnnlib", "."], "."),
        (["--input", "0.1..0.1", "--strict-inputs"], "empty"),
    ],
)
def test_domains_that_are_none(refused: Any, options: list[str], said: str) -> None:
    assert said in refused(*check("net.onnx", *options))


def test_no_domain_at_all(refused: Any) -> None:
    assert "no domain" in refused("check", "net.onnx", "--eps", "1e-3")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"lo": np.zeros((1, 3)), "hi": np.ones((1, 3))}, "shape"),
        ({"lo": np.zeros((1, 2)), "hi": np.array([[1.0, math.nan]])}, "nan"),
        ({"lo": np.zeros((1, 2)), "hi": np.array([[1.0, math.inf]])}, "inf"),
        ({"lo": np.ones((1, 2)), "hi": np.zeros((1, 2))}, "above"),
        ({"lo": np.ones((1, 2))}, "hi"),
        ({"lo": np.array([["a", "b"]]), "hi": np.ones((1, 2))}, "type"),
    ],
)
def test_boxes_that_are_none(refused: Any, folder: Path, arrays: Any, said: str) -> None:
    np.savez(folder / "box.npz", **arrays)
    assert said in refused(*check("net.onnx", "--box", "box.npz"))


def test_a_range_for_only_one_of_two_inputs(refused: Any, folder: Path) -> None:
    small_models.two_inputs(folder / "two.onnx")
    assert "right" in refused(*check("two.onnx", "--input", "left=0..1"))
    assert "left" in refused(*check("two.onnx", "--input", "0..1"))


def test_an_unreadable_vnnlib(refused: Any, folder: Path) -> None:
    for text in ("(assert", "(assert (<= X_9 1))", "hello", "(declare-const X_0 Real)"):
        (folder / "p.vnnlib").write_text(text)
        assert "p.vnnlib" in refused(*check("net.onnx", "--vnnlib", "p.vnnlib"))


# Bad options


@pytest.mark.parametrize(
    "eps", ["0", "-1", "nan", "inf", "-inf", "text", "", "1e", "1e999999999", "1e-999999999", "0x1"]
)
def test_an_eps_that_is_no_positive_number(refused: Any, eps: str) -> None:
    assert "--eps" in refused(*check(eps=eps))


@pytest.mark.parametrize(
    ("given_eps", "said"),
    [
        (["nothing=1"], "nothing"),
        (["1", "2"], "twice"),
        (["y=1", "y=2"], "twice"),
        (["y="], "--eps"),
        (["=1"], "--eps"),
    ],
)
def test_eps_for_outputs(refused: Any, given_eps: list[str], said: str) -> None:
    options = [word for e in given_eps for word in ("--eps", e)]
    assert said in refused("check", "net.onnx", "--input", "-1..1", *options)


def test_every_output_needs_an_eps(refused: Any, folder: Path) -> None:
    small_models.two_outputs(folder / "two.onnx")
    assert "large" in refused(*check("two.onnx", eps="small=1"))


def test_check_needs_an_eps(refused: Any) -> None:
    assert "--eps" in refused("check", "net.onnx", "--input", "-1..1")


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ("relative", "refine bound MODEL --relative finds"),
        ("gradient", "refine grad MODEL --ones -o vjp.onnx"),
        ("property", "speaks of no"),
    ],
)
def test_what_finds_the_least_eps_is_that_of_the_claim(refused: Any, claim: str, said: str) -> None:
    eps = ["--eps", "1"] if claim == "property" else []
    assert said in refused("check", "net.onnx", "--claim", claim, "--input", "-1..1", *eps)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--format", "float12"], "float12"),
        (["--format", "e1p3"], "e1p3"),
        (["--format", "e99p99"], "e99p99"),
        (["--timeout", "0"], "--timeout"),
        (["--timeout", "-1"], "--timeout"),
        (["--timeout", "nan"], "--timeout"),
        (["--timeout", "soon"], "soon"),
        (["--contract", "any"], "any"),
        (["--subnormals", "sometimes"], "sometimes"),
        (["--z3", "maybe"], "maybe"),
        (["--seed", "x"], "x"),
        (["--nonsense"], "--nonsense"),
        (["another.onnx"], "another.onnx"),
        (["--json", "no/such/folder.json"], "no/such"),
        (["--json", "."], "."),
        (["--json", ""], "directory"),
        (["--json", "net.onnx/x.json"], "net.onnx"),
        (["--counterexample", "no/such/folder.json"], "no/such"),
        (["--dump-smt2", "net.onnx"], "net.onnx"),
    ],
)
def test_options_that_make_no_sense(refused: Any, options: list[str], said: str) -> None:
    # An eps that is violated: a counterexample is what an unwritable --json must not leave.
    assert said in refused(*check("net.onnx", *options, eps="1e-12"))


def test_no_such_command(refused: Any) -> None:
    assert "prove" in refused("prove", "net.onnx")
    assert "did you mean check?" in refused("chek", "net.onnx")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["completion"], "{bash|zsh|fish} is missing; refine completion --help"),
        (["judge", "net.onnx"], "--inputs FILE.npz is missing (What the device was given"),
        (["report"], "RESULT.json is missing"),
        (["tolerance", "net.onnx"], "--inputs FILE.npz, or a whole domain with --input x=LO..HI"),
        (["bound", "net.onnx"], "no domain is given: use --input x=LO..HI"),
    ],
)
def test_what_is_missing_is_said(refused: Any, words: list[str], said: str) -> None:
    assert said in refused(*words)


@pytest.mark.parametrize(
    ("command", "first"),
    [("check", ["--input", "--eps"]), ("bound", ["--input"]), ("tolerance", ["--inputs"])],
)
def test_the_help_has_first_what_is_always_said(
    command: str, first: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, "--help"]) is ExitCode.VERIFIED
    lines = capsys.readouterr().out.split("Options:")[1].splitlines()
    options = [line.split()[0] for line in lines if line.startswith("  --")]
    assert options[: len(first)] == first


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(refused: Any, folder: Path) -> None:
    (folder / "closed").mkdir(mode=0o500)
    assert "closed" in refused(*check("net.onnx", "--json", "closed/result.json", eps="1e-12"))


# Replay


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with net.onnx and a counterexample of it."""
    folder = tmp_path_factory.mktemp("kept")
    model = str(small_models.mlp(folder / "net.onnx"))
    place = ["--counterexample", str(folder / "net-counterexample.json")]
    assert run(check(model, *place, eps="1e-12")) is ExitCode.VIOLATED
    return folder


@pytest.fixture
def saved(folder: Path, kept: Path) -> Path:
    """A counterexample of net.onnx, in the current folder."""
    for name in ("net-counterexample.json", "net-counterexample.npz"):
        (folder / name).write_bytes((kept / name).read_bytes())
    return folder / "net-counterexample.json"


def test_replay_reproduces_the_error_bit_for_bit(
    saved: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(check("net.onnx", "--json", "r.json", eps="1e-12")) is ExitCode.VIOLATED
    first = json.loads((folder / "r.json").read_text())["counterexample"]
    capsys.readouterr()
    assert run(["replay", str(saved)]) is ExitCode.VIOLATED
    shown = capsys.readouterr().out
    assert repr(first["value"]) in shown
    low = float.fromhex(first["error"]["low_hex"])
    assert f"{low:.6g}"[:6] in shown
    assert "violated" in shown
    assert "onnxruntime" in shown


def test_replay_from_another_folder(
    saved: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert run(["replay", str(saved)]) is ExitCode.VIOLATED


def test_replay_of_a_model_that_changed(refused: Any, saved: Path, folder: Path) -> None:
    small_models.mlp(folder / "net.onnx", seed=1)
    assert "changed" in refused("replay", str(saved))
    (folder / "net.onnx").unlink()
    assert "net.onnx" in refused("replay", str(saved))


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", "[" * 9999, "\x00", '{"schema": 1}'])
def test_replay_of_a_foreign_file(refused: Any, folder: Path, content: str) -> None:
    (folder / "foreign.json").write_text(content)
    assert "foreign.json" in refused("replay", "foreign.json")
    assert "net.onnx" in refused("replay", "net.onnx")
    assert "nothing.json" in refused("replay", "nothing.json")
    refused("replay", str(folder))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", None), ("model", 3), ("model", "\x00"), ("sha256", "0"), ("inputs", "no.npz"),
        ("inputs", "a/b"), ("inputs", None), ("output", "z"), ("index", [0]), ("index", [0, 7]),
        ("index", [0, -1]), ("index", "x"), ("index", [math.inf, 0]), ("execution", None),
        ("execution", {}), ("eps", "1/0"), ("eps", "x"), ("eps", [1]), ("eps", "1e999999999"),
    ],
)  # fmt: skip
def test_replay_of_a_damaged_file(refused: Any, saved: Path, key: str, value: Any) -> None:
    document = json.loads(saved.read_text())
    assert key in document
    saved.write_text(json.dumps(document | {key: value}))
    refused("replay", str(saved))
    saved.write_text(json.dumps({k: v for k, v in document.items() if k != key}))
    refused("replay", str(saved))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("order", "anyorder"), ("block", 0), ("block", "x"), ("fma", "either"), ("fma", 1),
        ("subnormal_results", "either"), ("format", 3), ("format", {}),
        ("format", {"name": "f", "precision": "x", "emin": 0, "emax": 1}),
        ("format", {"name": "f", "precision": 99, "emin": 0, "emax": 1}),
    ],
)  # fmt: skip
def test_replay_of_a_damaged_execution(refused: Any, saved: Path, key: str, value: Any) -> None:
    document = json.loads(saved.read_text())
    assert key in document["execution"]
    document["execution"][key] = value
    saved.write_text(json.dumps(document))
    refused("replay", str(saved))


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((1, 3)), np.array([[math.nan, 0.0]]), np.array([["a", "b"]]),
        np.array([[0.1, 0.0]]), np.zeros((1, 2), np.int64), np.array([[1e39, 0.0]]), None,
    ],
)  # fmt: skip
def test_replay_of_damaged_arrays(refused: Any, saved: Path, x: Any) -> None:
    np.savez(saved.with_suffix(".npz"), **({} if x is None else {"x": x}))
    refused("replay", str(saved))


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_replay_of_a_mangled_archive_never_fails_badly(saved: Path, data: st.DataObject) -> None:
    archive = saved.with_suffix(".npz")
    whole = saved.parent / "whole"
    if not whole.exists():
        whole.write_bytes(archive.read_bytes())
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    archive.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    assert run(["replay", str(saved)]) in (
        ExitCode.INPUT_ERROR, ExitCode.VIOLATED, ExitCode.UNKNOWN,
    )  # fmt: skip


# Anything at all


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_mangled_models_never_fail_badly(folder: Path, data: st.DataObject) -> None:
    content = bytearray(small_models.mlp(folder / "net.onnx").read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    (folder / "mangled.onnx").write_bytes(content[:cut] if data.draw(st.booleans()) else content)
    assert run(check("mangled.onnx", "--no-search")) is not ExitCode.INTERRUPTED


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=200))
def test_random_bytes_are_refused(folder: Path, content: bytes) -> None:
    (folder / "random").write_bytes(content)
    assert run(check("random")) is ExitCode.INPUT_ERROR
    assert run(check("net.onnx", "--vnnlib", "random")) is ExitCode.INPUT_ERROR
    assert run(check("net.onnx", "--box", "random")) is ExitCode.INPUT_ERROR
    assert run(["replay", "random"]) is ExitCode.INPUT_ERROR


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(eps=st.text(max_size=12), interval=st.text(max_size=12), fmt=st.text(max_size=8))
def test_random_option_values_never_fail_badly(
    folder: Path, eps: str, interval: str, fmt: str
) -> None:
    for options in (["--eps", eps], ["--eps", "1", "--input", interval],
                    ["--eps", "1", "--format", fmt]):  # fmt: skip
        code = run(["check", "net.onnx", *QUICK, "--no-search", "--input", "0..1", *options])
        assert code in (ExitCode.INPUT_ERROR, ExitCode.VERIFIED, ExitCode.UNKNOWN)


# Answers


def test_exit_codes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for eps, code in (("1e-3", 0), ("1e-12", 1), ("3e-6", 3)):
        assert run(check(eps=eps)).value == code
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if "  bound " in line] == [
        "verified", "violated", "unknown",
    ]  # fmt: skip


def test_out_of_time_still_gives_a_proved_bound(folder: Path) -> None:
    """Forward composition is always finished; it is what the bound then rests on."""
    small_models.mlp(folder / "deep.onnx", (2, 30, 30, 30, 1))
    forward = small_models.settled(folder / "deep.onnx", backward=False, search=False)
    command = check("deep.onnx", "--timeout", "1e-9", "--json", "r.json", eps="1e-3")
    assert run(command) is ExitCode.TIME_OUT
    document = json.loads((folder / "r.json").read_text())
    assert document["verdict"] == "unknown"
    assert document["timed_out"] is True
    assert document["bound"] == forward.bound
    assert math.isfinite(document["bound"])
    loose = ["--timeout", "1e-9", "--json", "r.json"]
    assert run(check("deep.onnx", *loose, eps="1000")) is ExitCode.VERIFIED


def strict(text: str) -> Any:
    def refuse(token: str) -> Any:
        raise AssertionError(f"{token} is not JSON")

    return json.loads(text, parse_constant=refuse)


def numbers_and_hex(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every number beside its `…_hex`, wherever it is in a document."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if f"{key}_hex" in value:
                yield inner, value[f"{key}_hex"]
            else:
                yield from numbers_and_hex(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from numbers_and_hex(inner)


def same(number: Any, text: Any) -> bool:
    if isinstance(number, dict):
        return number.keys() == text.keys() and all(same(number[k], text[k]) for k in number)
    if isinstance(number, list):
        return len(number) == len(text) and all(map(same, number, text))
    if number is None or isinstance(number, str):
        return bool(number == text)
    return float(number) == float.fromhex(text)


@pytest.mark.parametrize("eps", ["1e-3", "1e-12", "3e-6"])
def test_json_on_standard_output(
    folder: Path, capsys: pytest.CaptureFixture[str], eps: str
) -> None:
    run(["check", "net.onnx", "--input", "-1..1", "--eps", eps, "--json", "-"])
    out, err = capsys.readouterr()
    assert err == ""
    document = strict(out)
    assert out.endswith("}\n")
    assert [key for key in DOCUMENTED if key not in document] == []
    pairs = list(numbers_and_hex(document))
    assert len(pairs) > 5
    for number, text in pairs:
        assert same(number, text)
    assert document["eps"] == float(eps)
    assert document["bound"] == max(document["bounds"]["y"][0])
    assert document["model"]["sha256"]
    assert document["model"]["operators"] == {"Gemm": 2, "Relu": 1}
    assert {a["name"] for a in document["assumptions"]} >= {"contract", "graph", "inputs"}
    assert sum(n["share"] for n in document["nodes"]) == pytest.approx(1.0)
    assert [n["op"] for n in document["nodes"]] == ["Gemm", "Relu", "Gemm"]
    for node in document["nodes"]:
        for o in node["obligations"]:
            assert o["verdict"] == "discharged"
            assert o["discharger"]
            assert o["seconds"] >= 0
    if document["verdict"] == "violated":
        found = document["counterexample"]
        assert found["error"]["low"] > document["eps"]
        assert Path(found["npz"]).exists()
        assert Path(found["file"]).exists()
        assert any("onnxruntime" in r["runtime"] for r in found["replays"])
        x = [float.fromhex(v) for v in found["inputs"]["x"][0]]
        assert all(-1 <= v <= 1 for v in x)
    else:
        assert document["counterexample"] is None
    if document["verdict"] == "verified":
        assert document["worst_found"] is None
    else:
        assert 0 < document["worst_found"] <= document["bound"]


def test_json_of_what_is_not_finite(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_models.overflowing(folder / "over.onnx")
    command = ["check", "over.onnx", "--input", "-1..1", "--eps", "1", "--json", "-"]
    assert run(command) is ExitCode.VIOLATED
    document = strict(capsys.readouterr().out)
    assert document["bound"] == document["bound_hex"] == "inf"
    assert document["worst_found"] == "inf"
    assert document["counterexample"]["error"] == {"low": "inf", "high": "inf"}


def test_json_with_an_eps_for_each_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_models.two_outputs(folder / "two.onnx")
    command = ["check", "two.onnx", "--input", "-1..1", "--eps", "small=1e-3", "--eps", "0.5"]
    assert run([*command, "--json", "-"]) is ExitCode.VERIFIED
    assert strict(capsys.readouterr().out)["eps"] == {"*": 0.5, "small": 0.001}


def test_the_same_seed_gives_the_same_document(folder: Path) -> None:
    def document(seed: str) -> Any:
        run(check("net.onnx", "--seed", seed, "--json", "r.json", eps="3e-6"))
        return without_times(strict((folder / "r.json").read_text()))

    first = document("0")
    assert document("0") == first
    assert document("1")["worst_found"] != first["worst_found"]


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k != "seconds"}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def test_quiet_says_the_verdict_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(check())
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("verified  bound ")
    assert len(out.splitlines()) == 2


def test_the_full_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["check", "net.onnx", "--input", "-1..1", "--eps", "1e-12"])
    out, err = capsys.readouterr()
    assert err == ""  # progress is for terminals
    for word in ("net.onnx", "contract", "assumed", "gemm1", "share", "proved", "worst found",
                 "above eps", "refine replay net-counterexample.json", "seed 0"):  # fmt: skip
        assert word in out, word
    assert all(len(line) <= 121 for line in out.splitlines())


def test_printed_bounds_are_rounded_up(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["bound", "net.onnx", "--input", "-1..1", *QUICK, "--no-search", "--json", "r.json"])
    exact = strict((folder / "r.json").read_text())["bound"]
    shown = float(capsys.readouterr().out.split()[2])
    assert exact <= shown <= exact * (1 + 1e-5)


def test_markup_in_names_is_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "[red]net[bold].onnx").write_bytes((folder / "net.onnx").read_bytes())
    assert run(["bound", "[red]net[bold].onnx", "--input", "-1..1", "--no-search"]).value == 0
    assert "[red]net[bold].onnx" in capsys.readouterr().out
    assert run(["bound", "[red].onnx", "--input", "-1..1"]) is ExitCode.INPUT_ERROR
    assert "[red].onnx" in capsys.readouterr().err


def test_smt2_files(folder: Path) -> None:
    code = run(check("net.onnx", "--z3", "sample", "--dump-smt2", "smt2"))
    assert code is ExitCode.VERIFIED
    files = sorted((folder / "smt2").iterdir())
    assert len(files) > 10
    assert all("(check-sat)" in f.read_text() for f in files)


@pytest.mark.parametrize("command", [[], ["check"], ["bound"], ["lemmas"], ["replay"], ["ops"]])
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command, "--help"]) is ExitCode.VERIFIED
    assert "Usage" in capsys.readouterr().out


def test_ops(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ops"]) is ExitCode.VERIFIED
    words = set(capsys.readouterr().out.replace(",", " ").split())
    assert {*operators(), *DECOMPOSED, *ALONE} <= words


# Files


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "device"])
def test_only_plain_files_are_written(folder: Path, kind: str) -> None:
    (folder / "victim").write_bytes(b"theirs")
    place = folder / "place"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        place = Path(os.devnull)
    else:
        place.symlink_to(folder / ("victim" if kind == "link" else "nowhere"))
    with pytest.raises(NoPlainFile):
        write_whole(place, lambda file: file.write(b"x"))
    assert (folder / "victim").read_bytes() == b"theirs"
    assert not (folder / "nowhere").exists()
    assert sorted(p.name for p in folder.iterdir() if p != place) == ["net.onnx", "victim"]


def test_a_failed_write_leaves_the_old_file(folder: Path) -> None:
    def fail(file: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    (folder / "old").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_whole(folder / "old", fail)
    assert (folder / "old").read_bytes() == b"old"
    assert sorted(p.name for p in folder.iterdir()) == ["net.onnx", "old"]


# As a process


def process(folder: Path, *arguments: str, **how: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
    return subprocess.Popen(
        [sys.executable, "-m", "refine", *arguments],
        cwd=folder,
        env=environment,
        text=True,
        **pipes,
    )


def test_a_process_returns_its_exit_code(folder: Path) -> None:
    running = process(folder, *check(eps="1e-12"))
    out, err = running.communicate()
    assert running.returncode == 1
    assert out.startswith("violated")
    assert err == ""
    running = process(folder, *check("nowhere.onnx"))
    out, err = running.communicate()
    assert running.returncode == 2
    assert out == ""
    assert len(err.splitlines()) == 1


def test_a_reader_that_leaves_early_does_not_change_the_exit_code(folder: Path) -> None:
    for more in ([], ["--json", "-"]):
        running = process(folder, "bound", "net.onnx", "--input", "-1..1", "--no-search", *more)
        assert running.stdout is not None
        running.stdout.close()
        assert running.wait() == 0
        assert running.stderr is not None
        assert running.stderr.read() == ""


@pytest.mark.parametrize("seconds", [0.3, 0.8, 2.0])
def test_interrupted(folder: Path, seconds: float) -> None:
    """During long work: in numpy or in Z3, whichever it is then."""
    small_models.mlp(folder / "big.onnx", (2, 400, 400, 400, 400, 1))
    command = ["check", "big.onnx", "--input", "-1..1", "--eps", "1e-30", "--z3", "all"]
    alone = {"start_new_session": True, "preexec_fn": listen}
    running = process(folder, *command, "--json", "r.json", **alone)
    wait_until_imported(running)
    time.sleep(seconds)
    os.killpg(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, (out, err)
    assert out == ""
    assert err == "refine: interrupted\n"
    assert sorted(p.name for p in folder.iterdir()) == ["big.onnx", "net.onnx"]


def wait_until_imported(running: subprocess.Popen[str]) -> None:
    """Until Z3 is loaded and a moment more; only the moment where the system does not say."""
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    deadline = time.monotonic() + 30
    while running.poll() is None and time.monotonic() < deadline and children.exists():
        processes = [running.pid, *map(int, children.read_text().split())]
        if any("libz3" in Path(f"/proc/{p}/maps").read_text() for p in processes):
            break
        time.sleep(0.05)
    time.sleep(1.0)


def test_an_interruption_that_z3_swallows_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import z3

    from refine.results.obligation import Kind

    class Interrupted(z3.Solver):
        def check(self, *assumptions: Any) -> Any:
            return z3.unknown

        def reason_unknown(self) -> str:
            return "interrupted from keyboard"

    monkeypatch.setattr(z3, "Solver", Interrupted)
    x = z3.Real("x")
    with pytest.raises(KeyboardInterrupt):
        solve.solve(solve.Query("q", Kind.SCHEMA, (), solve.Fact("x > 0", x > 0)))


def test_a_bug_is_not_a_verdict(folder: Path) -> None:
    script = "import refine.cli.main as c; c.run = lambda a: 1 / 0; from refine.cli import entry; "
    script += "entry.main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          check=False, cwd=ROOT)  # fmt: skip
    assert done.returncode == ExitCode.INTERNAL_ERROR.value == 70
    assert "internal error" in done.stderr.splitlines()[-1]


def test_progress_on_a_terminal(folder: Path) -> None:
    """A spinner on standard error, and the report unspoilt on standard output."""
    leader, follower = pty.openpty()
    command = ["check", "net.onnx", "--input", "-1..1", "--eps", "1e-12"]
    running = process(folder, *command, stderr=follower)
    os.close(follower)
    seen = b""
    while True:
        try:
            piece = os.read(leader, 4096)
        except OSError:  # Linux: the other end is closed
            break
        if not piece:
            break
        seen += piece
    assert running.stdout is not None
    assert "violated" in running.stdout.read()
    assert running.wait() == 1
    os.close(leader)
    assert "searching for a counterexample" in seen.decode()


# Options for the search


def test_a_search_has_a_time_of_its_own(folder: Path) -> None:
    """It uses that time, finds no more than was proved, and changes nothing that was."""
    found = {}
    for seconds in ("0.05", "1"):
        command = ["bound", "net.onnx", *QUICK, "--input", "-1..1", "--json", "r.json", "-q"]
        assert run([*command, "--search", seconds]) is ExitCode.VERIFIED
        document = json.loads((folder / "r.json").read_text())
        assert 0 < document["worst_found"] <= document["bound"]
        found[seconds] = document["bound"]
    assert len(set(found.values())) == 1


@pytest.mark.parametrize(
    "command",
    [
        ["bound", "net.onnx", "--input", "-1..1", "--search", "1", "--no-search"],
        ["bound", "net.onnx", "--input", "-1..1", "--search", "0"],
        ["diff", "net.onnx", "net.onnx", "--input", "-1..1", "--search", "1", "--no-search"],
    ],
)
def test_a_search_that_cannot_be_is_refused(refused: Any, command: list[str]) -> None:
    assert "--search" in refused(*command)
