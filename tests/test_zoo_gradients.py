"""The right gradients of the zoo are derivatives: central differences of the functions that their
stories name, in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gpu_check.runtimes.runtimes import OnnxRuntime

ZOO = Path(__file__).resolve().parents[1] / "examples" / "zoo"
Numbers = npt.NDArray[np.floating[Any]]
Function = Callable[[Numbers], Numbers]
STEP = 1e-6


def log_softmax(x: Numbers) -> Numbers:
    moved = x - x.max()
    return np.asarray(moved - np.log(np.exp(moved).sum()))


def norm(x: Numbers) -> Numbers:
    return np.sqrt(np.sum(x * x, keepdims=True) + 1e-2).reshape(1, 1)


FUNCTIONS: dict[str, tuple[str, Function, list[list[float]]]] = {
    "clamp-ends": ("x", lambda x: np.clip(x, -1, 1), [[0.25], [-0.75]]),
    "gradient-log-softmax": ("x", log_softmax, [[0.5, -1.0], [3.0, 2.0]]),
    "gradient-norm": ("x", norm, [[0.0, 0.0], [0.5, -0.25]]),
    "gradient-where-exp": (
        "a",
        lambda a: np.where(a <= 0, np.exp(np.minimum(a, 0)), 1 + a),
        [[-2.0], [0.0], [100.0]],
    ),
    "gradient-where-sqrt": (
        "x",
        lambda x: np.where(x > 0.0625, np.sqrt(np.maximum(x, 0.0625)), 0),
        [[0.0], [0.03], [0.5]],
    ),
}
"""By entry: the input that the gradient is by, the function, and points of that input."""


def slopes(function: Function, x: Numbers, upstream: Numbers) -> Numbers:
    """Central differences of Σ upstream·function."""
    found = np.zeros(x.size)
    for k in range(x.size):
        moved = np.zeros(x.size)
        moved[k] = STEP
        above, below = (function(x + sign * moved.reshape(x.shape)) for sign in (1, -1))
        found[k] = np.sum(upstream * (above - below)) / (2 * STEP)
    return found.reshape(x.shape)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_right_gradient_is_the_derivative(name: str) -> None:
    by, function, points = FUNCTIONS[name]
    for point in points:
        x = np.array([point])
        upstream = np.linspace(0.5, -0.75, function(x).size).reshape(function(x).shape)
        (found,) = ran(name, **{by: x, "upstream": upstream})
        assert np.allclose(found, slopes(function, x, upstream), rtol=1e-4, atol=1e-5)


def test_gradients_of_quotients_where_they_are_masked() -> None:
    """By the dividend, of which a quotient is linear."""
    half, two = np.array([[0.5]]), np.array([[2.0]])
    (found,) = ran("gradient-masked-division", upstream=half, d=half / 2)
    assert found == 2.0
    halves = np.array([[0.5, 0.5]])
    (found,) = ran("gradient-where-zero", upstream=halves, count=two)
    assert np.array_equal(found, [[0, 0.25]])
    (found,) = ran("gradient-where-zero", "wrong", upstream=halves, count=two)
    assert np.isnan(found[0, 0])  # as PyTorch's [NaN, 0.5]
    assert found[0, 1] == 0.25


def test_gradients_of_products_differences_and_normalisations() -> None:
    rng = np.random.default_rng(2)
    weight, up = np.array([[1.0, 2.0], [-0.5, 0.25]]), rng.normal(0, 1, (2, 2))
    (found,) = ran("matmul-gradient-axis", upstream=up)
    assert np.allclose(found, slopes(lambda x: x @ weight, rng.normal(0, 1, (2, 2)), up), atol=1e-5)
    p, t = rng.normal(0, 1, (1, 2)), rng.normal(0, 1, (1, 2))
    first, second = ran("difference-gradient-sign", prediction=p, target=t)
    ones = np.ones((1, 2))
    assert np.allclose(first, slopes(lambda v: (v - t) ** 2, p, ones), atol=1e-5)
    assert np.allclose(second, slopes(lambda v: (p - v) ** 2, t, ones), atol=1e-5)
    x, up = rng.normal(0, 1, (1, 4)), rng.normal(0, 1, (1, 4))
    normal = (x - x.mean()) / np.sqrt(x.var() + 1e-2)
    (found,) = ran("batchnorm-backward-epsilon", upstream=up, x=x)
    assert np.allclose(found, slopes(lambda scale: scale * normal, np.ones((1, 4)), up), atol=1e-5)
    x, up = rng.normal(0, 1, (2, 2)), rng.normal(0, 1, (2, 2))
    bias = np.array([[0.5, -0.5]])
    (found,) = ran("bias-gradient-broadcast", upstream=up, x=x)
    moved = bias - 0.125 * slopes(lambda b: x + b, bias, up)
    assert np.allclose(found, x + moved, atol=1e-5)


def ran(name: str, side: str = "right", /, **inputs: Numbers) -> list[Numbers]:
    given = {n: v.astype(np.float32) for n, v in inputs.items()}
    return [np.asarray(v) for v in OnnxRuntime(ZOO / name / f"{side}.onnx").run(given).values()]
