"""bfloat16, which numpy lacks, goes into onnxruntime and comes out of it bit for bit, on the model
as it is; so do numbers of eight bits, which come out alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from small_models import settled

from gpu_check.runtimes.runtimes import OnnxRuntime
from refine.results.verdict import Verdict

pytest.importorskip("onnxruntime")
BF, F = TensorProto.BFLOAT16, TensorProto.FLOAT
SHORT = np.dtype(ml_dtypes.bfloat16)


def saved(
    path: Path,
    nodes: list[Any],
    inputs: Mapping[str, int],
    outputs: Mapping[str, int],
    opset: int = 17,
) -> Path:
    def values(kinds: Mapping[str, int], shape: list[Any]) -> list[Any]:
        return [helper.make_tensor_value_info(n, kind, shape) for n, kind in kinds.items()]

    graph = helper.make_graph(nodes, "g", values(inputs, ["n", 8]), values(outputs, [None, 8]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_bits_go_in_and_come_out(tmp_path: Path, rows: int) -> None:
    """Infinities, NaN, zeros of both signs and subnormal numbers too; float32 beside them."""
    nodes = [
        helper.make_node("Concat", ["x", "x"], ["twice"], axis=0),
        helper.make_node("Cast", ["z"], ["short"], to=BF),
        helper.make_node("Cast", ["x"], ["wide"], to=F),
    ]
    outputs = {"twice": BF, "short": BF, "wide": F}
    path = saved(tmp_path / "m.onnx", nodes, {"x": BF, "z": F}, outputs)
    bits = np.random.default_rng(0).integers(0, 2**16, (rows, 8)).astype(np.uint16)
    bits[:1] = [0x7F80, 0xFF80, 0x7FC0, 0x0000, 0x8000, 0x0001, 0x8001, 0x7F7F]
    x = bits.view(SHORT)
    z = np.random.default_rng(1).standard_normal((rows, 8)).astype(np.float32)
    found = OnnxRuntime(path).run({"x": x, "z": z})
    assert found["twice"].dtype == SHORT
    assert np.array_equal(found["twice"].view(np.uint16), np.concatenate([bits, bits]))
    assert np.array_equal(found["short"].view(np.uint16), z.astype(SHORT).view(np.uint16))
    assert np.array_equal(found["wide"], x.astype(np.float32), equal_nan=True)


@pytest.mark.parametrize("kind", ["e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz"])
def test_numbers_of_eight_bits_come_out(tmp_path: Path, kind: str) -> None:
    """Not as the integers that their bits are."""
    code = getattr(TensorProto, f"FLOAT8{kind.upper()}")
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=code)]
    path = saved(tmp_path / "m.onnx", nodes, {"x": F}, {"y": code}, opset=19)
    x = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    narrow = np.dtype(getattr(ml_dtypes, f"float8_{kind}"))
    found = OnnxRuntime(path).run({"x": x})["y"]
    assert found.dtype == narrow
    assert np.array_equal(found.astype(np.float32), x.astype(narrow).astype(np.float32))


def test_a_model_in_bfloat16_is_compared_with_the_contract(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=F),
        helper.make_node("Mul", ["wide", "wide"], ["square"]),
        helper.make_node("Cast", ["square"], ["y"], to=BF),
    ]
    path = saved(tmp_path / "m.onnx", nodes, {"x": BF}, {"y": BF})
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(model, path)
    result = settled(path, "-2..2", None, "sequential", conform=True)
    assert result.verdict is Verdict.VERIFIED
    assert result.conduct is not None
    assert result.conduct.honours is True
    assert "3 bit for bit" in result.conduct.text
