"""Gemm of two computed factors is the node of the file: its bias enters where a contract says, its
rules are those of Gemm, and alpha, beta and every shape of C have a meaning."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator
from small_models import save

from encoders.contract.contract import (
    AlignedSteps,
    AnyOrder,
    BiasPlacement,
    Contraction,
    Pairwise,
    Schedule,
    ScheduleRule,
)
from encoders.contract.members import members
from encoders.contract.presets import IEEE_ANY, SEQUENTIAL
from gpu_check.emulator.emulator import emulate
from onnx_import import load
from refine.api import check_model
from refine.claims.options import Options
from refine.domain.domain import DomainOptions
from refine.lemmas.cache import default_directory
from refine.results.verdict import Verdict

C = [16777216.0]  # 2^24, beside which a float32 loses 1


def everywhere(ends: str) -> DomainOptions:
    return DomainOptions(inputs=tuple(f"{n}={ends}" for n in "abc"))


def gemm(path: Path, bias: list[int], **attributes: Any) -> Path:
    nodes = [helper.make_node("Gemm", ["a", "b", "c"], ["y"], name="gemm", **attributes)]
    left = [4, 3] if attributes.get("transA") else [3, 4]
    right = [2, 4] if attributes.get("transB") else [4, 2]
    return save(path, nodes, {"a": left, "b": right, "c": bias}, {"y": [3, 2]})


def test_the_bias_enters_where_the_contract_says(tmp_path: Path) -> None:
    """1 + 1 + 1 + 1 in pairs, and 2^24: only a bias that comes last loses nothing."""
    nodes = [helper.make_node("Gemm", ["a", "b", "c"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, {"a": [1, 3], "b": [3, 1], "c": [1]}, {"y": [1, 1]})
    graph = load(path)
    points = {"a": np.ones((1, 1, 3)), "b": np.ones((1, 3, 1)), "c": np.array([C])}
    inputs = {n: v.astype(np.float32) for n, v in points.items()}
    for order, bias, expected in (
        (Pairwise(), BiasPlacement.LAST, 16777220.0),
        (replace(SEQUENTIAL).order, BiasPlacement.FIRST, 16777216.0),
    ):
        contract = replace(SEQUENTIAL, order=order, bias=bias)
        assert emulate(graph, inputs, contract)["y"].item() == expected
    pairs = replace(SEQUENTIAL, order=Pairwise(), contraction=Contraction.NEVER)
    result = check_model(path, everywhere("1..1"), None, pairs, Options(None, default_directory()))
    assert result.verdict is Verdict.VERIFIED


def test_rules_of_gemm_hold_for_it(tmp_path: Path) -> None:
    path = gemm(tmp_path / "m.onnx", [2])
    rule = ScheduleRule(
        Schedule(AnyOrder(), Contraction.EITHER, BiasPlacement.ANY),
        operator="Gemm",
        node="gemm",
        terms=4,
        rows=3,
        columns=2,
        constant=False,
    )
    options = Options(None, default_directory(), search=False)
    free = check_model(path, everywhere("-1..1"), None, replace(SEQUENTIAL, rules=(rule,)), options)
    same = replace(
        SEQUENTIAL, order=AnyOrder(), contraction=Contraction.EITHER, bias=BiasPlacement.ANY
    )
    pinned = check_model(path, everywhere("-1..1"), None, SEQUENTIAL, options)
    expected = check_model(path, everywhere("-1..1"), None, same, options)
    assert np.array_equal(free.bounds["y"], expected.bounds["y"])
    assert not np.array_equal(free.bounds["y"], pinned.bounds["y"])


@pytest.mark.parametrize("bias", [[2], [3, 2], [3, 1], [1, 2], []])
def test_every_attribute_has_its_meaning(tmp_path: Path, bias: list[int]) -> None:
    rng = np.random.default_rng(0)
    choices = itertools.product((1.0, 0.3), (1.0, 0.7), (0, 1), (0, 1))
    for alpha, beta, left, right in choices:
        path = gemm(tmp_path / "m.onnx", bias, alpha=alpha, beta=beta, transA=left, transB=right)
        graph = load(path)
        point = {n: rng.standard_normal(graph.types[n].shape, np.float32) for n in graph.inputs}
        (meant,) = ReferenceEvaluator(str(path)).run(None, point)
        ran = emulate(graph, {n: v[None] for n, v in point.items()}, SEQUENTIAL)["y"][0]
        assert np.allclose(ran, meant, rtol=1e-5, atol=1e-6)
        for contract in (SEQUENTIAL, IEEE_ANY):
            options = Options(None, default_directory(), search=False)
            result = check_model(path, everywhere("-2..2"), None, contract, options)
            bound = result.bounds["y"]
            assert np.all(bound < 1e-4)
            assert np.all(np.abs(ran.astype(np.float64) - meant) <= 2.0 * bound)


def test_members_take_only_the_steps_of_their_own_rule() -> None:
    rule = ScheduleRule(Schedule(AnyOrder(9), Contraction.NEVER), operator="Conv")
    contract = replace(IEEE_ANY, name="c", rules=(rule,))
    orders = [(m.order, m.rules[0].schedule.order) for m in members(contract)]
    assert not any(isinstance(order, AlignedSteps) for order, _ in orders)
    assert AlignedSteps(16, 9) in [order for _, order in orders]
