"""Weights that are computed of stored numbers: float16 ones that a runtime casts to float32.

Where subnormal numbers may be taken for zero, such a weight is itself or zero as it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
from onnx import helper
from small_models import save

import refine
from encoders.contract.presets import IEEE_ANY
from encoders.numbers.enclosure import Interval
from encoders.program import program_of
from onnx_import.graph import Graph
from refine.bounds.network import InputBox, Known
from refine.bounds.properties.margins import Margins
from refine.bounds.settled import settled
from refine.bounds.widened import widened
from refine.claims.outputs.labels import other_labels
from refine.options.models import read_as

Floats: TypeAlias = npt.NDArray[Any]
TINY = np.float16(2.0**-24)
QUICK: dict[str, Any] = {"conform": False, "workers": 1, "z3": "none", "no_search": True}


def cast_layers(path: Path, seed: int = 0) -> tuple[Path, dict[str, Floats]]:
    """Two layers whose float16 weights, subnormal ones among them, are cast to float32."""
    rng = np.random.default_rng(seed)
    sizes = {"w1": (6, 8), "b1": (8,), "w2": (8, 4), "b2": (4,)}
    held = {n: rng.normal(0, 0.6, s).astype(np.float16) for n, s in sizes.items()}
    held["w1"][rng.random((6, 8)) < 0.3] = np.float16(3e-5)
    held["w2"][rng.random((8, 4)) < 0.2] = TINY
    nodes = [helper.make_node("Cast", [n], [f"{n}f"], to=1) for n in sizes]
    nodes += [
        helper.make_node("Gemm", ["x", "w1f", "b1f"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Gemm", ["r", "w2f", "b2f"], ["y"]),
    ]
    return save(path, nodes, {"x": [1, 6]}, {"y": [1, 4]}, held), held


def read(path: Path) -> Graph:
    graph = read_as(path, IEEE_ANY)
    assert any(not step.reads for step in program_of(graph).steps)  # casts of weights are left
    return graph


def executions(held: dict[str, Floats], x: Floats, rng: np.random.Generator) -> Floats:
    """float32 sums in random orders, subnormal float16 weights read as they are or as zero."""

    def weights(name: str) -> Floats:
        w = held[name].astype(np.float32)
        flushed = (np.abs(w) < 2.0**-14) & (rng.random(w.shape) < 0.5)
        return np.where(flushed, np.float32(0), w)

    def layer(values: Floats, w: Floats, b: Floats) -> Floats:
        total = np.zeros(w.shape[1], np.float32)
        for i in rng.permutation(len(w)):
            total = (total + values[i] * w[i]).astype(np.float32)
        found: Floats = (total + b).astype(np.float32)
        return found

    hidden = np.maximum(layer(x, weights("w1"), weights("b1")), np.float32(0))
    return layer(hidden, weights("w2"), weights("b2"))


def test_margins_hold_of_executions_and_of_the_real_network(tmp_path: Path) -> None:
    path, held = cast_layers(tmp_path / "m.onnx")
    graph, rng = read(path), np.random.default_rng(1)
    points = rng.normal(0, 2.0, (12, 6)).astype(np.float32).astype(np.float64)
    boxes = [InputBox({"x": Interval(p[None], p[None])}, {"x": np.zeros((1, 6))}) for p in points]
    problem = Margins(graph, IEEE_ANY, other_labels(graph, "y", 2))
    assert problem.batches is not None
    batch = problem.batches.bounded(boxes, Known({}, {}), [{} for _ in boxes])
    assert batch is not None
    exact = {n: w.astype(np.float64) for n, w in held.items()}
    for point, bounds in zip(points, batch.boxes, strict=True):
        hidden = np.maximum(point @ exact["w1"] + exact["b1"], 0.0)
        real = hidden @ exact["w2"] + exact["b2"]
        others = [j for j in range(4) if j != 2]
        for margin in bounds.margins:
            other = others[margin.conjunction]
            assert real[2] - real[other] == pytest.approx(margin.real, abs=1e-12)
            for _ in range(20):
                ran = executions(held, point.astype(np.float32), rng).astype(np.float64)
                assert ran[2] - ran[other] >= margin.run
                assert ran[2] - ran[other] <= margin.real + (margin.real - margin.run) * 1.01
        alone = problem.bounds(boxes[0]).margins
    for one, many in zip(alone, batch.boxes[0].margins, strict=True):
        assert many.run == pytest.approx(one.run, abs=1e-4)


def test_errors_of_boxes_hold_of_executions(tmp_path: Path) -> None:
    path, held = cast_layers(tmp_path / "m.onnx", seed=3)
    graph, rng = read(path), np.random.default_rng(2)
    network = settled(graph, IEEE_ANY)
    assert network is not None
    assert [step.node.op for step in network.program.steps] == ["Gemm", "Relu", "Gemm"]
    wide = widened(network.program, 3)
    assert wide is not None
    lo = rng.normal(0, 1.0, (3, 6))
    hi = lo + rng.random((3, 6))
    boxes = [
        InputBox({"x": Interval(a[None], b[None])}, {"x": np.zeros((1, 6))})
        for a, b in zip(lo, hi, strict=True)
    ]
    problem = Margins(graph, IEEE_ANY, other_labels(graph, "y", 0))
    assert problem.batches is not None
    batch = problem.batches.bounded(boxes, Known({}, {}), [{} for _ in boxes])
    assert batch is not None
    values, errors = batch.bounds.maps.values["y"], batch.bounds.maps.errors["y"]
    for b in range(3):
        for _ in range(40):
            x = (lo[b] + rng.random(6) * (hi[b] - lo[b])).astype(np.float32)
            x = np.clip(x, np.nextafter(lo[b].astype(np.float32), np.float32(9)), None)
            if not np.all(x.astype(np.float64) <= hi[b]):
                continue
            ran = executions(held, x, rng).astype(np.float64)
            assert np.all((values.lo[b] - errors[b] <= ran) & (ran <= values.hi[b] + errors[b]))
            for margin in batch.boxes[b].margins:
                assert ran[0] - ran[margin.conjunction + 1] >= margin.run


def test_a_label_that_hangs_on_a_subnormal_weight_is_not_stable(tmp_path: Path) -> None:
    """2^-24·x against 0.001: label 0 for large x, unless the weight is taken for zero."""
    nodes = [
        helper.make_node("Cast", ["w"], ["wf"], to=1),
        helper.make_node("Gemm", ["x", "wf", "b"], ["y"]),
    ]
    held = {"w": np.array([[TINY, 0]], np.float16), "b": np.array([0, 0.001], np.float32)}
    save(tmp_path / "m.onnx", nodes, {"x": [1, 1]}, {"y": [1, 2]}, held)
    points = np.array([[20000.0 + k] for k in range(4)] + [[-5.0 - k] for k in range(4)])
    assert list(np.argmax(points * float(TINY) * [1, 0] + [0, 0.001], axis=1)) == [0] * 4 + [1] * 4
    found = refine.stable(str(tmp_path / "m.onnx"), points, **QUICK)
    assert [d.verdict.value for d in found] == ["unknown"] * 4 + ["verified"] * 4
    kept = refine.stable(str(tmp_path / "m.onnx"), points, contract="sequential", **QUICK)
    assert [d.verdict.value for d in kept] == ["verified"] * 8
