"""Large tensors: the effort of pulling back their elements stays within limits, and what comes out
is as true as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_models
from onnx import TensorProto, helper, numpy_helper, save

from encoders.contract.presets import IEEE_ANY
from encoders.curves import curves
from encoders.functions.exp import EXP
from encoders.functions.function import Function
from encoders.functions.log import LOG
from encoders.functions.tanh import TANH
from encoders.functions.waves import SIN
from encoders.numbers.enclosure import Interval
from encoders.program import program_of
from onnx_import import load
from onnx_import.graph import Graph
from refine.bounds import pruning as worth
from refine.bounds.backward import Maps, pull_back
from refine.bounds.local import refining
from refine.bounds.network import InputBox, NetworkBounds, network_bounds
from refine.bounds.pruning import Effort, in_parts, worth_refining


def padded(path: Path, pad: int) -> Graph:
    """tanh(x·w), then many zeros on either side."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "first"),
        helper.make_node("Tanh", ["h"], ["k"], "bend"),
        helper.make_node("Pad", ["k", "pads"], ["y"], "wide"),
    ]
    stored: dict[str, np.ndarray] = {
        "w": np.array([[0.5, -1], [2, 0.25], [1, 1]], np.float32),
        "pads": np.array([0, pad, 0, pad], np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, n) for n, v in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    save(model, path)
    return load(path)


def bounds_of(graph: Graph) -> NetworkBounds:
    box = Interval(np.full((1, 3), -1.0), np.full((1, 3), 1.0))
    return network_bounds(graph, InputBox({"x": box}, {"x": np.zeros((1, 3))}), IEEE_ANY)


def test_of_a_huge_output_the_worst_elements_are_refined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = padded(tmp_path / "m.onnx", 200)
    whole = bounds_of(graph)
    monkeypatch.setattr(worth, "_MOST_COEFFICIENTS", 1000)
    monkeypatch.setattr(worth, "_WORST", 2 * 402)
    measure = np.zeros((1, 402))
    measure[0, [200, 201]] = 1.0
    effort = Effort().after(6, 402)
    rows = worth_refining(program_of(graph), "y", Interval(-measure, measure), measure, effort)
    assert rows.tolist() == [200, 201]
    part = bounds_of(graph)
    assert np.array_equal(part.errors["y"], whole.errors["y"])
    assert part.costs.keys() == whole.costs.keys()
    assert part.costs == whole.costs


def test_of_the_outputs_of_a_huge_network_the_worst_are_refined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """y = (x, x/2, x/4) + v − v, with v = x·W: pull-backs cancel what composition adds up."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["v"], "scaled"),
        helper.make_node("Add", ["x", "v"], ["a"], "there"),
        helper.make_node("Sub", ["a", "v"], ["b"], "back"),
        helper.make_node("Mul", ["b", "c"], ["y"], "parts"),
    ]
    stored = {
        "w": 8 * np.eye(3, dtype=np.float32) + np.float32(0.1),
        "c": np.array([0.5, 1, 0.25], np.float32),
    }
    graph = load(
        small_models.save(tmp_path / "m.onnx", nodes, {"x": [1, 3]}, {"y": [1, 3]}, stored)
    )
    all_refined = bounds_of(graph).errors["y"].reshape(-1)
    monkeypatch.setattr(worth, "_MOST_FOR_OUTPUTS", 1)
    monkeypatch.setattr(worth, "_FEWEST_OUTPUTS", 1)
    one = bounds_of(graph).errors["y"].reshape(-1)
    assert (one > all_refined).tolist() == [True, False, True]
    assert np.all(np.isfinite(one))


def test_effort_counts_what_is_carried_past_nodes_that_multiply_nothing() -> None:
    effort = Effort().after(0, 10**6).after(5, 10**6)
    assert effort.whole == 8 * 2 * 10**6
    assert effort.times(2).whole == 2 * effort.whole
    assert Effort().after(10**9, 3).whole == 10**9


@pytest.mark.parametrize("function", [EXP, TANH, SIN, LOG])
def test_equal_ranges_are_enclosed_once_and_put_back(
    function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    curve = function.shape
    rng = np.random.default_rng(0)
    ends = np.array([-30.0, -3.0, -0.0, 0.0, 0.5, 2.0, np.inf, -np.inf])
    lo = rng.choice(ends, (20, 30))
    x = Interval(lo, lo + rng.choice([0.0, 0.1, 1.0], (20, 30)))
    found = []
    for many in (1, 10**9):
        monkeypatch.setattr(curves, "_MANY", many)
        range_ = curves.range_of(curve, x)
        bounds = curves.linear_bounds_of(curve, x, range_)
        slopes = curves.slopes_of(curve, x)
        found.append((range_.lo, range_.hi, *slopes, bounds.low, bounds.high))
    for once, each in zip(*found, strict=True):
        assert once.shape == (20, 30)
        assert np.array_equal(once, each, equal_nan=True)


def elementwise(path: Path, size: int, nodes: list[tuple[str, str]]) -> Graph:
    """Operators on tensors of one shape, each as its name and what it reads; the last writes y."""
    names = [f"t{i}" for i in range(len(nodes) - 1)] + ["y"]
    graph = helper.make_graph(
        [
            helper.make_node(op, reads.split(), [made], made)
            for (op, reads), made in zip(nodes, names, strict=True)
        ],
        "g",
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, (size,)) for x in ("x", "z")],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (size,))],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return load(path)


@pytest.mark.parametrize("size", [30_000, 300_000])
@pytest.mark.parametrize(
    "nodes",
    [
        [("Add", "x z")],
        [("Exp", "x"), ("Add", "t0 z")],
        [("Add", "x z"), ("Greater", "t0 x"), ("Where", "t1 t0 z")],
    ],
    ids=["sum", "exp", "where"],
)
def test_pulling_back_many_elements_stops_where_it_gains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, nodes: list[tuple[str, str]]
) -> None:
    graph = elementwise(tmp_path / "many.onnx", size, nodes)
    carried: list[int] = []

    def counted(
        maps: Maps, values: dict[str, Any], errors: dict[str, Any], *rest: Any, **more: Any
    ) -> Any:
        carried.extend(c.size for c in (*values.values(), *errors.values()))
        return pull_back(maps, values, errors, *rest, **more)

    monkeypatch.setattr(refining, "pull_back", counted)
    box = {n: Interval(np.full(size, -1.0), np.full(size, 1.0)) for n in graph.inputs}
    found = network_bounds(graph, InputBox(box, {n: np.zeros(size) for n in box}), IEEE_ANY)
    assert sum(carried) < 2**28
    few = elementwise(tmp_path / "few.onnx", 16, nodes)
    small = {n: Interval(np.full(16, -1.0), np.full(16, 1.0)) for n in few.inputs}
    whole = network_bounds(few, InputBox(small, {n: np.zeros(16) for n in small}), IEEE_ANY)
    assert found.largest <= 1.5 * whole.largest


def test_the_elements_that_matter_are_asked_among_many_that_do_not() -> None:
    measure = np.zeros(60_000)
    measure[[17, 40_123]] = 1.0, 2.0
    asked, others = in_parts(np.arange(60_000), measure)
    assert set(asked) == {17, 40_123}
    assert not len(others)
    asked, others = in_parts(np.arange(60_000), measure + 1.0)
    assert {17, 40_123} <= set(asked)
    assert sorted((*asked, *others)) == list(range(60_000))
