"""What is computed of stored numbers when a file is read, where the contract changes these: the
graph that a claim gets, and every way in which another one could slip through."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import refine
from encoders.arithmetic.handling import handling_of
from encoders.contract.contract import RuntimeContract, Subnormals
from encoders.contract.presets import EXACT, IEEE_ANY, PRESETS, SEQUENTIAL
from encoders.numbers.formats import BFLOAT16, BINARY16, small_format
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import DType, Need, Use
from refine.results.verdict import Verdict

W16 = replace(SEQUENTIAL, name="w16", stored_format=BINARY16)


def saved(
    path: Path, nodes: list[onnx.NodeProto], shape: tuple[int, ...], **stored: object
) -> Path:
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)
    kept = [numpy_helper.from_array(np.asarray(v), n) for n, v in stored.items()]
    graph = helper.make_graph(nodes, "g", [x], [onnx.ValueInfoProto(name="y")], kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


def single(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.fixture
def equal(tmp_path: Path) -> Path:
    """x·(1 = 1.0001): 0, and x where 1.0001 is rounded to 1."""
    nodes = [
        helper.make_node("Equal", ["a", "b"], ["e"], name="same"),
        helper.make_node("Cast", ["e"], ["c"], to=1),
        helper.make_node("Mul", ["x", "c"], ["y"]),
    ]
    return saved(tmp_path / "equal.onnx", nodes, (1,), a=single(1), b=single(1.0001))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"], name="scaled"),
        helper.make_node("Conv", ["x", "w"], ["y"], name="conv"),
    ]
    q = np.arange(-8, 8, dtype=np.int8).reshape(1, 1, 4, 4)
    return saved(tmp_path / "conv.onnx", nodes, (1, 1, 4, 4), q=q, s=np.float32(0.1003))


def options(contract: RuntimeContract) -> dict[str, Any]:
    return {"contract": contract, "conform": False, "budget": 0}


def test_a_comparison_of_stored_numbers_is_made_of_those_that_the_runtime_reads(
    equal: Path,
) -> None:
    result = refine.check(equal, (1, 1), eps=1e-6, **options(W16))
    assert result.verdict is Verdict.VIOLATED
    assert result.worst_found == 1.0
    result = refine.check(equal, (1, 1), eps=1e-6, **options(SEQUENTIAL))
    assert (result.verdict, result.bound) == (Verdict.VERIFIED, 0.0)


def test_a_graph_that_was_read_without_the_contract_is_refused(equal: Path) -> None:
    graph = refine.load(equal)
    with pytest.raises(ModelError, match=r"'same' \(Equal\) was computed.*reads 1.0001 as 1;"):
        refine.check(graph, (1, 1), eps=1, **options(W16))
    with pytest.raises(ModelError, match="was computed when the graph was read"):
        refine.diff(graph, graph, (1, 1), impl_as="real", spec_as="runtime", spec_contract=W16)
    with pytest.raises(ModelError, match="was computed when the graph was read"):
        refine.conform(graph, W16)
    with pytest.raises(ModelError, match="was computed when the graph was read"):
        refine.check_model(graph, "1..1", contract=W16)
    for contract in (SEQUENTIAL, IEEE_ANY, EXACT, PRESETS["ort-cpu"]):
        assert refine.bound(graph, (1, 1), **options(contract)).bound == 0


def test_a_graph_that_was_read_with_the_contract_is_taken_by_all(equal: Path) -> None:
    graph = refine.load(equal, contract=W16)
    assert [node.op for node in graph.order] == ["Identity", "Equal", "Cast", "Mul"]
    assert refine.bound(graph, (1, 1), **options(W16)).bound >= 1
    assert refine.bound(graph, (1, 1), **options(SEQUENTIAL)).bound < 1e-6


def test_both_sides_of_a_difference_are_read_with_their_own(equal: Path) -> None:
    found = refine.diff(equal, equal, (1, 1), **options(W16))
    assert found.bound >= 1
    other = refine.diff(
        equal,
        equal,
        (1, 1),
        spec_as="runtime",
        spec_contract=W16,
        **options(SEQUENTIAL),
    )
    assert other.bound >= 1


def test_a_counterexample_is_run_again_on_the_graph_of_its_execution(
    equal: Path, tmp_path: Path
) -> None:
    file = tmp_path / "found.json"
    refine.check(equal, (1, 1), eps=1e-6, counterexample=file, **options(W16))
    assert refine.replay(file).violated


def test_weights_that_the_runtime_reads_as_others_are_charged(weights: Path) -> None:
    """Every product loses at its extreme, and the magnitudes of the 16 integers add up to 64."""
    assert refine.bound(weights, (-1, 1), **options(SEQUENTIAL)).bound < 1e-4
    lost = 64 * abs(np.float64(np.float32(0.1003)) - np.float64(np.float16(0.1003)))
    assert lost <= refine.bound(weights, (-1, 1), **options(W16)).bound < 1.01 * lost


def test_what_must_be_known_is_refused_with_the_number_that_is_changed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"], name="scaled"),
        helper.make_node("BatchNormalization", ["x", "w", "b", "m", "v"], ["y"], name="norm"),
    ]
    one, q = single(1), np.array([7], np.int8)
    stored = {"q": q, "s": np.float32(0.1003), "b": one, "m": one, "v": one}
    path = saved(tmp_path / "norm.onnx", nodes, (1, 1, 2, 2), **stored)
    assert np.isfinite(refine.bound(path, (-1, 1), **options(SEQUENTIAL)).bound)
    with pytest.raises(
        ModelError, match=r"'norm' \(BatchNormalization\).*'scaled'.*reads 0.1003 as 0.1002"
    ):
        refine.bound(path, (-1, 1), **options(W16))


def test_scales_that_count_elements_are_refused_unless_they_are_kept(tmp_path: Path) -> None:
    nodes = [helper.make_node("Resize", ["x", "", "s"], ["y"], name="larger")]
    for scale, refused in ((1.3, True), (1.5, False)):
        scales = single(1, scale)
        path = saved(tmp_path / f"{scale}.onnx", nodes, (1, 6), s=scales)
        if refused:
            with pytest.raises(
                ModelError, match=r"'larger' .*counts by numbers.*reads 1.3 as 1.29"
            ):
                refine.bound(path, (-1, 1), **options(W16))
        else:
            assert refine.bound(path, (-1, 1), **options(W16)).bound == 0


E5P2 = small_format(5, 2)
FLUSHED = replace(SEQUENTIAL, operands=Subnormals.FLUSH)


@pytest.mark.parametrize(
    ("contract", "use", "values", "holds"),
    [
        (SEQUENTIAL, Use.READ, [0.1, 1e-40], True),
        (IEEE_ANY, Use.READ, [0.1], True),
        (IEEE_ANY, Use.READ, [1e-40], False),
        (EXACT, Use.READ, [1e-40], True),
        (W16, Use.READ, [0.5, -np.inf], True),
        (W16, Use.READ, [1e5], False),
        (W16, Use.ROUNDED, [1 / 3], False),
        (SEQUENTIAL, Use.ROUNDED, [1 / 3], True),
        (FLUSHED, Use.ROUNDED, [1e-39], False),
        (replace(SEQUENTIAL, compute_format=BFLOAT16), Use.ROUNDED, [1 / 3], True),
        (replace(SEQUENTIAL, compute_format=BFLOAT16), Use.COUNTED, [256.0], True),
        (replace(SEQUENTIAL, compute_format=BFLOAT16), Use.COUNTED, [257.0], False),
        (replace(SEQUENTIAL, compute_format=E5P2), Use.COUNTED, [5.0], False),
        (replace(SEQUENTIAL, compute_format=BFLOAT16), Use.COMPUTED, [1.0], False),
        (W16, Use.COMPUTED, [1.0], True),
    ],
)
def test_what_a_contract_does_to_stored_numbers(
    contract: RuntimeContract, use: Use, values: list[float], holds: bool
) -> None:
    exact = np.array(values) if use is Use.ROUNDED else np.array(values, np.float32)
    assert (not handling_of(contract)(Need(use, DType.FLOAT32, exact))) is holds


def test_presets_leave_the_graph_as_it_is(equal: Path, weights: Path) -> None:
    for path in (equal, weights):
        plain = load(path)
        for contract in PRESETS.values():
            graph = load(path, handling=handling_of(contract))
            assert (graph.order, graph.late) == (plain.order, {})
            assert all(np.array_equal(v, plain.constants[t]) for t, v in graph.constants.items())
