"""Rules of a contract that name nodes, where a specification runs beside an implementation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from small_models import save

from encoders.contract.contract import Contraction, RuntimeContract, Schedule, ScheduleRule
from encoders.contract.orders import AnyOrder
from encoders.contract.presets import EXACT, PRESETS
from onnx_import import load
from refine.api import diff_models
from refine.claims.options import Options
from refine.lemmas.cache import default_directory

OPTIONS = Options(None, default_directory(), search=False)


def product(path: Path) -> Path:
    """Sums in which the order decides much: large terms that cancel, and small ones."""
    rng = np.random.default_rng(0)
    large = rng.uniform(1e4, 1e5, 64).astype(np.float32)
    weights = np.concatenate([large, rng.uniform(-1, 1, 64).astype(np.float32), -large])
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "mm")
    shape = {"x": [1, 192]}, {"y": [1, 1]}
    return save(path, [node], *shape, {"w": weights.reshape(192, 1)})


def ruled(name: str) -> RuntimeContract:
    """Sequential sums, but in any order at one node."""
    rule = ScheduleRule(Schedule(AnyOrder(), Contraction.EITHER), node=name)
    return replace(PRESETS["sequential"], rules=(rule,))


@pytest.mark.parametrize("side", ["spec", "impl"])
def test_a_rule_on_a_node_holds_for_either_side(tmp_path: Path, side: str) -> None:
    """Beside its real semantics a graph errs as much whichever side it is on: as under the rule."""
    model = load(product(tmp_path / "m.onnx"))
    contract = ruled("mm")
    spec, impl = (contract, EXACT) if side == "spec" else (EXACT, contract)
    found = diff_models(model, model, "-1..1", None, impl, OPTIONS, spec_contract=spec)
    everywhere = replace(contract, rules=(), order=AnyOrder(), contraction=Contraction.EITHER)
    free = tuple(everywhere if c is contract else c for c in (spec, impl))
    open_ = diff_models(model, model, "-1..1", None, free[1], OPTIONS, spec_contract=free[0])
    pinned = diff_models(
        model, model, "-1..1", None,
        replace(impl, rules=()), OPTIONS, spec_contract=replace(spec, rules=()),
    )  # fmt: skip
    assert found.bound == pytest.approx(open_.bound, rel=1e-9)
    assert found.bound > 1.5 * pinned.bound
