"""Integers that a small format cannot hold: counted as overflow or kept, never lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from encoders.contract.presets import SEQUENTIAL
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import small_format
from encoders.program import program_of
from gpu_check.emulator.emulator import emulate
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.bounds.network import InputBox, network_bounds

E3P8 = replace(SEQUENTIAL, name="e3p8", compute_format=small_format(3, 8))
LARGEST = 15.9375


def graph_of(folder: Path, node: onnx.NodeProto, size: int, kind: int, **stored: object) -> Graph:
    made = helper.make_model(
        helper.make_graph(
            [node],
            "whole",
            [helper.make_tensor_value_info("x", kind, [size])],
            [onnx.ValueInfoProto(name="y")],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in stored.items()],
        ),
        opset_imports=[helper.make_opsetid("", 19)],
    )
    made.ir_version = 9
    path = folder / "model.onnx"
    path.write_bytes(onnx.shape_inference.infer_shapes(made).SerializeToString())
    return load(path)


def errors(graph: Graph, lo: float, hi: float) -> np.ndarray:
    shape = graph.types["x"].shape
    box = InputBox({"x": Interval(np.full(shape, lo), np.full(shape, hi))}, {"x": np.zeros(shape)})
    return np.asarray(network_bounds(graph, box, E3P8).maps.errors["y"])


@pytest.mark.parametrize(("op", "sign"), [("Ceil", 1), ("Floor", -1), ("Round", 1), ("Round", -1)])
def test_a_whole_number_beyond_the_largest_is_an_overflow(
    op: str, sign: int, tmp_path: Path
) -> None:
    graph = graph_of(tmp_path, helper.make_node(op, ["x"], ["y"]), 1, TensorProto.FLOAT)
    x = np.array([[sign * LARGEST]], np.float32)
    with np.errstate(all="ignore"):
        found = emulate(graph, {"x": x}, E3P8)["y"]
    assert np.isinf(np.asarray(found, np.float64)).all()
    assert np.isinf(errors(graph, *sorted((0.0, sign * LARGEST)))).all()
    assert errors(graph, *sorted((0.0, sign * 15.0))).max() == 0


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_a_place_need_not_be_a_number_of_the_format(kind: int, tmp_path: Path) -> None:
    """Element 2061 is the largest: 2061 is no float16."""
    graph = graph_of(
        tmp_path, helper.make_node("ArgMax", ["x"], ["y"], axis=0, keepdims=1), 2070, kind
    )
    x = np.zeros((1, 2070), graph.types["x"].dtype.numpy)
    x[0, 2061] = 1
    assert np.asarray(emulate(graph, {"x": x}, SEQUENTIAL)["y"]).reshape(-1).tolist() == [2061]


def test_a_zero_point_need_not_be_a_number_of_the_format(tmp_path: Path) -> None:
    graph = graph_of(
        tmp_path, helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"]), 1, TensorProto.FLOAT,
        s=np.float32(0.5), z=np.uint8(201),
    )  # fmt: skip
    found = emulate(graph, {"x": np.array([[1.0]], np.float32)}, E3P8)["y"]
    assert np.asarray(found).reshape(-1).tolist() == [203]
    assert errors(graph, 0.0, 1.0).max() < 2


@pytest.mark.parametrize("stored", [[1, 2**53 + 1], [-(2**60), 1], [-1, 2**60]])
@pytest.mark.parametrize("op", ["Mul", "Add"])
def test_stored_integers_that_float64_does_not_hold_are_refused(
    op: str, stored: list[int], tmp_path: Path
) -> None:
    """However small the others beside them are."""
    node = helper.make_node(op, ["x", "c"], ["y"])
    graph = graph_of(tmp_path, node, 2, TensorProto.INT64, c=np.array(stored, np.int64))
    with pytest.raises(ModelError, match=r"above 2\^53"):
        _ = program_of(graph).checked


@pytest.mark.parametrize(("lo", "hi", "among"), [(-4, 3, True), (0, 4, False), (-5, 0, False)])
def test_an_index_one_beyond_the_last_is_not_among_them(
    lo: int, hi: int, among: bool, tmp_path: Path
) -> None:
    table = np.arange(8, dtype=np.float32).reshape(4, 2)
    node = helper.make_node("Gather", ["t", "x"], ["y"])
    (step,) = program_of(graph_of(tmp_path, node, 2, TensorProto.INT64, t=table)).steps
    x = Interval(np.full(2, float(lo)), np.full(2, float(hi)))
    y = Interval(np.zeros((2, 2)), np.full((2, 2), 7.0))
    found = step.operator.rounding(step.site, [x], y, SEQUENTIAL)
    assert all(p.holds for p in found.preconditions) == among
