"""TorchLean graphs and FPCore kernels against their twins in ONNX, with fixed seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
import twins
from running import lemmas_once

from encoders.contract.presets import SEQUENTIAL
from encoders.numbers.formats import BINARY32


@pytest.fixture(autouse=True, scope="module")
def _lemmas() -> Iterator[None]:
    with lemmas_once():
        yield


def test_nothing_is_wrong_with_kernels_and_graphs() -> None:
    ends = Counter[str]()
    for seed in range(24):
        twin, contract = twins.twin_of(seed)
        word, findings = twins.judged(twin, contract, seed)
        assert not findings, f"seed {seed}"
        ends[f"{twin.file} {word.split(':')[0]}"] += 1
    assert ends["graph.json verified"] > 6
    assert ends["kernel.fpcore verified"] > 6


def test_another_meaning_of_the_file_is_noticed() -> None:
    """A kernel with its sign changed."""
    kinds = set[str]()
    for seed in (5, 17):
        twin, _ = twins.twin_of(seed)
        head, digits = twin.text.split(":precision binary")
        twin.text = f"{head}:precision binary{digits[:2]} (- {digits[3:]})"
        kinds |= {f.kind for f in twins.judged(twin, SEQUENTIAL, seed)[1]}
    assert kinds == {"misread"}


@pytest.mark.parametrize("text", ["1/3", "0.1", "-7/10", "16777217/16777216", "1e-46"])
def test_rationals_are_rounded_once(text: str) -> None:
    q = Fraction(text)
    found = np.float32(twins._nearest(q, BINARY32))
    for side in (np.float32(-np.inf), np.float32(np.inf)):
        other = Fraction(float(np.nextafter(found, side)))
        assert abs(Fraction(float(found)) - q) <= abs(other - q)
