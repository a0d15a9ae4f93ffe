"""Quantised layers whose scales lie at either end of float32, and zero points at either end of the
type: numbers of steps are huge, overflow, vanish or are 0·∞ on the way. onnxruntime is within each
bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from encoders.contract.presets import IEEE_ANY, ORT_CPU
from encoders.numbers.enclosure import Interval
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.bounds.network import InputBox, network_bounds
from refine.witness.witness import error_between, real_outputs

Array = Any
_MS = "com.microsoft"
_SCALES = (1.0, 0.05, 3e38, 1e30, 3e19, 1e10, 2.0**31, 2.0**-31, 1e-10, 3e-20, 1e-30, 1e-38, 1e-44)

# operator, domain, shape of what is computed, its inputs in order (x is computed, y another one,
# w stored numbers, k stored int32, s a scale, z the zero point of what stands before), attributes
RECIPES: dict[str, tuple[str, tuple[int, ...], str, dict[str, Any]]] = {
    "QLinearAdd": (_MS, (2, 9), "x s z w s z s z", {}),
    "QLinearMul": (_MS, (2, 9), "x s z w s z s z", {}),
    "QLinearGlobalAveragePool": (_MS, (1, 3, 2, 2), "x s z s z", {"channels_last": 0}),
    "QLinearMatMul": ("", (2, 9), "x s z w s z s z", {}),
    "QLinearConv": ("", (1, 9, 1, 2), "x s z w s z s z", {}),
    "QGemm": (_MS, (2, 9), "x s z w s z - s z", {}),
    "QLinearLeakyRelu": (_MS, (2, 9), "x s z s z", {"alpha": 0.3}),
    "QLinearSigmoid": (_MS, (2, 9), "x s z s z", {}),
    "QLinearConcat": (_MS, (2, 9), "s z x s z", {"axis": 0}),
}
_WEIGHTS = {
    "QLinearAdd": (2, 9),
    "QLinearMul": (2, 9),
    "QLinearMatMul": (9, 3),
    "QLinearConv": (3, 9, 1, 1),
    "QGemm": (9, 3),
}


def saved(name: str, kind: Any, rng: Any, path: Path) -> None:
    domain, shape, order, attributes = RECIPES[name]
    least, most = np.iinfo(kind).min, np.iinfo(kind).max
    names, held = [], {}
    for i, role in enumerate(order.split()):
        names.append({"x": "x", "-": ""}.get(role, f"c{i}"))
        if role == "s":
            mild = rng.random() < 0.3
            held[f"c{i}"] = np.float32(rng.uniform(0.01, 2) if mild else rng.choice(_SCALES))
        elif role == "z":
            held[f"c{i}"] = kind(rng.choice([least, most, 0, 7]))
        elif role == "w":
            held[f"c{i}"] = rng.integers(least, most + 1, _WEIGHTS[name]).astype(kind)
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    graph = helper.make_graph(
        [helper.make_node(name, names, ["y"], domain=domain, **attributes)],
        "g",
        [helper.make_tensor_value_info("x", number, shape)],
        [helper.make_tensor_value_info("y", number, None)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in held.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(_MS, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


def started(path: Path) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception:
        return None


def check_within(graph: Graph, runtime: Any, x: Array, width: int) -> bool:
    """Is some bound no whole range of the type? Runs are within all of them. A kernel that will not
    compute with such scales says so."""
    lo = x.astype(np.float64)
    hi = np.minimum(lo + width, float(np.iinfo(x.dtype).max))
    box = InputBox({"x": Interval(lo, hi)}, {"x": np.zeros(x.shape)})
    try:
        run, told = np.ravel(runtime.run(None, {"x": x})[0]), False
    except ort.capi.onnxruntime_pybind11_state.RuntimeException:
        return False
    reals = real_outputs(graph, {"x": x})["y"]
    for contract in (IEEE_ANY, ORT_CPU):
        errors = network_bounds(graph, box, contract).maps.errors["y"]
        bound = np.broadcast_to(errors, graph.types["y"].shape).ravel()
        for k, limit in enumerate(bound):
            error = error_between(float(run[k]), reals[k])
            assert error.finite
            assert float(error.lo) <= limit, (contract.name, x, run[k], reals[k], limit)
        told = told or bool(np.any(bound < 255))
    return told


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize("name", RECIPES)
def test_bounds_hold_with_scales_at_the_ends(name: str, kind: Any, tmp_path: Path) -> None:
    rng, path, told = np.random.default_rng(4), tmp_path / "m.onnx", 0
    for _ in range(12):
        saved(name, kind, rng, path)
        runtime = started(path)
        try:
            graph = load(path)
        except ModelError:
            continue
        if runtime is None:
            continue
        zeros = [v for n, v in graph.constants.items() if v.dtype == kind and v.size == 1]
        shape = graph.types["x"].shape
        x = rng.integers(np.iinfo(kind).min, np.iinfo(kind).max + 1, shape).astype(kind)
        if zeros and rng.random() < 0.5:
            x[rng.random(shape) < 0.5] = np.ravel(zeros[0])[0]
        told += check_within(graph, runtime, x, int(rng.integers(0, 3)))
    assert told
