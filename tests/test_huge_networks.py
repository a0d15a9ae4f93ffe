"""Networks of which one exact evaluation takes minutes: errors that are found all the same."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from small_models import save

from encoders.contract.members import members
from encoders.contract.presets import IEEE_ANY
from gpu_check.emulator.emulator import emulate
from onnx_import import load
from onnx_import.graph import Graph
from refine.claims.kinds.accuracy import check
from refine.claims.options import Options
from refine.domain.domain import DomainOptions, read_domain
from refine.results.verdict import Tolerance, Verdict
from refine.search.evaluation import Candidate
from refine.witness import witness as witnesses
from refine.witness.witness import confirm, confirm_enclosed, is_huge

_N = helper.make_node


def _network(folder: Path) -> Graph:
    rng = np.random.default_rng(1)
    held = {
        "w": rng.normal(size=(5, 3, 3, 3)),
        "b": rng.uniform(8, 16, size=5),
        "v": rng.normal(size=(45, 4)) / 8,
    }
    nodes = [
        _N("Conv", ["x", "w", "b"], ["c"]), _N("Relu", ["c"], ["r"]),
        _N("Flatten", ["r"], ["f"]), _N("MatMul", ["f", "v"], ["p"]), _N("Tanh", ["p"], ["y"]),
    ]  # fmt: skip
    stored = {k: np.asarray(v / 8, np.float32) for k, v in held.items()}
    return load(save(folder / "m.onnx", nodes, {"x": (1, 3, 5, 5)}, {"y": (1, 4)}, stored))


def test_an_enclosed_error_holds(tmp_path: Path) -> None:
    """It encloses what exact evaluation gives, at the element that is asked for or a worse one."""
    graph = _network(tmp_path)
    rng = np.random.default_rng(2)
    seen = 0
    for execution in members(IEEE_ANY)[:4]:
        for _ in range(4):
            x = {"x": rng.normal(size=(1, 3, 5, 5)).astype(np.float32)}
            point = Candidate(x, x, execution, output="y", index=(0, 1), excess=0.0)
            found = confirm_enclosed(graph, point)
            exact = confirm(graph, Candidate(x, x, execution, "y", found.index, 0.0))
            assert found.value == exact.value
            assert found.error.lo <= exact.error.lo <= exact.error.hi <= found.error.hi
            assert found.error.lo >= confirm(graph, point).error.lo - 10**-12
            seen += found.error.lo > 0
    assert seen > 8


def test_what_is_no_number_is_a_violation(tmp_path: Path) -> None:
    graph = _network(tmp_path)
    x = {"x": np.full((1, 3, 5, 5), 1e38, np.float32)}
    execution = members(IEEE_ANY)[0]
    with np.errstate(all="ignore"):
        (y,) = emulate(graph, {"x": x["x"][None]}, execution).values()
        point = Candidate(x, x, execution, output="y", index=(0, 0), excess=0.0)
        assert confirm_enclosed(graph, point).error.finite == bool(np.isfinite(y).reshape(-1)[0])


@pytest.mark.parametrize("epsilon", [None, "1e-9"])
def test_errors_of_a_huge_network_are_found(
    epsilon: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witnesses, "_TOO_MUCH", 10)
    graph = _network(tmp_path)
    assert is_huge(graph)
    domain = read_domain(graph, DomainOptions(center="0.5", radius="0.01"), IEEE_ANY.format_of)
    tolerance = Tolerance() if epsilon is None else Tolerance(Fraction(epsilon))
    result = check(graph, domain, IEEE_ANY, tolerance, Options(None, None, timeout=60, budget=0))
    assert result.worst_found is not None
    assert 0 < result.worst_found <= result.bound
    assert any("a few random inputs" in note for note in result.notes)
    if epsilon is not None:
        assert result.verdict is Verdict.VIOLATED
