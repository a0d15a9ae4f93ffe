"""Sums of a conjunction's rows: what they keep out is out of reach, and no more is."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import helper
from small_models import mlp, save

from encoders.contract.presets import EXACT, IEEE_ANY
from encoders.numbers.enclosure import Interval
from onnx_import import load
from refine.bounds.network import InputBox, Known
from refine.bounds.properties.combining import factors_of, summed, summed_limit, summed_row
from refine.bounds.properties.margins import Margins
from refine.bounds.properties.rows import Functionals, functionals_of
from refine.domain.properties import Conjunction, Property, Row

Floats = npt.NDArray[np.float64]
NOTHING = Known({}, {})


def row(c: dict[int, float], at_most: float, strict: bool = False) -> Row:
    return Row({i: Fraction(v) for i, v in c.items()}, {}, Fraction(at_most), strict)


def conjunction(*rows: Row) -> Property:
    return Property((Conjunction({}, rows),), "here")


def box(lo: Any, hi: Any) -> InputBox:
    lo, hi = (np.atleast_2d(np.asarray(v, np.float64)) for v in (lo, hi))
    return InputBox({"x": Interval(lo, hi)}, {"x": np.zeros(lo.shape)})


def identity(path: Path) -> Path:
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"])]
    return save(path, nodes, {"x": [1, 2]}, {"y": [1, 2]}, {"w": np.eye(2, dtype=np.float32)})


def test_rows_that_hold_apart_and_not_together(tmp_path: Path) -> None:
    """y0 ≤ −0.1 and −y0 ≤ −0.1: each holds somewhere in [−1, 1], both nowhere."""
    graph = load(identity(tmp_path / "m.onnx"))
    apart = conjunction(row({0: 1}, -0.1), row({0: -1}, -0.1))
    wide = box([-1, -1], [1, 1])
    for problem in (Margins(graph, IEEE_ANY, apart), Margins(graph, EXACT, apart)):
        alone = problem.bounds(wide)
        assert [m.safe for m in alone.margins] == [True]
        assert alone.margins[0].row == 2  # behind both rows
        assert alone.margins[0].run == pytest.approx(0.1, rel=1e-3)
        assert problem.batches is not None
        batch = problem.batches.bounded([wide, box([-1, 0], [0.05, 0])], NOTHING, [{}, {}])
        assert batch is not None
        assert [b.margins[0].safe for b in batch.boxes] == [True, True]
    together = conjunction(row({0: 1}, 0.1), row({0: -1}, 0.1))  # at 0 both hold
    problem = Margins(graph, IEEE_ANY, together)
    assert [m.safe for m in problem.bounds(wide).margins] == [False]
    assert problem.batches is not None
    batch = problem.batches.bounded([wide], NOTHING, [{}])
    assert batch is not None
    assert not batch.boxes[0].margins[0].safe
    touching = conjunction(row({0: 1}, 0.0), row({0: -1}, 0.0))  # y0 = 0 alone
    assert not Margins(graph, IEEE_ANY, touching).bounds(wide).margins[0].safe
    never = conjunction(row({0: 1}, 0.0, strict=True), row({0: -1}, 0.0, strict=True))
    assert not Margins(graph, IEEE_ANY, never).bounds(wide).margins[0].safe  # nothing wrong is said


@pytest.mark.parametrize("seed", range(4))
def test_no_point_of_a_safe_box_is_unsafe(tmp_path: Path, seed: int) -> None:
    """Random conjunctions of three rows against points of the boxes that are said to be safe."""
    graph = load(mlp(tmp_path / "m.onnx", (3, 12, 8, 4), seed=seed, scale=0.7))
    weights = {t: np.asarray(v, np.float64) for t, v in graph.constants.items()}
    rng = np.random.default_rng(seed)
    boxes, by_sum, safe = [], 0, 0
    for width in np.geomspace(1.0, 0.05, 24):
        middle = rng.uniform(-1, 1, 3)
        boxes.append(box(middle - width, middle + width))
    for _ in range(6):
        c = rng.normal(size=(3, 4)).round(2)
        middle = np.concatenate([b.values["x"].lo + b.values["x"].hi for b in boxes]) / 2
        at = forward(middle, weights) @ c.T
        limits = np.median(at, axis=0) - rng.uniform(0, 0.5, 3)
        rows = [row(dict(enumerate(map(float, c[r]))), float(limits[r])) for r in range(3)]
        problem = Margins(graph, IEEE_ANY, conjunction(*rows))
        assert problem.batches is not None
        batch = problem.batches.bounded(boxes, NOTHING, [{} for _ in boxes])
        assert batch is not None
        for one, found in zip(boxes, batch.boxes, strict=True):
            (margin,) = found.margins
            x = one.values["x"]
            points = x.lo + rng.random((2000, 3)) * (x.hi - x.lo)
            slack = np.max(forward(points, weights) @ c.T - limits, axis=1)
            assert np.all(slack >= margin.real - 1e-9)  # by how much some row stays out of reach
            safe += margin.safe
            by_sum += margin.safe and margin.row == 3
            (alone,) = problem.bounds(one).margins
            assert np.all(slack >= alone.real - 1e-9)
    assert by_sum
    assert safe > by_sum


def forward(x: Floats, weights: dict[str, Floats]) -> Floats:
    layers = len(weights) // 2
    for k in range(1, layers + 1):
        x = x @ weights[f"w{k}"] + weights[f"b{k}"]
        x = np.maximum(x, 0.0) if k < layers else x
    return x


def test_factors_are_near_those_of_a_linear_program() -> None:
    """Against all factors of a fine grid, of three rows; and sums never lose to a single row."""
    rng = np.random.default_rng(0)
    a, middle = rng.normal(size=(3, 40, 4)), rng.normal(0.3, 0.5, (3, 40))
    widths = rng.random((40, 4))
    margins = middle - np.sum(np.abs(a) * widths / 2, axis=2)
    factor, found = factors_of(margins, {"x": a}, {"x": widths})
    assert np.all(factor >= 0)
    np.testing.assert_array_equal(np.sum(factor, axis=0), 1.0)
    steps = np.arange(0, 41) / 40
    best = np.full(40, -np.inf)
    for p in steps:
        for q in steps[steps <= 1 - p + 1e-12]:
            share = np.array([p, q, max(1 - p - q, 0.0)])
            slope = np.einsum("k,kbn->bn", share, a)
            value = share @ middle - np.sum(np.abs(slope) * widths / 2, axis=1)
            best = np.maximum(best, value)
    single = np.max(margins, axis=0)
    assert np.all(found >= single - 1e-12)
    assert np.all(found >= best - 0.1 * (best - single) - 0.02)
    assert np.mean(found - single) > 0.1


def test_what_a_sum_is_made_of_is_rounded_outwards(tmp_path: Path) -> None:
    """Functional and limit in float64 beside the exact sum of the rows."""
    graph = load(mlp(tmp_path / "m.onnx", (3, 5, 4)))
    rng = np.random.default_rng(1)
    rows = [
        Row(
            {i: Fraction(int(n), 7) for i, n in enumerate(rng.integers(-9, 9, 4))},
            {1: Fraction(1, 3)},
            Fraction(int(rng.integers(-9, 9)), 11),
            False,
        )
        for _ in range(3)
    ]
    exact = functionals_of(rows, graph)
    several = exact.of_boxes(2)
    factor = np.array([[0.3, 0.0], [0.5, 1.0], [0.2, 0.0]])
    total = summed(several, (0, 1, 2), factor)
    limits = np.array([[float(r.at_most)] for r in rows])
    up = np.nextafter(limits, np.inf)
    most = summed_limit(up, factor)
    for b in range(2):
        wanted = summed_row(rows, factor[:, b].tolist())
        assert Fraction(float(most[b])) >= wanted.at_most
        assert float(most[b]) == pytest.approx(float(wanted.at_most), abs=1e-14)
        for part, side in ((total.on_outputs, wanted.outputs), (total.on_inputs, wanted.inputs)):
            for name, c in part.items():
                for i, got in enumerate(c[0, b].ravel().tolist()):
                    away = abs(Fraction(got) - side.get(i, Fraction(0)))
                    assert away <= Fraction(float(total.off[name][0, b].ravel()[i]))
    assert isinstance(total, Functionals)
