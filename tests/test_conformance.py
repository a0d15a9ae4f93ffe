"""ONNX's own conformance suite: what our operators claim, they get right."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conformance_suite import EXCLUDED, Finding, Outcome, run_case, run_suite, suite, table
from conftest import CONFORMANCE

FLOOR = 1763


@pytest.fixture(scope="module")
def findings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Finding, ...]:
    """What became of every case; the table is printed at the end of the session."""
    found = run_suite(tmp_path_factory.mktemp("conformance"))
    request.config.stash[CONFORMANCE] = table(found)
    return found


def test_no_claimed_case_fails(findings: tuple[Finding, ...]) -> None:
    failed = [f for f in findings if f.outcome is Outcome.FAILED]
    assert not failed, "\n".join(f"{f.name}: {f.reason}" for f in failed)


def test_as_many_cases_pass_as_did_before(findings: tuple[Finding, ...]) -> None:
    assert sum(f.outcome is Outcome.PASSED for f in findings) >= FLOOR


@pytest.mark.parametrize("page", ["docs/models.md", "CHANGELOG.md"])
def test_the_number_that_is_told_is_the_number_that_passes(page: str) -> None:
    text = (Path(__file__).parent.parent / page).read_text(encoding="utf-8")
    assert re.search(rf"\b{FLOOR} of (its|the) {len(tuple(suite()))} cases", text), (
        f"{page} tells another number of ONNX's cases than the {FLOOR} that pass"
    )


def test_exclusions_name_cases_of_the_suite() -> None:
    assert set(EXCLUDED) <= {case.name for case in suite()}


@pytest.mark.parametrize("change", ["value", "shape", "type"])
def test_a_claimed_case_with_another_result_fails(tmp_path: Path, change: str) -> None:
    case = next(case for case in suite() if case.name == "test_softmax_axis_1")
    inputs, (expected,) = case.data_sets[0]
    other = {
        "value": np.where(expected == expected.max(), expected * np.float32(1.01), expected),
        "shape": expected[None],
        "type": expected.astype(np.float64),
    }[change]
    found = run_case(replace(case, data_sets=[(inputs, [other])]), "Softmax", tmp_path)
    assert found.outcome is Outcome.FAILED, found
