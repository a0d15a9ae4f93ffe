"""Simpler points: they keep the property, stay in the box, and have few digits."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import overflowing, settled

from encoders.numbers.formats import BINARY32
from refine.domain.box import Box
from refine.results.verdict import Verdict
from refine.search.shrinking import Points, shrunk


def box_of(lo: list[float], hi: list[float]) -> Box:
    low, high = ({"x": np.asarray(v, np.float64)} for v in (lo, hi))
    return Box(low, high, low, high, {"x": BINARY32})


def test_what_does_not_matter_becomes_zero() -> None:
    box = box_of([-4.0] * 8, [4.0] * 8)
    point = {"x": np.linspace(0.37, 3.91, 8).astype(np.float32).astype(np.float64)}
    found = shrunk(point, box, lambda p: p if p["x"][3] > 1.1 and p["x"][6] > 2.2 else None)
    assert found is not None
    others = np.delete(found["x"], [3, 6])
    assert np.array_equal(others, np.zeros(6))
    assert 1.1 < found["x"][3] <= 2.0
    assert 2.2 < found["x"][6] <= 4.0


def test_the_nearest_to_zero_of_a_box_without_it() -> None:
    found = shrunk({"x": np.array([1000.5])}, box_of([1000.0], [1001.0]), lambda p: p)
    assert found is not None
    assert found["x"][0] == 1000.0


def test_nothing_simpler_is_nothing() -> None:
    point = {"x": np.array([0.1])}
    assert shrunk(point, box_of([-1.0], [1.0]), lambda p: None) is None


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=9), st.integers(0, 2**32 - 1))
def test_every_point_tried_is_one_of_the_box(values: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.asarray(values)
    box = box_of(
        np.minimum(x, np.float32(rng.uniform(-8, 8))).tolist(),
        np.maximum(x, np.float32(rng.uniform(-8, 8))).tolist(),
    )

    def kept(point: Points) -> Points | None:
        assert box.contains(point)
        return point if rng.random() < 0.5 else None

    found = shrunk({"x": x}, box, kept)
    assert found is None or box.contains(found)


def test_a_counterexample_is_simplified_and_replayed(tmp_path: Path) -> None:
    result = settled(overflowing(tmp_path / "m.onnx"), "-1..1", "1")
    assert result.verdict is Verdict.VIOLATED
    assert result.witness is not None
    x = np.asarray(result.witness.inputs["x"], np.float64)
    assert np.count_nonzero(x) == 1
    assert np.all(np.isin(np.frexp(np.abs(x))[0], (0.0, 0.5)))
    assert not result.witness.error.finite
    assert any(r.confirms(Fraction(1)) for r in result.witness.replays)


def test_many_elements_are_left_alone_once_it_is_enough() -> None:
    """Looking at each of them would itself take long."""
    size = 2**16
    box = box_of([-4.0] * size, [4.0] * size)
    asked: list[bool] = []

    def enough() -> bool:
        asked.append(True)
        return len(asked) > 20

    def never(point: Points) -> None:
        return None

    assert shrunk({"x": np.full(size, 3.7)}, box, never, enough) is None
    assert len(asked) < 100
