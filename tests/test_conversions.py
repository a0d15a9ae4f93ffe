"""Subnormal numbers on the way into a wider format, and inputs that two formats must hold."""

from __future__ import annotations

import operator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_models import save

from encoders.contract.contract import (
    AlignedSteps,
    BiasPlacement,
    Normalization,
    RuntimeContract,
    Subnormals,
)
from encoders.contract.presets import CUDA_TF32, FP16, SEQUENTIAL
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import (
    BFLOAT16,
    BINARY16,
    BINARY32,
    BINARY64,
    round_array,
    small_format,
)
from encoders.program import program_of
from gpu_check.emulator.emulator import leaves_no_choice
from onnx_import import load
from onnx_import.errors import ModelError
from refine.api import check_model, diff_models
from refine.bounds.network import InputBox, network_bounds
from refine.claims.options import Options
from refine.lemmas.cache import default_directory
from refine.proof.cross_check import EVERYTHING, SAMPLE, Effort
from refine.results.verdict import Verdict

TINY = 2.0**-15  # subnormal in float16
FLUSHED = replace(FP16, name="flushed", results=Subnormals.FLUSH, operands=Subnormals.FLUSH)


def product(path: Path, stored: bool, cast: bool) -> Path:
    """1000·2⁻¹⁵: the small factor stored in float16, or read; perhaps through a Cast."""
    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    kind = single if cast else half
    weight = np.array([[TINY if stored else 1000.0]], np.float32 if cast else np.float16)
    nodes = [helper.make_node("Cast", ["x"], ["c"], to=single)] if cast else []
    nodes.append(helper.make_node("MatMul", ["c" if cast else "x", "w"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", half, [1, 1])],
        [helper.make_tensor_value_info("y", kind, [1, 1])],
        [numpy_helper.from_array(weight, "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def flushed_product(x: float, stored: bool) -> float:
    """How far the product is from the exact one if the subnormal factor is read as zero."""
    return 1000.0 * TINY if stored else 1000.0 * x


@pytest.mark.parametrize(("stored", "cast"), [(True, False), (False, False), (False, True)])
def test_a_subnormal_number_is_lost_however_it_is_read_into_a_wider_format(
    tmp_path: Path, stored: bool, cast: bool
) -> None:
    path = product(tmp_path / "m.onnx", stored, cast)
    domain = "1000..1000" if stored else f"{TINY}..{TINY}"
    result = check_model(path, domain, "1e-3", FLUSHED, Options(None, default_directory()))
    lost = flushed_product(TINY, stored)
    assert result.verdict is Verdict.VIOLATED
    assert result.worst_found is not None
    assert result.worst_found >= 0.99 * lost
    assert float(result.bounds["y"].max()) >= lost


def test_kept_subnormals_cost_nothing_when_read(tmp_path: Path) -> None:
    path = product(tmp_path / "m.onnx", True, False)
    result = check_model(path, "1000..1000", "1e-3", "fp16", Options(None, default_directory()))
    assert result.verdict is Verdict.VERIFIED


def test_factors_just_below_the_normal_range_may_be_lost_though_they_round_to_it(
    tmp_path: Path,
) -> None:
    """(1 − 2⁻¹⁰)·2⁻¹⁴ is subnormal in float16 and 2⁻¹⁴ in a shorter format of its range."""
    below = Decimal((1 - 2.0**-10) * 2.0**-14)
    weights = {"w": np.array([[1.0]], np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, {"x": [1, 1]}, {"y": [1, 1]}, weights)
    contract: RuntimeContract = replace(
        SEQUENTIAL,
        name="short",
        operands=Subnormals.FLUSH,
        compute_format=BINARY16,
        factor_format=small_format(5, 6),
    )
    result = check_model(
        path, f"{below}..{below}", "1e-5", contract, Options(None, default_directory())
    )
    assert float(result.bounds["y"].max()) >= float(below)
    assert result.verdict is not Verdict.VERIFIED


@pytest.mark.parametrize("cross", [SAMPLE, EVERYTHING])
def test_open_rounding_of_factors_is_no_obstacle_to_z3(tmp_path: Path, cross: Effort) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, {"x": [1, 2]}, {"y": [1, 2]})
    options = Options(cross, default_directory())
    assert check_model(path, "-1..1", "1", CUDA_TF32, options).verdict is Verdict.VERIFIED


def test_a_specification_that_cannot_hold_the_inputs_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, {"x": [1, 2]}, {"y": [1, 2]})
    half = replace(SEQUENTIAL, name="half", compute_format=BINARY16)
    single = replace(SEQUENTIAL, name="single", compute_format=BINARY32)
    options = Options(None, default_directory())
    for impl in (single, SEQUENTIAL):
        with pytest.raises(ModelError, match=r"input 'x' takes float32 numbers.*float16"):
            diff_models(
                path,
                path,
                domain="0.3..0.3001",
                eps="1e-9",
                contract=impl,
                options=options,
                spec_contract=half,
            )
    same = diff_models(
        path,
        path,
        domain="0.25..0.5",
        eps="1e-9",
        contract=half,
        options=options,
        spec_contract=single,
    )
    assert same.verdict is Verdict.VERIFIED


@pytest.mark.parametrize("op", ["Relu", "Celu"])
def test_a_copy_is_flushed_on_the_way_back_from_accumulation(tmp_path: Path, op: str) -> None:
    """2⁻¹⁵ is a normal float32 number, copied without an error, and subnormal in float16."""
    path = save(tmp_path / "m.onnx", [helper.make_node(op, ["x"], ["y"])], {"x": [1]}, {"y": [1]})
    contract = replace(
        SEQUENTIAL,
        name="back",
        results=Subnormals.FLUSH,
        compute_format=BINARY16,
        accumulation=BINARY32,
    )
    options = Options(None, default_directory())
    result = check_model(path, f"{TINY}..{TINY}", "1e-9", contract, options)
    assert result.verdict is Verdict.VIOLATED
    assert float(result.bounds["y"].max()) >= TINY


@pytest.mark.parametrize("normalization", [Normalization.DIRECT, Normalization.FOLDED])
def test_a_scale_of_zero_hides_no_division_by_zero(
    tmp_path: Path, normalization: Normalization
) -> None:
    """The variance underflows, ε is subnormal in float16 and flushed: 0/0, times 0."""
    nodes = [helper.make_node("InstanceNormalization", ["x", "s", "b"], ["y"], epsilon=1e-5)]
    weights = {"s": np.zeros(1, np.float32), "b": np.ones(1, np.float32)}
    path = save(tmp_path / "m.onnx", nodes, {"x": [1, 1, 4]}, {"y": [1, 1, 4]}, weights)
    contract = replace(
        SEQUENTIAL,
        name="half",
        results=Subnormals.FLUSH,
        compute_format=BINARY16,
        normalization=normalization,
    )
    options = Options(None, default_directory())
    result = check_model(path, "-1e-6..1e-6", "0.5", contract, options)
    assert result.verdict is not Verdict.VERIFIED


def test_truth_values_are_not_flushed(tmp_path: Path) -> None:
    """Or is a maximum of truth values; whether a node leaves a choice is tried on plain ones."""
    nodes = [
        helper.make_node("Less", ["x", "k"], ["a"]),
        helper.make_node("LessOrEqual", ["x", "k"], ["b"]),
        helper.make_node("Or", ["a", "b"], ["c"]),
        helper.make_node("Where", ["c", "x", "k"], ["y"]),
    ]
    path = save(
        tmp_path / "m.onnx", nodes, {"x": [2]}, {"y": [2]}, {"k": np.array([0.5, 1.0], np.float32)}
    )
    contract = replace(SEQUENTIAL, name="c", operands=Subnormals.FLUSH, bias=BiasPlacement.ANY)
    graph = load(path)
    assert all(leaves_no_choice(step, contract) for step in program_of(graph).steps)


def test_a_node_that_accumulates_keeps_the_format_of_factors() -> None:
    """What aligned steps take for the smallest factor is the same inside such a node."""
    contract = replace(SEQUENTIAL, order=AlignedSteps(2, 23), factor_format=BINARY16)
    assert contract.within(BINARY64, BINARY32).least_factor == contract.least_factor
    assert SEQUENTIAL.within(BINARY32, BINARY16).least_factor == BINARY16.emin


def test_an_omitted_input_beside_a_stored_infinity(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Where", ["c", "x", "n"], ["t"]),
        helper.make_node("Softmax", ["t"], ["s"]),
        helper.make_node("Clip", ["s", "low", ""], ["y"]),
    ]
    weights = {
        "c": np.array([True, False]),
        "n": np.array(-np.inf, np.float32),
        "low": np.array(0.0, np.float32),
    }
    path = save(tmp_path / "m.onnx", nodes, {"x": [2]}, {"y": [2]}, weights)
    result = check_model(path, "-1..1", "1e-3", "sequential", Options(None, default_directory()))
    assert result.verdict is Verdict.VERIFIED


@pytest.mark.parametrize("op", ["MatMul", "Mul", "Neg"])
def test_an_operand_is_flushed_on_the_way_into_accumulation(tmp_path: Path, op: str) -> None:
    """Converted, a subnormal bfloat16 number is a subnormal result in float32."""
    tiny, factor = 2.0**-130, 1.0 if op == "Neg" else 2.0**100
    weights = {} if op == "Neg" else {"w": np.array([[factor]], np.float32)}
    nodes = [helper.make_node(op, ["x", *weights], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, {"x": [1, 1]}, {"y": [1, 1]}, weights)
    contract = replace(
        SEQUENTIAL,
        name="in",
        results=Subnormals.FLUSH,
        compute_format=BFLOAT16,
        accumulation=BINARY32,
    )
    options = Options(None, default_directory())
    result = check_model(path, f"{Decimal(tiny)}..{Decimal(tiny)}", "1e-280", contract, options)
    assert result.verdict is Verdict.VIOLATED
    assert float(result.bounds["y"].max()) >= tiny * factor


STORED = 1.2345678  # which bfloat16 does not hold
READ_BY = {
    "Clip": ("0.5", ["x", "w"]),
    "PRelu": ("-1", ["x", "w"]),
    "Pad": ("0", ["x", "pads", "w"]),
}


@pytest.mark.parametrize("op", READ_BY)
def test_stored_parameters_are_weights(tmp_path: Path, op: str) -> None:
    """Bounds, slopes and fillings that are stored tensors are rounded as all of them are."""
    at, inputs = READ_BY[op]
    shape = [2] if op == "Pad" else [1]
    stored = np.array(STORED, np.float32)
    weights = {"w": stored.reshape(1) if op == "PRelu" else stored}
    if op == "Pad":
        weights["pads"] = np.array([0, 1])
    nodes = [helper.make_node(op, inputs, ["y"])]
    path = save(tmp_path / "m.onnx", nodes, {"x": [1]}, {"y": shape}, weights)
    contract = replace(SEQUENTIAL, name="stored", stored_format=BFLOAT16)
    result = check_model(path, f"{at}..{at}", "1e-4", contract, Options(None, default_directory()))
    lost = abs(float(round_array(stored, BFLOAT16)) - float(stored))
    assert result.verdict is Verdict.VIOLATED
    assert result.worst_found == pytest.approx(lost, rel=1e-6)
    assert float(result.bounds["y"].max()) >= lost


def test_a_dequantised_weight_is_rounded_to_its_own_type_before_it_is_read_wider(
    tmp_path: Path,
) -> None:
    """3·scale is no float16 number, and would be one of float32."""
    half = TensorProto.FLOAT16
    scale = np.array(0.1, np.float16)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", half, [1, 1])],
        [helper.make_tensor_value_info("y", half, [1, 1])],
        [
            numpy_helper.from_array(np.array([[3]], np.int8), "q"),
            numpy_helper.from_array(scale, "s"),
        ],
    )
    path = tmp_path / "m.onnx"
    opset = [helper.make_opsetid("", 19)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    exact = 3.0 * float(scale)
    lost = abs(float(round_array(exact, BINARY16)) - exact)
    assert lost > 0
    result = check_model(path, "1..1", "1e-9", FP16, Options(None, default_directory()))
    assert float(result.bounds["y"].max()) >= lost
    assert result.verdict is Verdict.VIOLATED


RELATIONS = {
    "Less": operator.lt,
    "LessOrEqual": operator.le,
    "Greater": operator.gt,
    "GreaterOrEqual": operator.ge,
    "Equal": operator.eq,
}


@pytest.mark.parametrize("name", RELATIONS)
@pytest.mark.parametrize("operands", Subnormals)
def test_a_number_beside_itself_is_read_twice(
    tmp_path: Path, name: str, operands: Subnormals
) -> None:
    """Each time anew where a contract leaves open what is read as zero."""
    fmt = small_format(4, 4)
    tiny = 2.0**fmt.emin
    numbers = np.concatenate([-np.array([1.0, 2.5, 8.0]), np.arange(-8, 9.0), [8.0, 9.0]]) / 8
    at = numbers * tiny
    nodes = [helper.make_node(name, ["x", "x"], ["y"]), helper.make_node("IsNaN", ["x"], ["z"])]
    path = save(tmp_path / "m.onnx", nodes, {"x": [at.size]}, {"y": [at.size], "z": [at.size]}, {})
    contract = replace(SEQUENTIAL, operands=operands, compute_format=fmt)
    box = InputBox({"x": Interval(at, at)}, {"x": np.zeros(at.shape)})
    found = network_bounds(load(path), box, contract).errors
    for x, bound in zip(at.tolist(), found["y"].tolist(), strict=True):
        reads = {Subnormals.KEEP: [x], Subnormals.FLUSH: [0.0 if abs(x) < tiny else x]}
        each = reads.get(operands, [x, 0.0] if abs(x) < tiny else [x])
        off = {RELATIONS[name](a, b) != RELATIONS[name](x, x) for a in each for b in each}
        assert bound == float(True in off), (x, bound)
    assert not np.any(found["z"]), "IsNaN reads its argument once"
