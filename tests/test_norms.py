"""Norms near zero: a root of squares moves as its coordinates do, wherever they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from small_models import save

from encoders.arithmetic.exact_fields import Balls
from encoders.contract.presets import IEEE_ANY, SEQUENTIAL, SEQUENTIAL_FMA
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import BINARY16
from encoders.program import program_of
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


@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization"])
def test_rows_are_as_far_from_constant_as_the_direction_they_lean_in_says(
    op: str, tmp_path: Path
) -> None:
    """Sums of what varies, whose ranges overlap one another although no row is ever constant."""
    rng = np.random.default_rng(9)
    w = rng.uniform(-1, 1, (3, 8)).astype(np.float32)
    b = (np.linspace(-1, 1, 8) + (0.5 if op == "RMSNormalization" else 0.0)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Add", ["d", "c"], ["e"]),
        helper.make_node(op, ["e", "s"], ["y"], name="n"),
    ]
    stored = {"w": w, "b": b, "s": np.ones(8, np.float32)}
    path = save(tmp_path / "m.onnx", nodes, {"x": [4, 3]}, {"y": [4, 8]}, stored, opset=23)
    graph = load(path)
    middle = rng.uniform(-1, 1, (4, 3)).astype(np.float32).astype(np.float64)
    box = InputBox({"x": Interval(middle - 0.35, middle + 0.35)}, {"x": np.zeros((4, 3))})
    bounds = network_bounds(graph, box, IEEE_ANY)
    lean = bounds.maps.leans["n"]
    assert np.count_nonzero(lean.norm) == 4
    corners = np.stack(np.meshgrid(*[[-0.35, 0.35]] * 3), axis=-1).reshape(-1, 1, 3)
    inside = rng.uniform(-0.35, 0.35, (2000, 4, 3))
    x = middle + np.concatenate([np.repeat(corners, 4, axis=1), inside])
    c = x @ w.astype(np.float64) + b
    rows = np.maximum(c, 0.0) + c
    if op == "LayerNormalization":
        rows = rows - rows.mean(axis=-1, keepdims=True)
    closest = np.linalg.norm(rows, axis=-1).min(axis=0)
    assert np.all(lean.norm <= closest * (1 + 1e-12))
    assert np.all(lean.norm >= 0.3 * closest)
    z = rows / np.sqrt(np.mean(rows**2, axis=-1, keepdims=True) + 1e-5)
    assert np.all(bounds.maps.values["y"].lo <= z.min(axis=0) + 1e-9)
    assert np.all(bounds.maps.values["y"].hi >= z.max(axis=0) - 1e-9)
    plain = network_bounds(graph, box, IEEE_ANY, backward=False)
    share = 0.1 if op == "LayerNormalization" else 1.0
    assert bounds.largest < share * plain.largest


WIDTHS = [[1] * i + [2] + [1] * (11 - i) for i in range(12)]
MANY = {
    "CumSum": [helper.make_node("CumSum", ["q", "first"], ["s"])],
    "AveragePool": [
        helper.make_node("Unsqueeze", ["q", "axes"], ["t"]),
        helper.make_node("AveragePool", ["t"], ["s"], kernel_shape=[32], strides=[1]),
    ],
    "Sum": [
        helper.make_node("Split", ["q"], [f"q{i}" for i in range(12)], num_outputs=12),
        *(
            helper.make_node("Expand", [f"q{i}", f"shape{i}"], [f"r{i}"])
            for i, _ in enumerate(WIDTHS)
        ),
        helper.make_node("Sum", [f"r{i}" for i in range(12)], ["s"]),
    ],
}


@pytest.mark.parametrize("total", MANY)
def test_sums_of_many_terms_are_off_by_all_of_their_roundings(total: str, tmp_path: Path) -> None:
    """However few elements there are to a result: each addition loses just less than half an
    ulp."""
    nodes = [squared("Mul", "x", "q"), *MANY[total], helper.make_node("Sqrt", ["s"], ["y"])]
    used = {name for node in nodes for name in node.input}
    stored = {
        "first": np.array(0, np.int64),
        "axes": np.array([0, 1], np.int64),
        **{f"shape{i}": np.array(shape, np.int64) for i, shape in enumerate(WIDTHS)},
    }
    n = 12 if total == "Sum" else 64
    weights = {name: array for name, array in stored.items() if name in used}
    path = save(tmp_path / "m.onnx", nodes, {"x": [n]}, {"y": None}, weights, opset=18)
    graph = load(path)
    x = np.full(n, np.sqrt(0.999 * 2.0**-24), np.float32)
    x[0] = 1.0
    low = x.astype(np.float64)
    box = InputBox({"x": Interval(low, low * (1 + 1e-9))}, {"x": np.zeros(n)})
    bound = network_bounds(graph, box, SEQUENTIAL).errors["y"].reshape(-1)
    real = evaluate_exact(graph, {"x": x}, Balls())["y"].reshape(-1)
    run = emulate(graph, {"x": x[np.newaxis]}, SEQUENTIAL)["y"].reshape(-1)
    off = [abs(float((r - float(c)).mid())) for r, c in zip(real, run, strict=True)]
    assert np.all(np.array(off) <= bound)


@pytest.mark.parametrize(("added", "times"), [("s{}", 41), ("s0", 1100)])
def test_sums_below_a_root_are_asked_of_their_parts_once(
    added: str, times: int, tmp_path: Path
) -> None:
    """However long a chain of sums is, and however often each adds the one before to itself."""
    chain = [
        helper.make_node("Add", [f"s{i}", added.format(i)], [f"s{i + 1}"]) for i in range(times)
    ]
    root = helper.make_node("Sqrt", [f"s{times}"], ["y"])
    path = save(
        tmp_path / "m.onnx", [squared("Mul", "x", "s0"), *chain, root], {"x": [2]}, {"y": [2]}
    )
    graph = load(path)
    box = InputBox({"x": Interval(np.full(2, -1.0), np.full(2, 2.0))}, {"x": np.zeros(2)})
    bound = network_bounds(graph, box, SEQUENTIAL, backward=False).errors["y"]
    x = np.array([1e-3, 1.9], np.float32)
    real = evaluate_exact(graph, {"x": x}, Balls())["y"].reshape(-1)
    run = emulate(graph, {"x": x[np.newaxis]}, SEQUENTIAL)["y"].reshape(-1)
    off = [abs(float((r - float(c)).mid())) for r, c in zip(real, run, strict=True)]
    assert max(off) > 0.0
    assert np.all(np.array(off) <= bound)
    assert np.all(np.isfinite(bound))


@pytest.mark.parametrize(
    ("low", "high", "fits"), [(-30.0, 20.0, False), (0.0, 25.4, False), (0.0, 24.0, True)]
)
def test_a_norm_overflows_where_its_sum_of_squares_may(
    low: float, high: float, fits: bool, tmp_path: Path
) -> None:
    """A hundred squares of 25.4 add up to 64,516 in exact arithmetic, and float16 ends at 65,504:
    each addition may round up by half an ulp."""
    node = helper.make_node("ReduceL2", ["x"], ["y"], axes=[1], keepdims=1)
    path = save(tmp_path / "m.onnx", [node], {"x": [1, 100]}, {"y": [1, 1]})
    (step,) = program_of(load(path)).steps
    half = replace(SEQUENTIAL, compute_format=BINARY16)
    x = Interval(np.full((1, 100), low), np.full((1, 100), high))
    y = Interval(np.zeros((1, 1)), np.full((1, 1), 300.0))
    found = step.operator.rounding(step.site, [x], y, half)
    holds = all(p.holds for p in found.preconditions) and bool(
        np.all(np.isfinite(found.radius.bound))
    )
    assert holds == fits


@pytest.mark.parametrize("size", [1.0, 1e-16])
def test_a_chain_of_additions_is_a_sum(size: float, tmp_path: Path) -> None:
    """Underflows are those of its terms and its additions, not of all paths through them."""
    n, radius = 60, 1e-3
    chain = [
        helper.make_node("Add", [f"s{i - 1}" if i > 1 else "q0", f"q{i}"], [f"s{i}"])
        for i in range(1, n)
    ]
    nodes = [
        helper.make_node("Split", ["x"], [f"x{i}" for i in range(n)], num_outputs=n),
        *(squared("Mul", f"x{i}", f"q{i}") for i in range(n)),
        *chain,
        helper.make_node("Sqrt", [f"s{n - 1}"], ["y"]),
    ]
    graph = load(save(tmp_path / "m.onnx", nodes, {"x": [n]}, {"y": None}, opset=18))
    ends = np.full(n, radius)
    box = InputBox({"x": Interval(-ends, ends)}, {"x": np.zeros(n)})
    bound = network_bounds(graph, box, SEQUENTIAL).errors["y"].reshape(-1)
    rng = np.random.default_rng(4)
    x = (radius * size * rng.uniform(-1, 1, n)).astype(np.float32)
    real = evaluate_exact(graph, {"x": x}, Balls())["y"].reshape(-1)
    run = emulate(graph, {"x": x[np.newaxis]}, SEQUENTIAL)["y"].reshape(-1)
    assert 0.0 < abs(float((real[0] - float(run[0])).mid())) <= bound[0] < 1e-4 * radius


@pytest.mark.parametrize("how", ["Add", "Concat"])
def test_stored_numbers_below_a_root_are_off_by_what_the_format_of_weights_costs(
    how: str, tmp_path: Path
) -> None:
    total = {
        "Add": [helper.make_node("Add", ["q", "c"], ["s"])],
        "Concat": [
            helper.make_node("Concat", ["q", "c"], ["t"], axis=0),
            helper.make_node("ReduceSum", ["t"], ["s"]),
        ],
    }[how]
    nodes = [squared("Mul", "x", "q"), *total, helper.make_node("Sqrt", ["s"], ["y"])]
    path = save(
        tmp_path / "m.onnx", nodes, {"x": [1]}, {"y": None}, {"c": np.array([0.1], np.float32)}
    )
    box = InputBox({"x": Interval(np.zeros(1), np.full(1, 1e-4))}, {"x": np.zeros(1)})
    contract = replace(SEQUENTIAL, stored_format=BINARY16)
    bound = float(network_bounds(load(path), box, contract).largest)
    assert bound >= abs(np.sqrt(float(np.float16(0.1))) - np.sqrt(float(np.float32(0.1))))
