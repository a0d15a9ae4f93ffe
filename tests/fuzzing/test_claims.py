"""A short fuzz of claims with fixed seeds: within ε, beside another graph, and on onnxruntime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import claims
import pytest
import runtime
from claims import Beside, forbidden, judged, judged_claim, judged_difference
from running import lemmas_once
from trial import Finding, Trial, trial_of

from encoders.contract.contract import Contraction, Pairwise, RuntimeContract
from encoders.contract.members import members
from encoders.contract.presets import CUDA_TF32, IEEE_ANY, SEQUENTIAL
from refine.results.verdict import Result


@pytest.fixture(autouse=True, scope="module")
def _lemmas() -> Iterator[None]:
    with lemmas_once():
        yield


def test_nothing_is_wrong_with_claims() -> None:
    ends = Counter[str]()
    for seed in range(6_000_000, 6_000_018):
        word, findings = (judged_claim, judged_difference)[seed % 2](trial_of(seed))
        assert not findings, f"seed {seed}"
        ends[word.split(":")[0]] += 1
    assert {"violated", "verified"} <= set(ends)


def test_onnxruntime_stays_within_the_bounds() -> None:
    ends = Counter[str]()
    for seed in range(6_100_000, 6_100_060):
        word, findings = runtime.judged(runtime.runtime_trial(seed))
        assert not findings, f"seed {seed}"
        ends[word] += 1
    assert ends["kept"] > 20


def violated(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[Finding]:
    """What is found where the witness of a violation is changed before anybody sees it."""
    claimed = claims.claimed

    def spoilt(trial: Trial, beside: Beside | None) -> Result:
        result = claimed(trial, beside)
        if result.witness is None:
            return result
        return replace(result, witness=replace(result.witness, **changes))

    monkeypatch.setattr(claims, "claimed", spoilt)
    for seed in range(6_000_000, 6_000_040, 2):
        word, findings = judged(trial_of(seed))
        if word == "violated":
            return findings
    raise AssertionError("nothing was violated")


def test_a_witness_with_another_value_is_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = violated(monkeypatch, value=0.123)
    assert "computes" in found.text


def test_a_witness_that_no_contract_allows_is_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    fused = replace(SEQUENTIAL, order=Pairwise(), contraction=Contraction.ALWAYS)
    (found,) = violated(monkeypatch, execution=fused)
    assert "not allowed" in found.text


@pytest.mark.parametrize("contract", [IEEE_ANY, SEQUENTIAL, CUDA_TF32])
def test_members_are_allowed(contract: RuntimeContract) -> None:
    for member in members(contract):
        assert forbidden(contract, member) == []


def test_other_executions_are_not_allowed() -> None:
    fused = replace(SEQUENTIAL, contraction=Contraction.ALWAYS)
    assert forbidden(SEQUENTIAL, fused) == ["fma"]
    assert forbidden(SEQUENTIAL, replace(SEQUENTIAL, order=Pairwise())) == ["order"]
    assert forbidden(IEEE_ANY, IEEE_ANY) != []
