"""What is printed of an answer, in which order: the answer first, what it assumes last."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_models
from onnx import helper

from refine.cli.main import run
from refine.report.sections import layers_of
from refine.results.answers import ExitCode
from refine.results.verdict import NodeReport

DEMO = str(Path(__file__).resolve().parents[1] / "examples" / "demo" / "pendulum.onnx")
ASKED = ["bound", DEMO, "--input", "-1..1", "--z3", "none", "--no-search"]


def told(capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """What a run prints."""
    assert run([*ASKED, *more]) is ExitCode.VERIFIED
    return capsys.readouterr().out


def test_the_answer_comes_first_and_what_is_assumed_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = told(capsys)
    assert out.startswith("verified  bound ")
    labels = [line.split()[0] for line in out.splitlines() if line[:1].strip()]
    assert labels == ["verified", "per", "proved", "model", "domain", "contract", "assumed"]
    assert out.count("assumed") == 1
    assert "Strassen" not in out


def test_verbose_says_each_assumption_and_who_proved_what(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = " ".join(told(capsys, "-v").split())
    assert out.startswith("verified bound ")
    for said in ("Strassen", "by outward-rounded evaluation", "own rounding: what the layer's own"):
        assert said in out


def test_a_difference_that_is_held_to_nothing_is_not_called_verified(
    capsys: pytest.CaptureFixture[str],
) -> None:
    same = ["diff", DEMO, *ASKED[1:], "-q"]
    assert run(same) is ExitCode.VERIFIED
    assert " ".join(capsys.readouterr().out.split()).startswith(
        "bounded equal over the reals, bound "
    )
    assert run([*same, "--eps", "1"]) is ExitCode.VERIFIED
    assert capsys.readouterr().out.startswith("verified  bound ")


def test_quiet_and_verbose_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*ASKED, "-q", "-v"]) is ExitCode.INPUT_ERROR
    assert "--verbose" in capsys.readouterr().err


@pytest.mark.parametrize("quiet", [(), ("-q",)])
def test_a_runtime_that_leaves_the_contract_is_never_hidden(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    quiet: tuple[str, ...],
) -> None:
    """Wide sums in another order than the contract has; `bound` has a test of its own."""
    monkeypatch.chdir(tmp_path)
    small_models.mlp(tmp_path / "wide.onnx", widths=(6, 300, 300, 3))
    np.savez("d.npz", x=np.random.default_rng(0).uniform(-1, 1, (1, 6)).astype(np.float32))
    asked = ["--contract", "sequential", "--no-search", "--conform", "--z3", "none", *quiet]
    assert run(["stable", "wide.onnx", "--data", "d.npz", *asked]) is ExitCode.CONTRACT_BROKEN
    assert "at 1 the runtime here leaves the contract" in capsys.readouterr().out


def test_an_infinite_bound_comes_with_the_node_that_it_begins_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [
        helper.make_node("Neg", ["x"], ["a"], "flip"),
        helper.make_node("Reciprocal", ["a"], ["b"], "pole"),
        helper.make_node("Relu", ["b"], ["y"], "after"),
    ]
    small_models.save(tmp_path / "net.onnx", nodes, {"x": [1, 2]}, {"y": [1, 2]})
    asked = ["bound", str(tmp_path / "net.onnx"), "--input", "-1..1", "--no-search", "-q"]
    assert run(asked) is ExitCode.UNKNOWN
    assert "no bound is known from 'pole' (Reciprocal) on" in capsys.readouterr().out


def layer(number: int, *, share: float, error: float = 1.0) -> NodeReport:
    return NodeReport(f"n{number}", "Gemm", -1.0, 1.0, error, 0.5, share, ())


def shown(layers: list[NodeReport], *, every: bool) -> list[str]:
    return [str(cell) for cell in layers_of(layers, every=every).columns[0].cells]


def test_layers_that_matter_are_shown_and_the_first_infinite_one_always() -> None:
    layers = [layer(i, share=0.0) for i in range(20)]
    layers[3] = layer(3, share=0.7)
    layers[12] = layer(12, share=0.0, error=np.inf)
    layers[13] = layer(13, share=0.3, error=np.inf)
    layers[14] = layer(14, share=0.0, error=np.inf)
    assert shown(layers, every=False) == ["n3", "n12", "n13"]
    assert shown(layers, every=True) == [f"n{i}" for i in range(20)]
    assert shown(layers[:5], every=False) == [f"n{i}" for i in range(5)]
