"""A short fuzz with fixed seeds, of contracts with random fields.

What is done to a stored number, a factor, a product, a sum and a result is the same for the bound,
the emulator and the interpreter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
from contracts import Refused, contract_trial, judge_contract, judged
from graphs import RECIPES
from trial import Trial

from encoders.arithmetic import handling, number_path
from encoders.arithmetic.number_path import Hop
from encoders.contract.contract import Subnormals
from encoders.numbers.formats import BFLOAT16, BINARY32
from encoders.rounding import accumulation
from onnx_import.graph import as_written

PLAIN = 100


@pytest.mark.parametrize("op", sorted(RECIPES))
def test_nothing_parts_at_an_operator(op: str) -> None:
    seed = 2_000_000 + 1000 * sorted(RECIPES).index(op)
    assert not judged(seed, op)[1], f"seed {seed}"


def test_nothing_parts_in_random_graphs() -> None:
    ends: Counter[str] = Counter()
    for seed in range(PLAIN):
        word, findings, _ = judged(seed)
        assert not findings, f"seed {seed}"
        ends[word.split(":")[0]] += 1
    assert ends["verified"] > PLAIN // 3


def _trials(first: int, count: int) -> Iterator[Trial]:
    for seed in range(first, first + count):
        with suppress(Refused):
            yield contract_trial(seed)


def _findings(kind: str) -> bool:
    """Is one of this kind found where half of all numbers are weights in another format?"""
    for trial in _trials(0, 60):
        stored = replace(trial.contract, stored_format=BFLOAT16)
        found = judge_contract(replace(trial, contract=stored))[1]
        if any(f.kind == kind for f in found):
            return True
    return False


def test_a_rounding_that_the_emulator_drops_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = number_path.stored_path

    def dropped(*place: object) -> tuple[Hop, ...]:
        return whole(*place)[-1:]  # type: ignore[arg-type]

    monkeypatch.setattr(number_path, "stored_path", dropped)
    assert _findings("parted")


def test_a_rounding_that_the_bound_drops_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from encoders.rounding import rounding_bounds

    whole = number_path.stored_path
    monkeypatch.setattr(rounding_bounds, "stored_path", lambda *place: whole(*place)[-1:])
    assert _findings("exceeded")


def test_a_fold_of_numbers_that_the_contract_changes_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trial.handling_of", lambda contract: as_written)
    monkeypatch.setattr(handling, "objection", lambda contract, need: "")
    kinds = {f.kind for seed in (455, 792, 981) for f in judged(seed)[1]}
    assert {"exceeded", "parted"} <= kinds


def test_an_operand_that_is_lost_on_the_way_in_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What flushing results does to a subnormal bfloat16 number read into float32."""
    monkeypatch.setattr(accumulation, "flushed_below", lambda *given: 0.0)
    for trial in _trials(4_000_200, 300):
        narrow = replace(
            trial.contract,
            compute_format=BFLOAT16,
            accumulation=BINARY32,
            results=Subnormals.FLUSH,
            operands=Subnormals.KEEP,
        )
        tiny = {n: v * 0.0 + 2.0**-128 for n, v in trial.lo.items()}
        found = judge_contract(replace(trial, contract=narrow, lo=tiny, hi=tiny))[1]
        if any(f.kind.endswith("exceeded") for f in found):
            return
    raise AssertionError("nobody noticed")
