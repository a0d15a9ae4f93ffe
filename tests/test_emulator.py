"""The emulator against onnxruntime, bit for bit, and against exact evaluation."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from ort_schedule import ORT_BLOCKS

from encoders.arithmetic.exact_fields import Balls, Rationals, enclosure
from encoders.contract.presets import EXACT, IEEE_ANY, SEQUENTIAL
from encoders.numbers.formats import BINARY16
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_exact
from gpu_check.runtimes.runtimes import OnnxRuntime, RuntimeUnavailable
from onnx_import import load
from onnx_import.graph import Array, Graph

SHARED = Path(__file__).resolve().parents[2] / "shared" / "models"
DENSE = (
    "acasxu/ACASXU_run2a_1_1_batch_2000.onnx",
    "acasxu/ACASXU_run2a_3_3_batch_2000.onnx",
    "controllers/AC6.onnx",
    "controllers/VertCasNN.onnx",
    "controllers/UnicycleNN.onnx",
    "mnist_fc/mnist-net_256x2.onnx",
    "neurocodebench/sat_v12_c43.onnx",
    "neurocodebench/sat_v50_c146.onnx",
    "reach_prob_density/gcas.onnx",
    "reach_prob_density/robot.onnx",
    "rl_benchmarks/cartpole.onnx",
    "rl_benchmarks/dubinsrejoin.onnx",
    "safenlp/perturbations_0.onnx",
    "tllverifybench/tllBench_n=2_N=M=16_m=1_instance_1_0.onnx",
)


def shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"no ../shared/models/{name}")
    return path


def samples(graph: Graph, count: int, seed: int = 0) -> dict[str, Array]:
    """Random inputs of several magnitudes, zeros among them."""
    rng = np.random.default_rng(seed)

    def one(tensor: str) -> Array:
        shape, dtype = graph.types[tensor].shape, graph.types[tensor].dtype.numpy
        scale = rng.choice([0.1, 1.0, 10.0, 1000.0], (count,) + (1,) * len(shape))
        present = rng.random((count, *shape)) < 0.9
        return np.asarray(rng.standard_normal((count, *shape)) * scale * present, dtype)

    return {tensor: one(tensor) for tensor in graph.inputs}


def assert_same_bits(graph: Graph, runtime: OnnxRuntime, inputs: dict[str, Array]) -> None:
    shapes = runtime.input_shapes()
    emulated = emulate(graph, inputs, ORT_BLOCKS)
    for i in range(next(iter(inputs.values())).shape[0]):
        actual = runtime.run({t: v[i].reshape(shapes[t]) for t, v in inputs.items()})
        for tensor in graph.outputs:
            expected = np.asarray(actual[tensor]).reshape(graph.types[tensor].shape)
            assert emulated[tensor][i].dtype == expected.dtype
            np.testing.assert_array_equal(
                emulated[tensor][i].view(np.uint32), expected.view(np.uint32)
            )


@pytest.mark.parametrize("name", DENSE)
def test_dense_networks_bit_for_bit(name: str) -> None:
    path = shared(name)
    graph = load(path)
    assert_same_bits(graph, OnnxRuntime(path), samples(graph, 12))


def write_dense(path: Path, gemm: bool, inner: int, columns: int, **attributes: Any) -> Path:
    rng = np.random.default_rng(inner * 1000 + columns)
    weights = rng.standard_normal((inner, columns)).astype(np.float32)
    bias = rng.standard_normal(columns).astype(np.float32)
    stored = weights.T.copy() if attributes.get("transB") else weights
    second = (
        [helper.make_node("Gemm", ["x", "W", "b"], ["z"], **attributes)]
        if gemm
        else [
            helper.make_node("MatMul", ["x", "W"], ["p"]),
            helper.make_node("Add", ["p", "b"], ["z"]),
        ]
    )
    graph = helper.make_graph(
        [*second, helper.make_node("Relu", ["z"], ["y"])],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, inner])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, columns])],
        [numpy_helper.from_array(stored, "W"), numpy_helper.from_array(bias, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("gemm", [True, False], ids=["gemm", "matmul-add"])
@pytest.mark.parametrize(("inner", "columns"), [(1, 1), (5, 50), (255, 3), (257, 17), (700, 2)])
def test_dense_layers_of_many_shapes(gemm: bool, inner: int, columns: int, tmp_path: Path) -> None:
    path = write_dense(tmp_path / "dense.onnx", gemm, inner, columns)
    graph = load(path)
    assert_same_bits(graph, OnnxRuntime(path), samples(graph, 6))


@pytest.mark.parametrize(
    "attributes",
    [{"transB": 1}, {"beta": 0.7}, {"alpha": 0.3}, {"alpha": 0.3, "beta": 0.7}],
    ids=str,
)
def test_gemm_attributes(attributes: dict[str, float], tmp_path: Path) -> None:
    path = write_dense(tmp_path / "gemm.onnx", True, 40, 7, **attributes)
    graph = load(path)
    assert_same_bits(graph, OnnxRuntime(path), samples(graph, 6))


def test_subnormal_numbers_and_special_values(tmp_path: Path) -> None:
    path = write_dense(tmp_path / "dense.onnx", True, 5, 3)
    graph = load(path)
    x = np.zeros((5, 1, 5), np.float32)
    x[0] = 1e-42
    x[1, 0, 2] = np.inf
    x[2] = -0.0
    x[3] = 3e38
    x[4] = -1e-45
    runtime = OnnxRuntime(path)
    emulated = emulate(graph, {"x": x}, ORT_BLOCKS)["y"]
    for i in range(5):
        np.testing.assert_array_equal(emulated[i], runtime.run({"x": x[i]})["y"])


def test_exact_evaluation(tmp_path: Path) -> None:
    graph = load(write_dense(tmp_path / "dense.onnx", True, 30, 4))
    x = samples(graph, 1)["x"]
    rational = evaluate_exact(graph, {"x": x[0]}, Rationals())["y"]
    balls = evaluate_exact(graph, {"x": x[0]}, Balls(100), every_tensor=True)
    assert rational.shape == balls["y"].shape == (1, 4)
    assert set(balls) == {"x", "z", "y"}
    weights, bias = (graph.constants[t].astype(object) for t in ("W", "b"))
    for j in range(4):
        exact: Fraction = sum(
            (
                Fraction(float(a)) * Fraction(float(w))
                for a, w in zip(x[0, 0], weights[:, j], strict=True)
            ),
            Fraction(float(bias[j])),
        )
        assert enclosure(rational[0, j])[0] == max(exact, Fraction(0))
        low, high = enclosure(balls["y"][0, j])
        assert low <= max(exact, Fraction(0)) <= high
    close = emulate(graph, {"x": x}, SEQUENTIAL)["y"][0]
    np.testing.assert_allclose([float(enclosure(v)[0]) for v in rational[0]], close[0], rtol=1e-3)


def test_emulating_in_another_format(tmp_path: Path) -> None:
    graph = load(write_dense(tmp_path / "dense.onnx", True, 20, 3))
    half = replace(SEQUENTIAL, name="half", compute_format=BINARY16)
    x = np.full((2, 1, 20), 0.5, np.float32)
    y = emulate(graph, {"x": x}, half)["y"]
    assert y.shape == (2, 1, 3)
    np.testing.assert_array_equal(y, y.astype(np.float16).astype(np.float64))
    with pytest.raises(ValueError, match="cannot represent"):
        emulate(graph, {"x": np.full((1, 1, 20), 0.1, np.float32)}, half)


def test_bad_requests_are_refused(tmp_path: Path) -> None:
    graph = load(write_dense(tmp_path / "dense.onnx", True, 5, 3))
    x = np.zeros((1, 1, 5), np.float32)
    for contract in (IEEE_ANY, EXACT):
        with pytest.raises(ValueError, match="contract"):
            emulate(graph, {"x": x}, contract)
    with pytest.raises(ValueError, match="no values"):
        emulate(graph, {}, SEQUENTIAL)
    with pytest.raises(ValueError, match="shape"):
        emulate(graph, {"x": x[0]}, SEQUENTIAL)
    with pytest.raises(ValueError, match="no values"):
        evaluate_exact(graph, {}, Rationals())
    with pytest.raises(ValueError, match="shape"):
        evaluate_exact(graph, {"x": x}, Rationals())


def test_a_file_that_onnxruntime_refuses(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(RuntimeUnavailable, match="refuses"):
        OnnxRuntime(path)


def test_an_input_that_onnxruntime_refuses(tmp_path: Path) -> None:
    runtime = OnnxRuntime(write_dense(tmp_path / "dense.onnx", True, 5, 3))
    assert runtime.input_shapes() == {"x": (1, 5)}
    assert "onnxruntime" in runtime.describe()
    with pytest.raises(RuntimeUnavailable, match="fails"):
        runtime.run({"x": np.zeros((1, 4), np.float32)})
