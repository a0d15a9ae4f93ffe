"""GroupNormalization as onnxruntime executes it: the variance is a difference, which cancels."""

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


def model(path: Path, opset: int, *, groups: int, channels: int, pixels: int) -> Path:
    """Scales and biases of 1 and 0, so that what is computed is the normalised row."""
    shape, count = [1, channels, pixels], groups if opset == 18 else channels
    stored = [
        numpy_helper.from_array(v, n)
        for n, v in (("s", np.ones(count, np.float32)), ("b", np.zeros(count, np.float32)))
    ]
    node = helper.make_node(
        "GroupNormalization", ["x", "s", "b"], ["y"], num_groups=groups, epsilon=EPSILON
    )
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in "xy"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.save(made, path)
    return path


def exact(x: np.ndarray, groups: int) -> np.ndarray:
    found = []
    for row in x.reshape(groups, -1).astype(np.float64).tolist():
        numbers = [Fraction(v) for v in row]
        mean = sum(numbers, Fraction(0)) / len(numbers)
        square = sum(((v - mean) ** 2 for v in numbers), Fraction(0)) / len(numbers)
        large = 10**40
        sigma = Fraction(isqrt(int((square + Fraction(EPSILON)) * large**2)), large)
        found += [float((v - mean) / sigma) for v in numbers]
    return np.asarray(found).reshape(x.shape)


@pytest.mark.parametrize("contract", [IEEE_ANY, ORT_CPU], ids=lambda c: str(c.name))
@pytest.mark.parametrize("offset", [0.0, 1.0, 10.0, 300.0, 40000.0])
@pytest.mark.parametrize("opset", [18, 21])
def test_onnxruntime_keeps_to_its_bounds(
    tmp_path: Path, opset: int, offset: float, contract: RuntimeContract
) -> None:
    rng = np.random.default_rng(int(offset))
    path = model(tmp_path / "m.onnx", opset, groups=2, channels=4, pixels=3)
    graph, session = load(path), ort.InferenceSession(path)
    for spread in (1e-3, 0.1, 3.0):
        middle = (offset + spread * rng.standard_normal((1, 4, 3))).astype(np.float32)
        low, high = (
            (middle + s * np.float32(0.01 * spread)).astype(np.float64) for s in (-1.0, 1.0)
        )
        box = InputBox({"x": Interval(low, high)}, {"x": np.zeros(low.shape)})
        bound = network_bounds(graph, box, contract).radii["y"].bound
        for _ in range(20):
            x = np.clip(
                (low + (high - low) * rng.uniform(size=low.shape)).astype(np.float32),
                low.astype(np.float32),
                high.astype(np.float32),
            )
            (run,) = session.run(None, {"x": x})
            off = np.abs(np.asarray(run, np.float64) - exact(x, 2))
            assert np.all((off <= bound) | np.isinf(bound))


def test_nothing_is_proved_where_the_difference_may_vanish(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", 21, groups=1, channels=2, pixels=2)
    x = np.arange(40000.0, 40004.0).reshape(1, 2, 2)
    box = InputBox({"x": Interval(x, x)}, {"x": np.zeros(x.shape)})
    assert np.all(np.isinf(network_bounds(load(path), box, IEEE_ANY).radii["y"].bound))
    near = x - 40001.0
    box = InputBox({"x": Interval(near, near)}, {"x": np.zeros(x.shape)})
    assert np.all(network_bounds(load(path), box, IEEE_ANY).radii["y"].bound < 1e-5)
