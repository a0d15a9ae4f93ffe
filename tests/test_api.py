"""The Python API: the command line's job as a function."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import small_models

import refine
from onnx_import import load


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return small_models.mlp(tmp_path / "net.onnx")


def test_the_three_answers(net: Path) -> None:
    assert refine.check_model(net, "-1..1", eps=1e-3).verdict is refine.Verdict.VERIFIED
    assert refine.check_model(str(net), "-1..1", eps="1e-12").verdict is refine.Verdict.VIOLATED
    assert refine.check_model(load(net), "-1..1", eps="3e-6").verdict is refine.Verdict.UNKNOWN


def test_a_bound_without_an_eps(net: Path) -> None:
    result = refine.check_model(net, refine.DomainOptions(center="0", radius="1"))
    assert 0 < result.bound < 1e-3
    assert json.loads(json.dumps(refine.document_of(result)))["bound"] == result.bound


def test_a_float_means_the_decimal_it_is_written_with(net: Path) -> None:
    result = refine.check_model(net, "-1..1", eps=1e-3)
    assert result.tolerance.common is not None
    assert result.tolerance.common * 1000 == 1


def test_an_eps_for_each_output(tmp_path: Path) -> None:
    model = small_models.two_outputs(tmp_path / "two.onnx")
    result = refine.check_model(model, "-1..1", eps={"small": 1e-6, "large": "1e-3"})
    assert result.verdict is refine.Verdict.VERIFIED


def test_errors_are_one_sentence(net: Path) -> None:
    for eps in (0, -1.0, float("nan"), float("inf"), "x", {"z": 1}):
        with pytest.raises(refine.ModelError, match="eps"):
            refine.check_model(net, "-1..1", eps=eps)
    with pytest.raises(refine.ModelError, match="quick"):
        refine.check_model(net, "-1..1", contract="quick")
    with pytest.raises(refine.ModelError, match=r"nowhere\.onnx"):
        refine.check_model("nowhere.onnx", "-1..1")
