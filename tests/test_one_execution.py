"""Errors at a point where a contract allows one execution: those of that execution."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_models import mlp, save

from encoders.contract.contract import RuntimeContract, Subnormals
from encoders.contract.presets import IEEE_ANY, PRESETS, SEQUENTIAL
from encoders.numbers.enclosure import Interval, point
from encoders.program import program_of
from onnx_import import load
from onnx_import.graph import Graph
from refine.bounds.evaluated import errors_at, values_at
from refine.bounds.network import InputBox, network_bounds

X = np.random.default_rng(0).normal(size=(1, 24)).astype(np.float32)


def _box(graph: Graph, x: Any = X) -> InputBox:
    (tensor,) = graph.inputs
    shape = graph.types[tensor].shape
    return InputBox({tensor: point(x.reshape(shape).astype(np.float64))}, {tensor: np.zeros(shape)})


def _found(graph: Graph, contract: RuntimeContract, box: InputBox | None = None) -> int:
    given = _box(graph) if box is None else box
    return len(errors_at(graph, given.values, contract, values_at(graph, given.values)))


def _in_sequence(path: Path) -> tuple[Any, Any]:
    """The output of the network, term after term in float32, and in rational numbers."""
    weights = load(path).constants
    run, exact = X.reshape(-1), [Fraction(float(v)) for v in X.reshape(-1)]
    layers = [step for step in program_of(load(path)).checked.steps if step.node.op == "Gemm"]
    for layer in layers:
        w, b = (weights[t] for t in layer.node.inputs[1:])
        w = w.T if layer.node.attributes.get("transB", 0) else w
        sums, whole = [], []
        for j in range(w.shape[1]):
            total = np.float32(0.0)
            for i in range(w.shape[0]):
                total = np.float32(total + np.float32(run[i] * w[i, j]))
            sums.append(np.float32(total + b[j]))
            terms = (exact[i] * Fraction(float(w[i, j])) for i in range(w.shape[0]))
            whole.append(sum(terms, Fraction(float(b[j]))))
        last = layer is layers[-1]
        run = np.array(sums if last else [max(v, np.float32(0)) for v in sums], np.float32)
        exact = whole if last else [max(v, Fraction(0)) for v in whole]
    return run, exact


def test_the_bound_is_the_error_of_the_only_execution(tmp_path: Path) -> None:
    path = mlp(tmp_path / "m.onnx", widths=(24, 16, 3), seed=1)
    graph = load(path)
    found = network_bounds(graph, _box(graph), SEQUENTIAL)
    run, exact = _in_sequence(path)
    errors = [float(abs(Fraction(float(a)) - b)) for a, b in zip(run, exact, strict=True)]
    bounds = next(iter(found.errors.values())).reshape(-1)
    np.testing.assert_allclose(bounds, errors, rtol=1e-6)
    assert np.all(bounds >= errors)


def test_onnxruntime_is_no_farther_under_its_own_preset(tmp_path: Path) -> None:
    path = mlp(tmp_path / "m.onnx", widths=(24, 300, 16, 3), seed=2)
    graph = load(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(3)
    for _ in range(5):
        x = rng.normal(size=(1, 24)).astype(np.float32)
        bounds = network_bounds(graph, _box(graph, x), PRESETS["ort-cpu"])
        (output,) = graph.outputs
        real = bounds.maps.values[output]
        ran = np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])
        off = np.maximum(np.abs(ran - real.lo), np.abs(ran - real.hi))
        assert np.all(off <= bounds.errors[output] * (1 + 1e-9))


def test_what_is_left_open_is_bounded_from_the_only_execution_on(tmp_path: Path) -> None:
    """Sums in a known order, a sigmoid that libraries compute in their own ways, and sums of it."""
    first = mlp(tmp_path / "m.onnx", widths=(24, 800, 3), seed=4)
    run, exact = _in_sequence(first)
    model = onnx.load(first)
    (scores,) = (out.name for out in model.graph.output)
    factors = np.random.default_rng(5).normal(size=(3, 2)).astype(np.float32)
    small = np.array([2.0**-6], np.float32)
    for name, numbers in {"factors": factors, "small": small}.items():
        model.graph.initializer.append(numpy_helper.from_array(numbers, name))
    model.graph.node.append(helper.make_node("Mul", [scores, "small"], ["less"]))
    model.graph.node.append(helper.make_node("Sigmoid", ["less"], ["s"]))
    model.graph.node.append(helper.make_node("MatMul", ["s", "factors"], ["z"]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 2]))
    onnx.save(model, tmp_path / "longer.onnx")
    graph = load(tmp_path / "longer.onnx")
    real, ran = (np.array([1 / (1 + math.exp(-float(v) / 64)) for v in y]) for y in (exact, run))
    real = real @ factors.astype(np.float64)
    bounds = network_bounds(graph, _box(graph), SEQUENTIAL).errors["z"].reshape(-1)
    moved = np.array([abs(Fraction(float(a)) - b) for a, b in zip(run, exact, strict=True)], float)
    unit = 2.0**-24
    for ulps in (-2, 0, 2):  # of the sigmoid, of which any is allowed
        off = (ran * (1 + ulps * unit)).astype(np.float32)
        total = np.zeros(2, np.float32)
        for value, row in zip(off, factors, strict=True):
            total = (total + value * row).astype(np.float32)
        assert np.all(np.abs(total - real) <= bounds)
    rest = 16 * unit * np.sum(np.abs(factors), axis=0)
    assert np.all(bounds <= moved / 256 @ np.abs(factors) + rest)


@pytest.mark.parametrize(
    ("contract", "known"),
    [
        (SEQUENTIAL, True),
        (PRESETS["sequential-fma"], True),
        (PRESETS["pairwise"], True),
        (IEEE_ANY, False),
        (replace(SEQUENTIAL, results=Subnormals.EITHER), False),
        (replace(SEQUENTIAL, operands=Subnormals.EITHER), False),
        (PRESETS["cuda-fp32"], False),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_what_is_left_open_is_no_single_execution(
    tmp_path: Path, contract: RuntimeContract, known: bool
) -> None:
    graph = load(mlp(tmp_path / "m.onnx", widths=(24, 16, 3)))
    assert bool(_found(graph, contract)) is known


@pytest.mark.parametrize("op", ["Sigmoid", "Exp", "Softmax", "LayerNormalization", "ReduceMean"])
def test_what_libraries_compute_in_their_own_way_is_left_out(tmp_path: Path, op: str) -> None:
    inputs = ["x", "s"] if op == "LayerNormalization" else ["x"]
    shape = [1, 1] if op == "ReduceMean" else [1, 24]
    path = save(
        tmp_path / "m.onnx",
        [helper.make_node(op, inputs, ["y"])],
        {"x": [1, 24]},
        {"y": shape},
        {"s": np.ones(24, np.float32)} if len(inputs) > 1 else {},
    )
    contract = replace(SEQUENTIAL, functions=PRESETS["ort-cpu"].functions)
    assert _found(load(path), contract) == 0


def test_a_box_or_a_rounded_input_is_no_point(tmp_path: Path) -> None:
    graph = load(mlp(tmp_path / "m.onnx", widths=(24, 16, 3)))
    (tensor,) = graph.inputs
    here = _box(graph)
    x = here.values[tensor]
    wide = InputBox({tensor: Interval(x.lo, np.nextafter(x.hi, 9))}, here.errors)
    assert _found(graph, SEQUENTIAL, wide) == 0
    between = InputBox({tensor: point(x.lo + 2.0**-40)}, here.errors)
    assert _found(graph, SEQUENTIAL, between) == 0
    off = InputBox(here.values, {tensor: np.full(x.shape, 1e-3)})
    assert network_bounds(graph, off, SEQUENTIAL).largest > 1e-4


@pytest.mark.parametrize("contract", [SEQUENTIAL, PRESETS["ort-cpu"]], ids=lambda c: c.name)
def test_an_attribute_in_float32_is_another_execution(
    tmp_path: Path, contract: RuntimeContract
) -> None:
    slopes = (0.1, 0.3)
    nodes = [
        helper.make_node("LeakyRelu", [a], [b], alpha=slope)
        for a, b, slope in zip("xz", "zy", slopes, strict=True)
    ]
    ends = [helper.make_tensor_value_info(t, TensorProto.FLOAT16, [64]) for t in "xy"]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(made, opset_imports=opset, ir_version=8), tmp_path / "m.onnx")
    graph = load(tmp_path / "m.onnx")
    x = -np.random.default_rng(0).uniform(0.1, 2, 64).astype(np.float16)
    run, exact = x, [Fraction(float(v)) for v in x]
    for kept in (np.float32(slope) for slope in slopes):
        run = (run.astype(np.float32) * kept).astype(np.float16)
        exact = [v * Fraction(float(kept)) for v in exact]
    errors = [float(abs(Fraction(float(a)) - b)) for a, b in zip(run, exact, strict=True)]
    assert np.all(errors <= network_bounds(graph, _box(graph, x), contract).errors["y"])


@pytest.mark.parametrize(
    ("op", "inputs", "x", "computed"),
    [
        ("Relu", ["x"], 1e-40, 0.0),
        ("Abs", ["x"], 1e-40, 0.0),
        ("Where", ["k", "x", "w"], 1e-40, 0.0),
        ("PRelu", ["x", "w"], 1e-40, 0.0),
        ("Mul", ["x", "w"], 2.0**-126 * (1 + 2.0**-23), 0.0),  # measured before it is rounded
        ("Mul", ["x", "w"], 2.0**-126 * (1 + 2.0**-23), 2.0**-126),
    ],
)
def test_a_runtime_that_flushes_may_lose_what_it_copies(
    tmp_path: Path, op: str, inputs: list[str], x: float, computed: float
) -> None:
    factor = np.array([1 - 2.0**-23], np.float32)
    path = save(
        tmp_path / "m.onnx",
        [helper.make_node(op, inputs, ["y"])],
        {"x": [1]},
        {"y": [1]},
        {"k": np.array([True]), "w": factor},
    )
    flushing = replace(SEQUENTIAL, results=Subnormals.FLUSH)
    given = np.array([x], np.float32)
    real = Fraction(float(given[0])) * (Fraction(float(factor[0])) if op == "Mul" else 1)
    graph = load(path)
    error = float(abs(Fraction(computed) - real))
    assert error <= network_bounds(graph, _box(graph, given), flushing).errors["y"][0]
