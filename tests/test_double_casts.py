"""Casts of doubles to 16 bits, which runtimes make once or by way of float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from encoders.contract.presets import FP16, IEEE_ANY, ORT_CPU, SEQUENTIAL
from gpu_check.emulator.emulator import emulate
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load
from refine.bounds.point_bounds import bound_at

KINDS = {
    "float16": (TensorProto.FLOAT16, np.float16),
    "bfloat16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
}


def near_middles(digits: int) -> npt.NDArray[np.float64]:
    """Numbers beside the middles between two of 16 bits, nearer than float32 tells apart."""
    rng = np.random.default_rng(0)
    lower = rng.integers(2 ** (digits - 1), 2**digits, 200) + 0.5
    beside = 1.0 + rng.choice([-1.0, 0.0, 1.0], 200) * 2.0 ** rng.integers(-50, -25, 200)
    scale = 2.0 ** rng.integers(-18 - digits, 15 - digits, 200)
    return np.asarray(lower * beside * scale * rng.choice([-1.0, 1.0], 200))


def cast(path: Path, kind: int, x: npt.NDArray[np.float64], stored: bool) -> dict[str, Any]:
    """To the type and back, of an input or of stored numbers, to which an input is then added."""
    nodes = [helper.make_node("Cast", ["w" if stored else "x"], ["h"], to=kind)]
    nodes.append(helper.make_node("Cast", ["h"], ["d" if stored else "y"], to=TensorProto.DOUBLE))
    if stored:
        nodes.append(helper.make_node("Add", ["d", "x"], ["y"]))
    double = TensorProto.DOUBLE
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", double, x.shape)],
        [helper.make_tensor_value_info("y", double, x.shape)],
        [numpy_helper.from_array(x, "w")] if stored else [],
    )
    opsets = [helper.make_opsetid("", 21)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return {"x": np.zeros_like(x) if stored else x}


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_bounds_cover_one_rounding_and_two(name: str, stored: bool, tmp_path: Path) -> None:
    path, (code, kind) = tmp_path / "m.onnx", KINDS[name]
    x = near_middles(11 if name == "float16" else 8)
    given = cast(path, code, x, stored)
    graph, run = load(path), OnnxRuntime(path).run(given)["y"]
    twice = x.astype(np.float32).astype(kind).astype(np.float64)
    assert np.array_equal(run, twice)
    (emulated,) = emulate(graph, {"x": given["x"][None]}, SEQUENTIAL).values()
    assert np.array_equal(np.asarray(emulated)[0], run)
    reached = [twice]
    if name == "float16":  # numpy has no other way to bfloat16
        reached.append(x.astype(kind).astype(np.float64))
        assert np.any(reached[0] != reached[1])
    for contract in (IEEE_ANY, ORT_CPU, SEQUENTIAL, FP16):
        bound = bound_at(graph, given, contract)["y"]
        assert all(np.all(np.abs(r - x) <= bound) for r in reached), contract.name
