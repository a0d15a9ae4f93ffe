"""Norms near zero: a root of squares moves as its coordinates do, wherever they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from small_models import save

from encoders.arithmetic.exact_fields import Balls
from encoders.contract.presets import IEEE_ANY, SEQUENTIAL, SEQUENTIAL_FMA
from encoders.numbers.enclosure import Interval
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_exact
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load
from refine.bounds.network import InputBox, network_bounds


def test_rows_that_may_be_constant_have_a_bound(tmp_path: Path) -> None:
    """Deviations of up to 2 and a variance that may be 0: its error says nothing of σ ≥ √ε."""
    node = helper.make_node("LayerNormalization", ["x", "s"], ["y"], name="ln", epsilon=1e-5)
    path = save(tmp_path / "m.onnx", [node], {"x": [1, 8]}, {"y": [1, 8]}, {"s": np.ones(8, "f4")})
    graph = load(path)
    shape, (low, high) = (1, 8), (19.0, 21.0)
    box = InputBox(
        {"x": Interval(np.full(shape, low), np.full(shape, high))}, {"x": np.zeros(shape)}
    )
    bound = float(network_bounds(graph, box, IEEE_ANY).largest)
    rng = np.random.default_rng(3)
    worst = 0.0
    for spread in np.repeat([1.0, 1e-2, 1e-3, 1e-4], 10):
        x = (20.0 + spread * rng.uniform(-1, 1, shape)).astype(np.float32)
        real = evaluate_exact(graph, {"x": x}, Balls())["y"].reshape(-1)
        run = emulate(graph, {"x": x[np.newaxis]}, SEQUENTIAL)["y"].reshape(-1)
        for ideal, computed in zip(real, run, strict=True):
            worst = max(worst, abs(float((ideal - float(computed)).mid())))
    assert 1e-5 < worst < bound < 1000 * worst


def squared(how: str, x: str, y: str) -> onnx.NodeProto:
    inputs = {"Mul": [x, x], "Pow": [x, "two"]}[how]
    return helper.make_node(how, inputs, [y], name=f"{how}_{y}")


SUMS = {
    "Add": [helper.make_node("Add", ["p", "q"], ["s"])],
    "Sum": [helper.make_node("Sum", ["p", "q", "p"], ["s"])],
    "ReduceSum": [
        helper.make_node("Concat", ["p", "q"], ["c"], axis=0),
        helper.make_node("ReduceSum", ["c", "axis"], ["s"]),
    ],
    "ReduceMean": [
        helper.make_node("Concat", ["p", "q"], ["c"], axis=0),
        helper.make_node("Reshape", ["c", "flat"], ["d"]),
        helper.make_node("ReduceMean", ["d"], ["s"], axes=[0]),
    ],
    "with a constant": [
        helper.make_node("Add", ["p", "q"], ["t"]),
        helper.make_node("Add", ["t", "tiny"], ["s"]),
    ],
    "of a part": [
        helper.make_node("Slice", ["p", "one", "four", "last"], ["pp"]),
        helper.make_node("Slice", ["q", "one", "four", "last"], ["qq"]),
        helper.make_node("Add", ["pp", "qq"], ["s"]),
    ],
}
STORED = {
    "two": np.array(2, np.float32),
    "tiny": np.array(1e-30, np.float32),
    "axis": np.array([0], np.int64),
    "flat": np.array([-1, 4], np.int64),
    "one": np.array([1], np.int64),
    "four": np.array([4], np.int64),
    "last": np.array([1], np.int64),
    "w": np.random.default_rng(5).uniform(-1, 1, (4, 4)).astype(np.float32),
}


@pytest.mark.parametrize("how", ["Mul", "Pow"])
@pytest.mark.parametrize("total", SUMS)
@pytest.mark.parametrize("radius", [1e-3, 1e-19])
def test_a_magnitude_near_zero_is_off_as_its_parts_are(
    how: str, total: str, radius: float, tmp_path: Path
) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        squared(how, "a", "p"),
        squared(how, "x", "q"),
        *SUMS[total],
        helper.make_node("Sqrt", ["s"], ["y"]),
    ]
    used = {name for node in nodes for name in node.input}
    stored = {name: array for name, array in STORED.items() if name in used}
    path = save(tmp_path / "m.onnx", nodes, {"x": [2, 4]}, {"y": None}, stored)
    graph = load(path)
    shape = (2, 4)
    box = InputBox(
        {"x": Interval(np.full(shape, -radius), np.full(shape, radius))}, {"x": np.zeros(shape)}
    )
    bound = network_bounds(graph, box, IEEE_ANY).errors["y"].reshape(-1)
    if radius > 1e-10:
        assert np.max(bound) < 1e-5 * radius
    rng = np.random.default_rng(7)
    runtime = OnnxRuntime(path)
    for size in (1.0, 1.0, 1e-2, 1e-4, 0.0):
        x = (radius * size * rng.uniform(-1, 1, shape)).astype(np.float32)
        x = np.clip(x, -radius, radius).astype(np.float32)
        real = evaluate_exact(graph, {"x": x}, Balls())["y"].reshape(-1)
        runs = [emulate(graph, {"x": x[np.newaxis]}, c)["y"] for c in (SEQUENTIAL, SEQUENTIAL_FMA)]
        runs.append(runtime.run({"x": x})["y"])
        for run in runs:
            off = [abs(float((r - float(c)).mid())) for r, c in zip(real, run.flat, strict=True)]
            assert np.all(np.array(off) <= bound * (1 + 1e-9))
