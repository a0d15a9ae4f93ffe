"""Differences of graphs that store their inputs as integers, each combination followed: against
onnxruntime's executions and exact fractions, at and beside the numbers where integers change."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from quantised_networks import Form, Network, cnn, files, mlp
from small_models import save

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import EXACT, IEEE_ANY, ORT_CPU
from encoders.numbers.enclosure import Interval
from onnx_import import load
from refine.bounds.network import InputBox
from refine.pair.comparison import comparison
from refine.pair.pair import pair_of
from refine.pair.quantised import enumerated
from refine.pair.quantised.cells import cells, classes
from refine.results.verdict import Side

Points = npt.NDArray[np.float32]
Exact = npt.NDArray[np.object_]


def following(x: float) -> float:
    return float(np.nextafter(np.float32(x), np.float32(np.inf)))


@pytest.mark.parametrize("seed", range(40))
def test_every_number_is_in_the_cell_of_its_integer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale = float(np.float32(rng.choice([2.0**-6, 0.0149999, 10.0 ** rng.uniform(-4, 0)])))
    other = scale if seed % 3 else float(np.float32(scale * 1.01))
    tie = np.float32((rng.integers(-130, 130) + 0.5) * scale)
    lo = float(np.float32(tie - np.float32(rng.uniform(0, 1.5) * scale)))
    hi = float(np.float32(tie + np.float32(rng.uniform(0, 1.5) * scale)))
    found = cells(lo, hi, [scale], [other], 100)
    assert found is not None
    assert (found[0].lo, found[-1].hi) == (lo, hi)
    for one, other_cell in pairwise(found):
        assert following(one.hi) == other_cell.lo
    near = [tie]
    for way in (-np.inf, np.inf):
        x = tie
        for _ in range(12):
            near.append(x := np.nextafter(x, np.float32(way)))
    for x in [*near, *rng.uniform(lo, hi, 50).astype(np.float32)]:
        if not lo <= float(x) <= hi:
            continue
        (cell,) = (c for c in found if c.lo <= float(x) <= c.hi)
        assert cell.run == (int(np.rint(x / np.float32(scale))),)
        assert cell.real == (round(Fraction(float(x)) / Fraction(other)),)
    hulls, places = classes(found, [c.run for c in found])
    for cell, place in zip(found, places, strict=True):
        assert hulls.lo[place] <= cell.lo <= cell.hi <= hulls.hi[place]
    assert cells(lo, hi, [scale], [other], len(found) - 1) is None


def exact_run(model: onnx.ModelProto, x: Points) -> Exact:
    """What a file of quantised Gemm and Relu layers says, in fractions: no rounding but to
    integers."""
    held: dict[str, Exact] = {
        i.name: np.vectorize(Fraction, otypes=[object])(numpy_helper.to_array(i).astype(np.float64))
        for i in model.graph.initializer
    }
    kinds = {i.name: numpy_helper.to_array(i).dtype for i in model.graph.initializer}
    held["x"] = np.vectorize(Fraction, otypes=[object])(x.astype(np.float64))
    for node in model.graph.node:
        given = [held[t] for t in node.input]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "QuantizeLinear":
            ends = np.iinfo(kinds[node.input[2]])
            whole = np.vectorize(round, otypes=[object])(given[0] / given[1]) + given[2]
            y = np.clip(whole, ends.min, ends.max)
        elif node.op_type == "DequantizeLinear":
            y = (given[0] - given[2]) * given[1]
        elif node.op_type == "Relu":
            y = np.maximum(given[0], 0)
        else:
            assert node.op_type == "Gemm", node.op_type
            weights = given[1].T if attributes.get("transB") else given[1]
            y = given[0] @ weights + given[2]
        held[node.output[0]] = np.asarray(y, dtype=object)
    return held[model.graph.output[0].name]


def at_ties(rng: np.random.Generator, lo: Points, hi: Points, scale: float) -> Points:
    """A point whose numbers are, where that is possible, within an ulp of half a step."""
    first, last = np.ceil(lo / scale - 0.5), np.floor(hi / scale - 0.5)
    k = np.floor(first + rng.random(lo.shape) * (last - first + 1))
    x = ((np.clip(k, first, last) + 0.5) * scale).astype(np.float32)
    way = rng.choice([-np.inf, np.inf], lo.shape).astype(np.float32)
    x = np.where(rng.random(lo.shape) < 0.5, np.nextafter(x, way), x)
    some = (first <= last) & (rng.random(lo.shape) < 0.9)
    whole: Points = np.clip(np.where(some, x, rng.uniform(lo, hi)), lo, hi).astype(np.float32)
    return whole


@pytest.mark.parametrize("contract", [IEEE_ANY, ORT_CPU], ids=lambda c: c.name)
@pytest.mark.parametrize("seed", range(4))
def test_two_forms_of_one_copy_at_their_ties(
    tmp_path: Path, seed: int, contract: RuntimeContract
) -> None:
    net: Network = mlp(seed, (4, 7, 5, 3))
    _, spec = files(tmp_path, "net", net, Form.QDQ)
    _, impl = files(tmp_path, "net", net, Form.OPERATORS)
    pair = pair_of(Side(load(spec), EXACT), Side(load(impl), contract))
    model = onnx.load(spec)
    scale = next(float(numpy_helper.to_array(i)) for i in model.graph.initializer
                 if i.name == "x_scale")  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(impl, options)
    rng = np.random.default_rng(seed)
    most = 0.0
    for radius in (0.0, 0.004, 0.012):
        centre = rng.uniform(-0.9, 0.9, net.shape).astype(np.float32)
        lo, hi = centre - np.float32(radius), centre + np.float32(radius)
        box = InputBox(
            {"x": Interval(lo.astype(np.float64), hi.astype(np.float64))},
            {"x": np.zeros(lo.shape)},
        )
        problem = comparison(pair)
        assert problem.stored is not None
        gaps = enumerated.enumerated_gaps(problem.stored, box, contract, lambda: None)
        assert set(gaps) == {"y"}
        low, high = gaps["y"].lo, gaps["y"].hi
        assert problem.bounds(box).largest <= max(np.max(-low), np.max(high))
        for _ in range(60):
            x = at_ties(rng, lo, hi, scale)
            y = np.asarray(session.run(None, {"x": x})[0])
            exact = exact_run(model, x)
            for a, b, least, largest in zip(
                y.reshape(-1), exact.reshape(-1), low.reshape(-1), high.reshape(-1), strict=True
            ):
                gap = Fraction(float(a)) - b
                assert Fraction(float(least)) <= gap <= Fraction(float(largest))
                most = max(most, abs(float(gap)))
    assert most > 1e-3  # a whole step of the output: ties were met


@pytest.mark.parametrize("form", [Form.QDQ, Form.OPERATORS], ids=lambda f: f.value)
@pytest.mark.parametrize("kind", ["dense", "CNN"])
def test_a_float_network_is_held_against_every_combination(
    tmp_path: Path, kind: str, form: Form
) -> None:
    net = mlp(3, (5, 8, 4)) if kind == "dense" else cnn(3, 4, (3, 3), True)
    source, target = files(tmp_path, "net", net, form)
    pair = pair_of(Side(load(source), EXACT), Side(load(target), IEEE_ANY))
    problem = comparison(pair)
    assert problem.stored is not None
    assert not problem.stored.both
    rng = np.random.default_rng(0)
    centre = rng.uniform(-0.9, 0.9, net.shape).astype(np.float32)
    lo, hi = centre - np.float32(0.0005), centre + np.float32(0.0005)
    x = Interval(lo.astype(np.float64), hi.astype(np.float64))
    box = InputBox({"x": x}, {"x": np.zeros(lo.shape)})
    gap = enumerated.enumerated_gaps(problem.stored, box, IEEE_ANY, lambda: None)["y"]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    copy, original = (onnxruntime.InferenceSession(p, options) for p in (target, source))
    found = 0.0
    for _ in range(200):
        at = rng.choice([0.0, 1.0, rng.random()], lo.shape)
        point = np.clip((lo + at * (hi - lo)).astype(np.float32), lo, hi)
        runs = [np.asarray(s.run(None, {"x": point})[0], np.float64) for s in (copy, original)]
        apart = runs[0] - runs[1]
        assert np.all(gap.lo - 1e-5 <= apart)
        assert np.all(apart <= gap.hi + 1e-5)
        found = max(found, float(np.max(np.abs(apart))))
    assert max(np.max(-gap.lo), np.max(gap.hi)) <= 3 * found


@pytest.mark.parametrize("what", ["received", "narrow"])
def test_nothing_is_said_where_inputs_are_no_numbers_of_float32(tmp_path: Path, what: str) -> None:
    net = mlp(3, (3, 4, 2))
    source, target = files(tmp_path, "net", net, Form.QDQ)
    problem = comparison(pair_of(Side(load(source), EXACT), Side(load(target), IEEE_ANY)))
    assert problem.stored is not None
    ends = np.full(net.shape, 0.5 if what == "received" else 0.1)
    errors: Mapping[str, npt.NDArray[np.float64]] = {
        "x": np.full(net.shape, 1e-9 if what == "received" else 0.0)
    }
    box = InputBox({"x": Interval(ends, ends)}, errors)
    assert not enumerated.enumerated_gaps(problem.stored, box, IEEE_ANY, lambda: None)


@pytest.mark.parametrize("seed", range(3))
def test_a_number_that_is_exactly_half_a_step_is_stored_alike(tmp_path: Path, seed: int) -> None:
    net: Network = mlp(seed, (3, 6, 2))
    _, spec = files(tmp_path, "net", net, Form.QDQ)
    _, impl = files(tmp_path, "net", net, Form.OPERATORS)
    pair = pair_of(Side(load(spec), EXACT), Side(load(impl), IEEE_ANY))
    model = onnx.load(spec)
    scale = next(numpy_helper.to_array(i) for i in model.graph.initializer if i.name == "x_scale")
    half = np.float32(0.5) * scale
    ways = [np.float32(0.3) * scale, half, np.nextafter(half, np.float32(1)), scale]
    session = onnxruntime.InferenceSession(impl)
    found = 0.0
    for index in product(range(4), repeat=3):
        x = np.array([[ways[i] for i in index]], np.float32)
        y = np.asarray(session.run(None, {"x": x})[0])
        gaps = [Fraction(float(a)) - b for a, b in zip(y[0], exact_run(model, x)[0], strict=True)]
        found = max(found, *(abs(float(g)) for g in gaps))
    ends = Interval(*(np.full(net.shape, float(v)) for v in (ways[0], ways[-1])))
    bound = comparison(pair).bounds(InputBox({"x": ends}, {"x": np.zeros(net.shape)})).largest
    assert found <= bound <= found + 1e-6


def test_sums_that_may_leave_int32_are_not_followed(tmp_path: Path) -> None:
    """A sum of 40,000 products of bytes may wrap; onnxruntime's own is 2^32 less then."""
    count = 40_000
    held = {
        "x_scale": np.array(1.0, np.float32), "zero": np.array(0, np.uint8),
        "w": np.full((count, 1), 255, np.uint8), "s": np.array(1.0, np.float32),
        "y_scale": np.array(2.0**24, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "zero"], ["q"]),
        helper.make_node(
            "QLinearMatMul", ["q", "x_scale", "zero", "w", "s", "zero", "y_scale", "zero"], ["p"]
        ),
        helper.make_node("DequantizeLinear", ["p", "y_scale", "zero"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": [1, count]}, {"y": [1, 1]}, held)
    graph = load(path)
    same = {"x": "x"}, {"y": "y"}
    pair = enumerated.quantised(graph, graph, *same)
    assert pair is not None
    ends = Interval(np.full((1, count), 255.0), np.full((1, count), 255.0))
    box = InputBox({"x": ends}, {"x": np.zeros((1, count))})
    assert not enumerated.enumerated_gaps(pair, box, IEEE_ANY, lambda: None)
