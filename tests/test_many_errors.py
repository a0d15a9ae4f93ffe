"""Errors of boxes bounded many at a time: they hold of executions, and halving gets as far."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from small_models import mlp, save

from encoders.arithmetic.exact_fields import Rationals, enclosure
from encoders.contract.presets import IEEE_ANY, SEQUENTIAL
from encoders.numbers.enclosure import Interval
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_exact
from onnx_import import load
from refine.bounds.network import InputBox, Known
from refine.bounds.problem import Network
from refine.process.pool import Here
from refine.proof.input_splitting import bound_parts, part_of, split_box

NOTHING = Known({}, {})


def dense(path: Path) -> Path:
    return mlp(path, (3, 10, 10, 8, 2), seed=3, scale=0.8)


def twice_read(path: Path) -> Path:
    """Two outputs, one of which is read again on the way to the other."""
    rng = np.random.default_rng(5)
    held = {n: rng.normal(0, 0.7, s) for n, s in (("w", (3, 6)), ("v", (6, 6)), ("u", (6, 2)))}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["b"]),
        helper.make_node("Add", ["b", "a"], ["s"]),
        helper.make_node("Relu", ["s"], ["t"]),
        helper.make_node("MatMul", ["t", "u"], ["y"]),
    ]
    weights = {n: w.astype(np.float32) for n, w in held.items()}
    return save(path, nodes, {"x": [1, 3]}, {"y": [1, 2], "s": [1, 6]}, weights)


def boxes_of(many: int, seed: int) -> list[InputBox]:
    rng = np.random.default_rng(seed)
    found = []
    for width in (*np.geomspace(1.0, 0.001, many - 1), 0.0):
        middle = rng.uniform(-1, 1, (1, 3)).astype(np.float32).astype(np.float64)
        found.append(
            InputBox({"x": Interval(middle - width, middle + width)}, {"x": np.zeros((1, 3))})
        )
    return found


@pytest.mark.parametrize("make", [dense, twice_read])
def test_errors_hold_of_executions(tmp_path: Path, make: Any) -> None:
    graph = load(make(tmp_path / "m.onnx"))
    problem, boxes = Network(graph, SEQUENTIAL), boxes_of(9, 1)
    assert problem.batches is not None
    batch = problem.batches.bounded(boxes, NOTHING, [{} for _ in boxes])
    assert batch is not None
    rng = np.random.default_rng(2)
    for box, found in zip(boxes, batch.boxes, strict=True):
        x = box.values["x"]
        for _ in range(8):
            point = rng.uniform(x.lo, x.hi).astype(np.float32)
            if not np.all((x.lo <= point) & (point <= x.hi)):
                continue
            ran = emulate(graph, {"x": point[None]}, SEQUENTIAL)
            exact = evaluate_exact(graph, {"x": point}, Rationals())
            for t in graph.outputs:
                bound = found.errors[t]
                assert bound.shape == graph.types[t].shape
                for place, v in enumerate(np.ravel(exact[t]).tolist()):
                    real, _ = enclosure(v)
                    error = abs(real - Fraction(float(np.ravel(ran[t])[place])))
                    assert error <= float(bound.ravel()[place])


@pytest.mark.parametrize("make", [dense, twice_read])
def test_errors_are_nearly_those_of_each_box_alone(tmp_path: Path, make: Any) -> None:
    graph = load(make(tmp_path / "m.onnx"))
    problem, boxes = Network(graph, IEEE_ANY), boxes_of(8, 3)
    parts = bound_parts((problem, NOTHING), [(box, NOTHING) for box in boxes])
    for box, part in zip(boxes, parts, strict=True):
        alone = problem.bounds(box)
        for t in graph.outputs:
            assert float(np.max(part.errors[t])) <= 1.3 * float(np.max(alone.errors[t]))


def test_halving_in_batches_tightens_and_bounds_the_whole(tmp_path: Path) -> None:
    """The largest error over many executions stays below what the parts come to."""
    graph = load(dense(tmp_path / "m.onnx"))
    problem = Network(graph, SEQUENTIAL)
    whole = InputBox({"x": Interval(-np.ones((1, 3)), np.ones((1, 3)))}, {"x": np.zeros((1, 3))})
    first = problem.bounds(whole)
    begin = float(np.max(first.errors["y"]))

    def largest(errors: Any) -> float:
        return max(float(np.max(e)) for e in errors.values())

    split = split_box(
        problem,
        part_of(whole, first),
        excess=largest,
        enough=0.6 * begin,
        deadline=float("inf"),
        pool=Here(),
    )
    reached = max(largest(part.errors) for part in split.parts)
    assert reached <= 0.6 * begin
    points = np.random.default_rng(0).uniform(-1, 1, (200, 1, 3)).astype(np.float32)
    ran = emulate(graph, {"x": points}, SEQUENTIAL)["y"]
    for point, y in zip(points, ran, strict=True):
        exact = evaluate_exact(graph, {"x": point}, Rationals())["y"]
        for v, got in zip(np.ravel(exact).tolist(), np.ravel(y).tolist(), strict=True):
            assert abs(enclosure(v)[0] - Fraction(float(got))) <= reached
