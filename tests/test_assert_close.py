"""`refine.testing.assert_close`, its message, and pytest's fixture of the same name."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper
from small_models import mlp, save

from encoders.contract.members import members
from encoders.contract.presets import PRESETS
from gpu_check.emulator.emulator import emulate
from onnx_import import load
from onnx_import.errors import ModelError
from refine.testing import assert_close

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return mlp(tmp_path / "m.onnx", widths=(8, 32, 16, 3))


X = np.random.default_rng(0).uniform(-1, 1, (1, 8)).astype(np.float32)


def tensors(path: Path, x: np.ndarray[Any, Any], contract: str) -> dict[str, Any]:
    """Every tensor of one execution of a contract."""
    rules = members(PRESETS[contract])[0]
    found = emulate(load(path), {"x": x[None]}, rules, every_tensor=True)
    return {name: np.asarray(values[0]) for name, values in found.items()}


def test_a_runtime_within_its_contract_passes(network: Path) -> None:
    y: Any = onnxruntime.InferenceSession(network).run(None, {"x": X})[0]
    for actual in (y, [y], {"y": y}):
        assert_close(actual, network, {"x": X}, contract="cuda-fp32")
    assert_close(np.stack([y, y]), network, {"x": np.stack([X, X])}, contract="cuda-fp32")


def test_short_factors_fail_and_are_named(network: Path) -> None:
    ran = tensors(network, X, "cuda-tf32")
    assert_close(ran["y"], network, {"x": X}, contract="cuda-tf32")
    with pytest.raises(AssertionError) as failure:
        assert_close(ran["y"], network, {"x": X}, contract="cuda-fp32", intermediates=ran)
    said = str(failure.value)
    assert "explained by contract cuda-tf32" in said
    assert f"first layer outside its budget: {load(network).order[0].describe()}" in said
    for part in ("numbers of 'y'", "element", "actual", "real", "the tolerance", "carried by"):
        assert part in said


@pytest.mark.parametrize("change", ["ulps", "nan", "other"])
def test_wrong_numbers_fail(network: Path, change: str) -> None:
    """The middle of what is allowed passes, what lies just outside it does not."""
    y = tensors(network, X, "sequential")["y"].astype(np.float64)
    assert_close(y, network, {"x": X})
    y[0, 1] = {"ulps": y[0, 1] * (1 + 1e-4), "nan": np.nan, "other": -y[0, 1] - 1}[change]
    with pytest.raises(AssertionError) as failure:
        assert_close(y, network, {"x": X})
    assert "1 of 3 numbers" in str(failure.value)
    assert "[0, 1]" in str(failure.value)


def test_a_layer_with_another_weight_is_found(network: Path) -> None:
    ran = tensors(network, X, "cuda-fp32")
    third = load(network).order[2]
    (written,) = third.outputs
    ran[written] = ran[written] + np.float32(0.01)
    with pytest.raises(AssertionError) as failure:
        assert_close(ran["y"] + 1, network, {"x": X}, intermediates=ran)
    assert f"first layer outside its budget: {third.describe()}" in str(failure.value)
    assert "no preset contract explains" in str(failure.value)


def test_what_cannot_be_asserted_is_no_failure(tmp_path: Path, network: Path) -> None:
    nodes = [helper.make_node("Exp", ["x"], ["y"], "bursting")]
    path = save(tmp_path / "e.onnx", nodes, {"x": [2]}, {"y": [2]})
    with pytest.raises(ModelError, match="from node 'bursting' on"):
        assert_close(np.zeros(2), path, {"x": np.full(2, 100.0)})
    with pytest.raises(ModelError, match="outputs of the model are y"):
        assert_close({"z": np.zeros(3)}, network, {"x": X})
    with pytest.raises(ModelError, match="'y' has shape"):
        assert_close(np.zeros(2), network, {"x": X})


def test_pytest_has_the_fixture(network: Path, tmp_path: Path) -> None:
    """In a process of its own, with the plugin that the distribution declares."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    plugin = project["entry-points"]["pytest11"]["refine_pytest"]
    np.savez(tmp_path / "run.npz", **tensors(network, X, "cuda-tf32"))
    (tmp_path / "pytest.ini").write_text("[pytest]\nrefine_contract = cuda-fp32\n")
    (tmp_path / "test_export.py").write_text(
        "import numpy as np\n"
        "run = np.load('run.npz')\n"
        "def test_as_set(assert_close):\n"
        "    assert_close(run['y'], 'm.onnx', {'x': run['x']})\n"
        "def test_as_said(assert_close):\n"
        "    assert_close(run['y'], 'm.onnx', {'x': run['x']}, contract='cuda-tf32')\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", plugin, "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 failed, 1 passed" in done.stdout
    assert "explained by contract cuda-tf32" in done.stdout
    assert "FAILED test_export.py::test_as_set" in done.stdout


def test_the_plugin_harms_no_project_that_hides_a_package_of_ours(tmp_path: Path) -> None:
    (tmp_path / "encoders").mkdir()
    (tmp_path / "encoders" / "__init__.py").touch()
    (tmp_path / "test_theirs.py").write_text("import encoders\ndef test_theirs():\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-p", "refine_pytest", "-q"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    "numbers",
    [np.zeros((1, 3), complex), [["a", "b", "c"]], [[0.0], [1.0, 2.0]], None, [{"y": 1.0}]],
    ids=["complex", "texts", "ragged", "nothing", "objects"],
)
def test_what_is_no_array_of_numbers_is_refused(network: Path, numbers: Any) -> None:
    y = np.zeros((1, 3), np.float32)
    for given in (
        {"actual": {"y": numbers}, "inputs": {"x": X}},
        {"actual": y, "inputs": {"x": numbers}},
        {"actual": y, "inputs": {"x": X}, "intermediates": {"y": numbers}},
    ):
        with pytest.raises(ModelError, match="numbers"):
            assert_close(model=network, **given)
    with pytest.raises(ModelError, match="by name"):
        assert_close(y, network, X)  # type: ignore[arg-type]
