"""Dynamically quantised products: which scales let the nodes be read as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from small_models import save

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.presets import IEEE_ANY
from gpu_check.emulator.exact import evaluate_real
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


_MATRIX, _IMAGE = ("MatMulInteger", "DynamicQuantizeMatMul"), ("ConvInteger", "DynamicQuantizeConv")
_READ = (
    (_MATRIX, (4, 4), (4,), ((), (1,), (4,), (1, 1))),
    (_MATRIX, (4,), (4,), ((), (1,), (4,))),
    (_MATRIX, (4,), (4, 3), ((), (1,), (3,))),
    (_MATRIX, (2, 2, 4), (4, 3), ((1, 3), (2, 1), (2, 2, 1))),
    (_MATRIX, (2, 4), (2, 4, 3), ((), (2, 1, 3), (1, 1, 3), (2, 3), (2, 1, 1))),
    (_IMAGE, (1, 2, 4, 4), (3, 2, 2, 2), ((), (1, 1, 1, 1), (1, 1, 1, 1, 1))),
    (_IMAGE, (1, 2, 4, 4), (3, 2, 2, 2), ((3,), (3, 1, 1), (1, 3, 1, 1), (3, 1), (3, 3))),
)


@pytest.mark.parametrize(
    ("ops", "given", "weights", "scale"),
    [(ops, given, weights, s) for ops, given, weights, scales in _READ for s in scales],
)
def test_read_as_one_or_not_a_product_means_what_its_nodes_mean(
    ops: tuple[str, str],
    given: tuple[int, ...],
    weights: tuple[int, ...],
    scale: tuple[int, ...],
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    stored = {
        "w": rng.integers(-128, 128, weights).astype(np.int8),
        "t": np.asarray(10.0 ** rng.uniform(-2.0, 1.0, scale), np.float32),
    }
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node(ops[0], ["q", "w", "z"], ["i"]),
        helper.make_node("Cast", ["i"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "t"], ["both"]),
        helper.make_node("Mul", ["c", "both"], ["y"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": list(given)}, {"y": None}, stored)
    x = rng.uniform(-1.0, 2.0, given).astype(np.float32)
    (read,) = ReferenceEvaluator(str(path)).run(None, {"x": x})
    expected = np.asarray(read)
    graph = load(path)
    assert graph.types["y"].shape == expected.shape
    found = evaluate_real(graph, {"x": x[None].astype(np.float64)}, ApproximateReals())["y"][0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_model_without_inputs_has_no_range_to_name(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["c"], ["y"])
    stored = {"c": np.ones(2, np.float32)}
    graph = load(save(tmp_path / "m.onnx", [node], {}, {"y": [2]}, stored))
    options = DomainOptions(inputs=("0..1",))
    with pytest.raises(ModelError, match="the model has no inputs: it computes a constant"):
        read_domain(graph, options, IEEE_ANY.format_of)
