"""LayerNormalization of short rows in onnxruntime: moments are kept from number to number."""

from __future__ import annotations

from fractions import Fraction
from math import isqrt
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import IEEE_ANY, ORT_CPU
from encoders.numbers.enclosure import Interval
from onnx_import import load
from refine.bounds.network import InputBox, network_bounds

EPSILON = float(np.float32(1e-5))


def model(path: Path, length: int) -> Path:
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, length]) for n in "xy"]
    stored = [numpy_helper.from_array(np.ones(length, np.float32), "s")]
    node = helper.make_node("LayerNormalization", ["x", "s"], ["y"], epsilon=EPSILON)
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, path)
    return path


def exact(x: np.ndarray) -> np.ndarray:
    numbers = [Fraction(v) for v in x.reshape(-1).astype(np.float64).tolist()]
    mean = sum(numbers, Fraction(0)) / len(numbers)
    square = sum(((v - mean) ** 2 for v in numbers), Fraction(0)) / len(numbers)
    large = 10**40
    sigma = Fraction(isqrt(int((square + Fraction(EPSILON)) * large**2)), large)
    return np.asarray([float((v - mean) / sigma) for v in numbers]).reshape(x.shape)


@pytest.mark.parametrize("contract", [IEEE_ANY, ORT_CPU], ids=lambda c: str(c.name))
@pytest.mark.parametrize("length", [2, 3, 5, 7, 8, 9])
def test_onnxruntime_keeps_to_its_bounds(
    tmp_path: Path, length: int, contract: RuntimeContract
) -> None:
    rng = np.random.default_rng(length)
    path = model(tmp_path / "m.onnx", length)
    graph, session = load(path), ort.InferenceSession(path)
    for _ in range(60):
        offset = 10.0 ** rng.uniform(-1.0, 6.5)
        spread = offset * 2.0**-23 * 10.0 ** rng.uniform(-0.3, 4.0)
        x = (offset + spread * rng.standard_normal((1, length))).astype(np.float32)
        at = x.astype(np.float64)
        box = InputBox({"x": Interval(at, at)}, {"x": np.zeros(at.shape)})
        bound = network_bounds(graph, box, contract).radii["y"].bound
        (run,) = session.run(None, {"x": x})
        off = np.abs(np.asarray(run, np.float64) - exact(x))
        assert np.all((off <= bound) | np.isinf(bound))


def test_nothing_is_proved_where_a_variance_may_vanish(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", 2)
    x = np.asarray([[1805712.375, 1805712.5]], np.float32)
    (run,) = ort.InferenceSession(path).run(None, {"x": x})
    assert np.max(np.abs(np.asarray(run))) > 30.0  # a row of two numbers is at most 1
    at = x.astype(np.float64)
    box = InputBox({"x": Interval(at, at)}, {"x": np.zeros(at.shape)})
    for contract in (IEEE_ANY, ORT_CPU):
        assert np.all(np.isinf(network_bounds(load(path), box, contract).radii["y"].bound))
    near = at - 1805712.0
    box = InputBox({"x": Interval(near, near)}, {"x": np.zeros(at.shape)})
    assert np.all(network_bounds(load(path), box, IEEE_ANY).radii["y"].bound < 1e-3)
