"""Random graphs after random rewrites are equal, and after one edit are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from random_rewrites import ROWS, WIDTH, drawn, edited, rewritten

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.presets import EXACT
from encoders.numbers.enclosure import FloatArray
from gpu_check.emulator.exact import evaluate_real
from onnx_import.graph import Graph
from refine.pair.equality import equal_outputs
from refine.pair.pair import pair_of
from refine.results.verdict import Side

_EACH = 6


def _equal(spec: Graph, impl: Graph) -> bool:
    return bool(equal_outputs(pair_of(Side(spec, EXACT), Side(impl, EXACT))))


def _apart(spec: Graph, impl: Graph, points: FloatArray) -> float:
    values = [evaluate_real(g, {"x": points}, ApproximateReals())["y"] for g in (spec, impl)]
    return float(np.max(np.abs(values[0] - values[1])))


@pytest.mark.parametrize("seed", range(8))
def test_rewrites_are_equal_and_edits_are_not(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(400, ROWS, WIDTH)) * 2
    met = 0
    for _ in range(_EACH):
        draft = drawn(rng, int(rng.integers(3, 9)))
        spec = draft.graph(tmp_path)
        other = rewritten(draft, rng, 8)
        impl = other.graph(tmp_path)
        assert _apart(spec, impl, points) < 1e-9  # the rules themselves
        assert _equal(spec, impl)
        for _ in range(3):
            change = edited(other, rng)
            wrong = None if change is None else change.draft.graph(tmp_path)
            if change is not None and wrong is not None and _apart(spec, wrong, points) > 1e-7:
                met += 1
                assert not _equal(spec, wrong), change.what
                break
    assert met
