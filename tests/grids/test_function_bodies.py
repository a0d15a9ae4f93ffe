"""Which operators onnxruntime executes by the function that ONNX defines, for want of a kernel:
what is known of kernels is not known of these, so that each is looked at before it is listed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from grid_cases import made_of, sample
from grid_table import GRIDS

from encoders.contract.presets import IEEE_ANY
from onnx_import import load
from refine.bounds.point_bounds import bound_at

FEW = 60  # cases of each operator
KINDS: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(bool)": np.bool_,
}
AS_HERE = "computes what our semantics do, in steps that they count"
BODIES = {
    "Attention": AS_HERE,
    "CastLike": "a Cast",
    "CenterCropPad": "moves alone",
    "Constant": "nothing is executed",
    "Gelu": AS_HERE,
    "GreaterOrEqual": "exact",
    "GroupNormalization": "a variance that cancels: tests/test_group_normalization.py",
    "HardSwish": AS_HERE,
    "LeakyRelu": AS_HERE,
    "LessOrEqual": "exact",
    "LogSoftmax": AS_HERE,
    "Mish": AS_HERE,
    "NegativeLogLikelihoodLoss": "decomposed when it is read",
    "PRelu": AS_HERE,
    "ReduceL1": AS_HERE,
    "ReduceL2": AS_HERE,
    "ReduceLogSum": AS_HERE,
    "ReduceLogSumExp": "overflows in 16 bits, without the largest taken away: a note says so",
    "ReduceSumSquare": AS_HERE,
    "Softmax": AS_HERE,
    "SoftmaxCrossEntropyLoss": "decomposed when it is read",
    "Swish": AS_HERE,
}


def executed(model: onnx.ModelProto, folder: Path) -> set[str]:
    """The operators that onnxruntime executes; it raises where it refuses the model."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = ort.InferenceSession(model.SerializeToString(), options)
    given: dict[str, Any] = {
        i.name: np.full([d if isinstance(d, int) else 1 for d in i.shape], 0.5).astype(
            KINDS[i.type]
        )
        for i in session.get_inputs()
    }
    session.run(None, given)
    profile = Path(session.end_profiling())
    events: list[dict[str, Any]] = json.loads(profile.read_text())
    os.unlink(profile)
    return {e["args"]["op_name"] for e in events if "op_name" in e.get("args", {})}


def by_function(op: str, folder: Path) -> Iterator[set[str]]:
    """Of each case that onnxruntime takes and has no kernel for, what it executes."""
    for case in sample(op, GRIDS[op], FEW, 0):
        try:
            found = executed(made_of(case).model, folder)
        except Exception:  # refused by the one or the other: judged by the grids
            continue
        if op not in found:
            yield found


@pytest.mark.parametrize("op", sorted(GRIDS))
def test_what_onnxruntime_executes_by_its_function_is_known(op: str, tmp_path: Path) -> None:
    found = list(by_function(op, tmp_path))
    assert not found or op in BODIES, found


def test_sums_of_powers_that_overflow_in_sixteen_bits_have_no_bound(tmp_path: Path) -> None:

    said = []
    for opset in (13, 18):
        axes: dict[str, Any] = {"axes": [1]} if opset < 18 else {}
        reads = ["x"] if opset < 18 else ["x", "a"]
        stored = [] if opset < 18 else [onnx.numpy_helper.from_array(np.array([1]), "a")]
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("ReduceLogSumExp", reads, ["y"], **axes)],
            "g",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT16, [1, 2])],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT16, [1, 1])],
            stored,
        )
        model = onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8
        )
        onnx.save(model, tmp_path / "m.onnx")
        x = np.array([[1000.0, 999.0]], np.float16)
        (y,) = ort.InferenceSession(tmp_path / "m.onnx").run(None, {"x": x})
        bounds = bound_at(load(tmp_path / "m.onnx"), {"x": x}, IEEE_ANY)
        said.append((bool(np.isinf(np.asarray(y)).any()), bool(np.isinf(bounds["y"]).any())))
    assert said == [(False, False), (True, True)]
