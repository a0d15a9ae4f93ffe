"""Errors of a tensor taken together: norms from above, ellipsoids that hold, better bounds.

What is claimed of errors is held against errors made here: real values and perturbed ones in
float64, each tensor off by any allowed rounding, with the signs that hurt most.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from small_models import graph_of_nodes
from test_free_lines import network, real_values

from encoders.contract.presets import IEEE_ANY, SEQUENTIAL
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.numbers.formats import round_array, small_format
from gpu_check.emulator.emulator import emulate
from onnx_import.graph import Node
from refine.bounds.alpha import Branching
from refine.bounds.ellipsoids.norms import box_norm_up, frobenius_up, spectral_up
from refine.bounds.network import InputBox, NetworkBounds, network_bounds

KINDS = (["Tanh"] * 4, ["Sigmoid"] * 5, ["Relu"] * 4, ["Relu", "Tanh", "Relu", "Sigmoid"])
RADIUS = 0.5


def exact_square(v: FloatArray) -> Fraction:
    return sum((Fraction(float(x)) ** 2 for x in v.reshape(-1)), Fraction(0))


def exact_product(matrix: FloatArray, v: FloatArray) -> Fraction:
    """‖matrix·v‖², in rational numbers."""
    rows = [[Fraction(float(x)) for x in row] for row in matrix]
    by = [Fraction(float(x)) for x in v]
    products = (sum((a * b for a, b in zip(row, by, strict=True)), Fraction(0)) for row in rows)
    return sum((p * p for p in products), Fraction(0))


def matrices() -> list[FloatArray]:
    """Full, of low rank, badly scaled, with equal and with zero parts."""
    rng = np.random.default_rng(3)
    full = rng.normal(size=(9, 7))
    low = rng.normal(size=(8, 2)) @ rng.normal(size=(2, 10))
    scaled = full * np.geomspace(1e-8, 1e5, 7) * np.geomspace(1e3, 1e-3, 9)[:, None]
    sparse = np.where(rng.random((6, 9)) < 0.3, rng.normal(size=(6, 9)), 0.0)
    return [full, low, scaled, sparse, np.ones((5, 8)), np.eye(4), full[:1], np.zeros((3, 4))]


@pytest.mark.parametrize("matrix", matrices(), ids=range(8))
def test_norms_are_bounds_and_near(matrix: FloatArray) -> None:
    largest = Fraction(spectral_up(matrix)) ** 2
    whole = Fraction(frobenius_up(matrix)) ** 2
    assert whole >= exact_square(matrix)
    _, sizes, turns = np.linalg.svd(matrix)
    for v in turns:
        assert exact_product(matrix, v) <= largest * exact_square(v)
    assert spectral_up(matrix) <= float(sizes[0]) * (1 + 1e-9) + 1e-290
    over_box = Fraction(box_norm_up(matrix)) ** 2
    corners = itertools.product((-1.0, 1.0), repeat=matrix.shape[1])
    reached = max(exact_product(matrix, np.array(c)) for c in itertools.islice(corners, 0, None, 3))
    assert reached <= over_box
    assert box_norm_up(matrix) <= frobenius_up(matrix) * np.sqrt(matrix.shape[1]) * (1 + 1e-9)


def test_infinite_numbers_have_no_norm() -> None:
    assert spectral_up(np.array([[1.0, np.inf], [0.0, 1.0]])) == np.inf
    assert box_norm_up(np.array([[1.0, np.inf], [0.0, 1.0]])) == np.inf


def bounds_of(graph: Any, middle: FloatArray, contract: Any = IEEE_ANY) -> NetworkBounds:
    box = InputBox({"x": Interval(middle - RADIUS, middle + RADIUS)}, {"x": np.zeros((1, 6))})
    return network_bounds(graph, box, contract, branching=Branching(steps=4))


def perturbed(
    bounds: NetworkBounds, model: bytes, x: FloatArray, rng: np.random.Generator
) -> dict[str, FloatArray]:
    """Differences of every tensor where each node is off by any allowed rounding: at random, or as
    it hurts some direction of the next layer."""
    graph = bounds.maps.graph
    functions: dict[str, Callable[[Any], Any]] = {
        "Tanh": np.tanh,
        "Relu": lambda z: np.maximum(z, 0.0),
        "Sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    }
    real, run = real_values(model, x), {"x": x}
    for step in bounds.maps.program.steps:
        output, local = step.output, bounds.maps.local[step.name].bound
        first = run[step.reads[0]]
        if step.node.op == "Gemm":
            w, b = (np.asarray(graph.constants[t], np.float64) for t in step.node.inputs[1:])
            made = first @ w + b
        else:
            made = functions[step.node.op](first)
        after = [s for s in bounds.maps.program.steps if s.node.op == "Gemm"]
        place = int("".join(c for c in output if c.isdigit()) or -1) + 1
        signs = rng.choice([-1.0, 1.0], made.shape)
        if output != "y" and rng.random() < 0.7:
            w = np.asarray(graph.constants[after[place].node.inputs[1]], np.float64)
            u = np.linalg.svd(w)[0][:, rng.integers(0, 2)]
            signs = np.where(u >= 0, 1.0, -1.0) * np.ones(made.shape)
        run[output] = made + signs * local
    return {t: run[t] - real[t] for t in run if t != "x"}


@pytest.mark.parametrize("kinds", KINDS, ids=lambda kinds: "-".join(kinds))
def test_errors_lie_in_what_holds_of_them_together(kinds: list[str]) -> None:
    rng = np.random.default_rng(len(kinds))
    graph, model = network(kinds, rng, width=24)
    middle = rng.normal(0, 1, (1, 6)).astype(np.float32).astype(np.float64)
    contract = replace(IEEE_ANY, compute_format=small_format(6, 11))
    bounds = bounds_of(graph, middle, contract)
    assert bounds.maps.ellipsoids, "no tensor's errors were taken together"
    fullest = 0.0
    for _ in range(30):
        x = middle + RADIUS * rng.uniform(-1, 1, (40, 6))
        moved = perturbed(bounds, model, x, rng)
        for tensor, d in moved.items():
            assert np.all(np.abs(d) <= bounds.maps.errors[tensor] * (1 + 1e-9)), tensor
        for step in bounds.maps.program.steps:
            if step.name in bounds.maps.ellipsoids:
                held = bounds.maps.ellipsoids[step.name]
                inside = held.scale > 0
                d = moved[step.reads[0]][:, inside[0]] / held.scale[inside]
                found = np.sum(d * d, axis=1)
                assert np.all(found <= held.squares * (1 + 1e-9)), step.name
                fullest = max(fullest, float(np.max(found)) / held.squares)
    assert fullest > 0.1, "what was tried comes nowhere near"


def with_and_without(
    kinds: list[str], monkeypatch: pytest.MonkeyPatch, part: str
) -> tuple[NetworkBounds, NetworkBounds]:
    """Bounds of a network, and where a function of ours gives None: none of them is less, but for
    how lines over an output's roundings are laid, which a search decides."""
    rng = np.random.default_rng(len(kinds))
    graph, _ = network(kinds, rng, width=32)
    middle = rng.normal(0, 1, (1, 6)).astype(np.float32).astype(np.float64)
    with_it = bounds_of(graph, middle)
    monkeypatch.setattr(part, lambda *_: None)
    without = bounds_of(graph, middle)
    for tensor, error in with_it.maps.errors.items():
        more = 1e-6 if tensor in graph.outputs else 1e-9
        assert np.all(error <= without.maps.errors[tensor] * (1 + more)), tensor
    return with_it, without


@pytest.mark.parametrize("kinds", KINDS, ids=lambda kinds: "-".join(kinds))
def test_bounds_get_better_by_it_and_never_worse(
    kinds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    part = "refine.bounds.ellipsoids.taking.rows_of"
    with_it, without = with_and_without(kinds, monkeypatch, part)
    assert with_it.maps.ellipsoids
    assert not without.maps.ellipsoids
    contracts = kinds == ["Sigmoid"] * 5  # its last rounding is nearly all of the bound
    assert with_it.largest < (1.0 if contracts else 0.97) * without.largest
    cites = {name for r in with_it.radii.values() for name in r.record.lemmas}
    assert "within-ellipsoid" in cites


def test_inputs_that_are_received_rounded_come_from_nowhere_before() -> None:
    made = {"x": (12,), "y": (12,)}
    graph = graph_of_nodes([Node("tanh", "Tanh", ("x",), ("y",), {}, 18)], {}, made)
    x, off = Interval(np.full(12, -1.0), np.full(12, 1.0)), np.full(12, 2.0**-10)
    bounds = network_bounds(graph, InputBox({"x": x}, {"x": off}), IEEE_ANY, branching=Branching(1))
    assert bounds.maps.ellipsoids["tanh"].squares > 0.0
    assert np.all(bounds.errors["y"] >= off)  # a slope of 1 at 0
    assert np.all(bounds.errors["y"] <= 1.01 * off)


def test_executions_keep_to_the_bounds_where_secants_are_branched_on() -> None:
    rng = np.random.default_rng(5)
    graph, model = network(["Relu"] * 3, rng, width=24)
    fmt = small_format(6, 8)
    toy = replace(SEQUENTIAL, compute_format=fmt)
    middle = round_array(rng.normal(0, 1, (1, 6)), fmt)
    box = InputBox({"x": Interval(middle - RADIUS, middle + RADIUS)}, {"x": np.zeros((1, 6))})
    bounds = network_bounds(graph, box, toy, branching=Branching(steps=4, cases=64))
    assert bounds.maps.ellipsoids
    points = round_array(middle + RADIUS * rng.uniform(-1, 1, (3000, 1, 6)), fmt)
    points = np.clip(points, middle - RADIUS, middle + RADIUS)
    points = np.stack([p for p in points if np.all(round_array(p, fmt) == p)])
    ran = emulate(graph, {"x": points}, toy, every_tensor=True)
    real = real_values(model, points[:, 0])
    for tensor, error in bounds.maps.errors.items():
        if tensor != "x":
            off = np.abs(np.asarray(ran[tensor], np.float64)[:, 0] - real[tensor])
            assert np.all(off <= error[0] * (1 + 1e-9)), tensor
