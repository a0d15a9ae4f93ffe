"""Weights of a few bits, quantised by blocks, and tensors without elements, against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_models import save

from encoders.arithmetic.approximate_field import ApproximateReals
from gpu_check.emulator.exact import evaluate_real
from onnx_import import load
from onnx_import.errors import ModelError
from refine import bound

COUNTED = ("int4", "uint4", "int8", "uint8", "int2", "uint2")
ONLY_STORED = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")


def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def _stored(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    if name.startswith("float8"):
        return rng.normal(size=shape).astype(np.float32).astype(_dtype(name))
    bits = int(name.removeprefix("u").removeprefix("int"))
    low = 0 if name[0] == "u" else -(2 ** (bits - 1))
    return rng.integers(low, low + 2**bits, shape).astype(np.int64).astype(_dtype(name))


def _dense(path: Path, name: str, *, axis: int, block: int, zero: bool, seed: int) -> Path:
    """y = x·DequantizeLinear(w), w of 6×4 with a scale for each block along an axis."""
    rng = np.random.default_rng(seed)
    shape = [6, 4]
    blocks: tuple[int, ...] = (shape[axis],)
    if block:
        blocks = tuple(-(-n // block) if i == axis else n for i, n in enumerate(shape))
    held: dict[str, np.ndarray[Any, Any]] = {
        "w": _stored(name, (6, 4), rng),
        "s": rng.uniform(0.01, 0.3, blocks).astype("f"),
    }
    if zero:
        held["z"] = _stored(name, blocks, rng)
    nodes = [
        helper.make_node("DequantizeLinear", list(held), ["d"], axis=axis, block_size=block),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])],
        [numpy_helper.from_array(value, tensor) for tensor, value in held.items()],
    )
    opset = 25 if name.endswith("int2") else 21
    return _saved(path, graph, opset)


def _saved(path: Path, graph: onnx.GraphProto, opset: int) -> Path:
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def _ran(path: Path, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def _expected(path: Path, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """By the definition, element by element, in float64."""
    model = onnx.load(path)
    held = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    node = model.graph.node[0]
    given = {a.name: a.i for a in node.attribute}
    w = held["w"]
    d = np.empty(w.shape)
    for place in np.ndindex(*w.shape):
        at: Any = list(place)
        if given["block_size"]:
            at[given["axis"]] //= given["block_size"]
        else:
            at = [at[given["axis"]]]
        d[place] = (w[place] - held.get("z", np.zeros(held["s"].shape))[tuple(at)]) * held["s"][
            tuple(at)
        ]
    return np.asarray(x.astype(np.float64) @ d)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("block", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("name", COUNTED)
def test_stored_steps_mean_what_their_block_says(
    tmp_path: Path, name: str, axis: int, block: int, zero: bool
) -> None:
    path = _dense(tmp_path / "m.onnx", name, axis=axis, block=block, zero=zero, seed=block)
    x = np.random.default_rng(7).normal(size=(2, 6)).astype("f")
    field = ApproximateReals()
    graph = load(path)
    real = evaluate_real(graph, {"x": field.constant(x[None])}, field)["y"]
    got = np.array([float(v) for v in np.asarray(real).reshape(-1)]).reshape(2, 4)
    np.testing.assert_allclose(got, _expected(path, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["int4", "uint4", "int8"])
def test_a_bound_covers_what_onnxruntime_computes(tmp_path: Path, name: str) -> None:
    path = _dense(tmp_path / "m.onnx", name, axis=0, block=2, zero=True, seed=3)
    result = bound(str(path), "x=-1..1", seed=0)
    rng = np.random.default_rng(11)
    worst = 0.0
    for _ in range(200):
        x = rng.uniform(-1, 1, (2, 6)).astype("f")
        worst = max(worst, float(np.max(np.abs(_ran(path, x) - _expected(path, x)))))
    assert 0 < worst <= float(result.bound) < 1e-4


@pytest.mark.parametrize("name", ONLY_STORED)
def test_numbers_of_eight_bits_are_scaled(tmp_path: Path, name: str) -> None:
    path = _dense(tmp_path / "m.onnx", name, axis=1, block=0, zero=False, seed=5)
    x = np.random.default_rng(7).normal(size=(2, 6)).astype("f")
    field = ApproximateReals()
    real = evaluate_real(load(path), {"x": field.constant(x[None])}, field)["y"]
    got = np.array([float(v) for v in np.asarray(real).reshape(-1)]).reshape(2, 4)
    np.testing.assert_allclose(got, _expected(path, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("block", [-1, 5, 7])
def test_blocks_that_do_not_fit_are_refused(tmp_path: Path, block: int) -> None:
    path = _dense(tmp_path / "m.onnx", "int4", axis=0, block=2, zero=False, seed=1)
    model = onnx.load(path)
    model.graph.node[0].attribute[1].i = block
    onnx.save(model, path)
    with pytest.raises(ModelError, match="DequantizeLinear"):
        load(path)


def test_narrow_numbers_are_stored_only(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("DequantizeLinear", ["q", "s"], ["y"])],
        "g",
        [helper.make_tensor_value_info("q", TensorProto.INT4, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.array(0.5, np.float32), "s")],
    )
    path = _saved(tmp_path / "m.onnx", graph, 21)
    with pytest.raises(ModelError, match="'q' has the element type int4, in which no inputs"):
        load(path)


@pytest.mark.parametrize(
    ("op", "inside"), [("Mul", True), ("Add", False), ("Exp", True), ("MatMul", True)]
)
def test_what_is_computed_of_no_elements_changes_nothing(
    tmp_path: Path, op: str, inside: bool
) -> None:
    held: dict[str, np.ndarray[Any, Any]] = {
        "from": np.array([2], np.int64),
        "to": np.array([2], np.int64),
        "w": np.ones((3, 3), np.float32) * 2,
    }
    second = [] if op == "Exp" else ["w" if op == "MatMul" else "two"]
    held["two"] = np.array(2.0, np.float32)
    nodes = [
        helper.make_node("Slice", ["x", "from", "to"], ["none"]),
        helper.make_node(op, ["none", *second], ["made"]),
        helper.make_node("Concat", ["x", "made"] if inside else ["made", "x"], ["y"], axis=0),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": [2, 3]}, {"y": [2, 3]}, held)
    x = np.random.default_rng(0).normal(size=(2, 3)).astype("f")
    np.testing.assert_array_equal(_ran(path, x), x)
    assert float(bound(str(path), "x=-1..1", seed=0).bound) == 0


def test_a_sum_of_nothing_is_zero(tmp_path: Path) -> None:
    held: dict[str, np.ndarray[Any, Any]] = {
        "none": np.zeros((2, 0), np.float32),
        "axes": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("ReduceSum", ["none", "axes"], ["zero"], keepdims=1),
        helper.make_node("Add", ["x", "zero"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": [2, 3]}, {"y": [2, 3]}, held)
    x = np.random.default_rng(0).normal(size=(2, 3)).astype("f")
    np.testing.assert_array_equal(_ran(path, x), x)
    assert load(path).constants["zero"].tolist() == [[0.0], [0.0]]
