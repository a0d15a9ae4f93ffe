"""Operators that onnxruntime computes by ONNX's function, or otherwise than by it: what is proved
of them at numbers of every size covers it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper, numpy_helper

from encoders.contract.presets import IEEE_ANY
from gpu_check.runtimes.runtimes import OnnxRuntime, RuntimeUnavailable
from onnx_import import load
from onnx_import.errors import ModelError
from refine.bounds.point_bounds import bound_at
from refine.witness.witness import error_between, real_outputs

REDUCED = ("ReduceLogSumExp", "ReduceLogSum", "ReduceL2", "ReduceSumSquare")
ALONG = {
    "MeanVarianceNormalization": "axes",
    "LpNormalization": "axis",
    "Softmax": "axis",
    "LogSoftmax": "axis",
}
SIZES = (1.0, 1e-3, 1e-6, 1e-9, 1e-20, 30.0, 700.0, 1e3, 3e4, 1e18)


def model(op: str, opset: int, kind: Any) -> onnx.ModelProto:
    """Rows of seven numbers, in the type."""
    code = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    stored = []
    given: dict[str, Any] = {}
    if op in REDUCED and opset >= 18:
        stored = [numpy_helper.from_array(np.array([1]), "axes")]
    elif op in REDUCED or ALONG[op] == "axes":
        given = {"axes": [1]}
    else:
        given = {"axis": 1}
    graph = helper.make_graph(
        [helper.make_node(op, ["x", *(t.name for t in stored)], ["y"], **given)],
        "rows",
        [helper.make_tensor_value_info("x", code, (4, 7))],
        [helper.make_tensor_value_info("y", code, None)],
        stored,
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def rows(op: str, kind: Any) -> Iterator[npt.NDArray[Any]]:
    """Of every size; about 0, on one side of it, and both."""
    rng = np.random.default_rng(0)
    for size, off in itertools.product(SIZES, (-3.0, 0.0, 3.0)):
        with np.errstate(over="ignore", under="ignore"):
            x = (size * (rng.normal(size=(4, 7)) / (1.0 + abs(off)) + off)).astype(kind)
        if np.all(np.isfinite(x)):
            yield np.abs(x) if op == "ReduceLogSum" else x


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("op", [*REDUCED, *ALONG])
def test_onnxruntime_is_within_what_is_proved(op: str, kind: Any, tmp_path: Path) -> None:
    path, finite = tmp_path / "m.onnx", 0
    for opset in (13, 18):
        onnx.save(model(op, opset, kind), path)
        try:
            runtime, graph = OnnxRuntime(path), load(path)
        except (ModelError, RuntimeUnavailable):
            continue
        for x in rows(op, kind):
            run, real = runtime.run({"x": x})["y"].ravel(), real_outputs(graph, {"x": x})["y"]
            bound = bound_at(graph, {"x": x}, IEEE_ANY)["y"].ravel()
            for r, e, b in zip(run, real, bound, strict=True):
                if np.isfinite(b):
                    assert np.isfinite(r), (opset, x)
                    assert float(error_between(float(r), e).lo) <= b, (opset, x)
            finite += int(np.sum(np.isfinite(bound)))
    assert finite > 100 or (op == "MeanVarianceNormalization" and kind is not np.float32)
