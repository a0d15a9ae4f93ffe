"""The floor of worst-case bounds: W is what it says it is, and no bound is below it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from floor import Effort, floor_of
from onnx import helper
from recorded import half_ulp
from sensitivities import executed
from small_models import mlp, save

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.presets import PRESETS
from encoders.numbers.formats import BINARY16, BINARY32
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_real
from onnx_import import load
from refine.claims.kinds.accuracy import check
from refine.claims.options import Options
from refine.domain.domain import DomainOptions, read_domain
from refine.lemmas.cache import default_directory
from refine.results.verdict import Tolerance

MODELS = Path(__file__).parents[2] / "shared" / "models"
CONTRACTS = ("ieee-any", "sequential", "sequential-fma", "ort-cpu")


def _smooth(path: Path) -> Path:
    rng = np.random.default_rng(5)
    nodes = [
        helper.make_node("Gemm", ["x", "a", "b"], ["h"]),
        helper.make_node("Sigmoid", ["h"], ["s"]),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("Mul", ["s", "t"], ["m"]),
        helper.make_node("MatMul", ["m", "c"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"], axis=-1),
        helper.make_node("Div", ["z", "d"], ["q"]),
        helper.make_node("Add", ["p", "q"], ["y"]),
    ]
    weights = {
        "a": rng.normal(size=(3, 6)).astype(np.float32),
        "b": rng.normal(size=6).astype(np.float32),
        "c": rng.normal(size=(6, 4)).astype(np.float32),
        "d": np.array([3.0, 5.0, 7.0, 11.0], np.float32),
    }
    return save(path, nodes, {"x": [1, 3]}, {"y": [1, 4]}, weights)


def _convolution(path: Path) -> Path:
    rng = np.random.default_rng(6)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["m"], ["y"]),
    ]
    weights = {
        "w": rng.normal(size=(3, 2, 3, 3)).astype(np.float32),
        "b": rng.normal(size=3).astype(np.float32),
    }
    return save(path, nodes, {"x": [1, 2, 4, 4]}, {"y": [1, 3, 1, 1]}, weights)


MAKERS = {
    "dense": lambda path: mlp(path, (3, 12, 8, 2), seed=1),
    "smooth": _smooth,
    "convolution": _convolution,
}


def _drawn(graph: Any, count: int) -> dict[str, Any]:
    rng = np.random.default_rng(7)
    return {
        name: rng.uniform(-1, 1, (count, *graph.types[name].shape)).astype(np.float32)
        for name in graph.inputs
    }


@pytest.mark.parametrize("fmt", [BINARY16, BINARY32])
def test_half_an_ulp_is_the_most_that_rounding_changes(fmt: Any) -> None:
    ends = np.array([1.0, 1.5, 2.0 - 2.0**-9, 2.0**fmt.emin, 2.0 ** (fmt.emin - 2), 3e-3, 0.0])
    spacing = 2.0 ** (np.maximum(np.floor(np.log2(np.maximum(ends, 1e-300))), fmt.emin))
    spacing *= 2.0 ** (1 - fmt.precision)
    found = half_ulp(ends, fmt)
    assert np.all(found <= spacing / 2)
    assert np.all(found[:-1] >= spacing[:-1] / 2 * (1 - 2.0**-10))
    assert found[-1] == 0


@pytest.mark.parametrize("contract", ["sequential", "sequential-fma"])
def test_loudness_of_a_dense_network_is_a_sum_by_hand(tmp_path: Path, contract: str) -> None:
    path = mlp(tmp_path / "m.onnx", (3, 5, 1), seed=3)
    graph = load(path)
    x = _drawn(graph, 1)["x"].astype(np.float64)
    weights = [np.asarray(v, np.float64) for v in graph.constants.values() if v.dtype.kind == "f"]
    (w1, b1), (w2, b2) = weights[:2], weights[2:]

    def row(values: Any, column: Any, bias: float) -> tuple[float, float]:
        total, lost = 0.0, 0.0
        for k, (v, w) in enumerate(zip(values, column, strict=True)):
            total += v * w
            if contract == "sequential":
                lost += _half(v * w)
            if contract == "sequential-fma" or k:
                lost += _half(total) if v * w else 0.0
        return total + bias, lost + (_half(total + bias) if bias else 0.0)

    hidden = [row(x[0, 0] if x.ndim == 3 else x[0], w1[:, j], b1.ravel()[j]) for j in range(5)]
    kept = [max(v, 0.0) for v, _ in hidden]
    out, last = row(kept, w2[:, 0], b2.ravel()[0])
    wanted = last + sum(
        abs(w) * lost for w, (v, lost) in zip(w2[:, 0], hidden, strict=True) if v > 0
    )
    made = executed(graph, {"x": x}, PRESETS[contract])
    (name,) = graph.outputs
    assert made.outputs[name].value.ravel()[0] == pytest.approx(out, rel=1e-12)
    assert made.loudness(name, 0)[0] == pytest.approx(wanted, rel=1e-6)


def _half(value: float) -> float:
    return float(2.0 ** (np.floor(np.log2(abs(value))) - 24)) if value else 0.0


@pytest.mark.parametrize("kind", MAKERS)
def test_rounded_inputs_weigh_by_the_derivative(tmp_path: Path, kind: str) -> None:
    graph = load(MAKERS[kind](tmp_path / "m.onnx"))
    contract, points = PRESETS["sequential"], _drawn(graph, 1)
    exact = {n: v.astype(np.float64) for n, v in points.items()}
    (output,) = graph.outputs
    without = executed(graph, exact, contract).loudness(output, 0)[0]
    with_inputs = executed(graph, exact, contract, rounded_inputs=True).loudness(output, 0)[0]
    (name,) = graph.inputs
    slopes, step = np.zeros(exact[name].size), 1e-6
    for k in range(slopes.size):
        ends = []
        for sign in (1, -1):
            moved = exact[name].copy()
            moved.ravel()[k] += sign * step
            found = evaluate_real(graph, {name: moved}, ApproximateReals())
            ends.append(np.asarray(found[output]).ravel()[0])
        slopes[k] = (ends[0] - ends[1]) / (2 * step)
    wanted = np.sum(np.abs(slopes) * half_ulp(exact[name].ravel(), BINARY32))
    assert with_inputs - without == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("contract", ["sequential", "sequential-fma", "pairwise"])
def test_no_execution_is_further_than_its_loudness(
    tmp_path: Path, kind: str, contract: str
) -> None:
    """To first order; the second is far below a thousandth here."""
    graph = load(MAKERS[kind](tmp_path / "m.onnx"))
    points = _drawn(graph, 100)
    ran = emulate(graph, points, PRESETS[contract])
    exact = {n: v.astype(np.float64) for n, v in points.items()}
    real = evaluate_real(graph, exact, ApproximateReals())
    made = executed(graph, exact, PRESETS[contract])
    (output,) = graph.outputs
    wrong = np.abs(ran[output].astype(np.float64) - real[output]).reshape(100, -1)
    for element in range(wrong.shape[1]):
        assert np.all(wrong[:, element] <= made.loudness(output, element) * 1.001)


@pytest.mark.parametrize("kind", MAKERS)
def test_the_floor_is_never_above_the_bound(tmp_path: Path, kind: str) -> None:
    graph = load(MAKERS[kind](tmp_path / "m.onnx"))
    effort = Effort(starts=6, batches=2, steps=12, outputs=1)
    for name in CONTRACTS:
        contract = PRESETS[name]
        for width in ("0", "0.01", "1"):
            asked = DomainOptions(center="0.3", radius=width)
            domain = read_domain(graph, asked, contract.format_of)
            floor = floor_of(graph, domain, contract, effort)
            options = Options(None, default_directory(), budget=0.0, search=False)
            bound = check(graph, domain, contract, Tolerance(), options).bound
            assert floor.value > 0
            if width != "0" or name == "ieee-any":  # one execution at a point is no worst case
                assert floor.value <= bound * (1 + 1e-9), (name, width)
            if width == "0":
                assert bound <= 2 * floor.value


def test_the_floor_of_a_published_network() -> None:
    if not MODELS.exists():
        pytest.skip(f"no models in {MODELS}")
    graph = load(MODELS / "acasxu" / "ACASXU_run2a_1_1_batch_2000.onnx")
    contract = PRESETS["sequential-fma"]
    asked = DomainOptions(vnnlib=str(MODELS / "acasxu" / "prop_3.vnnlib"))
    domain = read_domain(graph, asked, contract.format_of)
    floor = floor_of(graph, domain, contract, Effort(starts=8, batches=2, steps=12, outputs=1))
    options = Options(None, default_directory(), search=False)
    assert 6e-6 < floor.value <= check(graph, domain, contract, Tolerance(), options).bound
