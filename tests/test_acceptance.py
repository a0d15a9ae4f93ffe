"""What was promised of real networks. Their files are not part of the project: see MODELS."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from encoders.contract.presets import IEEE_ANY
from onnx_import import load
from refine.claims.kinds.accuracy import check
from refine.claims.options import Options
from refine.cli.main import run
from refine.domain.domain import DomainOptions, read_domain
from refine.lemmas.cache import default_directory
from refine.results.verdict import ExitCode, Result, Tolerance

MODELS = Path(__file__).resolve().parents[2] / "shared" / "models"
ACASXU = "acasxu/ACASXU_run2a_{}_batch_2000.onnx"
pytestmark = pytest.mark.skipif(not MODELS.exists(), reason=f"needs the models of {MODELS.name}")
BOUND_ONLY = Options(None, default_directory(), search=False)


def acasxu(eps: str, folder: Path) -> tuple[ExitCode, Any]:
    files = [str(MODELS / ACASXU.format("1_1")), "--vnnlib", str(MODELS / "acasxu/prop_3.vnnlib")]
    places = ["--json", str(folder / "r.json"), "--counterexample", str(folder / "c.json")]
    code = run(["check", *files, "--eps", eps, "--quiet", *places])
    return code, json.loads((folder / "r.json").read_text())


def test_a_generous_eps_is_verified(tmp_path: Path) -> None:
    code, document = acasxu("2e-2", tmp_path)
    assert code is ExitCode.VERIFIED
    assert document["bound"] <= 2e-2


def test_a_tiny_eps_is_violated_on_the_real_runtime_too(tmp_path: Path) -> None:
    code, document = acasxu("1e-8", tmp_path)
    assert code is ExitCode.VIOLATED
    found = document["counterexample"]
    assert found["error"]["low"] > 1e-8
    real = [r for r in found["replays"] if r["runtime"].startswith("onnxruntime")]
    assert real
    assert all(r["error"]["low"] > 1e-8 for r in real)
    again = ["replay", str(tmp_path / "c.json")]
    assert run(again) is ExitCode.INPUT_ERROR  # the model lies elsewhere, and nobody allowed that
    assert run([*again, "--model", str(MODELS / ACASXU.format("1_1"))]) is ExitCode.VIOLATED


def test_an_eps_in_between_is_unknown(tmp_path: Path) -> None:
    code, document = acasxu("1e-5", tmp_path)
    assert code is ExitCode.UNKNOWN
    assert 0 < document["worst_found"] <= 1e-5 < document["bound"] < 1e-1


def bound_of(model: str, vnnlib: str, options: Options = BOUND_ONLY) -> float:
    return result_of(model, vnnlib, options).bound


def result_of(model: str, vnnlib: str, options: Options = BOUND_ONLY) -> Result:
    graph = load(MODELS / model)
    domain = read_domain(graph, DomainOptions(vnnlib=str(MODELS / vnnlib)), IEEE_ANY.format_of)
    return check(graph, domain, IEEE_ANY, Tolerance(), options)


@pytest.mark.parametrize(
    ("model", "vnnlib", "promised"),
    [
        (ACASXU.format("1_1"), "acasxu/prop_3.vnnlib", "1.7e-2"),
        (ACASXU.format("1_1"), "acasxu/prop_4.vnnlib", "7.3e-3"),
        (ACASXU.format("3_3"), "acasxu/prop_4.vnnlib", "5.5e-4"),
        ("mnist_fc/mnist-net_256x2.onnx", "mnist_fc/prop_0_0.03.vnnlib", "2.3e-3"),
        ("mnist_fc/mnist-net_256x4.onnx", "mnist_fc/prop_0_0.03.vnnlib", "3.0e-4"),
    ],
)
def test_promised_bounds(model: str, vnnlib: str, promised: str) -> None:
    assert 0 < Fraction(bound_of(model, vnnlib)) <= Fraction(promised)


@pytest.mark.parametrize(
    ("model", "vnnlib", "factor"),
    [
        (
            "oval21/cifar_base_kw.onnx",
            "oval21/cifar_base_kw-img1697-eps0.0014379084967320263.vnnlib",
            1,
        ),
        ("cifar10_resnet/resnet_2b.onnx", "cifar10_resnet/prop_0_eps_0.008.vnnlib", 10),
    ],
)
def test_backward_substitution_beats_forward_composition(
    model: str, vnnlib: str, factor: int
) -> None:
    result = result_of(model, vnnlib)
    bound = result.bound
    assert len(result.to_html()) < 1_000_000  # a page that is sent by mail
    forward = bound_of(model, vnnlib, replace(BOUND_ONLY, backward=False))
    assert math.isfinite(bound)
    assert bound * factor < forward
