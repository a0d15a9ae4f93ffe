"""Two contracts for one graph: what is proved of their difference holds for executions of both."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pairs
import pytest
from pairs import judged_pair
from trial import Trial

from encoders.contract.contract import RuntimeContract

PAIRS = 40


def test_no_two_sides_are_further_apart_than_proved() -> None:
    ends: Counter[str] = Counter()
    for seed in range(PAIRS):
        word, findings = judged_pair(seed)
        assert not findings, f"pair {seed}"
        ends[word.split(":")[0]] += 1
    assert ends["verified"] > PAIRS // 3


@pytest.mark.parametrize("kind", ["interpreted", "emulated"])
def test_sides_taken_for_equal_are_found(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pairs.compared_sides

    def equal(trial: Trial, other: RuntimeContract) -> Any:
        result = whole(trial, other)  # a result of ours cannot say so without a proof
        nothing = {t: np.zeros_like(b) for t, b in result.bounds.items()}
        return SimpleNamespace(verdict=result.verdict, graph=result.graph, bounds=nothing)

    monkeypatch.setattr(pairs, "compared_sides", equal)
    found = (f.kind for seed in range(5 * PAIRS) for f in judged_pair(seed)[1])
    assert kind in found
