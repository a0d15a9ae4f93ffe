"""A normalisation's ε is part of what may overflow: where it is large, numbers of rows are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from encoders.contract.presets import IEEE_ANY
from encoders.numbers.enclosure import Interval
from onnx_import import load
from refine.bounds.network import InputBox, NetworkBounds, network_bounds

LARGE = 3.402e38
_F = np.float32


def model(path: Path, op: str, epsilon: float, *, half: bool = False) -> Path:
    """Of one row of three numbers."""
    kind, dtype = (np.float16, TensorProto.FLOAT16) if half else (np.float32, TensorProto.FLOAT)
    layer = op in ("LayerNormalization", "RMSNormalization")
    stored = {"s": np.ones(3 if layer else 1, kind)}
    given: dict[str, Any] = {"epsilon": epsilon}
    if not layer:
        stored["b"] = np.zeros(1, kind)
    elif half:
        given["stash_type"] = dtype
    if op == "GroupNormalization":
        given["num_groups"] = 1
    node = helper.make_node(op, ["x", *stored], ["y"], **given)
    ends = [helper.make_tensor_value_info(n, dtype, [1, 1, 3]) for n in "xy"]
    held = [numpy_helper.from_array(v, n) for n, v in stored.items()]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], held)
    opset = 18 if op == "GroupNormalization" else 23
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.save(made, path)
    return path


def bounds(path: Path, size: float) -> NetworkBounds:
    low, high = np.full((1, 1, 3), -size), np.full((1, 1, 3), size)
    box = InputBox({"x": Interval(low, high)}, {"x": np.zeros(low.shape)})
    return network_bounds(load(path), box, IEEE_ANY)


@pytest.mark.parametrize(
    "op",
    ["LayerNormalization", "RMSNormalization", "InstanceNormalization", "GroupNormalization"],
)
def test_a_variance_that_overflows_with_epsilon_has_no_bound(tmp_path: Path, op: str) -> None:
    path = model(tmp_path / "m.onnx", op, LARGE)
    size = float(_F(6e18))  # its square is far below what overflows, and n times it
    x = np.asarray([[[size, -size, 0.0]]], _F)
    (run,) = ort.InferenceSession(path).run(None, {"x": x})
    real = x.astype(np.float64) / np.sqrt(np.mean(x.astype(np.float64) ** 2) + LARGE)
    assert np.max(np.abs(run - real)) > 0.1  # σ is an infinity, and what it divides is 0
    assert np.all(np.isinf(bounds(path, size).radii["y"].bound))
    assert np.all(bounds(path, 1e17).radii["y"].bound < 1e-6)


@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization", "InstanceNormalization"])
def test_an_epsilon_that_the_format_does_not_hold_has_no_bound(tmp_path: Path, op: str) -> None:
    path = model(tmp_path / "m.onnx", op, 1e6, half=True)
    assert np.all(np.isinf(bounds(path, 1.0).radii["y"].bound))
    path = model(tmp_path / "m.onnx", op, 6e4, half=True)
    assert np.all(np.isfinite(bounds(path, 1.0).radii["y"].bound))
