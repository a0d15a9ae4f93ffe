"""Small files whose tensors have more elements than a machine works with: one sentence, naming the
node, before anything of that size is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper, save

from onnx_import import load
from onnx_import.errors import ModelError

HUGE = 2**31
N = helper.make_node


def model(path: Path, nodes: list[NodeProto], stored: dict[str, Any], shape: list[int]) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in stored.items()],
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    save(built, path)
    return path


def added(node: NodeProto) -> list[NodeProto]:
    """What a node makes of constants, added up and then to x."""
    return [node, N("ReduceSum", ["c"], ["s"], keepdims=0), N("Add", ["x", "s"], ["y"])]


ONE, FLAT = np.ones(1, np.float32), [1, 3]
COMPUTED: list[tuple[list[NodeProto], dict[str, Any], list[int]]] = [
    ([N("Pad", ["x", "n"], ["y"])], {"n": [0, HUGE, 0, 0]}, FLAT),
    ([N("Tile", ["x", "n"], ["y"])], {"n": [1, HUGE]}, FLAT),
    ([N("Expand", ["x", "n"], ["y"])], {"n": [HUGE, 3]}, FLAT),
    ([N("Resize", ["x", "", "", "n"], ["y"])], {"n": [1, HUGE]}, FLAT),
    ([N("ConvTranspose", ["x", "w"], ["y"], strides=[HUGE])], {"w": np.ones((1, 1, 1), "f")},
     [1, 1, 3]),
    ([N("ConvTranspose", ["x", "w"], ["y"], strides=[2**62])], {"w": np.ones((1, 1, 1), "f")},
     [1, 1, 3]),
    (added(N("ConstantOfShape", ["n"], ["c"])), {"n": [HUGE]}, FLAT),
    (added(N("Expand", ["b", "n"], ["c"])), {"b": ONE, "n": [HUGE]}, FLAT),
    (added(N("Tile", ["b", "n"], ["c"])), {"b": ONE, "n": [HUGE]}, FLAT),
    (added(N("Pad", ["b", "n"], ["c"])), {"b": ONE, "n": [0, HUGE]}, FLAT),
    ([N("ConstantOfShape", ["n"], ["c"]), N("Cast", ["c"], ["d"], to=7),
      N("Gather", ["x", "d"], ["y"], axis=1)], {"n": [2**40]}, FLAT),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "stored", "shape"), COMPUTED)
def test_a_tensor_that_is_too_large_is_refused_before_it_is_made(
    tmp_path: Path, nodes: list[NodeProto], stored: dict[str, Any], shape: list[int]
) -> None:
    with pytest.raises(ModelError, match="correct the shapes"):
        load(model(tmp_path / "m.onnx", nodes, stored, shape))


def test_what_is_stored_may_be_moved_about_whatever_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnx_import.onnx.inference.MOST_MADE", 10)
    weights = np.arange(30, dtype=np.float32).reshape(10, 3)
    nodes = [N("Transpose", ["w"], ["t"]), N("MatMul", ["x", "t"], ["y"])]
    graph = load(model(tmp_path / "m.onnx", nodes, {"w": weights}, FLAT))
    assert graph.types["y"].shape == (1, 10)
