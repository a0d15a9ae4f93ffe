"""No edited network is called as good as verified below half the difference that sampling finds."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from graph_edits import NETWORKS, edited

from gpu_check.runtimes.runtimes import OnnxRuntime
from refine.api import diff_models
from refine.claims.options import Options
from refine.lemmas.cache import default_directory
from refine.results.verdict import Tolerance, Verdict

EDITS = 17  # of each network
SAMPLES = 200


def largest_difference(spec: Path, impl: Path, seed: int) -> float:
    """By onnxruntime, at random inputs in [−1, 1]."""
    a, b = OnnxRuntime(spec), OnnxRuntime(impl)
    ((name, shape),) = a.input_shapes().items()
    rng = np.random.default_rng(seed)
    largest = 0.0
    for i in range(SAMPLES):
        x = rng.uniform(-1, 1, shape).astype(np.float32)
        x = np.sign(x) if i % 4 == 0 else x
        for y, z in zip(a.run({name: x}).values(), b.run({name: x}).values(), strict=True):
            largest = max(largest, float(np.max(np.abs(y.astype(float) - z.astype(float)))))
    return largest


@pytest.mark.parametrize("name", NETWORKS)
def test_no_edit_is_verified_below_half_of_what_it_changes(tmp_path: Path, name: str) -> None:
    spec, impl = NETWORKS[name](tmp_path / "spec.onnx"), tmp_path / "impl.onnx"
    rng = np.random.default_rng(sum(map(ord, name)))
    told = 0
    for seed in range(EDITS):
        edit = edited(spec, rng)
        onnx.save(edit.model, impl)
        found = largest_difference(spec, impl, seed)
        contract = ("exact", "ieee-any")[seed % 2]
        options = Options(None, default_directory(), seed=seed, search=False)
        tolerance = Tolerance(Fraction(found) / 2)
        result = diff_models(
            spec, impl, domain="-1..1", eps=tolerance, contract=contract, options=options
        )
        if found > 1e-5:  # else what onnxruntime rounds may be all of it
            told += 1
            assert result.verdict is not Verdict.VERIFIED, edit.text
            assert result.bound >= found - 1e-5, edit.text
    assert told >= EDITS // 2
