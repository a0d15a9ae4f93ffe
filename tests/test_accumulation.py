"""Nodes that compute in a wider format than their tensors have: contracts `fp16` and `bf16`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from half_copies import half_copy
from operator_checks import Example, box_of, ends, exact_values, graph_of, points

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.arithmetic.numpy_arithmetic import NumpyArithmetic
from encoders.contract.contract import BiasPlacement, RuntimeContract
from encoders.contract.members import members
from encoders.contract.presets import BF16, EXACT, FP16, IEEE_ANY, SEQUENTIAL, SEQUENTIAL_FMA
from encoders.numbers.formats import BFLOAT16, BINARY16, BINARY32, FloatFormat, round_fraction
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_real
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load
from onnx_import.graph import Graph
from refine.bounds.alpha import Branching
from refine.bounds.network import network_bounds
from refine.domain.domain import DomainOptions, read_domain
from refine.pair.comparison import comparison
from refine.pair.pair import pair_of
from refine.proof.proof import input_box
from refine.results.verdict import Side

MNIST = Path(__file__).resolve().parents[2] / "shared" / "models" / "mnist_fc"
NORM = Example(
    "norm", (("LayerNormalization", "x s b", "y", {}),), {"x": (2, 8)},
    {"s": np.linspace(0.5, 2, 8), "b": np.linspace(-1, 1, 8)}, 0.5, 0.75, 17, exact=False,
    rational=False,
)  # fmt: skip
LONG = Example(
    "long", (("MatMul", "x W", "h", {}), ("Relu", "h", "y", {})), {"x": (2, 500)},
    {"W": np.random.default_rng(3).standard_normal((500, 3))}, 0.5, 0.625,
)  # fmt: skip
MEAN = Example("mean", (("ReduceMean", "x", "y", {"axes": [1]}),), {"x": (2, 300)}, {}, opset=13)
SOFTMAX = Example(
    "softmax", (("Softmax", "x", "y", {"axis": 1}),), {"x": (2, 40)}, {}, exact=False,
    rational=False,
)  # fmt: skip


def rounded(value: Fraction, fmt: FloatFormat) -> Fraction:
    result = round_fraction(value, fmt)
    assert isinstance(result, Fraction)
    return result


def dot(
    x: np.ndarray, w: np.ndarray, bias: Any, narrow: FloatFormat, fused: bool, first: bool
) -> Fraction:
    """A sequential dot product in binary32 on rationals, rounded to `narrow` in the end."""
    total = Fraction(float(bias)) if first else None
    for a, b in zip(x, w, strict=True):
        exact = Fraction(float(a)) * Fraction(float(b))
        product = exact if fused and total is not None else rounded(exact, BINARY32)
        total = product if total is None else rounded(total + product, BINARY32)
    assert total is not None
    whole = total if first else rounded(total + Fraction(float(bias)), BINARY32)
    return rounded(whole, narrow)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("placement", [BiasPlacement.LAST, BiasPlacement.FIRST])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_a_product_is_rounded_once_to_the_tensors_type(
    fused: bool, placement: BiasPlacement, dtype: Any
) -> None:
    rng = np.random.default_rng(7)
    scale = 2.0 ** rng.integers(-9, 4, (1, 30))
    x = (rng.standard_normal((1, 30)) * scale).astype(dtype)
    w, b = rng.standard_normal((30, 6)).astype(dtype), rng.standard_normal(6).astype(dtype)
    narrow = BINARY16 if dtype is np.float16 else BFLOAT16
    base = SEQUENTIAL_FMA if fused else SEQUENTIAL
    contract = replace(base, bias=placement, accumulation=BINARY32)
    gemm = Example("gemm", (("Gemm", "x W b", "y", {}),), {"x": (1, 30)}, {"W": w, "b": b})
    graph, _ = graph_of(gemm, dtype)
    got = emulate(graph, {"x": x[None]}, contract)["y"][0, 0]
    first = placement is BiasPlacement.FIRST
    want = [dot(x[0], w[:, j], b[j], narrow, fused, first) for j in range(6)]
    assert [Fraction(float(v)) for v in got] == want


def test_fused_chains_of_short_numbers_are_the_steps_one_by_one() -> None:
    rng = np.random.default_rng(5)
    fused = NumpyArithmetic(BINARY32, SEQUENTIAL_FMA)
    for low in (-24, -4, -75):  # the last: products that binary32 cannot hold
        numbers = np.ldexp(rng.integers(-2047, 2048, (2, 40, 9)), rng.integers(low, 5, (2, 40, 9)))
        a, b = numbers.astype(np.float32)
        pairs = list(zip(a, b, strict=True))
        total = fused.multiply(*pairs[0])
        for x, y in pairs[1:]:
            total = fused.multiply_add(x, y, total)
        chain = fused.chain(pairs, None)
        assert chain is None or np.array_equal(chain, total)


def judged(case: Example, dtype: Any, contract: RuntimeContract) -> Iterator[tuple[float, float]]:
    """Largest error and its limit, per output element and execution."""
    graph, raw = graph_of(case, dtype)
    inputs = points(case, graph, 6, seed=5)
    limits = network_bounds(graph, box_of(case, graph), contract).errors
    runs = [emulate(graph, inputs, execution) for execution in members(contract)]
    if dtype is np.float16:
        runtime = OnnxRuntime(raw)
        shown = [runtime.run({t: v[i] for t, v in inputs.items()}) for i in range(6)]
        runs.append({t: np.stack([s[t] for s in shown]) for t in graph.outputs})
    for i, exact in enumerate(exact_values(case, graph, inputs)):
        low, high = ends(exact["y"])
        for run in runs:
            value = np.asarray(run["y"][i], np.float64)
            for at in np.ndindex(*value.shape):
                v = Fraction(float(value[at]))
                yield float(max(v - high[at], low[at] - v)), float(limits["y"][at])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("case", [LONG, MEAN, SOFTMAX, NORM], ids=lambda c: c.name)
def test_executions_and_onnxruntime_stay_within_the_bound(case: Example, dtype: Any) -> None:
    """One node, or a node and a Relu, so that onnxruntime has no rounding to leave out."""
    contract = FP16 if dtype is np.float16 else BF16
    found = list(judged(case, dtype, contract))
    assert all(error <= limit for error, limit in found)
    assert 0 < max(limit for _, limit in found) < 30 * max(error for error, _ in found)


def test_long_sums_are_hundreds_of_times_better_than_in_the_tensors_type() -> None:
    graph, _ = graph_of(LONG, np.float16)
    wide, narrow = (network_bounds(graph, box_of(LONG, graph), c).largest for c in (FP16, IEEE_ANY))
    assert 100 * wide < narrow


def test_contracts_without_wider_sums_are_as_before() -> None:
    """Accumulating float32 tensors in float32, or rounding nothing, changes no bound."""
    graph, _ = graph_of(LONG)
    same = replace(IEEE_ANY, accumulation=BINARY32)
    boxes = box_of(LONG, graph)
    assert (
        network_bounds(graph, boxes, same).largest == network_bounds(graph, boxes, IEEE_ANY).largest
    )


def test_weights_in_another_format_are_rounded_before_anything_else() -> None:
    graph, _ = graph_of(LONG)
    contract = replace(IEEE_ANY, stored_format=BINARY16)
    inputs = points(LONG, graph, 4)
    limit = network_bounds(graph, box_of(LONG, graph), contract).errors["y"]
    plain = network_bounds(graph, box_of(LONG, graph), IEEE_ANY).errors["y"]
    for execution in members(contract):
        computed = emulate(graph, inputs, execution)["y"]
        held = graph.constants["W"].astype(np.float16).astype(np.float64)
        assert np.allclose(computed, np.maximum(inputs["x"] @ held, 0), atol=1e-4)
        for i, exact in enumerate(exact_values(LONG, graph, inputs)):
            low, high = ends(exact["y"])
            for at in np.ndindex(*limit.shape):
                v = Fraction(float(computed[i][at]))
                assert max(v - low[at], high[at] - v) <= Fraction(float(limit[at]))
    assert np.all(limit > plain)


def largest_difference(spec: Graph, impl: Graph, points: dict[str, Any]) -> float:
    real = evaluate_real(spec, points, ApproximateReals())
    typed = {t: v.astype(np.float32) for t, v in points.items()}
    runs = [emulate(impl, typed, execution) for execution in members(FP16)[:2]]
    return max(
        float(np.max(np.abs(np.asarray(run[a], np.float64) - np.asarray(real[b], np.float64))))
        for run in runs
        for a, b in zip(impl.outputs, spec.outputs, strict=True)
    )


@pytest.mark.skipif(not MNIST.is_dir(), reason="the mnist_fc models are not here")
def test_mnist_against_its_copy_in_float16(tmp_path: Path) -> None:
    source = MNIST / "mnist-net_256x4.onnx"
    spec, impl = load(source), load(half_copy(source, tmp_path / "half.onnx"))
    options = DomainOptions(vnnlib=str(MNIST / "prop_0_0.03.vnnlib"))
    domain = read_domain(impl, options, FP16.format_of)
    (box,) = domain.boxes
    problem = comparison(pair_of(Side(spec, EXACT), Side(impl, FP16)))
    tried = Branching(steps=8, cases=64)
    bound = problem.bounds(input_box(box, domain, FP16), branching=tried).largest
    found = largest_difference(spec, impl, dict(box.sample(np.random.default_rng(1), 200)))
    assert found < bound < 20 * found
