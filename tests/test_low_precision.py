"""Narrow, wide and mixed types: networks of each, and what `stash_type` means."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from operator_checks import (
    Example,
    box_of,
    check_bounds,
    ends,
    exact_values,
    graph_of,
    points,
)

from encoders.contract.presets import IEEE_ANY, SEQUENTIAL
from encoders.numbers.enclosure import Interval
from encoders.operator import site_of
from encoders.registry import lookup
from gpu_check.emulator.emulator import emulate
from gpu_check.runtimes.runtimes import OnnxRuntime, RuntimeUnavailable
from onnx_import import load
from onnx_import.errors import ModelError
from refine.bounds.network import InputBox, network_bounds

TYPES = (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)
FLOAT16, FLOAT64, INT64 = 10, 11, 7
SCALES = {"s": [0.7, -1.25, 3.0, 0.1], "b": [0.3, 0.5, -2.0, 0.0]}


def norm(
    op: str = "LayerNormalization", lo: float = 0.5, hi: float = 0.625, **attributes: Any
) -> Example:
    inputs = "x s b" if op == "LayerNormalization" else "x s"
    constants = {t: np.array(v) for t, v in SCALES.items() if t in inputs}
    opset = 17 if op == "LayerNormalization" else 23
    return Example(
        op, ((op, inputs, "y", attributes),), {"x": (2, 4)}, constants, lo, hi, opset,
        exact=False, rational=False,
    )  # fmt: skip


def network(between: tuple[tuple[str, str, str, dict[str, Any]], ...], last: str) -> Example:
    rng = np.random.default_rng(3)
    nodes = (("MatMul", "x W", "h", {}), ("Relu", "h", "r", {}), *between)
    return Example(
        "network", (*nodes, ("MatMul", f"{last} V", "y", {})), {"x": (2, 5)},
        {"W": rng.standard_normal((5, 6)), "V": rng.standard_normal((6, 3))},
    )  # fmt: skip


DENSE = network((), "r")
MIXED = network((("Cast", "r", "n", {"to": FLOAT16}), ("Cast", "n", "w", {"to": 1})), "w")


def within(case: Example, dtype: Any) -> None:
    """onnxruntime at points of the box against the bound, exactly."""
    graph, raw = graph_of(case, dtype)
    try:
        runtime = OnnxRuntime(raw)
    except RuntimeUnavailable:
        pytest.skip("onnxruntime has no kernel for it")
    inputs = points(case, graph, 12, seed=5)
    limit = network_bounds(graph, box_of(case, graph), IEEE_ANY).errors["y"]
    for i, exact in enumerate(exact_values(case, graph, inputs)):
        low, high = ends(exact["y"])
        got = np.asarray(runtime.run({"x": inputs["x"][i]})["y"]).astype(np.float64)
        for at in np.ndindex(*got.shape):
            value = Fraction(float(got[at]))
            allowed = Fraction(float(limit[at])) + high[at] - low[at]
            assert max(value - low[at], high[at] - value) <= allowed


@pytest.mark.parametrize("dtype", TYPES)
def test_a_network_of_each_type_stays_within_its_bound(dtype: Any) -> None:
    assert check_bounds(DENSE, dtype, count=6) > 0


def test_a_detour_through_float16_is_charged() -> None:
    assert check_bounds(MIXED, np.float32, count=6) > 0
    through, plain = (
        network_bounds(graph, box_of(case, graph), IEEE_ANY).largest
        for case in (MIXED, DENSE)
        for graph, _ in (graph_of(case),)
    )
    assert through > 100 * plain


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_onnxruntime_stays_within_the_bound_of_each_type(dtype: Any) -> None:
    within(DENSE, dtype)


def test_onnxruntime_stays_within_the_bound_of_mixed_types() -> None:
    within(MIXED, np.float32)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("stash", [1, FLOAT16, FLOAT64])
def test_normalising_in_another_type_stays_within_the_bound(dtype: Any, stash: int) -> None:
    assert check_bounds(norm(stash_type=stash, epsilon=0.5), dtype, count=2) > 0


def test_root_mean_squares_of_float16_stay_within_the_bound() -> None:
    assert check_bounds(norm("RMSNormalization"), np.float16, count=2) > 0


def test_onnxruntime_normalises_float16_within_the_bound() -> None:
    within(norm(), np.float16)


@pytest.mark.parametrize(("stash", "finite"), [(1, True), (FLOAT16, False)])
def test_rows_whose_sum_float16_cannot_hold(stash: int, finite: bool) -> None:
    """Four numbers of 30000 or more add up to more than 65504."""
    case = norm(lo=30000.0, hi=32000.0, epsilon=1e6, stash_type=stash)
    graph, _ = graph_of(case, np.float16)
    bound = network_bounds(graph, box_of(case, graph), IEEE_ANY).largest
    assert bool(np.isfinite(bound)) is finite


def test_normalising_in_integers_is_refused() -> None:
    graph, _ = graph_of(norm(stash_type=INT64))
    (node,) = graph.order
    with pytest.raises(ModelError, match="stash_type"):
        lookup(node).check(site_of(graph, node))


def groups(folder: Path, stash: int) -> Path:
    """GroupNormalization of float16; ONNX does not infer its type."""
    inputs, outputs = ([helper.make_tensor_value_info(t, FLOAT16, (1, 4, 2))] for t in ("x", "y"))
    node = helper.make_node(
        "GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2, stash_type=stash, epsilon=1e6
    )
    stored = [numpy_helper.from_array(np.array(v, np.float16), t) for t, v in SCALES.items()]
    made = helper.make_model(
        helper.make_graph([node], "groups", inputs, outputs, stored),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    onnx.save(made, folder / "groups.onnx")
    return folder / "groups.onnx"


@pytest.mark.parametrize(("stash", "finite"), [(1, True), (FLOAT16, False)])
def test_groups_are_normalised_in_another_type(tmp_path: Path, stash: int, finite: bool) -> None:
    """Four numbers of 30000 add up to more than float16 holds; float32 holds their sum."""
    model = groups(tmp_path, stash)
    graph = load(model)
    x = np.random.default_rng(1).uniform(30000, 32000, (6, 1, 4, 2)).astype(np.float16)
    box = InputBox(
        {"x": Interval(np.full((1, 4, 2), 30000.0), np.full((1, 4, 2), 32000.0))},
        {"x": np.zeros((1, 4, 2))},
    )
    limit = network_bounds(graph, box, IEEE_ANY).errors["y"]
    with np.errstate(all="ignore"):
        emulated = emulate(graph, {"x": x}, SEQUENTIAL)["y"]
    assert bool(np.all(np.isfinite(limit))) is finite
    assert bool(np.all(np.isfinite(emulated))) is finite
    if finite:
        runtime = OnnxRuntime(model)
        wide = x.astype(np.float64).reshape(6, 1, 2, 4)
        deviation = wide - wide.mean(-1, keepdims=True)
        exact = deviation / np.sqrt((deviation**2).mean(-1, keepdims=True) + 1e6)
        scale, bias = (np.array(v, np.float16).astype(float)[:, None] for v in SCALES.values())
        want = exact.reshape(x.shape) * scale + bias
        for got in (emulated, [runtime.run({"x": v})["y"] for v in x]):
            assert np.all(np.abs(np.asarray(got, np.float64) - want) <= limit + 1e-9)
