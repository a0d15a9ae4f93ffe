"""An error found above the bound proved is an internal contradiction, whatever ε is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import small_models

from encoders.contract.presets import EXACT
from encoders.numbers.enclosure import FloatArray
from refine.claims.contradiction import contradiction
from refine.cli.main import run
from refine.proof.proof import Proof
from refine.results.verdict import ErrorEnclosure, ExitCode, Witness

QUIET = ["--input", "-1..1", "--no-conform", "--z3", "none", "--budget", "1"]
COMMANDS = {
    "bound": ["bound", "net.onnx", *QUIET],
    "check, violated": ["check", "net.onnx", *QUIET, "--eps", "1e-9"],
    "batch": [
        *("check", "net.onnx", *QUIET, "--eps", "1e-9", "--batch", "2"),
        *("--claim", "batch-invariant"),
    ],
    "diff": [*("diff", "net.onnx", "copy.onnx", "--input", "-1..1", "--budget", "1")],
    "diff, violated": [
        *("diff", "net.onnx", "copy.onnx", "--input", "-1..1", "--budget", "1", "--eps", "1e-9")
    ],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two networks that compute the same, and a proof whose bounds are a thousandth of true."""
    monkeypatch.chdir(tmp_path)
    small_models.mlp(tmp_path / "net.onnx")
    small_models.mlp(tmp_path / "copy.onnx")
    honest = vars(Proof)["bounds"].fget
    assert honest is not None

    def bounds(proof: Proof) -> Mapping[str, FloatArray]:
        return {t: b / 1000 for t, b in honest(proof).items()}

    monkeypatch.setattr(Proof, "bounds", property(bounds))
    return tmp_path


@pytest.mark.parametrize("quiet", [(), ("-q",)], ids=["full", "quiet"])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_wrong_bound_is_never_a_plain_violation(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str], quiet: tuple[str, ...]
) -> None:
    assert run([*command, *quiet]) is ExitCode.INTERNAL_ERROR
    out, err = capsys.readouterr()
    assert "internal contradiction" in out
    assert "violated" not in out
    assert "please report it" in err
    (kept,) = folder.glob("*-contradiction.json")
    report = json.loads(kept.read_text())
    assert report["verdict"] == "contradiction"
    assert report["counterexample"]["inputs"]
    assert report["domain"]["boxes"]
    assert report["contract"]
    assert report["model"]["sha256"]


def _witness(element: int, error: Fraction, finite: bool = True) -> Witness:
    shown = ErrorEnclosure(error, error, finite)
    return Witness(
        {}, {}, execution=EXACT, output="y", index=(element,), value=0.0, real=None, error=shown
    )


def test_every_input_that_was_evaluated_is_held_against_its_own_element() -> None:
    """The largest error is not the one that opposes the proof."""
    bounds = {"y": np.array([10.0, 0.5, np.inf])}
    large, opposing = _witness(0, Fraction(9)), _witness(1, Fraction(1))
    assert contradiction(bounds, [large, opposing]) is opposing
    assert contradiction(bounds, [large]) is None


def test_a_bound_that_is_reached_is_not_exceeded() -> None:
    bounds = {"y": np.array([0.5])}
    assert contradiction(bounds, [_witness(0, Fraction(1, 2))]) is None
    above = _witness(0, Fraction(1, 2) + Fraction(1, 2**200))
    assert contradiction(bounds, [above]) is above


def test_a_value_that_is_not_finite_opposes_every_finite_bound_and_no_other() -> None:
    bounds = {"y": np.array([1e300, np.inf])}
    lost, elsewhere = _witness(0, Fraction(0), finite=False), _witness(1, Fraction(0), finite=False)
    assert contradiction(bounds, [elsewhere]) is None
    assert contradiction(bounds, [elsewhere, lost]) is lost
    assert contradiction(bounds, [replace(lost, index=(1,))]) is None
