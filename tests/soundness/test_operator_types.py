"""The element types that `refine ops` claims: every one is imported, emulated and compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from operator_checks import Example, model_of

from encoders.contract.presets import SEQUENTIAL
from encoders.program import program_of
from encoders.registry import operators
from examples import every_example
from gpu_check.emulator.emulator import emulate
from gpu_check.runtimes.runtimes import OnnxRuntime, RuntimeUnavailable
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import COMPUTED, DType, Graph

NEWER = (0, 16, 22, 24)  # opsets in which ONNX allows more types
WITHOUT_FILES = {
    "Rational",
    "RunsInstead",
}  # ONNX has no such operator, and no other is read as one
WITH_SCALES = {  # their types come in combinations: tests/test_operators_quantized.py has them
    "ConvInteger",
    "DequantizeLinear",
    "DynamicQuantizeConv",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "QGemm",
    "QLinearAdd",
    "QLinearConv",
    "QLinearGlobalAveragePool",
    "QLinearMatMul",
    "QLinearMul",
    "QuantizeLinear",
}
ELSEWHERE = WITHOUT_FILES | WITH_SCALES
NORMALIZING = ("GroupNormalization", "LayerNormalization", "RMSNormalization")  # in float32
SLACK = {DType.FLOAT16: 2e-2, DType.BFLOAT16: 0.1, DType.FLOAT32: 1e-4, DType.FLOAT64: 1e-12}


def typed_model(case: Example, dtype: DType) -> onnx.ModelProto:
    with np.errstate(all="ignore"):  # constants that the type does not hold
        made = model_of(case, dtype.numpy)
    (output,) = made.graph.output
    if not output.type.HasField("tensor_type"):  # ONNX infers no type for GroupNormalization
        output.CopyFrom(made.graph.input[0])
        output.name = "y"
    return made


def graphs(name: str, dtype: DType, folder: Path) -> Iterator[tuple[Graph, bytes, Example]]:
    """Networks with this operator on inputs of this type that are accepted."""
    path = folder / "model.onnx"
    for case in every_example()[name]:
        for opset in NEWER:
            try:
                made = typed_model(replace(case, opset=max(case.opset, opset)), dtype)
                path.write_bytes(made.SerializeToString())
                graph = program_of(load(path)).checked.graph
            except (ModelError, onnx.shape_inference.InferenceError):
                continue
            used = [n for n in graph.order if n.op == name]
            if any(graph.types[t].dtype is dtype for n in used for t in n.inputs if t):
                yield graph, path.read_bytes(), case


def sampled(graph: Graph, case: Example) -> dict[str, Any]:
    rng, found = np.random.default_rng(0), {}
    for name in graph.inputs:
        kind, shape = graph.types[name].dtype, (3, *graph.types[name].shape)
        values = rng.uniform(case.lo, case.hi, shape)
        found[name] = (values if kind.is_float else rng.integers(0, 2, shape)).astype(kind.numpy)
    return found


CLAIMS = [(o.name, d) for o in operators().values() if o.name not in ELSEWHERE for d in o.dtypes]


@pytest.mark.parametrize(("name", "dtype"), CLAIMS, ids=lambda v: getattr(v, "value", v))
def test_a_claimed_type_is_emulated_as_onnxruntime_computes_it(
    name: str, dtype: DType, tmp_path: Path
) -> None:
    found = next(graphs(name, dtype, tmp_path), None)
    assert found is not None, "no network of this type is accepted"
    graph, raw, case = found
    inputs = sampled(graph, case)
    with np.errstate(all="ignore"):
        emulated = emulate(graph, inputs, SEQUENTIAL)
    for t in graph.outputs:
        assert emulated[t].dtype == graph.types[t].dtype.numpy
    try:
        runtime = OnnxRuntime(raw)
        runs = [runtime.run({t: v[i] for t, v in inputs.items()}) for i in range(3)]
    except RuntimeUnavailable:
        return  # onnxruntime has no kernel for it, or numpy cannot hand over its numbers
    for i, run in enumerate(runs):
        for t in graph.outputs:
            got, want = (np.asarray(v, np.float64) for v in (emulated[t][i], run[t]))
            wide = name in NORMALIZING and dtype is DType.FLOAT64
            slack = SLACK.get(DType.FLOAT32 if wide else dtype, 0.0)
            np.testing.assert_allclose(got, want, rtol=slack, atol=slack)


@pytest.mark.parametrize("name", sorted(set(operators()) - ELSEWHERE))
def test_a_type_that_is_not_claimed_is_refused(name: str, tmp_path: Path) -> None:
    for dtype in set(COMPUTED) - set(operators()[name].dtypes):
        found = next(graphs(name, dtype, tmp_path), None)
        assert found is None, f"{dtype.value} is accepted by {found and found[2].name}"
