"""Norms near zero: a root of squares moves as its coordinates do, wherever they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper
from small_models import save

from encoders.arithmetic.exact_fields import Balls
from encoders.contract.presets import IEEE_ANY, SEQUENTIAL
from encoders.numbers.enclosure import Interval
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_exact
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
