"""A short fuzz of unsafe sets with fixed seeds, and a witness that is spoilt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import unsafe
from running import lemmas_once

from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import exactly_zero
from refine.results.theorem import theorem
from refine.results.verdict import Result, Verdict


@pytest.fixture(autouse=True, scope="module")
def _lemmas() -> Iterator[None]:
    with lemmas_once():
        yield


def test_nothing_is_wrong_with_unsafe_sets() -> None:
    ends = Counter[str]()
    for seed in range(7_000_000, 7_000_024):
        word, findings = unsafe.judged(seed)
        assert not findings, f"seed {seed}"
        ends[word.split(":")[0]] += 1
    assert {"violated", "verified"} <= set(ends)


@pytest.mark.parametrize("wrong", [Verdict.VERIFIED, Verdict.VIOLATED])
def test_wrong_answers_are_noticed(wrong: Verdict, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed = unsafe.claimed

    def spoilt(*given: Any) -> Result:
        result = claimed(*given)
        forged = theorem({"y": exactly_zero(EXACT, ())}, None)
        return replace(result, verdict=wrong, theorem=forged, bounds={})

    monkeypatch.setattr(unsafe, "claimed", spoilt)
    found = {f.kind for s in range(7_000_000, 7_000_010) for f in unsafe.judged(s)[1]}
    assert found & {"wrong verified", "wrong violated", "no witness"}
