"""Lines that functionals choose from: every mean bounds the curve, and ranges get better."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from encoders.arithmetic.exact_fields import Balls, enclosure
from encoders.contract.presets import IEEE_ANY
from encoders.curves.curves import lines_of, range_of
from encoders.functions.curve import Curve
from encoders.functions.exp import EXP
from encoders.functions.log import LOG
from encoders.functions.sigmoid import SIGMOID
from encoders.functions.softplus import SOFTPLUS
from encoders.functions.tanh import TANH
from encoders.functions.waves import SIN
from encoders.numbers.enclosure import Interval
from encoders.relaxations.lines import free_lines, weight_of
from onnx_import.graph import Graph
from refine.bounds.alpha import Branching
from refine.bounds.network import InputBox, Known, network_bounds
from refine.options.models import opened, read_as

CURVES = {f.name: f.shape for f in (SIGMOID, TANH, EXP, SOFTPLUS, LOG, SIN)}
COUNT = 60


def ranges(curve: Curve, rng: np.random.Generator) -> Interval:
    """Points, tiny ranges and wide ones, about zero and far from it."""
    lo = rng.uniform(-1, 1, COUNT) ** 3 * 30
    width = rng.choice([0.0, 2.0**-40, 1e-3, 0.5, 4.0, 25.0], COUNT)
    lo = np.clip(lo, max(curve.start, 2.0**-30), None) if curve is LOG.shape else lo
    return Interval(lo, lo + width)


def enclosed(curve: Curve, x: float) -> tuple[Fraction, Fraction]:
    """f(x) lies between these."""
    (piece, *_) = (p for p in curve.pieces if p.start <= x <= p.end)
    balls = Balls(200)
    with balls.working():
        value = np.broadcast_to(piece.value(balls, np.array([flint.arb(x)], dtype=object)), (1,))[0]
        return enclosure(flint.arb(value))


@pytest.mark.parametrize("name", CURVES)
def test_every_mean_of_neighbouring_lines_is_a_bound(name: str) -> None:
    curve = CURVES[name]
    rng = np.random.default_rng(1)
    x = ranges(curve, rng)
    lines = lines_of(curve, x, range_of(curve, x))
    free = free_lines(lines, x)
    for turn in range(6):
        size = rng.choice([1.0, 2.0**-300, 2.0**200, 1e-5], COUNT)
        c = np.diag(rng.choice([-1.0, 1.0], COUNT) * size * rng.uniform(0.5, 1.0, COUNT))
        over = np.asarray(rng.uniform(-0.5, len(lines) - 0.5, c.shape))
        under = np.asarray(rng.uniform(-0.5, len(lines) - 0.5, c.shape))
        if turn == 0:
            over, under = np.full(c.shape, 2.0), np.full(c.shape, 4.0)
        found = free.backward(c, over, under)
        (carried,) = found.coefficients
        assert carried is not None
        assert np.all(np.isfinite(found.constant))
        for i in range(COUNT):
            most = Fraction(float(found.constant[i]))
            for t in (0.0, 1.0, *rng.random(4)):
                at = float(min(x.lo[i] + t * (x.hi[i] - x.lo[i]), x.hi[i]))
                low, high = enclosed(curve, at)
                worth = Fraction(float(c[i, i]))
                least = min(worth * low, worth * high)
                assert least <= Fraction(float(carried[i, i])) * Fraction(at) + most


def test_nothing_is_claimed_of_what_has_no_end() -> None:
    x = Interval(np.array([0.0, -np.inf]), np.array([np.inf, 1.0]))
    curve = CURVES["softplus"]
    free = free_lines(lines_of(curve, x, range_of(curve, x)), x)
    one = np.ones((1, 2))
    assert free.backward(one, one, one).constant[0] == np.inf


def test_weights_are_exact_and_come_to_one() -> None:
    rng = np.random.default_rng(2)
    at = np.concatenate([rng.uniform(-1, 6, 500), np.arange(6.0)])
    weights = [weight_of(at, place, 5) for place in range(5)]
    for i in range(len(at)):
        each = [Fraction(float(w[i])) for w in weights]
        assert sum(each) == 1
        assert sum(w > 0 for w in each) <= 2
        assert all(w.denominator <= 2**10 for w in each)


def network(kinds: list[str], rng: np.random.Generator, width: int = 12) -> tuple[Graph, bytes]:
    """Dense layers with these curves between them, and its file."""
    nodes, held, last, size = [], [], "x", 6
    for i, kind in enumerate([*kinds, ""]):
        w = rng.normal(0, 1.5 / np.sqrt(size), (size, width)).astype(np.float32)
        b = rng.normal(0, 0.3, width).astype(np.float32)
        held += [numpy_helper.from_array(w, f"w{i}"), numpy_helper.from_array(b, f"b{i}")]
        made = f"z{i}" if kind else "y"
        nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [made]))
        if kind:
            nodes.append(helper.make_node(kind, [made], [f"a{i}"]))
        last, size = f"a{i}", width
    sides = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6])]
    ends = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, width])]
    graph = helper.make_graph(nodes, "g", sides, ends, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    with opened(model) as source:
        return read_as(source), model.SerializeToString()


def real_values(model: bytes, x: Any) -> dict[str, Any]:
    """Every tensor of it, in float64, read off the file's own text."""
    graph = onnx.load_from_string(model).graph
    held: dict[str, Any] = {
        t.name: numpy_helper.to_array(t).astype(np.float64) for t in graph.initializer
    }
    held["x"] = x
    functions: dict[str, Callable[[Any], Any]] = {
        "Tanh": np.tanh,
        "Sigmoid": lambda z: 1 / (1 + np.exp(-z)),
        "Relu": lambda z: np.maximum(z, 0.0),
    }
    for node in graph.node:
        first = held[node.input[0]]
        if node.op_type == "Gemm":
            held[node.output[0]] = first @ held[node.input[1]] + held[node.input[2]]
        else:
            held[node.output[0]] = functions[node.op_type](first)
    return held


@pytest.mark.parametrize(
    "kinds", [["Tanh"] * 3, ["Sigmoid"] * 4, ["Relu", "Tanh", "Relu"], ["Tanh", "Relu", "Sigmoid"]]
)
def test_optimised_ranges_hold_and_are_better(kinds: list[str]) -> None:
    rng = np.random.default_rng(len(kinds))
    graph, model = network(kinds, rng)
    middle = rng.normal(0, 1, (1, 6)).astype(np.float32).astype(np.float64)
    shape = middle.shape
    box = InputBox({"x": Interval(middle - 0.5, middle + 0.5)}, {"x": np.zeros(shape)})
    plain = network_bounds(graph, box, IEEE_ANY)
    known = Known(plain.maps.values, {**plain.maps.radii, **plain.radii})
    better = network_bounds(graph, box, IEEE_ANY, known=known, branching=Branching(steps=8))
    assert better.largest < plain.largest
    last = f"z{len(kinds) - 1}"
    before, after = (bounds.maps.values[last] for bounds in (plain, better))
    assert np.mean(after.hi - after.lo) < 0.97 * np.mean(before.hi - before.lo)
    inside = middle + rng.uniform(-0.5, 0.5, (2000, 6))
    inside[:1000] = middle + 0.5 * rng.choice([-1, 1], (1000, 6))
    found = real_values(model, inside)
    for tensor, x in better.maps.values.items():
        size = 1e-12 * (1 + x.magnitude)
        assert np.all(found[tensor] >= x.lo - size), tensor
        assert np.all(found[tensor] <= x.hi + size), tensor
