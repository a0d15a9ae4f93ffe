"""Infinite bounds: a Clip clips nothing on that side, and an extreme is another number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from small_models import save, settled

from onnx_import.errors import ModelError
from refine.results.verdict import Verdict


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, np.inf), (-np.inf, 0.25), (-np.inf, np.inf), (-0.5, 0.25)]
)
def test_a_clip_by_an_infinity_is_read(low: float, high: float, tmp_path: Path) -> None:
    node = helper.make_node("Clip", ["x", "a", "b"], ["y"])
    stored = {"a": np.array(low, np.float32), "b": np.array(high, np.float32)}
    path = save(tmp_path / "m.onnx", [node], {"x": [2]}, {"y": [2]}, stored)
    result = settled(path, "-1..1", "1e-6")
    assert result.verdict is Verdict.VERIFIED
    (clipped,) = result.nodes
    assert (clipped.low, clipped.high) == pytest.approx((max(low, -1.0), min(high, 1.0)))


@pytest.mark.parametrize(
    ("op", "bound", "shape", "read"),
    [
        ("Max", -np.inf, (), True),
        ("Min", np.inf, (1,), True),
        ("Max", np.inf, (), False),
        ("Max", -np.inf, (1, 1), False),  # which gives the result another axis
    ],
)
def test_an_extreme_by_what_it_never_is(
    op: str, bound: float, shape: tuple[int, ...], read: bool, tmp_path: Path
) -> None:
    node = helper.make_node(op, ["x", "k"], ["y"])
    stored = {"k": np.full(shape, bound, np.float32)}
    path = save(tmp_path / "m.onnx", [node], {"x": [2]}, {"y": None}, stored)
    if not read:
        with pytest.raises(ModelError, match="infinite"):
            settled(path, "-1..1", "1e-6")
        return
    result = settled(path, "-1..1", "1e-6")
    assert result.verdict is Verdict.VERIFIED
    (found,) = result.nodes
    assert (found.low, found.high) == (-1.0, 1.0)
