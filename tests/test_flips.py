"""The search looks at both sides of every step, and at what every member of a contract does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import small_models
from onnx import helper
from small_models import settled

from encoders.contract.contract import RuntimeContract
from encoders.contract.members import members
from encoders.contract.presets import PRESETS
from refine.results.verdict import Result, Verdict

STEP = np.float32(0.61)
ONE = np.ones((), np.float32)
WEIGHTS = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)
KERNEL = np.random.default_rng(4).normal(size=(4, 1, 1, 3)).astype(np.float32)

DECIDED: dict[str, list[onnx.NodeProto]] = {
    "greater": [
        helper.make_node("Greater", ["t", "step"], ["b"], "decide"),
        helper.make_node("Cast", ["b"], ["y"], "cast", to=onnx.TensorProto.FLOAT),
    ],
    "where": [
        helper.make_node("LessOrEqual", ["t", "step"], ["b"], "decide"),
        helper.make_node("Where", ["b", "one", "t"], ["y"], "mask"),
    ],
    "floor": [helper.make_node("Floor", ["t"], ["y"], "decide")],
    "ceil": [helper.make_node("Ceil", ["t"], ["y"], "decide")],
    "round": [helper.make_node("Round", ["t"], ["y"], "decide")],
    "sign": [
        helper.make_node("Sub", ["t", "step"], ["d"], "shift"),
        helper.make_node("Sign", ["d"], ["y"], "decide"),
    ],
    "integer": [
        helper.make_node("Cast", ["t"], ["i"], "decide", to=onnx.TensorProto.INT32),
        helper.make_node("Cast", ["i"], ["y"], "cast", to=onnx.TensorProto.FLOAT),
    ],
    "quantised": [
        helper.make_node("QuantizeLinear", ["t", "one", "zero"], ["q"], "decide"),
        helper.make_node("DequantizeLinear", ["q", "one", "zero"], ["y"], "back"),
    ],
    "largest": [
        helper.make_node("ArgMax", ["t"], ["i"], "decide", axis=1),
        helper.make_node("Cast", ["i"], ["y"], "cast", to=onnx.TensorProto.FLOAT),
    ],
}

PLACES: dict[str, list[onnx.NodeProto]] = {
    "affine": [helper.make_node("MatMul", ["x", "w"], ["t"], "first")],
    "curved": [
        helper.make_node("MatMul", ["x", "w"], ["s"], "first"),
        helper.make_node("Tanh", ["s"], ["h"], "curve"),
        helper.make_node("MatMul", ["h", "v"], ["t"], "second"),
    ],
    "convolution": [
        helper.make_node("Reshape", ["x", "picture"], ["p"], "shape"),
        helper.make_node("Conv", ["p", "kernel"], ["c"], "first"),
        helper.make_node("Reshape", ["c", "row"], ["t"], "flat"),
    ],
}


def decided(path: Path, place: str, kind: str) -> Path:
    constants: dict[str, Any] = {
        "w": WEIGHTS,
        "v": WEIGHTS[:4] + 0.5,
        "kernel": KERNEL,
        "picture": np.array([1, 1, 1, 6], np.int64),
        "row": np.array([1, 16], np.int64),
        "step": STEP,
        "one": ONE,
        "zero": np.zeros((), np.int8),
    }
    nodes = [*PLACES[place], *DECIDED[kind]]
    used = {name for node in nodes for name in node.input}
    width = 16 if place == "convolution" else 4
    return small_models.save(
        path,
        nodes,
        {"x": [1, 6]},
        {"y": [1, 1 if kind == "largest" else width]},
        {name: v for name, v in constants.items() if name in used},
    )


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", DECIDED)
def test_a_step_taken_otherwise_is_found(tmp_path: Path, place: str, kind: str) -> None:
    """Inputs on the wrong side of a step have a share of some millionths of the box."""
    model = decided(tmp_path / "m.onnx", place, kind)
    result = settled(model, "-1..1", eps="1e-2", backward=False)
    assert result.verdict is Verdict.VIOLATED
    assert result.witness is not None
    assert float(result.witness.error.lo) > 0.3


def test_a_step_beyond_all_samples_is_found(tmp_path: Path) -> None:
    """The mean of 64 inputs never comes near 0.9 of the largest by chance."""
    weights = np.full((64, 1), 1 / 64, np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["s"], "first"),
        helper.make_node("Greater", ["s", "step"], ["b"], "decide"),
        helper.make_node("Cast", ["b"], ["y"], "cast", to=onnx.TensorProto.FLOAT),
    ]
    constants = {"w": weights * np.linspace(0.9, 1.1, 64, dtype=np.float32)[:, None],
                 "step": np.float32(0.9)}  # fmt: skip
    model = small_models.save(tmp_path / "m.onnx", nodes, {"x": [1, 64]}, {"y": [1, 1]}, constants)
    assert settled(model, "-1..1", eps="0.5").verdict is Verdict.VIOLATED


def test_what_flushing_does_is_found(tmp_path: Path) -> None:
    """x·1e-30 is subnormal: 0 where such results may be flushed, and then it is scaled up."""
    constants = {"small": np.float32(1e-30), "large": np.float32(1e20)}
    nodes = [
        helper.make_node("Mul", ["x", "small"], ["a"], "down"),
        helper.make_node("Mul", ["a", "large"], ["b"], "up"),
        helper.make_node("Mul", ["b", "large"], ["y"], "again"),
    ]
    model = small_models.save(tmp_path / "m.onnx", nodes, {"x": [1]}, {"y": [1]}, constants)
    result = settled(model, "0.99e-9..1e-9", eps="0.05")
    assert result.verdict is Verdict.VIOLATED
    assert result.witness is not None
    assert "flush" in (
        result.witness.execution.results.value,
        result.witness.execution.operands.value,
    )


@pytest.mark.parametrize("name", PRESETS)
def test_members_take_every_value_that_is_open(name: str) -> None:
    contract = PRESETS[name]
    every = members(contract)
    assert all(m.pinned for m in every)
    assert len({replace(m, name="") for m in every}) == len(every)
    assert len({m.name for m in every}) == len(every)
    for field, value in _choices(contract):
        kinds = {v for v in type(value) if v.value not in ("either", "any")}
        if field == "factor_rounding" and contract.factor_format is None:
            continue
        found = {getattr(m, field) for m in every}
        assert found == (kinds if value.value in ("either", "any") else {value}), field


def _choices(contract: RuntimeContract) -> Iterator[tuple[str, Enum]]:
    for field in fields(contract):
        value = getattr(contract, field.name)
        if isinstance(value, Enum):
            yield field.name, value


def error(result: Result) -> float:
    return 0.0 if result.worst_found is None else result.worst_found


@pytest.mark.parametrize("member", ["sequential", "sequential-fma", "pairwise", "ort-cpu"])
@pytest.mark.parametrize("place", ["affine", "curved"])
def test_what_a_member_shows_the_open_contract_shows(
    tmp_path: Path, place: str, member: str
) -> None:
    model = decided(tmp_path / "m.onnx", place, "greater")
    assert error(settled(model, eps="0.5", contract=member)) <= error(settled(model, eps="0.5"))


def test_a_runtimes_own_error_counts_as_found(tmp_path: Path) -> None:
    """300 is no int8: what a runtime makes of it is its own affair, and is said with its name."""
    pytest.importorskip("onnxruntime")
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], "narrow", to=onnx.TensorProto.INT8),
        helper.make_node("Cast", ["i"], ["y"], "wide", to=onnx.TensorProto.FLOAT),
    ]
    model = small_models.save(tmp_path / "m.onnx", nodes, {"x": [1]}, {"y": [1]})
    result = settled(model, "-300..300", eps="1", conform=True)
    assert result.verdict is Verdict.UNKNOWN
    assert result.largest_found is not None
    assert result.largest_found > 100
    assert str(result.found_by).startswith("onnxruntime")
