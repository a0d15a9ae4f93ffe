"""Preset `ort-cpu` is held against onnxruntime on every operator and class of shapes.

The models are those of benchmarks/ort_cpu.py, which walks through all of them; here one of each
row, taken without chance from the smaller ones, and those that the preset once got wrong.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from ort_cpu import Case, cases, held
from ort_schedule import ORT_PLAIN

from encoders.contract.contract import RuntimeContract

LARGEST, POINTS = 120, 6
ONCE_WRONG = (
    "ReduceSum last n=17",
    "ReduceSum outer+inner n=64",
    "ReduceMean all n=64",
    "GlobalAveragePool n=64",
    "HardSigmoid n=17",
    "MatMul const left M=3 K=8 N=1",
    "Conv2D C=512 S=1 M=8 k=1 group=1",
    "Conv2D C=16 S=6 M=16 k=3 group=16",
)


def chosen() -> list[Case]:
    rows, every = defaultdict(list), list(cases())
    for case in every:
        if np.prod(case.x) <= LARGEST:
            rows[case.row].append(case)
    rng = np.random.default_rng(1)
    sampled = {
        str(row[i]): row[i] for row in rows.values() for i in rng.permutation(len(row))[:1].tolist()
    }
    named = {str(case): case for case in every}
    return list({**sampled, **{name: named[name] for name in ONCE_WRONG}}.values())


@pytest.mark.parametrize("case", chosen(), ids=str)
def test_onnxruntime_stays_within_the_preset(case: Case, tmp_path: Path) -> None:
    found = held(case, tmp_path / "model.onnx", count=POINTS)
    assert found.ratio <= 1
    assert not found.outside


def test_a_preset_that_pins_all_sums_alike_is_caught(tmp_path: Path) -> None:
    """Blocks everywhere, as the preset once had it: the comparison above can fail."""
    named = {str(case): case for case in cases()}

    def wrong(contract: RuntimeContract) -> int:
        found = [
            held(named[name], tmp_path / "model.onnx", contract, count=POINTS)
            for name in ONCE_WRONG
        ]
        return sum(h.ratio > 1 or h.outside > 0 for h in found)

    assert wrong(ORT_PLAIN) == len(ONCE_WRONG)
