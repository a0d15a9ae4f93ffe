"""A short run of the fuzzer of files, the same every time; `files.py` runs as long as one likes."""

from __future__ import annotations

import random
from collections import Counter

import files
import pytest
from file_cases import Case
from whole_files import onnx_model


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_get_one_sentence(seed: int) -> None:
    kinds: Counter[str] = Counter()
    wrong = [(f.case.kind, f.why) for f in files.faults(seed, 20.0, 150, kinds)]
    assert wrong == []
    assert len(kinds) > 8


def test_offenders_are_made_smaller() -> None:
    model = onnx_model(random.Random(1)).SerializeToString()
    case = Case("onnx", ("bound", "m.onnx"), {"m.onnx": model})

    def says_gemm(other: Case) -> bool:
        return b"gemm" in other.files["m.onnx"]

    assert files.minimised(case, says_gemm, 30.0).files == {"m.onnx": b"gemm"}
