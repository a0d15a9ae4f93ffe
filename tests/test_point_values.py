"""Real values at a point, evaluated in balls, and what bounds make of them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import flint
import numpy as np
import pytest
from onnx import helper
from small_models import save

from encoders.contract.presets import PRESETS
from encoders.lemmas.differences import GIVEN_ERROR
from encoders.lemmas.kernel import apply
from encoders.numbers.enclosure import Interval, point
from encoders.relaxations.hinges import hinge_differences
from gpu_check.emulator.emulator import emulate
from onnx_import import load
from onnx_import.graph import Graph
from refine.bounds.evaluated import enclosed, values_at
from refine.bounds.network import InputBox, network_bounds

_HARD = (
    flint.arb(2) ** -5000,
    flint.arb(0),
    flint.arb(1) / 3,
    flint.arb(2) ** 1024 - flint.arb(2) ** 960,
    -(flint.arb(2) ** 1025),
    flint.arb(-7, 0.25),
    flint.arb(3) * flint.arb(2) ** -1076,
)


def _rational(number: flint.arb) -> Fraction:
    mantissa, exponent = number.man_exp()
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


def test_ends_around_balls_are_outward() -> None:
    found = enclosed(np.array(_HARD, dtype=object))
    for ball, lo, hi in zip(_HARD, found.lo, found.hi, strict=True):
        low, high = (_rational(end) for end in (ball.lower(), ball.upper()))
        assert lo == -np.inf or Fraction(lo) <= low
        assert hi == np.inf or high <= Fraction(hi)
    assert found.lo[1] == found.hi[1] == 0.0


@pytest.fixture
def network(tmp_path: Path) -> Graph:
    """Convolution, PRelu, pooling and a dense layer, of random numbers."""
    rng = np.random.default_rng(3)
    shapes = {"w": (4, 1, 3, 3), "b": (4,), "s": (4, 1, 1), "v": (36, 5)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"]),
        helper.make_node("PRelu", ["c", "s"], ["p"]),
        helper.make_node("MaxPool", ["p"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["y"]),
    ]
    held = {n: (0.4 * rng.standard_normal(s)).astype(np.float32) for n, s in shapes.items()}
    return load(save(tmp_path / "net.onnx", nodes, {"x": [1, 1, 8, 8]}, {"y": [1, 5]}, held))


def _box(graph: Graph, x: np.ndarray, radius: float = 0.0) -> InputBox:
    wide = x.astype(np.float64)
    return InputBox({"x": Interval(wide - radius, wide + radius)}, {"x": np.zeros(x.shape)})


@pytest.mark.parametrize("contract", ["sequential", "sequential-fma", "cuda-tf32"])
def test_bounds_at_a_point_hold_and_are_near_those_of_a_tiny_box(
    network: Graph, contract: str
) -> None:
    rng = np.random.default_rng(4)
    rules = PRESETS[contract]
    for _ in range(5):
        x = rng.uniform(-1, 1, (1, 1, 8, 8)).astype(np.float32)
        at = network_bounds(network, _box(network, x), rules)
        around = network_bounds(network, _box(network, x, radius=2.0**-60), rules)
        assert np.all(at.errors["y"] <= 1.05 * around.errors["y"])
        width = at.maps.values["y"].hi - at.maps.values["y"].lo
        assert np.all(width <= 2.0**-48 * at.maps.values["y"].magnitude)
        if contract == "cuda-tf32":
            continue
        ran = emulate(network, {"x": x[None]}, rules)["y"][0].astype(np.float64)
        allowed = at.maps.values["y"].inflate(at.errors["y"])
        assert np.all((allowed.lo <= ran) & (ran <= allowed.hi))


def test_nothing_is_evaluated_where_an_input_varies(network: Graph) -> None:
    x = np.zeros((1, 1, 8, 8))
    assert not values_at(network, {"x": Interval(x, x + 1.0)})
    assert set(values_at(network, {"x": point(x)})) >= {"c", "p", "m", "f", "y"}


def test_a_hinge_whose_slopes_nearly_agree_has_a_bound() -> None:
    """Slopes near 1 left no room for the rounding of the middle one."""
    rng = np.random.default_rng(5)
    below = (1 + 0.3 * rng.standard_normal(4000)).astype(np.float32).astype(np.float64)
    x, error = 1e-3 * rng.standard_normal(4000), np.abs(2e-3 * rng.standard_normal(4000))
    radius = hinge_differences(below, point(x), apply(GIVEN_ERROR, U=error)).radius.bound
    most = np.maximum(np.abs(below), 1.0) + 0.5 * np.abs(1.0 - below)
    assert np.all(radius <= (1 + 1e-9) * most * error)
