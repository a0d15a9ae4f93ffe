"""Every operator that can be imported, over a grid of its inputs, attributes, types and opsets.

Cases are taken without chance from the whole grids, which `make grids` walks through; what a
runtime computes and what that stands for must be what ONNX's reference evaluator and onnxruntime
compute, unless grid_known.py says why they are known to part from ONNX's text.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from grid_cases import FIRST_OPSET, sample, schemas
from grid_judging import Onnxruntime, judge
from grid_table import GRIDS

from encoders.registry import operators
from onnx_import.onnx.reader import DECOMPOSED, MADE
from onnx_import.onnx.sequences import SEQUENCES
from onnx_import.passes.folding.fold import ALONE

TRIED, WANTED = 60, 7  # cases of an operator, and how many of them must have been compared
FEW = {  # operators of which fewer cases can be compared, or are not refused
    "Constant": 5,
    "BitwiseNot": 6,
    "LinearAttention": 6,
    "QLinearGlobalAveragePool": 0,  # alone, it ends the runtime's process: test_quantised_layers.py
}
NO_NUMBERS = {  # attributes that hold text or sparse tensors
    "TfIdfVectorizer": {"pool_strings"},
    "Constant": {"value_string", "value_strings", "sparse_value"},
}
ELSEWHERE = {  # whose bodies and weights are made case by case
    "test_control.py": {"If", "Loop", "Scan"},
    "test_recurrent.py": {"RNN", "GRU", "LSTM"},
    "test_sequences.py": {"SequenceMap", *SEQUENCES},
}
IMPORTABLE = (set(operators()) - set(MADE)) | DECOMPOSED | ALONE


@pytest.fixture(scope="module")
def runtime() -> Iterator[Onnxruntime]:
    runtime = Onnxruntime()
    yield runtime
    runtime.process.terminate()


def test_every_operator_that_can_be_imported_has_a_grid() -> None:
    elsewhere = {op for ops in ELSEWHERE.values() for op in ops}
    assert {op for op, grids in GRIDS.items() if grids} | elsewhere == IMPORTABLE
    for module, ops in ELSEWHERE.items():
        text = (Path(__file__).parents[1] / module).read_text(encoding="utf-8")
        assert all(f'"{op}' in text for op in ops)


@pytest.mark.parametrize("op", sorted(op for op in GRIDS if schemas(op)))
def test_a_grid_has_every_attribute_that_onnx_names(op: str) -> None:
    known = schemas(op)
    oldest = max((v for v in known if v <= FIRST_OPSET), default=0)
    named = {a for v, schema in known.items() if v >= oldest for a in schema.attributes}
    tried = {
        name
        for grid in GRIDS[op]
        for name, values in grid.parameters.items()
        if any(v is not None for v in values)
    }
    aliases = {"value"} if "constant_value" in tried else set()
    assert named - NO_NUMBERS.get(op, set()) <= tried | aliases


@pytest.mark.parametrize("op", sorted(GRIDS))
def test_meanings_are_those_of_onnx(op: str, tmp_path: Path, runtime: Onnxruntime) -> None:
    compared = 0
    for case in sample(op, GRIDS[op], TRIED, 0):
        found = judge(case, tmp_path, runtime)
        assert not found.text, f"{case}: {found.word}: {found.text}"
        compared += found.word in ("both", "reference", "onnxruntime")
        if compared == WANTED:
            break
    assert compared >= FEW.get(op, WANTED)
