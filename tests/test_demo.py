"""`make demo`: the stored network is what the script writes, and gives the three answers."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from onnx_import import load
from refine.cli.main import run

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_stored_network_has_the_structure_that_the_script_writes(tmp_path: Path) -> None:
    train = script("train_demo")
    rng = np.random.default_rng(0)
    layers = [
        (rng.normal(size=(m, n)), np.zeros(m))
        for n, m in zip(train.WIDTHS, train.WIDTHS[1:], strict=False)
    ]
    train.export(layers, tmp_path / "new.onnx")
    new, stored = load(tmp_path / "new.onnx"), load(EXAMPLES / "demo" / "pendulum.onnx")
    assert stored.types == new.types
    assert [(n.name, n.op, n.inputs) for n in stored.order] == [
        (n.name, n.op, n.inputs) for n in new.order
    ]
    assert stored.parameters == sum(
        m * n + m for n, m in zip(train.WIDTHS, train.WIDTHS[1:], strict=False)
    )
    assert stored.inputs == ("state",)
    assert stored.outputs == ("torque",)


def test_the_stored_network_has_learnt_its_law() -> None:
    train = script("train_demo")
    stored = load(EXAMPLES / "demo" / "pendulum.onnx")
    layers = [
        (stored.constants[f"weight{k}"].astype(float), stored.constants[f"bias{k}"].astype(float))
        for k in (1, 2, 3)
    ]
    state = np.random.default_rng(5).uniform(-1, 1, (500, 2))
    misfit = np.abs(train.forward(layers, state)[-1] - train.expert(state))
    assert misfit.mean() < 0.05


DEMO = script("demo")


@pytest.mark.parametrize(("answer", "code", "options"), DEMO.RUNS)
def test_the_answers_of_the_demo(
    answer: str,
    code: int,
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # a counterexample lands here
    model = str(DEMO.ROOT / DEMO.MODEL)
    assert run(["check", model, "--input", "state=-1..1", *options]).value == code
    assert re.search(rf"^{answer} +bound ", capsys.readouterr().out, re.MULTILINE)


def test_the_demo_shows_every_answer() -> None:
    assert {(answer, code) for answer, code, _ in DEMO.RUNS} == {
        ("verified", 0),
        ("violated", 1),
        ("unknown", 3),
    }
