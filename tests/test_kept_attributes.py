"""Attributes are float32 numbers: where a node's tensors are shorter, a runtime may round them to
the tensors' format first, or keep them and round the result once. Both are within the contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from encoders.contract.presets import IEEE_ANY, SEQUENTIAL
from encoders.program import program_of
from gpu_check.conformance.conformance import BRIEF, How, conformance
from gpu_check.emulator.emulator import truncates_constants
from onnx_import import load
from onnx_import.graph import Graph
from refine.bounds.point_bounds import bound_at
from refine.options.runtime_choice import machine, runtime_choice

Array = Any
KINDS: Mapping[str, tuple[int, Any]] = {
    "float16": (TensorProto.FLOAT16, np.float16),
    "bfloat16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
    "float64": (TensorProto.DOUBLE, np.float64),
}
W = np.array([[0.5, -1.25], [2.0, 0.375], [-0.75, 1.0]])
B = np.array([0.625, -3.0])
MEAN, VARIANCE = np.array([0.25, -1.5, 0.0]), np.array([2.0**-10, 1.0, 0.5])


def a_gemm(x: Array, c: Mapping[str, Array]) -> Array:
    return c["alpha"] * (x @ W) + c["beta"] * B


def batches(x: Array, c: Mapping[str, Array]) -> Array:
    return (x - MEAN) / np.sqrt(VARIANCE + c["epsilon"]) * np.array([1.0, 0.5, -2.0]) + MEAN


Formula = Callable[[Array, Mapping[str, Array]], Array]
ELEMENTWISE: list[tuple[str, int, dict[str, float], Formula]] = [
    ("LeakyRelu", 16, {"alpha": 0.3}, lambda x, c: np.where(x < 0, c["alpha"] * x, x)),
    ("LeakyRelu", 16, {"alpha": 1.0000001}, lambda x, c: np.where(x < 0, c["alpha"] * x, x)),
    ("Elu", 22, {"alpha": 0.3}, lambda x, c: np.where(x < 0, c["alpha"] * np.expm1(x), x)),
    ("Selu", 22, {"alpha": 1.6732632, "gamma": 1.050701},
     lambda x, c: c["gamma"] * np.where(x < 0, c["alpha"] * np.expm1(x), x)),
    ("HardSigmoid", 22, {"alpha": 0.3, "beta": 0.1234},
     lambda x, c: np.clip(c["alpha"] * x + c["beta"], 0.0, 1.0)),
    ("Swish", 24, {"alpha": 0.3}, lambda x, c: x / (1.0 + np.exp(-c["alpha"] * x))),
    ("ThresholdedRelu", 22, {"alpha": 0.3}, lambda x, c: np.where(x > c["alpha"], x, 0.0)),
]  # fmt: skip


def graph_of(
    path: Path,
    op: str,
    opset: int,
    kind: int,
    shape: list[int],
    attributes: Mapping[str, Any],
    stored: Mapping[str, Array],
) -> Graph:
    graph = helper.make_graph(
        [helper.make_node(op, ["x", *stored], ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [helper.make_tensor(n, kind, v.shape, v.ravel().tolist()) for n, v in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.save(model, path)
    return load(path)


def kept(values: Array, dtype: Any) -> Array:
    """Rounded once to the type, from float64 (from more, where the type is float64)."""
    return np.asarray(values).astype(dtype).astype(np.longdouble)


def within(
    graph: Graph, x: Array, formula: Formula, attributes: Mapping[str, float], dtype: Any
) -> Array:
    wide = x.astype(np.longdouble)
    exact = formula(wide, {n: np.longdouble(np.float32(v)) for n, v in attributes.items()})
    first = formula(wide, {n: np.longdouble(dtype(np.float32(v))) for n, v in attributes.items()})
    bound = bound_at(graph, {"x": x.astype(np.float64)}, IEEE_ANY)["y"]
    for computed in (kept(exact, dtype), kept(first, dtype)):
        assert np.all(np.abs(computed - exact) <= bound)
    return bound


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("op", "opset", "attributes", "formula"),
    ELEMENTWISE,
    ids=[f"{e[0]}-{e[2]}" for e in ELEMENTWISE],
)
def test_bounds_hold_with_attributes_rounded_or_kept(
    tmp_path: Path,
    name: str,
    op: str,
    opset: int,
    attributes: dict[str, float],
    formula: Formula,
) -> None:
    kind, dtype = KINDS[name]
    rng = np.random.default_rng(5)
    sizes = np.exp2(rng.uniform(-20, 5, 3000)) * rng.choice([-1.0, 1.0], 3000)
    x = np.concatenate([sizes, dtype(0.3) + np.arange(-3, 4) * 2.0**-12, [0.0]]).astype(dtype)
    graph = graph_of(tmp_path / "m.onnx", op, opset, kind, [len(x)], attributes, {})
    within(graph, x, formula, attributes, dtype)


@pytest.mark.parametrize("name", KINDS)
def test_bounds_of_sums_hold_with_attributes_rounded_or_kept(tmp_path: Path, name: str) -> None:
    kind, dtype = KINDS[name]
    rng = np.random.default_rng(6)
    rows = rng.uniform(-2, 2, (200, 3)).astype(dtype)
    attributes = {"alpha": 0.3, "beta": 0.7}
    gemm = graph_of(tmp_path / "g.onnx", "Gemm", 13, kind, [200, 3], attributes, {"w": W, "b": B})
    within(gemm, rows, a_gemm, attributes, dtype)
    stored = {"s": np.array([1.0, 0.5, -2.0]), "t": MEAN, "m": MEAN, "v": VARIANCE}
    path = tmp_path / "n.onnx"
    normal = graph_of(path, "BatchNormalization", 15, kind, [200, 3], {"epsilon": 1e-3}, stored)
    within(normal, rows, batches, {"epsilon": 1e-3}, dtype)


@pytest.mark.parametrize(("alpha", "truncated"), [(0.3, True), (0.25, False)])
def test_what_a_format_does_not_hold_is_noticed(
    tmp_path: Path, alpha: float, truncated: bool
) -> None:
    for name, number in (("float16", TensorProto.FLOAT16), ("float32", TensorProto.FLOAT)):
        path = tmp_path / f"{name}.onnx"
        graph = graph_of(path, "LeakyRelu", 16, number, [4], {"alpha": alpha}, {})
        values = {"x": np.ones((1, 4), np.dtype(name))}
        found = truncates_constants(program_of(graph).steps[0], values, SEQUENTIAL)
        assert found == (truncated and name == "float16")


@pytest.mark.parametrize(("alpha", "how"), [(0.3, How.ENCLOSURE), (0.25, How.BITS)])
def test_onnxruntime_keeps_the_attribute_and_the_contract(
    tmp_path: Path, alpha: float, how: How
) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "m.onnx"
    graph = graph_of(path, "LeakyRelu", 16, TensorProto.FLOAT16, [64], {"alpha": alpha}, {})
    x = np.random.default_rng(0).uniform(-2, 2, 64).astype(np.float16)
    with machine(runtime_choice("onnxruntime"), graph) as one:
        found = conformance(graph, one, SEQUENTIAL, samples=[{"x": x}], depth=BRIEF, bound=bound_at)
    assert found.conforms
    assert [n.how for n in found.nodes] == [how]
