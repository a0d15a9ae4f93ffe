"""`diff` where no floating-point number differs: truth values, indices, quantised numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gpu_check.runtimes.runtimes import OnnxRuntime
from refine.api import diff_models
from refine.claims.options import Options
from refine.lemmas.cache import default_directory
from refine.results.verdict import Verdict

STORED: dict[str, np.ndarray] = {
    "zero": np.array(0, np.float32),
    "half": np.array(-0.5, np.float32),
    "scale": np.array(0.25, np.float32),
    "low": np.array(0, np.int8),
    "high": np.array(1, np.int8),
    "middle": np.array(128, np.uint8),
}


def _saved(path: Path, nodes: Sequence[onnx.NodeProto], kind: int) -> Path:
    read = {t for n in nodes for t in n.input}
    graph = helper.make_graph(
        nodes,
        "pair",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(v, t) for t, v in STORED.items() if t in read],
    )
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return path


def _as_number(*nodes: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The nodes, the last writing t, and y = t as float32."""
    return [*nodes, helper.make_node("Cast", ["t"], ["y"], to=TensorProto.FLOAT)]


def _compared(op: str) -> list[onnx.NodeProto]:
    return _as_number(helper.make_node(op, ["x", "zero"], ["t"]))


def _largest(last: int) -> list[onnx.NodeProto]:
    node = helper.make_node("ArgMax", ["x"], ["t"], axis=0, select_last_index=last)
    return _as_number(node)


def _quantized(zero: str) -> list[onnx.NodeProto]:
    given = ["x", "scale", zero]
    there = helper.make_node("QuantizeLinear", given, ["t"])
    return [there, helper.make_node("DequantizeLinear", ["t", "scale", zero], ["y"])]


def _joined(op: str) -> list[onnx.NodeProto]:
    return _as_number(
        helper.make_node("Less", ["x", "zero"], ["u"]),
        helper.make_node("Greater", ["x", "half"], ["v"]),
        helper.make_node(op, ["u", "v"], ["t"]),
    )


def _chosen(op: str) -> list[onnx.NodeProto]:
    condition = helper.make_node(op, ["x", "half"], ["c"])
    return [condition, helper.make_node("Where", ["c", "x", "zero"], ["y"])]


def _rounded(op: str, kind: int) -> list[onnx.NodeProto]:
    more: dict[str, Any] = {"to": kind} if op == "Cast" else {}
    there = helper.make_node(op, ["x"], ["t"], **more)
    return _as_number(there)


FLOAT = TensorProto.FLOAT
PAIRS = {
    "comparison": (_compared("Less"), _compared("LessOrEqual"), FLOAT, 1.0),
    "index": (_largest(0), _largest(1), FLOAT, 2.0),
    "zero-point": (_quantized("low"), _quantized("high"), FLOAT, 1.0),
    "sign": (_quantized("low"), _quantized("middle"), FLOAT, 1.0),
    "logic": (_joined("And"), _joined("Or"), FLOAT, 1.0),
    "choice": (_chosen("Less"), _chosen("Greater"), FLOAT, 4.0),
    "whole": (_rounded("Cast", TensorProto.INT32), _rounded("Floor", FLOAT), FLOAT, 4.0),
    "truth-output": (
        [helper.make_node("Less", ["x", "zero"], ["y"])],
        [helper.make_node("Greater", ["x", "half"], ["y"])],
        TensorProto.BOOL,
        1.0,
    ),
    "truth-otherwise": (
        [helper.make_node("Less", ["x", "zero"], ["y"])],
        [
            helper.make_node("Greater", ["x", "half"], ["c"]),
            helper.make_node("Not", ["c"], ["y"]),
        ],
        TensorProto.BOOL,
        1.0,
    ),
    "index-output": (
        [helper.make_node("ArgMax", ["x"], ["y"], axis=0)],
        [helper.make_node("ArgMin", ["x"], ["y"], axis=0)],
        TensorProto.INT64,
        2.0,
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_jump_is_bounded_and_found(name: str, tmp_path: Path) -> None:
    spec_nodes, impl_nodes, kind, most = PAIRS[name]
    spec = _saved(tmp_path / "spec.onnx", spec_nodes, kind)
    impl = _saved(tmp_path / "impl.onnx", impl_nodes, kind)
    options = Options(None, default_directory())
    result = diff_models(spec, impl, domain="-1..1", eps=None, contract="ieee-any", options=options)
    a, b = OnnxRuntime(spec), OnnxRuntime(impl)
    grid = np.linspace(-1, 1, 17, dtype=np.float32)
    apart = 0.0
    for x in np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2):
        given, other = (np.asarray(s.run({"x": x})["y"], np.float64) for s in (a, b))
        apart = max(apart, float(np.max(np.abs(given - other))))
    assert apart <= result.bound <= most * (1.0 + 1e-5)
    if apart:
        below = diff_models(
            spec, impl, domain="-1..1", eps=str(apart / 2), contract="ieee-any", options=options
        )
        assert below.verdict is not Verdict.VERIFIED


def test_truth_values_that_agree_on_the_domain_do_not_differ(tmp_path: Path) -> None:
    spec_nodes, impl_nodes, kind, _ = PAIRS["comparison"]
    spec = _saved(tmp_path / "spec.onnx", spec_nodes, kind)
    impl = _saved(tmp_path / "impl.onnx", impl_nodes, kind)
    options = Options(None, default_directory())
    result = diff_models(spec, impl, domain="0.5..1", eps="0", contract="ieee-any", options=options)
    assert (result.verdict, result.bound) == (Verdict.VERIFIED, 0.0)
