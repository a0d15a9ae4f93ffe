"""A short fuzz with fixed seeds, over every operator of the registry."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphs import RECIPES
from saving import minimised
from trial import Finding, Trial, judge, trial_of

from encoders.registry import operators

MADE_OF_OTHER_FILES = {"Rational"}  # FPCore's numbers
PLAIN = 150


@pytest.mark.parametrize("op", sorted(RECIPES))
def test_nothing_is_wrong_with_an_operator(op: str) -> None:
    for seed in range(3):
        trial = trial_of(1000 * sorted(RECIPES).index(op) + seed, op)
        assert not judge(trial)[1], f"seed {trial.seed}, operator {op}"


def test_nothing_is_wrong_with_random_graphs() -> None:
    ends = []
    for seed in range(PLAIN):
        word, findings = judge(trial_of(seed))
        assert not findings, f"seed {seed}"
        ends.append(word.split(":")[0])
    assert ends.count("verified") > PLAIN // 3


def test_every_operator_has_a_recipe() -> None:
    assert set(operators()) - MADE_OF_OTHER_FILES <= set(RECIPES)


def test_a_bound_that_is_too_small_is_found_and_made_smaller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from encoders.rounding_bounds import Rounder

    monkeypatch.setattr(Rounder, "spacing", lambda self, m: 0.25 * self.half_ulp(m))
    found = []
    for seed in range(200):
        trial = trial_of(500_000 + seed, "Tanh")
        found = [f for f in judge(trial)[1] if f.kind == "exceeded"]
        if found:
            smaller = minimised(trial, "exceeded")
            assert len(smaller.model.graph.node) <= len(trial.model.graph.node)
            assert any(f.kind == "exceeded" for f in judge(smaller)[1])
            return
    raise AssertionError("nobody noticed")


def test_what_escapes_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(trial: Trial) -> None:
        raise ZeroDivisionError("here")

    monkeypatch.setattr("trial.bounded", broken)
    trial = Trial(onnx.ModelProto(), trial_of(0).contract, {}, {}, 0)
    assert judge(trial)[1] == [Finding("crash", "ZeroDivisionError: here")]
    assert np.all(trial_of(7).lo[next(iter(trial_of(7).lo))] <= np.inf)
