"""Clip by an infinity clips nothing on that side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from small_models import save, settled

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
