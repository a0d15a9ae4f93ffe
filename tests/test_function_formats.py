"""Figures of functions hold where they were measured: not in wider formats, not in other operators.

onnxruntime's float64 functions are less accurate, in units of that format, than its float32 ones,
and its Elu has another exponential than its Exp. Its values are held against extended precision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from encoders.contract.contract import RuntimeContract
from encoders.contract.functions import CONSERVATIVE, CORRECTLY_ROUNDED, TABLES, WIDE
from encoders.contract.presets import IEEE_ANY, ORT_CPU
from encoders.functions.accuracy import Evidence, FunctionAccuracy
from encoders.functions.exp import EXP
from encoders.functions.tanh import TANH
from encoders.numbers.enclosure import Interval
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load
from refine.bounds.network import InputBox, network_bounds

Wide = Callable[[Any], Any]
COUNT = 4096


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def elu(x: Any) -> Any:
    return np.where(x > 0, x, np.longdouble(np.float32(1.7)) * np.expm1(x))


CASES: list[tuple[str, type, Wide, float, float, dict[str, float]]] = [
    ("Exp", np.float64, np.exp, -1.0, 1.0, {}),
    ("Exp", np.float64, np.exp, 2.4, 2.7, {}),
    ("Log", np.float64, np.log, 0.5, 2.0, {}),
    ("Tanh", np.float64, np.tanh, -20.0, -8.0, {}),
    ("Tanh", np.float64, np.tanh, -1.0, 1.0, {}),
    ("Sin", np.float64, np.sin, 14.9, 15.1, {}),
    ("Cos", np.float64, np.cos, 13.8, 13.9, {}),
    ("Sigmoid", np.float64, sigmoid, -1.0, 1.0, {}),
    ("Elu", np.float32, elu, -0.00998, -0.00995, {"alpha": 1.7}),
    ("Elu", np.float32, elu, -0.69, -0.1, {"alpha": 1.7}),
    ("Tanh", np.float32, np.tanh, -9.0, -7.0, {}),
]


@pytest.mark.parametrize("contract", [IEEE_ANY, ORT_CPU], ids=lambda c: c.name)
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]} {c[1].__name__} {c[3]}")
def test_onnxruntime_stays_within_the_figures(
    case: tuple[str, type, Wide, float, float, dict[str, float]],
    contract: RuntimeContract,
    tmp_path: Path,
) -> None:
    op, kind, meant, lo, hi, written = case
    attributes: dict[str, Any] = dict(written)
    code = TensorProto.DOUBLE if kind is np.float64 else TensorProto.FLOAT

    def of_size(count: int) -> Path:
        made = helper.make_graph(
            [helper.make_node(op, ["x"], ["y"], **attributes)],
            "one",
            [helper.make_tensor_value_info("x", code, [count])],
            [helper.make_tensor_value_info("y", code, [count])],
        )
        path = tmp_path / f"{count}.onnx"
        opset = [helper.make_opsetid("", 17)]
        save(helper.make_model(made, opset_imports=opset, ir_version=8), path)
        return path

    graph, runtime = load(of_size(1)), OnnxRuntime(of_size(COUNT))  # one bound, of every element
    box = Interval(np.full(1, lo), np.full(1, hi))
    bound = network_bounds(graph, InputBox({"x": box}, {"x": np.zeros(1)}), contract)
    allowed = float(np.max(bound.errors["y"]))
    rng = np.random.default_rng(0)
    for _ in range(20):
        x: np.ndarray = rng.uniform(lo, hi, COUNT).astype(kind)
        given = np.asarray(runtime.run({"x": x})["y"]).astype(np.longdouble)
        assert float(np.max(np.abs(given - meant(x.astype(np.longdouble))))) <= allowed


def test_a_figure_of_one_format_is_not_used_in_a_wider_one() -> None:
    for table in TABLES.values():
        at = table.at("Tanh", 53)
        if table == CORRECTLY_ROUNDED:
            assert at is table
        else:
            assert at.accuracy(TANH) == WIDE.accuracy(TANH)
        assert table.at("Tanh", 24) is table
        assert table.at("Tanh", 11) is table


@pytest.mark.parametrize(
    ("own", "units"),
    [
        ({"units": 50.0}, 50.0),
        ({"units": 1.0}, 12.0),
        ({"ulps": 30.0}, 60.0),
        ({"ulps": 2.0}, 12.0),
    ],
)
def test_a_runtime_less_accurate_than_kernels_over_time_is_believed(
    own: dict[str, float], units: float
) -> None:
    """A contract whose tanh is off by more than kernels that were seen says so of these, too."""
    said = FunctionAccuracy(own.get("ulps"), own.get("units"), Evidence.VENDOR, "test")
    table = tuple((f, said if f is TANH else a) for f, a in CONSERVATIVE.table)
    at = replace(CONSERVATIVE, table=table).at("RecurrentTanh", 24).accuracy(TANH)
    assert (at.ulps, at.units, at.excess) == (None, units, 12.0)


def test_what_was_measured_of_an_operator_is_said_of_it_alone() -> None:
    exp = replace(CONSERVATIVE.accuracy(EXP), ulps=0.6, evidence=Evidence.SAMPLED, alone=True)
    rest = tuple((f, a) for f, a in CONSERVATIVE.table if f is not EXP)
    probed = replace(CONSERVATIVE, name="measured", table=((EXP, exp), *rest))
    assert probed.at("Exp", 24) is probed
    assert probed.at("Elu", 24).accuracy(EXP) == CONSERVATIVE.accuracy(EXP)
    assert probed.at("Exp", 53).accuracy(EXP) == WIDE.accuracy(EXP)
