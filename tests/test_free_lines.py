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
from encoders.relaxations.lines import free_lines, places_of
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
        chosen = np.asarray(rng.uniform(-0.5, len(lines) - 0.5, c.shape))
        if turn == 0:
            chosen = np.where(c > 0, 2.0, len(lines) - 1.0)
        found = free.backward(c, chosen)
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
    assert free.backward(one, one).constant[0] == np.inf


def test_sums_of_many_lines_are_bounds() -> None:
    """Functionals of all elements at once, of numbers that cancel, held against exact sums."""
    curve, rng = CURVES["sigmoid"], np.random.default_rng(5)
    x = ranges(curve, rng)
    free = free_lines(lines_of(curve, x, range_of(curve, x)), x)
    c = rng.normal(0, 1, (8, COUNT)) * 10.0 ** rng.integers(-8, 8, (8, COUNT))
    c[:, ::7] = 0.0
    places = np.asarray(rng.uniform(0, len(free.bounds) - 1, c.shape))
    places[0, :5] = np.nan
    found = free.backward(c, places)
    (carried,) = found.coefficients
    assert carried is not None
    first, weight = places_of(places, len(free.bounds))
    for i in range(len(c)):
        for t in (0.0, 1.0, 0.3):
            # the chosen lines themselves, exactly: no more than is claimed
            exact = claimed = Fraction(0)
            for j in range(COUNT):
                at = Fraction(float(min(x.lo[j] + t * (x.hi[j] - x.lo[j]), x.hi[j])))
                pair = free.bounds[first[i, j]], free.bounds[first[i, j] + 1]
                w, worth = Fraction(float(weight[i, j])), Fraction(float(c[i, j]))
                ends = [
                    (b.high_slope[j], b.high[j]) if c[i, j] > 0 else (b.low_slope[j], b.low[j])
                    for b in pair
                ]
                one, two = (Fraction(float(s)) * at + Fraction(float(h)) for s, h in ends)
                exact += worth * ((1 - w) * one + w * two)
                claimed += Fraction(float(carried[i, j])) * at
            assert exact <= claimed + Fraction(float(found.constant[i]))


def test_what_lines_meet_is_what_they_are() -> None:
    """The values and steps that the descent goes by, element by element."""
    curve, rng = CURVES["tanh"], np.random.default_rng(6)
    x = ranges(curve, rng)
    lines = lines_of(curve, x, range_of(curve, x))
    free = free_lines(lines, x)
    c = rng.choice([-1.0, 1.0], (5, COUNT))
    places = np.asarray(rng.uniform(0, len(lines) - 1, c.shape))
    v = x.lo + np.asarray(rng.random(c.shape)) * (x.hi - x.lo)
    value, step = free.met(c, places, v)
    first, weight = places_of(places, len(lines))
    for i, j in np.ndindex(*c.shape):
        pair = lines[first[i, j]], lines[first[i, j] + 1]
        one, two = (
            b.high_slope[j] * v[i, j] + b.high[j]
            if c[i, j] > 0
            else b.low_slope[j] * v[i, j] + b.low[j]
            for b in pair
        )
        assert step[i, j] == pytest.approx(two - one, abs=1e-9)
        assert value[i, j] == pytest.approx(one + weight[i, j] * (two - one), abs=1e-9)


def test_weights_are_exact_and_of_two_neighbours() -> None:
    rng = np.random.default_rng(2)
    at = np.concatenate([rng.uniform(-1, 6, 500), np.arange(6.0), [np.nan, np.inf, -np.inf]])
    first, weight = places_of(at, 5)
    assert np.all((first >= 0) & (first <= 3) & (weight >= 0.0) & (weight <= 1.0))
    near = np.clip(np.nan_to_num(at), 0.0, 4.0)
    assert np.all(np.abs(first + weight - near) <= 2.0**-11)
    assert all((Fraction(float(w)) * 2**10).denominator == 1 for w in weight)


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
