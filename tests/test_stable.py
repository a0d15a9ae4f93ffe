"""Decisions of data sets: those that cannot change, and flips that numpy shows too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import helper
from small_models import mlp, save

import refine
from onnx_import.errors import ModelError
from refine.claims.many.stability import exit_code_of
from refine.cli.main import run
from refine.results.verdict import ExitCode

QUICK = ("--z3", "none", "--workers", "1", "--no-conform", "--contract", "sequential")
BIG, SHIFT = np.float32(2.0**23), np.float32(0.6)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def scores(path: Path) -> Path:
    """x and 2x − 0.6, but float32 rounds the first to an integer on the way."""
    nodes = [
        helper.make_node("Add", ["x", "big"], ["a"]),
        helper.make_node("Sub", ["a", "big"], ["b"]),
        helper.make_node("Add", ["x", "x"], ["c"]),
        helper.make_node("Sub", ["c", "shift"], ["d"]),
        helper.make_node("Concat", ["b", "d"], ["y"], axis=1),
    ]
    stored = {"big": np.array([BIG]), "shift": np.array([SHIFT])}
    return save(path, nodes, {"x": [1, 1]}, {"y": [1, 2]}, stored)


def specification(path: Path, shift: float) -> Path:
    """x and 2x − shift, of an input with another name."""
    nodes = [
        helper.make_node("Add", ["given", "given"], ["c"]),
        helper.make_node("Sub", ["c", "shift"], ["d"]),
        helper.make_node("Concat", ["given", "d"], ["z"], axis=1),
    ]
    stored = {"shift": np.array([shift], np.float32)}
    return save(path, nodes, {"given": [1, 1]}, {"z": [1, 2]}, stored)


def label(x: np.float32) -> int:
    """What float32 decides, without our code."""
    return int(np.argmax([(x + BIG) - BIG, (x + x) - SHIFT]))


def test_stable_decisions_flips_and_what_is_open(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores(folder / "m.onnx")
    points = np.array([[5.0], [0.35], [-4.0]])  # labels 1, 0, 0 over the reals
    assert [label(np.float32(x)) for x in points[:, 0]] == [1, 1, 0]
    np.savez(folder / "p.npz", anything=points)
    command = ["stable", "m.onnx", "--data", "p.npz", "--json", "s.json", *QUICK]
    assert run([*command, "--first", "1"]) is ExitCode.VERIFIED
    assert capsys.readouterr().out.startswith("1 of 1 decisions cannot change")  # and no table
    assert not Path("m-flips").exists()
    assert run(command) is ExitCode.VIOLATED
    found = json.loads(Path("s.json").read_text())
    assert "run a flip again: refine replay FILE.json --model m.onnx" in capsys.readouterr().out
    assert [d["verdict"] for d in found["decisions"]] == ["verified", "violated", "verified"]
    assert (found["stable"], found["flips"], found["rounded"]) == (2, 1, 1)
    flip = found["decisions"][1]
    assert "element 0" in flip["claim"]
    assert flip["real"] is False
    assert flip["confirmed"]
    (x,) = np.load(Path(flip["file"]).with_suffix(".npz"))["x"].ravel()
    assert x == np.float32(0.35)
    assert run(["replay", flip["file"], "--model", "m.onnx"]) is ExitCode.VIOLATED
    assert run([*command, "--no-search", "--first", "2"]) is ExitCode.UNKNOWN


def test_balls_have_flips_of_the_real_network(folder: Path) -> None:
    scores(folder / "m.onnx")
    np.save(folder / "p.npy", np.array([[7.0], [1.0]], np.float32))
    command = ["stable", "m.onnx", "--data", "p.npy", "--radius", "0.9", "--json", "s.json"]
    assert run([*command, *QUICK]) is ExitCode.VIOLATED
    found = json.loads(Path("s.json").read_text())
    assert [d["verdict"] for d in found["decisions"]] == ["verified", "violated"]
    (x,) = np.load(Path(found["decisions"][1]["file"]).with_suffix(".npz"))["x"].ravel()
    assert 0.1 <= x <= 1.9
    assert label(np.float32(x)) != label(np.float32(1.0))


@pytest.mark.parametrize(
    ("points", "word"),
    [
        ({"p": np.ones((3, 2))}, "shape"),
        ({"p": np.array([[np.nan]])}, "finite"),
        ({"p": np.array([[1e300]])}, "overflow"),
        ({"p": np.ones((0, 1))}, "no points"),
        ({"p": np.ones((1, 1)), "q": np.ones((1, 1))}, "none for 'x'"),
    ],
)
def test_data_that_does_not_fit(
    folder: Path,
    points: dict[str, npt.NDArray[np.float64]],
    word: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores(folder / "m.onnx")
    np.savez(folder / "p.npz", **points)  # type: ignore[arg-type]
    assert run(["stable", "m.onnx", "--data", "p.npz", *QUICK]) is ExitCode.INPUT_ERROR
    said = capsys.readouterr().err
    assert word in said
    assert said.count("\n") == 1


def test_a_row_of_scores_that_is_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores(folder / "m.onnx")
    np.save(folder / "p.npy", np.ones((1, 1)))
    command = ["stable", "m.onnx", "--data", "p.npy", "--output", "z", *QUICK]
    assert run(command) is ExitCode.INPUT_ERROR
    said = capsys.readouterr().err
    assert "'z' is not one; the model has 'y': name one" in said
    assert "--output NAME" in said


def test_nothing_decided_is_not_stable() -> None:
    assert exit_code_of([]) is ExitCode.UNKNOWN


def test_labels_of_another_network(folder: Path) -> None:
    """The labels of x and 2x − 0.6: what float32 does to the model's x is a flip beside them."""
    scores(folder / "m.onnx")
    specification(folder / "spec.onnx", 0.6)
    np.save(folder / "p.npy", np.array([[5.0], [0.35], [-4.0]], np.float32))
    command = ["stable", "m.onnx", "--data", "p.npy", "--json", "s.json", *QUICK]
    assert run([*command, "--spec", "spec.onnx"]) is ExitCode.VIOLATED
    found = json.loads(Path("s.json").read_text())
    assert [d["verdict"] for d in found["decisions"]] == ["verified", "violated", "verified"]
    assert found["specification"]["path"] == "spec.onnx"
    assert found["decisions"][1]["real"] is False
    specification(folder / "other.onnx", 6.0)  # label 1 from 6 on
    assert run([*command, "--spec", "other.onnx"]) is ExitCode.VIOLATED
    found = json.loads(Path("s.json").read_text())
    assert [d["verdict"] for d in found["decisions"]] == ["violated", "violated", "verified"]
    assert [d["real"] for d in found["decisions"]] == [True, False, None]


def test_a_ball_in_which_the_other_network_changes_its_mind(folder: Path) -> None:
    """Nothing is stable there, and a flip of the model counts where the other one keeps its
    label alone."""
    scores(folder / "m.onnx")
    specification(folder / "spec.onnx", 6.0)
    points = np.array([[-4.0], [9.0], [5.9]], np.float32)
    found = refine.stable(
        "m.onnx", points, radius=0.5, spec="spec.onnx", contract="sequential", conform=False
    )
    assert [d.verdict.value for d in found] == ["verified", "verified", "violated"]
    specification(folder / "near.onnx", 0.6)
    found = refine.stable("m.onnx", [[0.6]], radius=0.01, spec="near.onnx", no_search=True)
    assert [d.verdict.value for d in found] == ["unknown"]
    model = mlp(folder / "wide.onnx", (2, 3, 2))
    with pytest.raises(ModelError, match="has the shape"):
        refine.stable("m.onnx", [[0.6]], spec=model)


def test_in_python(folder: Path) -> None:
    scores(folder / "m.onnx")
    usual: dict[str, Any] = {"contract": "sequential", "conform": False, "workers": 1}
    found = refine.stable("m.onnx", {"x": [[5.0], [0.35]]}, counterexamples="kept", **usual)
    assert not found
    assert (found.stable, len(found), len(found.flips)) == (1, 2, 1)
    assert repr(found) == "1 of 2 decisions cannot change, 1 flips, 0 are undecided"
    assert found.flips[0].file == "kept/flip-1.json"
    assert json.loads(found.to_json())["flips"] == 1
    alone = refine.stable("m.onnx", np.array([[5.0]]), first=1, output="y", json="s.json", **usual)
    assert alone
    assert Path("s.json").read_text() == alone.to_json()
    for wrong in ({"first": 0}, {"output": 3}, {"radius": "x"}, {"spec": "none.onnx"}):
        with pytest.raises(ModelError):
            refine.stable("m.onnx", [[5.0]], **wrong)
    with pytest.raises(ModelError, match="expected floats or integers"):
        refine.stable("m.onnx", [["a"]])
