"""A short fuzz of batch invariance with fixed seeds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import batches
import numpy as np
import pytest
from running import lemmas_once

from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import exactly_zero
from refine.results.theorem import theorem
from refine.results.verdict import Result, Verdict


def test_nothing_is_wrong_with_rows_of_batches() -> None:
    ends = Counter[str]()
    with lemmas_once():
        for seed in range(30):
            word, findings = batches.judged(seed)
            assert not findings, f"seed {seed}"
            ends[word.split(":")[0]] += 1
    assert min(ends["verified"], ends["violated"]) > 2


def test_a_row_that_is_not_itself_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every network called invariant, as a reading of the batch as its own rows would."""
    claimed = batches._claimed

    def invariant(*given: object) -> Result:
        result = claimed(*given)  # type: ignore[arg-type]
        zero = {t: np.zeros_like(b) for t, b in result.bounds.items()}
        nothing = {t: exactly_zero(EXACT, b.shape) for t, b in zero.items()}
        forged = theorem(nothing, result.tolerance.all_of(zero))
        return replace(result, verdict=Verdict.VERIFIED, bounds=zero, witness=None, theorem=forged)

    monkeypatch.setattr(batches, "_claimed", invariant)
    kinds = {f.kind for seed in range(20) for f in batches.judged(seed)[1]}
    assert {"interpreter exceeded", "onnxruntime exceeded"} <= kinds
