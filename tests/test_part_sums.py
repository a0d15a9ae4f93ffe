"""Partial sums of a layer's products, pulled back: held to sums made here, and bounds to runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from test_free_lines import network, real_values

from encoders.contract.contract import BiasPlacement, RuntimeContract
from encoders.contract.orders import Pairwise
from encoders.contract.presets import IEEE_ANY, SEQUENTIAL, SEQUENTIAL_FMA
from encoders.families.part_sums import PartSums, Summing, limits_of
from encoders.families.products import linear_part
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.numbers.formats import BINARY64, round_array, small_format
from encoders.ops.products.gemm import _action
from encoders.program import program_of
from gpu_check.emulator.emulator import emulate
from onnx_import.graph import Graph
from refine.bounds.alpha import Branching
from refine.bounds.network import InputBox, NetworkBounds, network_bounds
from refine.options.models import opened, read_as

RADIUS = 0.5
KINDS = (["Relu"] * 3, ["Sigmoid"] * 3, ["Tanh"] * 3, ["Relu", "Tanh", "Sigmoid", "Relu"])


def bounds_of(graph: Graph, middle: FloatArray, contract: Any = IEEE_ANY) -> NetworkBounds:
    box = InputBox({"x": Interval(middle - RADIUS, middle + RADIUS)}, {"x": np.zeros(middle.shape)})
    return network_bounds(graph, box, contract, branching=Branching(steps=4))


def points(rng: np.random.Generator, middle: FloatArray, many: int) -> FloatArray:
    """Inside and at corners."""
    inside = rng.uniform(-1, 1, (many, *middle.shape[1:]))
    corners = rng.choice([-1.0, 1.0], (many, *middle.shape[1:]))
    return np.asarray(middle + RADIUS * np.concatenate([inside, corners]))


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
def test_sums_of_either_sign_are_no_more(kinds: list[str]) -> None:
    rng = np.random.default_rng(len(kinds[0]))
    graph, model = network(kinds, rng, width=24)
    middle = rng.normal(0, 1, (1, 6)).astype(np.float32).astype(np.float64)
    bounds = bounds_of(graph, middle)
    assert bounds.maps.part_sums.keys() == {
        step.name for step in bounds.maps.program.steps[1:] if step.node.op == "Gemm"
    }
    real = real_values(model, points(rng, middle, 3000))
    narrower = 1.0
    for step in bounds.maps.program.steps:
        if step.name not in bounds.maps.part_sums:
            continue
        held, tensor = bounds.maps.part_sums[step.name], step.reads[0]
        w = np.asarray(step.site.constants[1], np.float64)
        terms = real[tensor][:, :, None] * w
        assert np.all(np.maximum(terms, 0.0).sum(axis=1) <= held.above[0] * (1 + 1e-9))
        assert np.all(np.maximum(-terms, 0.0).sum(axis=1) <= held.below[0] * (1 + 1e-9))
        x = bounds.maps.values[tensor]
        ends = np.stack([x.lo[0][:, None] * w, x.hi[0][:, None] * w])
        alone = np.maximum(ends, 0.0).max(axis=0).sum(axis=0)
        assert np.all(held.above[0] <= alone * (1 + 1e-9))
        narrower = min(narrower, float(np.min(held.above[0] / alone)))
    assert narrower < 0.9 or kinds[0] == "Tanh"  # of numbers of either sign ranges say all


@pytest.mark.parametrize("kinds", KINDS[:2], ids="-".join)
def test_bounds_get_better_by_it_and_never_worse(
    kinds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    graph, _ = network(kinds, rng, width=32)
    middle = rng.normal(0, 1, (1, 6)).astype(np.float32).astype(np.float64)
    with_it = bounds_of(graph, middle)
    monkeypatch.setattr("refine.bounds.network.part_sums", lambda *_, **__: None)
    without = bounds_of(graph, middle)
    for tensor, error in with_it.maps.errors.items():
        assert np.all(error <= without.maps.errors[tensor] * (1 + 1e-9)), tensor
    assert with_it.largest < 0.99 * without.largest


def test_numbers_near_real_ones_and_other_layers() -> None:
    """A run-time number is off by what the ranges were widened by, and another site knows
    nothing."""
    rng = np.random.default_rng(2)
    graph, model = network(["Relu", "Relu"], rng, width=16)
    middle = rng.normal(0, 1, (1, 6)).astype(np.float32).astype(np.float64)
    maps = bounds_of(graph, middle).maps
    first, second = (s for s in maps.program.steps if s.name in maps.part_sums)
    action, weights = _action(first.site)
    part = linear_part(action, weights)
    x = maps.part_sums[first.name].of(maps.values[first.reads[0]])
    off = rng.uniform(0, 0.3, x.shape)
    wide = x.inflate(off).inflate(off)
    assert isinstance(wide, Summing)
    limits = limits_of(wide, first.site, part)
    assert limits is not None
    assert limits_of(wide, second.site, part) is None
    assert limits_of(Interval(wide.lo, wide.hi), first.site, part) is None
    real = real_values(model, points(rng, middle, 500))[first.reads[0]]
    run = real + 2 * off * rng.choice([-1.0, 1.0], real.shape)
    terms = run[:, :, None] * weights
    assert np.all(np.maximum(terms, 0.0).sum(axis=1) <= limits.above[0] * (1 + 1e-9))
    assert np.all(np.maximum(-terms, 0.0).sum(axis=1) <= limits.below[0] * (1 + 1e-9))
    assert np.all(np.abs(terms).sum(axis=1) <= limits.total[0] * (1 + 1e-9))
    assert isinstance(maps.part_sums[first.name], PartSums)


def convolutions(rng: np.random.Generator) -> tuple[Graph, bytes]:
    """Two convolutions, one in groups with strides, and a dense layer."""
    held = {
        "k0": rng.normal(0, 0.6, (4, 2, 3, 3)),
        "k1": rng.normal(0, 0.6, (6, 2, 3, 3)),
        "b1": rng.normal(0, 0.3, 6),
        "w": rng.normal(0, 0.4, (24, 3)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "k0"], ["c0"], pads=[1] * 4),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "k1", "b1"], ["c1"], group=2, strides=[2, 2], pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Flatten", ["r1"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    with opened(model) as source:
        return read_as(source), model.SerializeToString()


@pytest.mark.parametrize("made", ["dense", "convolutions"])
def test_executions_in_every_order_keep_to_the_bounds(made: str) -> None:
    """In a format of six digits, in which roundings tell; real values from float64."""
    rng = np.random.default_rng(7)
    dense = made == "dense"
    graph, _ = network(["Relu"] * 3, rng, width=24) if dense else convolutions(rng)
    fmt = small_format(8, 8)
    toy = replace(IEEE_ANY, compute_format=fmt)
    shape = graph.types["x"].shape
    middle = round_array(rng.normal(0, 1, shape), fmt)
    bounds = bounds_of(graph, middle, toy)
    assert len(bounds.maps.part_sums) == (3 if dense else 2)
    x = round_array(points(rng, middle[None], 400), fmt)
    x = np.clip(x, middle - RADIUS, middle + RADIUS)
    x = np.stack([v for v in x if np.all(round_array(v, fmt) == v)])
    exact = replace(SEQUENTIAL, compute_format=BINARY64)
    real = emulate(graph, {"x": x}, exact, every_tensor=True)
    nearest = 0.0
    for order in (SEQUENTIAL, SEQUENTIAL_FMA, replace(SEQUENTIAL, order=Pairwise())):
        ran = emulate(graph, {"x": x}, replace(order, compute_format=fmt), every_tensor=True)
        for tensor, error in bounds.maps.errors.items():
            if tensor != "x":
                off = np.abs(np.asarray(ran[tensor], np.float64) - real[tensor])
                assert np.all(off <= error * (1 + 1e-9)), tensor
                nearest = max(nearest, float(np.max(off / np.maximum(error, 1e-9))))
    assert nearest > 0.05


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
def test_sums_of_the_first_terms_lie_where_they_are_said_to(kinds: list[str]) -> None:
    """And so do all sums between them, whatever they begin with."""
    rng = np.random.default_rng(len(kinds[0]))
    graph, model = network(kinds, rng, width=24)
    middle = rng.normal(0, 1, (1, 6)).astype(np.float32).astype(np.float64)
    bounds = bounds_of(graph, middle, SEQUENTIAL_FMA)
    real = real_values(model, points(rng, middle, 2000))
    for step in bounds.maps.program.steps:
        if step.name not in bounds.maps.part_sums:
            continue
        held, tensor = bounds.maps.part_sums[step.name].prefixes, step.reads[0]
        assert held is not None
        assert held.at[-1] == held.terms == 24
        assert len(held.at) > 3
        w = np.asarray(step.site.constants[1], np.float64)
        sums = np.cumsum(real[tensor][:, :, None] * w, axis=1).swapaxes(1, 2)
        for j, many in enumerate(held.at):
            assert np.all(sums[..., many - 1] <= held.hi[:, j] + 1e-9)
            assert np.all(sums[..., many - 1] >= held.lo[:, j] - 1e-9)
        x = bounds.maps.values[tensor]
        mid, radius = (
            0.5 * (x.lo + x.hi)[0][:, None] * w,
            0.5 * np.abs((x.hi - x.lo)[0][:, None] * w),
        )
        start = rng.normal(0, 1, 24)
        run, off = np.cumsum(mid, axis=0).T + start[:, None], np.cumsum(radius, axis=0).T
        found = held.partial(run, off, np.full(24, 1e-12), Interval(start, start))
        assert np.all(np.abs(sums + start[:, None]) <= found + 1e-9)
        plain = np.abs(run) + off
        assert np.any(found < 0.9 * plain)


@pytest.mark.parametrize("made", ["dense", "convolutions"])
@pytest.mark.parametrize("contract", [SEQUENTIAL, SEQUENTIAL_FMA], ids=lambda c: c.name)
@pytest.mark.parametrize("bias", [BiasPlacement.FIRST, BiasPlacement.LAST])
def test_chains_keep_to_the_bounds(
    made: str, contract: RuntimeContract, bias: BiasPlacement, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(11)
    graph, _ = network(["Relu"] * 3, rng, width=24) if made == "dense" else convolutions(rng)
    fmt = small_format(8, 8)
    toy = replace(contract, compute_format=fmt, bias=bias)
    middle = round_array(rng.normal(0, 1, graph.types["x"].shape), fmt)
    bounds = bounds_of(graph, middle, toy)
    assert len(bounds.maps.part_sums) == (3 if made == "dense" else 2)
    x = round_array(points(rng, middle[None], 400), fmt)
    x = np.clip(x, middle - RADIUS, middle + RADIUS)
    x = np.stack([v for v in x if np.all(round_array(v, fmt) == v)])
    real = emulate(graph, {"x": x}, replace(SEQUENTIAL, compute_format=BINARY64), every_tensor=True)
    ran = emulate(graph, {"x": x}, toy, every_tensor=True)
    for tensor, error in bounds.maps.errors.items():
        if tensor != "x":
            off = np.abs(np.asarray(ran[tensor], np.float64) - real[tensor])
            assert np.all(off <= error * (1 + 1e-9)), tensor
    monkeypatch.setattr("refine.bounds.network.part_sums", lambda *_, **__: None)
    without = bounds_of(graph, middle, toy)
    for tensor, error in bounds.maps.errors.items():
        assert np.all(error <= without.maps.errors[tensor] * (1 + 1e-9)), tensor


PRODUCTS: dict[str, tuple[tuple[str, str], tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "gemm": (("x", "w"), (2, 40), (40, 3), {}),
    "gemm-transB": (("x", "w"), (2, 40), (3, 40), {"transB": 1}),
    "gemm-transA": (("x", "w"), (40, 2), (40, 3), {"transA": 1}),
    "gemm-left": (("w", "x"), (40, 2), (3, 40), {}),
    "gemm-left-transA": (("w", "x"), (40, 2), (40, 3), {"transA": 1}),
    "matmul": (("x", "w"), (2, 40), (40, 3), {}),
    "matmul-vector": (("x", "w"), (2, 40), (40,), {}),
    "matmul-batch": (("x", "w"), (2, 3, 40), (2, 40, 3), {}),
    "matmul-left": (("w", "x"), (40, 2), (3, 40), {}),
    "conv": (("x", "w"), (1, 4, 5, 5), (6, 4, 3, 3), {"pads": [1] * 4}),
    "conv-groups": (("x", "w"), (1, 10, 5, 5), (4, 5, 3, 3), {"group": 2, "strides": [2, 2]}),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_first_terms_of_a_sum_are_those_that_are_added_first(name: str) -> None:
    """A number that swallows all that is added after it says how much was added before."""
    reads, shape, size, attributes = PRODUCTS[name]
    op = {"gemm": "Gemm", "matm": "MatMul", "conv": "Conv"}[name[:4]]
    weights = np.ones(size, np.float32)
    node = helper.make_node(op, list(reads), ["y"], **attributes)
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    made = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [output],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    with opened(model) as source:
        graph = read_as(source)
    (step,) = program_of(graph).steps
    sums = step.operator.sums
    assert sums is not None
    assert sums.first is not None
    terms = sums.extent(step.site).terms
    out = step.site.outputs[0].shape
    place = int(np.prod(out)) // 2
    unit = np.zeros((1, *out))
    unit.reshape(-1)[place] = 1.0
    x = [Interval(np.zeros(shape), np.ones(shape))]
    index = np.full(shape, terms)
    for many in range(terms, 0, -1):
        carry = step.operator.values(sums.first(step.site, many), x).carry
        assert carry is not None
        (used,) = carry().coefficients(unit)
        index[used[0] != 0] = many - 1
    for flat in map(int, np.flatnonzero(index < terms)):
        given = np.full((1, *shape), 0.5)
        given.reshape(-1)[flat] = 2.0**24
        ran = emulate(graph, {"x": given}, SEQUENTIAL)["y"]
        before = (float(np.asarray(ran, np.float64).reshape(-1)[place]) - 2.0**24) / 0.5
        assert abs(before - _counted(index, flat)) <= 2


def _counted(index: Any, flat: int) -> int:
    """How many terms are added before this one."""
    return int(np.sum(index < index.reshape(-1)[flat]))
