"""Numbers of the type double, where onnxruntime has no kernel and runs ONNX's function instead, or
one that computes with numbers of float32: what is proved of an operator holds of what is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from small_models import settled

from encoders.contract.presets import IEEE_ANY, ORT_CPU
from gpu_check.runtimes.runtimes import OnnxRuntime, RuntimeUnavailable
from onnx_import import load
from onnx_import.errors import UnsupportedModel
from refine.bounds.point_bounds import bound_at
from refine.results.verdict import Verdict
from refine.witness.witness import error_between, real_outputs

ELEMENTWISE: dict[str, tuple[dict[str, Any], ...]] = {
    **{op: ({},) for op in ("HardSwish", "Mish", "Sigmoid", "Softplus", "Softsign", "Tanh")},
    "Celu": ({}, {"alpha": 0.3}),
    "Elu": ({}, {"alpha": 0.3}),
    "Gelu": ({}, {"approximate": "tanh"}),
    "HardSigmoid": ({}, {"alpha": 0.7, "beta": 0.1}),
    "LeakyRelu": ({"alpha": 0.3},),
    "Selu": ({}, {"alpha": 2.3, "gamma": 0.7}),
    "Swish": ({}, {"alpha": 1.7}),
    "ThresholdedRelu": ({"alpha": 0.7},),
}
OPSETS = (18, 20, 21, 24)  # which of them are functions, and of which nodes, depends on these
POINTS = np.concatenate(
    [[0.0], np.linspace(-60, 60, 241), *(s * np.exp2(np.arange(-40.0, 5.0)) for s in (1, -1))]
)


def model(op: str, opset: int, folder: Path, domain: str = "", **attributes: Any) -> Path:
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"], domain=domain, **attributes)],
        op,
        [helper.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, POINTS.shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.DOUBLE, POINTS.shape)],
    )
    opsets = [helper.make_opsetid("", opset)] + [helper.make_opsetid(d, 1) for d in [domain] if d]
    path = folder / f"{op}-{opset}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


@pytest.mark.parametrize("op", ELEMENTWISE)
def test_what_runs_in_double_keeps_to_the_bound(op: str, tmp_path: Path) -> None:
    ran = 0
    for opset in OPSETS:
        for attributes in ELEMENTWISE[op]:
            path = model(op, opset, tmp_path, **attributes)
            try:
                run = OnnxRuntime(path).run({"x": POINTS})["y"]
            except RuntimeUnavailable:
                continue
            graph = load(path)
            exact = real_outputs(graph, {"x": POINTS})["y"]
            errors = [error_between(float(r), e) for r, e in zip(run, exact, strict=True)]
            for contract in (IEEE_ANY, ORT_CPU):
                bound = bound_at(graph, {"x": POINTS}, contract)["y"]
                assert np.all(np.isfinite(bound))
                over = [
                    (x, e) for x, e, b in zip(POINTS, errors, bound, strict=True) if float(e.lo) > b
                ]
                assert not over, (opset, attributes)
            ran += 1
    assert ran or op in ("Celu", "Swish")  # of which onnxruntime has no function of doubles, either


def test_a_softplus_of_doubles_overflows_at_800(tmp_path: Path) -> None:
    path = model("Softplus", 18, tmp_path)
    far = np.full(POINTS.shape, 800.0)
    assert np.all(np.isinf(OnnxRuntime(path).run({"x": far})["y"]))
    assert np.all(np.isinf(bound_at(load(path), {"x": far}, IEEE_ANY)["y"]))


@pytest.mark.parametrize(("op", "domain"), [("Shrink", ""), ("FastGelu", "com.microsoft")])
def test_what_runs_with_other_numbers_is_refused(op: str, domain: str, tmp_path: Path) -> None:
    path = model(op, 18, tmp_path, domain)
    with pytest.raises(UnsupportedModel, match="float32"):
        load(path)


def test_a_softplus_of_float16_may_overflow_in_the_power(tmp_path: Path) -> None:
    """In float32, in which onnxruntime runs ONNX's function at opset 18."""
    text = (
        '<ir_version: 10, opset_import: ["": 18]> '
        "net (float16[2] x) => (float16[2] y) {y = Softplus(x)}"
    )
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    assert np.any(
        np.isinf(OnnxRuntime(tmp_path / "m.onnx").run({"x": np.full(2, 90, np.float16)})["y"])
    )
    assert settled(tmp_path / "m.onnx", "0..90").verdict is not Verdict.VERIFIED
    assert settled(tmp_path / "m.onnx", "0..80").verdict is Verdict.VERIFIED
