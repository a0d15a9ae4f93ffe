"""Formulas of one number that a file spells out in nodes, bounded as the one curve they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import flint
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from small_models import save

from encoders.contract.presets import EXACT, IEEE_ANY
from encoders.curves.certified import certified_curve
from encoders.curves.curves import linear_bounds_of, range_of, slopes_of
from encoders.functions.curve import Curve, Shape
from encoders.functions.exp import EXP
from encoders.functions.tanh import TANH
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.program import program_of
from onnx_import import load
from onnx_import.graph import Graph
from refine.bounds.joint.finding import formulas_of
from refine.bounds.joint.joining import as_it_is
from refine.bounds.network import InputBox, Known, NetworkBounds, network_bounds
from refine.bounds.problem import Network
from refine.pair.comparison import comparison
from refine.pair.pair import pair_of
from refine.results.verdict import Side

Exact = Callable[[flint.arb], flint.arb]
Line = tuple[str, str, str]  # operator, what it reads, what it writes


@dataclass(frozen=True)
class Spelled:
    """A formula as nodes from z to y, with the numbers that they store, and what it is exactly;
    `alone`, the operator that is the same."""

    nodes: tuple[Line, ...]
    exact: Exact
    stored: Mapping[str, float] = field(default_factory=dict)
    alone: str | None = None


def _stored(x: float) -> flint.arb:
    return flint.arb(float(np.float32(x)))


def _sigmoid(x: flint.arb) -> flint.arb:
    return 1 / (1 + (-x).exp())


def _gelu(x: flint.arb) -> flint.arb:
    return x * (1 + (x / _stored(math.sqrt(2))).erf()) / 2


def _gelu_tanh(x: flint.arb) -> flint.arb:
    inner = _stored(math.sqrt(2 / math.pi)) * (x + _stored(0.044715) * x**3)
    return x * (1 + inner.tanh()) / 2


def _hard_swish(x: flint.arb) -> flint.arb:
    return x * (x + 3).max(flint.arb(0)).min(flint.arb(6)) / 6


SPELLED: dict[str, Spelled] = {
    "gelu": Spelled(
        (
            ("Div", "z root", "a"),
            ("Erf", "a", "b"),
            ("Add", "b one", "c"),
            ("Mul", "z c", "d"),
            ("Mul", "d half", "y"),
        ),
        _gelu,
        {"root": math.sqrt(2), "one": 1.0, "half": 0.5},
        alone="Gelu",
    ),
    "gelu by tanh": Spelled(
        (
            ("Mul", "z z", "a"),
            ("Mul", "z a", "b"),
            ("Mul", "b cubic", "c"),
            ("Add", "z c", "d"),
            ("Mul", "d root", "e"),
            ("Tanh", "e", "f"),
            ("Add", "f one", "g"),
            ("Mul", "z half", "h"),
            ("Mul", "h g", "y"),
        ),
        _gelu_tanh,
        {"cubic": 0.044715, "root": math.sqrt(2 / math.pi), "one": 1.0, "half": 0.5},
    ),
    "silu": Spelled(
        (("Sigmoid", "z", "a"), ("Mul", "z a", "y")),
        lambda x: x * _sigmoid(x),
        alone="Swish",
    ),
    "mish": Spelled(
        (("Softplus", "z", "a"), ("Tanh", "a", "b"), ("Mul", "z b", "y")),
        lambda x: x * (1 + x.exp()).log().tanh(),
        alone="Mish",
    ),
    "hard swish": Spelled(
        (
            ("Add", "z three", "a"),
            ("Clip", "a zero six", "b"),
            ("Mul", "z b", "c"),
            ("Div", "c six", "y"),
        ),
        _hard_swish,
        {"three": 3.0, "zero": 0.0, "six": 6.0},
        alone="HardSwish",
    ),
    "softplus": Spelled(
        (("Exp", "z", "a"), ("Add", "one a", "b"), ("Log", "b", "y")),
        lambda x: (1 + x.exp()).log(),
        {"one": 1.0},
        alone="Softplus",
    ),
    "sigmoid": Spelled(
        (("Neg", "z", "a"), ("Exp", "a", "b"), ("Add", "b one", "c"), ("Div", "one c", "y")),
        _sigmoid,
        {"one": 1.0},
        alone="Sigmoid",
    ),
    "cube": Spelled((("Mul", "z z", "a"), ("Mul", "a z", "y")), lambda x: x**3),
    "smooth size": Spelled(
        (("Mul", "z z", "a"), ("Add", "a tiny", "b"), ("Sqrt", "b", "y")),
        lambda x: (x * x + _stored(0.01)).sqrt(),
        {"tiny": 0.01},
    ),
    "less of two": Spelled(
        (("Exp", "z", "a"), ("Min", "a three", "b"), ("Mul", "b z", "y")),
        lambda x: x.exp().min(flint.arb(3)) * x,
        {"three": 3.0},
    ),
}
every_formula = pytest.mark.parametrize("name", SPELLED)


def _nodes(spelled: Spelled, z: str = "z", y: str = "y", tag: str = "") -> list[onnx.NodeProto]:
    names = {"z": z, "y": y}

    def named(t: str) -> str:
        return t if t in spelled.stored else names.get(t, t + tag)

    return [
        helper.make_node(op, [named(t) for t in read.split()], [named(made)], name=named(made))
        for op, read, made in spelled.nodes
    ]


def _weights(spelled: Spelled) -> dict[str, FloatArray]:
    return {t: np.asarray(v, np.float32) for t, v in spelled.stored.items()}


def _alone(path: Path, nodes: Sequence[onnx.NodeProto], weights: Mapping[str, FloatArray]) -> Graph:
    save(path, nodes, {"z": [1, 64]}, {"y": [1, 64]}, weights, opset=24)
    return load(path)


def _layers(path: Path, spelled: Spelled, *, operator: str | None = None, depth: int = 2) -> Graph:
    """Layers of 12 numbers with the formula, or an operator, behind each."""
    rng = np.random.default_rng(3)
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, FloatArray] = {} if operator else _weights(spelled)
    read = "x"
    for i in range(depth):
        weights[f"W{i}"] = (rng.standard_normal((12, 12)) / 3).astype(np.float32)
        weights[f"b{i}"] = (rng.standard_normal(12) / 3).astype(np.float32)
        nodes.append(helper.make_node("Gemm", [read, f"W{i}", f"b{i}"], [f"z{i}"], name=f"gemm{i}"))
        if operator is None:
            nodes += _nodes(spelled, f"z{i}", f"y{i}", f"_{i}")
        else:
            nodes.append(helper.make_node(operator, [f"z{i}"], [f"y{i}"], name=f"y{i}"))
        read = f"y{i}"
    weights["W"] = (rng.standard_normal((12, 3)) / 3).astype(np.float32)
    nodes.append(helper.make_node("MatMul", [read, "W"], ["y"], name="last"))
    save(path, nodes, {"x": [1, 12]}, {"y": [1, 3]}, weights, opset=24)
    return load(path)


def _bounds(graph: Graph, low: float, high: float, *, together: bool = True) -> NetworkBounds:
    (name,) = graph.inputs
    shape = graph.types[name].shape
    x = Interval(np.full(shape, low), np.full(shape, high))
    box = InputBox({name: x}, {name: np.zeros(shape)})
    return network_bounds(
        graph, box, IEEE_ANY, together=as_it_is(graph, IEEE_ANY) if together else None
    )


def _largest(bounds: NetworkBounds) -> float:
    return float(bounds.largest)


def _curve(path: Path, name: str) -> Curve:
    spelled = SPELLED[name]
    graph = _alone(path, _nodes(spelled), _weights(spelled))
    ((formula,),) = formulas_of(program_of(graph)).values()
    curve = certified_curve(formula.body.real, -6.0, 5.0)
    assert curve is not None
    return curve


@every_formula
def test_the_curve_holds_the_formula(tmp_path: Path, name: str) -> None:
    """Its range, its slopes and its lines, at points of random intervals."""
    curve = _curve(tmp_path / "m.onnx", name)
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-6.0, 5.0, (2, 30))
    narrow = rng.uniform(-5.0, 4.0, 20)
    around = np.array([-3.0, 0.0, 3.0, 1.0, math.log(3.0), -math.sqrt(2), 1.4185])
    lo = np.concatenate([np.minimum(a, b), narrow, around - 1e-9, around, around - 0.3])
    hi = np.concatenate([np.maximum(a, b), narrow + 1e-3, around + 1e-9, around + 0.2, around])
    x = Interval(lo, hi)
    range_ = range_of(curve, x)
    low, high = slopes_of(curve, x)
    lines = linear_bounds_of(curve, x, range_)
    with flint.ctx.workprec(200):
        exact = SPELLED[name].exact
        for i in range(len(lo)):
            at = [flint.arb(lo[i]), flint.arb(hi[i])]
            at += [flint.arb(v) for v in rng.uniform(lo[i], hi[i], 8)]
            y = [exact(v) for v in at]
            for v, f in zip(at, y, strict=True):
                assert not f < flint.arb(range_.lo[i])
                assert not f > flint.arb(range_.hi[i])
                assert not f < flint.arb(lines.low_slope[i]) * v + flint.arb(lines.low[i])
                assert not f > flint.arb(lines.high_slope[i]) * v + flint.arb(lines.high[i])
            for j in range(1, len(at)):
                if at[j] != at[j - 1]:
                    quotient = (y[j] - y[j - 1]) / (at[j] - at[j - 1])
                    assert not quotient < flint.arb(low[i])
                    assert not quotient > flint.arb(high[i])


@every_formula
def test_the_curve_is_narrow(tmp_path: Path, name: str) -> None:
    """Over short intervals ranges and lines are about as far apart as the formula bends."""
    curve = _curve(tmp_path / "m.onnx", name)
    lo = np.linspace(-5.9, 4.9, 200)
    x = Interval(lo, lo + 2.0**-6)
    range_ = range_of(curve, x)
    lines = linear_bounds_of(curve, x, range_)
    middle = lo + 2.0**-7
    gap = (lines.high_slope - lines.low_slope) * middle + lines.high - lines.low
    low, high = slopes_of(curve, x)
    steep = np.maximum(np.maximum(np.abs(low), np.abs(high)), 1.0)
    assert np.all(range_.hi - range_.lo <= 2.0**-5 * steep)
    assert np.median(gap) <= 2.0**-10 * np.median(steep)


def test_a_kink_keeps_both_slopes(tmp_path: Path) -> None:
    """x·clip(x + 3, 0, 6)/6 bends down at −3, where its second derivative would not tell."""
    curve = _curve(tmp_path / "m.onnx", "hard swish")
    at = np.array([-3.0, 3.0])
    low, high = slopes_of(curve, Interval(at - 1e-6, at + 1e-6))
    assert np.all(low <= [-0.5, 1.0])
    assert np.all(high >= [0.0, 1.5])
    kinks = [p for p in curve.pieces if p.shape is Shape.UNKNOWN]
    assert {round(p.start) for p in kinks} == {-3, 3}


def test_a_kink_between_parts_is_no_bend() -> None:
    """max(x, 0) + min(x, 0)·2 meets its kink where parts of the interval meet: nothing convex or
    concave runs across it."""
    curve = certified_curve(
        lambda f, x: f.maximum(x, 0 * x) - 2 * f.maximum(-x, 0 * x) + f.function(TANH, x), -4.0, 4.0
    )
    assert curve is not None
    across = [p for p in curve.pieces if p.start < 0.0 < p.end and p.shape is not Shape.UNKNOWN]
    assert not across
    low, high = slopes_of(curve, Interval(np.array([-1e-3]), np.array([1e-3])))
    assert low[0] <= 2.0
    assert high[0] >= 3.0 - 1e-5


def test_what_has_no_derivative_is_no_curve() -> None:
    assert certified_curve(lambda f, x: 1 / x, -1.0, 1.0) is None
    assert certified_curve(lambda f, x: f.floor(x) * x, -1.0, 1.0) is None  # type: ignore[attr-defined]
    assert certified_curve(lambda f, x: f.function(EXP, 1 / x), -1.0, 2.0) is None
    assert certified_curve(lambda f, x: f.sqrt(x) * x, -1.0, 2.0) is None
    assert certified_curve(lambda f, x: x * x * x, 1.0, 1.0) is None


@every_formula
def test_runs_stay_within_the_bound_of_the_nodes_together(tmp_path: Path, name: str) -> None:
    """onnxruntime on numbers of the whole range; the bound is not far above what is found."""
    spelled = SPELLED[name]
    path = tmp_path / "m.onnx"
    graph = _alone(path, _nodes(spelled), _weights(spelled))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    for low, high in ((-4.0, 4.0), (0.5, 0.75), (-3.0, -2.0)):
        bounds = _bounds(graph, low, high)
        assert any(step.reads == ("z",) for step in bounds.maps.program.steps if step.name == "y")
        limit = bounds.radii["y"].bound
        x = rng.uniform(low, high, (30, 1, 64)).astype(np.float32)
        worst = 0.0
        with flint.ctx.workprec(120):
            for given in x:
                made = np.asarray(session.run(None, {"z": given})[0])
                pairs = zip(given.ravel().tolist(), made.ravel().tolist(), strict=True)
                for i, (v, y) in enumerate(pairs):
                    error = float(abs(flint.arb(y) - spelled.exact(flint.arb(v))).lower())
                    assert error <= limit.flat[i]
                    worst = max(worst, error)
        assert float(np.max(limit)) <= 80.0 * worst


@pytest.mark.parametrize("name", [n for n, s in SPELLED.items() if s.alone])
def test_a_formula_is_bounded_as_its_operator_is(tmp_path: Path, name: str) -> None:
    """Within a little of the operator that computes the same, and much below node by node."""
    spelled = SPELLED[name]
    nodes = _layers(tmp_path / "nodes.onnx", spelled)
    alone = _layers(tmp_path / "alone.onnx", spelled, operator=spelled.alone)
    for width in (0.05, 1.0):
        together = _bounds(nodes, -width, width)
        one = _bounds(alone, -width, width)
        apart = _bounds(nodes, -width, width, together=False)
        assert _largest(together) <= 1.3 * _largest(one)
        assert _largest(together) <= 1.01 * _largest(apart)
    assert _largest(together) <= 0.8 * _largest(apart)


@every_formula
def test_runs_of_layers_stay_within_the_bound(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.onnx"
    graph = _layers(path, SPELLED[name])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    bounds = _bounds(graph, -0.5, 0.5)
    rng = np.random.default_rng(2)
    weights = {t: np.asarray(v, np.float64) for t, v in graph.constants.items()}
    for x in rng.uniform(-0.5, 0.5, (20, 1, 12)).astype(np.float32):
        made = np.asarray(session.run(None, {"x": x})[0], np.float64).ravel()
        with flint.ctx.workprec(160):
            read = [flint.arb(v) for v in x.ravel().tolist()]
            for i in range(2):
                read = [
                    SPELLED[name].exact(v)
                    for v in _affine(read, weights[f"W{i}"], weights[f"b{i}"])
                ]
            exact = _affine(read, weights["W"], np.zeros(3))
            for j, y in enumerate(exact):
                assert float(abs(flint.arb(made[j]) - y).lower()) <= bounds.radii["y"].bound.flat[j]
                assert not y < flint.arb(bounds.maps.values["y"].lo.flat[j])
                assert not y > flint.arb(bounds.maps.values["y"].hi.flat[j])


def _affine(x: list[flint.arb], w: FloatArray, b: FloatArray) -> list[flint.arb]:
    return [
        sum((v * flint.arb(w[i, j]) for i, v in enumerate(x)), flint.arb(float(b[j])))
        for j in range(w.shape[1])
    ]


def test_what_is_read_elsewhere_too_keeps_its_bound(tmp_path: Path) -> None:
    """The gate of x·sigmoid(x) is an output beside: both are bounded, each by its own."""
    nodes = _nodes(SPELLED["silu"])
    save(tmp_path / "m.onnx", nodes, {"z": [1, 8]}, {"y": [1, 8], "a": [1, 8]})
    graph = load(tmp_path / "m.onnx")
    together, apart = _bounds(graph, -4, 4), _bounds(graph, -4, 4, together=False)
    assert np.array_equal(together.errors["a"], apart.errors["a"])
    assert float(np.max(together.errors["y"])) <= float(np.max(apart.errors["y"]))


def test_of_what_has_no_curve_the_nodes_are_bounded_one_by_one(tmp_path: Path) -> None:
    """1/z·tanh(z) has a pole between the ends of its range."""
    nodes = [
        helper.make_node("Reciprocal", ["z"], ["a"], name="a"),
        helper.make_node("Tanh", ["z"], ["b"], name="b"),
        helper.make_node("Mul", ["a", "b"], ["y"], name="y"),
    ]
    graph = _alone(tmp_path / "m.onnx", nodes, {})
    assert formulas_of(program_of(graph))
    assert _largest(_bounds(graph, -1.0, 1.0)) == np.inf
    assert _largest(_bounds(graph, 0.5, 1.0)) < 1e-5


def test_boxes_side_by_side_take_formulas_together_too(tmp_path: Path) -> None:
    """In batches of boxes the bound of each is about that of the box alone."""
    graph = _layers(tmp_path / "m.onnx", SPELLED["silu"])
    problem = Network(graph, IEEE_ANY)
    batches = problem.batches
    assert batches is not None
    boxes = []
    for low, high in ((-0.5, 0.0), (0.0, 0.5), (-0.25, 0.25)):
        shape = graph.types["x"].shape
        x = Interval(np.full(shape, low), np.full(shape, high))
        boxes.append(InputBox({"x": x}, {"x": np.zeros(shape)}))
    whole = problem.bounds(
        InputBox({"x": Interval(np.full((1, 12), -0.5), np.full((1, 12), 0.5))}, boxes[0].errors)
    )
    known = Known(dict(whole.maps.values), dict(whole.maps.radii))
    found = batches.bounded(boxes, known, [{}] * len(boxes))
    assert found is not None
    for box, bounds in zip(boxes, found.boxes, strict=True):
        alone = problem.bounds(box).largest
        assert max(r.largest for r in bounds.radii.values()) <= 1.2 * alone


def test_a_difference_takes_formulas_together_where_they_are_the_same(tmp_path: Path) -> None:
    """A copy whose last weights are other ones: the formulas of both are one curve, and a bound of
    the difference is not far above that of the same network with operators."""
    found = {}
    for operator in (None, "Swish"):
        graph = _layers(tmp_path / f"{operator}.onnx", SPELLED["silu"], operator=operator)
        path = tmp_path / f"{operator} moved.onnx"
        model = onnx.load(tmp_path / f"{operator}.onnx")
        for tensor in model.graph.initializer:
            if tensor.name == "W":
                moved = numpy_helper.to_array(tensor) * np.float32(1.001)
                tensor.CopyFrom(numpy_helper.from_array(moved, "W"))
        onnx.save(model, path)
        side = Side(load(path), IEEE_ANY)
        problem = comparison(pair_of(Side(graph, EXACT), side))
        x = Interval(np.full((1, 12), -1.0), np.full((1, 12), 1.0))
        found[operator] = problem.bounds(InputBox({"x": x}, {"x": np.zeros((1, 12))})).largest
    assert found[None] <= 1.3 * found["Swish"]


def test_a_run_of_other_nodes_before_a_formula_is_not_taken_for_that_of_its_own(
    tmp_path: Path,
) -> None:
    """No root is negative, but what stands in its place is: z·exp(−z) is large there."""
    found, made = {}, {}
    for op in ("Sqrt", "Neg"):
        nodes = [
            helper.make_node("MatMul", ["x", "W"], ["g"], name="g"),
            helper.make_node(op, ["g"], ["z"], name="z"),
            helper.make_node("Neg", ["z"], ["m"], name="m"),
            helper.make_node("Exp", ["m"], ["e"], name="e"),
            helper.make_node("Mul", ["z", "e"], ["y"], name="y"),
        ]
        path = tmp_path / f"{op}.onnx"
        weights = {"W": np.asarray([[3.0]], np.float32)}
        save(path, nodes, {"x": [1, 1]}, {"y": [1, 1]}, weights)
        found[op] = load(path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        made[op] = np.asarray(session.run(None, {"x": np.ones((1, 1), np.float32)})[0])
    problem = comparison(pair_of(Side(found["Sqrt"], EXACT), Side(found["Neg"], IEEE_ANY)))
    x = Interval(np.full((1, 1), 0.1), np.ones((1, 1)))
    bounds = problem.bounds(InputBox({"x": x}, {"x": np.zeros((1, 1))}))
    assert bounds.largest >= abs(float(made["Sqrt"][0, 0]) - float(made["Neg"][0, 0]))


@pytest.mark.parametrize("shape", [(), (1,), (1, 8), (2, 1, 3)])
def test_errors_that_outgrow_a_steep_place_alone_are_seen(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    """log(x² + 1e-6) of a spectrum in [0, 500] that is off by 0.6: evenly it moves by little, and
    at 0 by more than its numbers are apart. Node by node run-time numbers keep to a range."""
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["p"]),
        helper.make_node("Add", ["p", "tiny"], ["a"]),
        helper.make_node("Log", ["a"], ["y"]),
    ]
    stored = {"tiny": np.float32(1e-6)}
    ends = {"x": [*shape]}, {"y": [*shape]}
    graph = load(save(tmp_path / "m.onnx", nodes, *ends, stored, opset=17))
    for error, apart in ((0.6, True), (1e-6, False)):
        x = Interval(np.full(shape, 0.0), np.full(shape, 500.0))
        box = InputBox({"x": x}, {"x": np.full(shape, error)})
        bounds = network_bounds(graph, box, IEEE_ANY, together=as_it_is(graph, IEEE_ANY))
        names = {node.step.operator.name for node in bounds.nodes}
        assert ("Formula" not in names) == apart
