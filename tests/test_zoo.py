"""The zoo: every entry gets its verdict, and onnxruntime alone confirms every witness."""

from __future__ import annotations

import json
import runpy
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from refine.cli.main import run
from refine.results.verdict import ExitCode, Verdict
from refine.zoo import BATCH, Command, CrossCheck, document, folders, read_entry, run_entry

ZOO = Path(__file__).resolve().parents[1] / "examples" / "zoo"
BUILDING = runpy.run_path(str(ZOO / "building.py"))
ENTRIES = [folder.name for folder in folders(ZOO)]
QUICK = "linear-transposed"


def outputs(model: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What onnxruntime gives for a file exactly as it is, inputs in the file's own order."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    given = {i.name: inputs[i.name] for i in session.get_inputs()}
    return [np.asarray(y, np.float64) for y in session.run(None, given)]


def both(
    folder: Path, command: Command, inputs: dict[str, np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What is meant and what is given, on onnxruntime."""
    wrong = folder / "wrong.onnx"
    if command is Command.BATCH_INVARIANT:
        rows = [outputs(wrong, {n: v[i : i + 1] for n, v in inputs.items()}) for i in range(BATCH)]
        return [np.concatenate(y) for y in zip(*rows, strict=True)], outputs(wrong, inputs)
    if folder.name == "double-rounding":  # onnxruntime rounds the right graph's Cast twice, too
        return [inputs["x"]], outputs(wrong, inputs)
    return outputs(folder / "right.onnx", inputs), outputs(wrong, inputs)


def check_poles(refuted: list[dict[str, str]]) -> None:
    """Z3's own counterexamples to a finite quotient, subnormal divisors kept or flushed."""
    assert refuted
    for obligation in refuted:
        a, b = (np.float32(float.fromhex(t.split(" = ")[1])) for t in obligation["at"].split(", "))
        divisor = np.float32(0) if abs(b) < np.finfo(np.float32).tiny else b
        with np.errstate(all="ignore"):
            assert not np.isfinite(a / divisor)


def check_claim(name: str, found: np.ndarray) -> None:
    """Each claim is broken by onnxruntime's own outputs."""
    broken = {
        "claim-label-flip": lambda y: y[1] > y[0],
        "claim-float16-margin": lambda y: y[0] - y[1] < 0.0005,
        "claim-over-reals-only": lambda y: y[0] < -0.001,
    }
    assert broken[name](found)


def check_gradient(folder: Path, inputs: dict[str, np.ndarray], place: Path) -> None:
    """Both models are finite there, and so is the gradient of the right one alone."""
    for side, finite in (("right", True), ("wrong", False)):
        model, gradient = folder / f"{side}.onnx", place / f"{side}.onnx"
        assert all(np.all(np.isfinite(y)) for y in outputs(model, inputs))
        assert run(["grad", str(model), "--ones", "-o", str(gradient)]) is ExitCode.VERIFIED
        assert all(np.all(np.isfinite(g)) for g in outputs(gradient, inputs)) is finite


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_is_as_expected_and_onnxruntime_confirms_it(name: str, tmp_path: Path) -> None:
    entry = read_entry(ZOO / name)
    outcome = run_entry(ZOO / name)
    assert outcome.wrong is not None, outcome.failure
    assert outcome.right is not None
    assert outcome.wrong.verdict is entry.expected, outcome.wrong.reason
    assert outcome.right.verdict is Verdict.VERIFIED, outcome.right.reason
    if entry.expected is not Verdict.VIOLATED:
        return
    witness = outcome.wrong.witness
    assert witness is not None
    if entry.claim == "gradient-safe":
        check_gradient(ZOO / name, dict(witness.inputs), tmp_path)
        return
    if entry.command is Command.CLAIM:
        assert witness.reached is not None
        assert witness.reached.real is False
        check_claim(name, outputs(ZOO / name / "wrong.onnx", dict(witness.inputs))[0].reshape(-1))
        return
    assert any(r.confirms(Fraction(entry.eps)) for r in witness.replays)
    if entry.z3 is CrossCheck.SAMPLE:
        (account,) = document((outcome,))["entries"]
        check_poles(account["refuted"])
    right, wrong = both(ZOO / name, entry.command, dict(witness.inputs))
    assert all(np.all(np.isfinite(y)) for y in right)
    apart = [np.abs(y - z) for y, z in zip(right, wrong, strict=True)]
    assert any(np.any(~(d <= float(entry.eps))) for d in apart)  # or NaN


@pytest.mark.parametrize("name", ENTRIES)
def test_the_stored_graphs_are_those_that_the_script_builds(name: str) -> None:
    for side, model in BUILDING["built"](name).items():
        assert onnx.load(ZOO / name / f"{side}.onnx") == model


def copied(name: str, zoo: Path, before: str = "", after: str = "") -> Path:
    """A zoo of one entry, one text of its header replaced."""
    shutil.copytree(ZOO / name, zoo / name)
    header = zoo / name / "entry.toml"
    text = header.read_text()
    assert before in text
    header.write_text(text.replace(before, after))
    return zoo


def test_the_table_and_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["zoo", str(copied(QUICK, tmp_path))]) is ExitCode.VERIFIED
    out = capsys.readouterr().out
    assert QUICK in out
    assert "1 of 1 entries are as expected" in out


def test_another_expectation_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo = copied(QUICK, tmp_path, 'expected = "violated"', 'expected = "verified"')
    assert run(["zoo", str(zoo)]) is ExitCode.VIOLATED
    assert "0 of 1 entries are as expected" in capsys.readouterr().out


def test_a_right_graph_that_is_not_verified_fails(tmp_path: Path) -> None:
    zoo = copied(QUICK, tmp_path, 'eps = "1e-3"', 'eps = "1e-30"')
    assert run(["zoo", str(zoo)]) is ExitCode.VIOLATED


def test_the_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo = copied(QUICK, tmp_path)
    assert run(["zoo", str(zoo), "--json", "-"]) is ExitCode.VERIFIED
    (entry,) = json.loads(capsys.readouterr().out)["entries"]
    assert entry["name"] == QUICK
    assert entry["expected"] == entry["verdict"] == "violated"
    assert entry["seconds"] > 0
    assert entry["worst_found"] > entry["eps"]
    assert entry["bound"] >= entry["worst_found"]
    assert entry["witness"]["inputs"].keys() == {"x"}
    assert any(r["value"] == entry["witness"]["value"] for r in entry["replays"] if "value" in r)


@pytest.mark.parametrize(
    ("spoilt", "content", "sentence"),
    [
        ("wrong.onnx", b"no graph", "wrong.onnx"),
        ("right.onnx", None, "right.onnx"),
        ("entry.toml", b"title = 1", "entry.toml: the key 'command' is missing"),
        ("entry.toml", b"=", "not TOML"),
    ],
)
def test_an_entry_that_cannot_be_read_is_a_failed_row(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoilt: str,
    content: bytes | None,
    sentence: str,
) -> None:
    zoo = copied(QUICK, tmp_path)
    path = zoo / QUICK / spoilt
    path.unlink() if content is None else path.write_bytes(content)
    assert run(["zoo", str(zoo), "--json", "-"]) is ExitCode.INPUT_ERROR
    (entry,) = json.loads(capsys.readouterr().out)["entries"]
    assert not entry["as_expected"]
    assert entry["verdict"] is None
    assert sentence in entry["failure"]


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ('eps = "1e-3"', "eps = 1", "'eps' is not a string"),
        ('input = ["x=-1..1"]', 'input = "x=-1..1"', "'input' is not a list of strings"),
        ('"violated"', '"refuted"', "'refuted' is not a valid Verdict"),
        ('input = ["x=-1..1"]', 'input = ["x=1..0"]', "the range 1..0 is empty"),
        ("command", "domain = 1\ncommand", "there is no key 'domain'"),
        ("eps =", 'claim = "argmax"\neps =', "'claim' means nothing beside the command 'diff'"),
        ('command = "diff"', 'command = "claim"', "the key 'claim' is missing"),
    ],
)
def test_a_bad_header_is_a_failed_outcome(
    tmp_path: Path, before: str, after: str, sentence: str
) -> None:
    outcome = run_entry(copied(QUICK, tmp_path, before, after) / QUICK)
    assert sentence in outcome.failure
    assert not outcome.as_expected


def test_one_entry_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["zoo", "--only", QUICK]) is ExitCode.VERIFIED
    assert "1 of 1" in capsys.readouterr().out
    assert run(["zoo", "--only", "nothing"]) is ExitCode.INPUT_ERROR
    assert QUICK in capsys.readouterr().err


def test_a_folder_without_entries_is_refused(tmp_path: Path) -> None:
    assert run(["zoo", str(tmp_path)]) is ExitCode.INPUT_ERROR
