"""Dropout in training mode: what is proved must hold for every mask that the runtime may draw."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from corpus import agreement_of, runtime_of
from onnx import TensorProto, helper, numpy_helper

from encoders.arithmetic.exact_fields import Rationals
from encoders.contract.presets import ORT_CPU, PRESETS
from gpu_check.emulator.exact import evaluate_exact
from onnx_import import load
from onnx_import.errors import UnsupportedModel
from refine.claims.kinds.accuracy import check
from refine.claims.options import Options
from refine.cli.main import run
from refine.domain.domain import Domain, DomainOptions, read_domain
from refine.lemmas.cache import default_directory
from refine.results.verdict import ExitCode, Tolerance, Verdict

OPTIONS = Options(None, default_directory(), conform=True)


def dropping(folder: Path, ratio: float, ends: str = "y") -> Path:
    """y = relu(W·dropout(x)), or the Dropout alone."""
    weights = np.random.default_rng(3).standard_normal((6, 4)).astype(np.float32)
    nodes = [helper.make_node("Dropout", ["x", "ratio", "on"], ["d"], name="drop", seed=1)]
    if ends == "y":
        nodes += [
            helper.make_node("MatMul", ["d", "w"], ["m"]),
            helper.make_node("Relu", ["m"], ["y"]),
        ]
    constants = {"ratio": np.float32(ratio), "on": np.array(True), "w": weights}
    graph = helper.make_graph(
        nodes,
        "dropping",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6])],
        [helper.make_tensor_value_info(ends, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    path = folder / "dropping.onnx"
    imports = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    return path


def domain_for(path: Path) -> Domain:
    graph = load(path, random=True)
    return read_domain(graph, DomainOptions(inputs=("x=-1..1",)), ORT_CPU.format_of)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_real_runs_agree_once_their_masks_are_known(tmp_path: Path, ratio: float) -> None:
    path = dropping(tmp_path, ratio)
    graph, domain = load(path, random=True), domain_for(path)
    result = check(graph, domain, ORT_CPU, Tolerance(), OPTIONS)
    seen = agreement_of(graph, runtime_of(path, graph), domain, 200)
    assert seen.difference == 0.0
    assert 0.0 < seen.error <= result.bound < 1e-4
    assert result.worst_found is None or result.worst_found == 0.0


@pytest.mark.parametrize("contract", ["ieee-any", "ort-cpu"])
def test_what_is_kept_is_scaled_by_a_number_that_is_rounded(tmp_path: Path, contract: str) -> None:
    """Against rationals: the worst mask keeps everything, and 1 - 0.1f is not a float32."""
    path = dropping(tmp_path, 0.1, ends="d")
    graph, domain = load(path, random=True), domain_for(path)
    result = check(graph, domain, PRESETS[contract], Tolerance(), OPTIONS)
    x = np.ones((1, 6), np.float32)
    kept = np.float32(1) / (np.float32(1) - np.float32(0.1))  # as onnxruntime computes it
    exact = 1 / (1 - Fraction(float(np.float32(0.1))))
    (mask,) = graph.random_masks
    real = evaluate_exact(graph, {"x": x, mask: np.ones((1, 6), np.float32)}, Rationals())
    assert Fraction(str(real["d"].reshape(-1)[0])) == exact
    assert abs(Fraction(float(kept)) - exact) <= Fraction(result.bound)


def test_nothing_is_called_violated(tmp_path: Path) -> None:
    """No runtime can be told which mask to draw, so nothing is searched for, and that is said."""
    path = dropping(tmp_path, 0.5)
    graph, domain = load(path, random=True), domain_for(path)
    result = check(graph, domain, ORT_CPU, Tolerance(Fraction(1, 10**12)), OPTIONS)
    assert result.verdict is Verdict.UNKNOWN
    assert result.witness is None
    assert any("draws its masks itself" in note for note in result.notes)


def test_a_mask_is_no_input_of_the_users(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = dropping(tmp_path, 0.5)
    (box,) = domain_for(path).boxes
    assert np.all(box.lo["drop.mask"] == 0.0)
    assert np.all(box.hi["drop.mask"] == 1.0)
    arguments = ["bound", str(path), "--input", "-1..1", "--budget", "0"]
    assert run(arguments) is ExitCode.VERIFIED
    assert "every mask of zeros and ones" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", ["conform --contract ort-cpu", "probe"])
def test_commands_that_run_the_model_refuse_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    name, *options = command.split()
    assert run([name, str(dropping(tmp_path, 0.5)), *options]) is ExitCode.INPUT_ERROR
    assert "training mode is on" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("ratio", [1.0, -0.5])
def test_a_ratio_without_a_meaning_is_refused(tmp_path: Path, ratio: float) -> None:
    with pytest.raises(UnsupportedModel, match=r"node 'drop' \(Dropout\): its ratio"):
        load(dropping(tmp_path, ratio), random=True)
