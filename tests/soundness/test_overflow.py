"""Every operator where everything overflows: an answer, and never an internal error."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_operator_types import ELSEWHERE, graphs

from encoders.registry import operators
from onnx_import.graph import DType
from refine.cli.main import run
from refine.results.verdict import ExitCode

# the first type that an operator has
DOMAINS = {DType.FLOAT32: "1e38..3e38", DType.FLOAT16: "6e4..6.5e4"}


@pytest.mark.parametrize("name", sorted(set(operators()) - ELSEWHERE))
def test_an_operator_that_overflows_is_answered(name: str, tmp_path: Path) -> None:
    for dtype, domain in DOMAINS.items():
        found = next(graphs(name, dtype, tmp_path), None)
        if found is None:
            continue
        graph, raw, _ = found
        path = tmp_path / "overflow.onnx"
        path.write_bytes(raw)
        arguments = ["bound", str(path), "--budget", "0", "--no-search"]
        for tensor in graph.inputs:
            numbers = domain if graph.types[tensor].dtype.is_float else "0..1"
            arguments += ["--input", f"{tensor}={numbers}"]
        assert run(arguments) is not ExitCode.INTERNAL_ERROR
        return
