"""A short fuzz with fixed seeds, over every operator of the registry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx
import pytest
from graphs import RECIPES
from onnx import TensorProto, helper, numpy_helper
from running import lemmas_once
from saving import minimised
from trial import Finding, Trial, bounded, judge, trial_of

from encoders.contract.contract import Subnormals
from encoders.contract.presets import SEQUENTIAL
from encoders.numbers.formats import BFLOAT16, BINARY16, BINARY32, FloatFormat
from encoders.registry import operators
from gpu_check.emulator.emulator import emulate

# FPCore's numbers; between two graphs; of an Exp behind −∞, in tests/test_masks.py; of layers over
# time, which have a recipe
MADE_OF_OTHER_FILES = {
    *("Rational", "RunsInstead", "MaskedWhere", "RecurrentSigmoid", "RecurrentTanh"),
}
PLAIN = 100


@pytest.fixture(autouse=True, scope="module")
def _lemmas() -> Iterator[None]:
    with lemmas_once():
        yield


@pytest.mark.parametrize("op", sorted(RECIPES))
def test_nothing_is_wrong_with_an_operator(op: str) -> None:
    for seed in range(2):
        trial = trial_of(1000 * sorted(RECIPES).index(op) + seed, op)
        assert not judge(trial)[1], f"seed {trial.seed}, operator {op}"


def test_nothing_is_wrong_with_random_graphs() -> None:
    ends = []
    for seed in range(PLAIN):
        word, findings = judge(trial_of(seed))
        assert not findings, f"seed {seed}"
        ends.append(word.split(":")[0])
    assert ends.count("verified") > PLAIN // 2
    assert ends.count("unread") < PLAIN // 6


def test_every_operator_has_a_recipe() -> None:
    assert set(operators()) - MADE_OF_OTHER_FILES <= set(RECIPES)


def test_a_bound_that_is_too_small_is_found_and_made_smaller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from encoders.rounding.rounding_bounds import Rounder

    honest = Rounder.of_ulps
    monkeypatch.setattr(Rounder, "of_ulps", lambda self, n, *given: honest(self, 0.125 * n, *given))
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


@pytest.mark.parametrize("accumulation", [None, BINARY32])
@pytest.mark.parametrize("weights", [None, BFLOAT16, BINARY16])
@pytest.mark.parametrize("fmt", [None, BINARY16])
@pytest.mark.parametrize("results", [Subnormals.KEEP, Subnormals.FLUSH])
def test_stored_numbers_are_rounded_in_every_combination_of_fields(
    accumulation: FloatFormat | None,
    weights: FloatFormat | None,
    fmt: FloatFormat | None,
    results: Subnormals,
) -> None:
    """Products with weights that float16 and bfloat16 hold as different numbers, or flush."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    stored = np.array([[3e-5, 1.2345678, 3.14159]], np.float32)
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(stored, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    contract = replace(
        SEQUENTIAL,
        accumulation=accumulation,
        stored_format=weights,
        compute_format=fmt,
        results=results,
    )
    point = {"x": np.array([[1000.0]])}
    trial = Trial(model, contract, point, point, 3)
    assert judge(trial) == ("verified", [])
    computed = emulate(bounded(trial).graph, {"x": np.array([[[1000.0]]])}, contract)["y"]
    bound = bounded(trial).bounds["y"]
    error = np.abs(np.asarray(computed[0], np.float64) - 1000.0 * stored.astype(np.float64))
    assert np.all(error <= bound)
