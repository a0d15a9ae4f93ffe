"""Dynamically quantised products: which scales let the nodes be read as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_models import save

from encoders.contract.presets import IEEE_ANY
from onnx_import import load
from onnx_import.errors import ModelError
from refine.domain.domain import DomainOptions, read_domain


def _model(path: Path, shape: tuple[int, ...], stored: bool) -> Path:
    rng = np.random.default_rng(0)
    scale = np.asarray(rng.uniform(0.01, 0.05, shape), np.float32)
    weights = {"w": rng.integers(-128, 128, (3, 4)).astype(np.int8)}
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z"], ["i"]),
        helper.make_node("Cast", ["i"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "t"], ["both"]),
        helper.make_node("Mul", ["c", "both"], ["y"]),
    ]
    if not stored:
        value = numpy_helper.from_array(scale)
        nodes.insert(0, helper.make_node("Constant", [], ["t"], value=value))
    given = {**weights, **({"t": scale} if stored else {})}
    output = np.broadcast_shapes(shape, (2, 4))
    return save(path, nodes, {"x": [2, 3]}, {"y": list(output)}, given)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("shape", [(), (1,), (4,), (1, 4), (2, 1), (2, 4), (1, 1, 4), (1, 1, 1)])
def test_a_scale_of_one_number_or_one_per_column_is_read_as_one(
    shape: tuple[int, ...], stored: bool, tmp_path: Path
) -> None:
    graph = load(_model(tmp_path / "m.onnx", shape, stored))
    together = [n.op for n in graph.order] == ["DynamicQuantizeMatMul"]
    assert together is (shape in ((), (1,), (4,), (1, 4)))


def test_a_model_without_inputs_has_no_range_to_name(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["c"], ["y"])
    stored = {"c": np.ones(2, np.float32)}
    graph = load(save(tmp_path / "m.onnx", [node], {}, {"y": [2]}, stored))
    options = DomainOptions(inputs=("0..1",))
    with pytest.raises(ModelError, match="the model has no inputs: it computes a constant"):
        read_domain(graph, options, IEEE_ANY.format_of)
