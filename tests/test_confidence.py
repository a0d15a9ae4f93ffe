"""`refine bound --confidence`: what it prints, and what it never says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_models import mlp

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.presets import SEQUENTIAL
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_real
from onnx_import import load
from refine.cli.main import run
from refine.results.verdict import ExitCode

OPTIONS = ["--input", "-1..1", "--budget", "0", "--no-search"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mlp(tmp_path_factory.mktemp("m") / "net.onnx", (3, 24, 24, 2), seed=4)


@pytest.mark.parametrize("contract", ["ieee-any", "sequential", "stochastic"])
def test_likely_stands_beside_worst_and_is_not_verified(
    model: Path, contract: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "answer.json"
    asked = ["bound", str(model), *OPTIONS, "--contract", contract]
    code = run([*asked, "--confidence", "1e-6", "--json", str(path)])
    assert code is ExitCode.CONDITIONAL
    assert "verified" not in capsys.readouterr().out
    found = json.loads(path.read_text())
    assert found["schema"] == "refine-probable-1"
    assert found["proved"] == (contract != "stochastic")
    model_or_theorem = "a theorem" if contract == "stochastic" else "a model"
    assert model_or_theorem in found["assumptions"][0]
    for output in found["outputs"].values():
        assert np.all(np.array(output["likely"]) <= np.array(output["worst"]))
        assert np.all(np.array(output["likely"]) > 0)
    if contract == "sequential":
        graph = load(model)
        x = np.random.default_rng(1).uniform(-1, 1, (500, 1, 3)).astype(np.float32)
        ran = emulate(graph, {"x": x}, SEQUENTIAL)["y"]
        real = evaluate_real(graph, {"x": x.astype(np.float64)}, ApproximateReals())["y"]
        off = np.abs(ran - real).reshape(500, -1)
        assert np.all(off <= np.array(found["outputs"]["y"]["likely"]))


@pytest.mark.parametrize("probability", ["0", "1", "-1e-9", "2", "many"])
def test_what_is_no_probability_is_refused(
    model: Path, probability: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["bound", str(model), *OPTIONS, f"--confidence={probability}"])
    assert code is ExitCode.INPUT_ERROR
    assert "--confidence" in capsys.readouterr().err


@pytest.mark.parametrize(
    "other",
    [
        *(["--margin"], ["--relative"], ["--backward", "weights"]),
        *(["--discrete", "w"], ["--witness", "x.npy"], ["--output", "p.onnx"]),
    ],
)
def test_other_claims_do_not_go_with_it(
    model: Path, other: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["bound", str(model), *OPTIONS, "--confidence", "1e-9", *other])
    assert code is ExitCode.INPUT_ERROR
    assert other[0] in capsys.readouterr().err


def test_the_worst_case_under_stochastic_rounding_is_not_proved(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["bound", str(model), *OPTIONS, "--contract", "stochastic"])
    assert code is ExitCode.INPUT_ERROR
    assert "--confidence" in capsys.readouterr().err
