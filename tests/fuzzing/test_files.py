"""A short run of the fuzzer of files, the same every time; `files.py` runs as long as one likes."""

from __future__ import annotations

from collections import Counter

import pytest
from fuzzing import files


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_get_one_sentence(seed: int) -> None:
    kinds: Counter[str] = Counter()
    wrong = [(f.case.kind, f.why) for f in files.faults(seed, 20.0, 150, kinds)]
    assert wrong == []
    assert len(kinds) > 8
