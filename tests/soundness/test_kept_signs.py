"""What rounding keeps to (`Operator.keeps`), against emulated executions in several formats."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper
from small_models import save

from encoders.contract.contract import RuntimeContract, Subnormals
from encoders.contract.functions import Functions
from encoders.contract.presets import PRESETS, SEQUENTIAL
from encoders.functions.accuracy import Evidence, FunctionAccuracy
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import BFLOAT16, BINARY16, round_array
from encoders.program import program_of
from encoders.scheduling import contract_at
from gpu_check.emulator.emulator import emulate
from onnx_import import load
from onnx_import.graph import Graph
from refine import bound

FLUSHING = replace(SEQUENTIAL, operands=Subnormals.FLUSH, results=Subnormals.FLUSH)
CONTRACTS = {
    "sequential": SEQUENTIAL,
    "flushing": FLUSHING,
    "float16": replace(SEQUENTIAL, compute_format=BINARY16),
    "bfloat16": replace(SEQUENTIAL, compute_format=BFLOAT16),
    "weights in float16": replace(SEQUENTIAL, stored_format=BINARY16),
    "fma": PRESETS["sequential-fma"],
}
POSITIVE = np.array([[0.5, 2.0, 0.0], [0.25, 1e-3, 3.0], [1.0, 0.0, 0.125]], np.float32)
CASES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "square": ([("Mul", ["x", "x"])], {}),
    "power": ([("Pow", ["x", "w"])], {"w": np.float32(2)}),
    "eps": ([("Abs", ["x"]), ("Add", [None, "w"])], {"w": np.float32(1e-5)}),
    "sum": ([("Abs", ["x"]), ("Add", [None, None])], {}),
    "mean": ([("Mul", ["x", "x"]), ("ReduceMean", [None])], {}),
    "product": ([("Abs", ["x"]), ("MatMul", [None, "w"])], {"w": POSITIVE}),
    "gemm": ([("Abs", ["x"]), ("Gemm", [None, "w", "b"])], {"w": POSITIVE, "b": POSITIVE[0]}),
    "mixed": ([("Abs", ["x"]), ("MatMul", [None, "w"])], {"w": POSITIVE - np.float32(1)}),
    "root": ([("Abs", ["x"]), ("Add", [None, "w"]), ("Sqrt", [None])], {"w": np.float32(1e-3)}),
    "plain root": ([("Sqrt", ["x"])], {}),
    "exp": ([("Exp", ["x"])], {}),
    "quotient": (
        [("Abs", ["x"]), ("Add", [None, "w"]), ("Div", ["w", None])],
        {"w": np.float32(0.01)},
    ),
    "norm": ([("ReduceL2", ["x"])], {}),
    "softmax": ([("Softmax", ["x"])], {}),
    "clamped": ([("HardSigmoid", ["x"])], {}),
}


def _model(path: Path, case: str) -> Path:
    chain, weights = CASES[case]
    nodes: list[NodeProto] = []
    for i, (op, inputs) in enumerate(chain):
        last = "x" if i == 0 else f"t{i - 1}"
        output = "y" if i == len(chain) - 1 else f"t{i}"
        nodes.append(helper.make_node(op, [last if t is None else t for t in inputs], [output]))
    whole = nodes[-1].op_type in ("ReduceMean", "ReduceL2")
    return save(path, nodes, {"x": [3, 3]}, {"y": [1, 1] if whole else [3, 3]}, weights)


@pytest.mark.parametrize("contract", CONTRACTS)
@pytest.mark.parametrize("case", CASES)
def test_executions_stay_in_what_rounding_keeps_to(
    tmp_path: Path, case: str, contract: str
) -> None:
    graph = load(_model(tmp_path / "m.onnx", case))
    rule: RuntimeContract = CONTRACTS[contract]
    rng = np.random.default_rng(0)
    size = 10.0 ** rng.uniform(-42, 2, (400, 3, 3))
    x = (size * rng.choice([-1.0, 1.0], size.shape)).astype(np.float32)
    x[:50] = rng.choice([0.0, -0.0, 1e-40, -1e-40, 1.0], (50, 3, 3))
    for decade in (-44, -40, -7, -5):  # inputs of one magnitude, subnormal ones too
        near = rng.uniform(1.0, 2.0, (60, 3, 3)) * 10.0**decade
        _held_to_what_is_kept(graph, near.astype(np.float32), rule, case)
    _held_to_what_is_kept(graph, x, rule, case)


def _held_to_what_is_kept(graph: Graph, x: Any, rule: RuntimeContract, case: str) -> None:
    if rule.compute_format is not None:
        x = round_array(x.astype(np.float64), rule.compute_format)
    with np.errstate(all="ignore"):
        computed = {"x": x, **emulate(graph, {"x": x}, rule, every_tensor=True)}
    for step in program_of(graph).checked.steps:
        if step.operator.keeps is None:
            continue
        held = [Interval(np.min(v, 0), np.max(v, 0)) for v in (computed[t] for t in step.reads)]
        kept = step.operator.keeps(step.site, held, contract_at(step.running, rule))
        if kept is not None:
            found = np.asarray(computed[step.output], np.float64)
            inside = (found >= kept.lo) & (found <= kept.hi)
            assert np.all(inside | (np.isnan(found) & (case == "plain root"))), step.name


TABLES = {
    "ulps": FunctionAccuracy(3.0, None, Evidence.PROVED, "test"),
    "units": FunctionAccuracy(None, 5.0, Evidence.PROVED, "test"),
    "both": FunctionAccuracy(200.0, 5.0, Evidence.PROVED, "test"),
    "beyond": FunctionAccuracy(None, 5.0, Evidence.PROVED, "test", excess=5.0),
}
EXACTLY: dict[str, Callable[[float], float]] = {
    "Erf": math.erf,
    "Tanh": math.tanh,
    "Atan": math.atan,
    "Sin": math.sin,
    "Log": lambda x: math.log1p(x - 1.0),
    "Exp": math.exp,
    "Sigmoid": lambda x: 1.0 / (1.0 + math.exp(-x)),
}


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("op", EXACTLY)
def test_a_function_keeps_its_sign_only_where_its_accuracy_says_so(
    tmp_path: Path, op: str, table: str, flush: bool
) -> None:
    """What is least of the results that a table allows, by its definition."""
    accuracy = TABLES[table]
    node = helper.make_node(op, ["x"], ["y"])
    graph = load(save(tmp_path / "m.onnx", [node], {"x": [1]}, {"y": [1]}))
    (step,) = program_of(graph).checked.steps
    functions = Functions("test", tuple((f, accuracy) for f, _ in SEQUENTIAL.functions.table))
    contract = replace(FLUSHING if flush else SEQUENTIAL, functions=functions)
    assert step.operator.keeps is not None
    told = 0
    for size in (0.0, 2.0**-149, 1e-44, 1e-40, 2.0**-126, 1e-20, 1e-7, 4e-7, 1e-3, 0.5):
        x = float(np.float32(1.0 + size)) if op == "Log" else size
        held = [Interval(np.array([x]), np.array([x + 0.5]))]
        kept = step.operator.keeps(step.site, held, contract_at(step.running, contract))
        if kept is None:
            continue
        read = 0.0 if flush and x < 2.0**-126 else x
        value = EXACTLY[op](read)
        ulp = 2.0 ** (max(math.frexp(value)[1] - 1 if value else -126, -126) - 23)
        bounds = [n for n in (accuracy.ulps and accuracy.ulps * ulp, accuracy.units) if n]
        if accuracy.units is not None:
            bounds[-1] = accuracy.units * 2.0**-24
        least = value - min(bounds)
        if op in ("Exp", "Sigmoid") and not accuracy.excess:
            least = max(least, 0.0)
        assert kept.lo[0] <= least * (1.0 + 1e-12) + 2.0**-160, x
        told += 1
    assert told or table == "beyond"


def test_what_is_known_is_worth_something(tmp_path: Path) -> None:
    told = {}
    for case in CASES:
        step = program_of(load(_model(tmp_path / "m.onnx", case))).checked.steps[-1]
        assert step.operator.keeps is not None
        held = [
            Interval(np.zeros(s), np.ones(s))
            for s in (step.site.type_of(i).shape for i in step.site.variable)
        ]
        kept = step.operator.keeps(step.site, held, SEQUENTIAL)
        told[case] = None if kept is None else float(np.min(kept.lo))
    assert told.pop("mixed") is None
    assert told.pop("eps") == pytest.approx(1e-5, rel=1e-3)
    assert set(told.values()) == {0.0}


def test_a_deviation_by_hand_has_a_bound(tmp_path: Path) -> None:
    """(x − mean)/√(mean (x − mean)² + ε), where a bound on rounding alone allows a root of less
    than nothing."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[1]),
        helper.make_node("Sub", ["x", "m"], ["c"]),
        helper.make_node("Pow", ["c", "two"], ["q"]),
        helper.make_node("ReduceMean", ["q"], ["v"], axes=[1]),
        helper.make_node("Add", ["v", "eps"], ["e"]),
        helper.make_node("Sqrt", ["e"], ["s"]),
        helper.make_node("Div", ["c", "s"], ["y"]),
    ]
    weights = {"two": np.float32(2), "eps": np.float32(1e-5)}
    path = save(tmp_path / "m.onnx", nodes, {"x": [1, 8]}, {"y": [1, 8]}, weights)
    result = bound(str(path), "x=-30..30", seed=0)
    assert np.isfinite(result.bound)
    onnx.checker.check_model(str(path))


def test_logarithms_between_their_extremes_have_a_bound(tmp_path: Path) -> None:
    """s/max s for s = log q − min log q, as spectra are normalised: errors of quiet elements are
    larger than the divisor, which a loud element keeps away from zero at run time."""
    nodes = [
        helper.make_node("Add", ["x", "big"], ["a"]),
        helper.make_node("Sub", ["a", "big"], ["t"]),
        helper.make_node("Mul", ["t", "t"], ["q"]),
        helper.make_node("Add", ["q", "eps"], ["e"]),
        helper.make_node("Log", ["e"], ["l"]),
        helper.make_node("ReduceMin", ["l"], ["m"]),
        helper.make_node("Sub", ["l", "m"], ["s"]),
        helper.make_node("ReduceMax", ["s"], ["d"]),
        helper.make_node("Div", ["s", "d"], ["y"]),
    ]
    weights = {"big": np.float32(2.0**20), "eps": np.float32(1e-10)}
    path = save(tmp_path / "m.onnx", nodes, {"x": [1, 4]}, {"y": [1, 4]}, weights)
    low = np.array([[100.0, -1e-3, -1e-3, -1e-3]], np.float32)
    high = np.array([[101.0, 1e-3, 1e-3, 1e-3]], np.float32)
    result = bound(str(path), {"x": (low, high)}, seed=0)
    assert result.worst_found is not None
    assert 0.0 < float(result.worst_found) <= result.bound < 10.0


@pytest.mark.parametrize("op", ["Clip", "HardSigmoid"])
def test_errors_are_no_larger_than_what_is_between_the_ends(tmp_path: Path, op: str) -> None:
    """Cancellation makes an error far larger than what comes of it."""
    inputs = ["t", "zero", "six"] if op == "Clip" else ["t"]
    nodes = [
        helper.make_node("Add", ["x", "big"], ["a"]),
        helper.make_node("Sub", ["a", "big"], ["t"]),
        helper.make_node(op, inputs, ["y"]),
    ]
    weights = {"big": np.float32(2.0**60), "zero": np.float32(0), "six": np.float32(6)}
    path = save(tmp_path / "m.onnx", nodes, {"x": [4]}, {"y": [4]}, weights)
    largest = {"Clip": 6.0, "HardSigmoid": 1.0}[op]
    result = bound(str(path), "x=-1..1", seed=0)
    assert 0 < result.bound <= largest * (1 + 1e-9)


_INDICES = ("ArgMax", "ArgMin", "TopK", "Gather")


@pytest.mark.parametrize("contract", ["ieee-any", "ort-cpu"])
@pytest.mark.parametrize(
    ("op", "span"), [("Sign", 2), ("Hardmax", 1), ("Less", 1), *((i, 3) for i in _INDICES)]
)
def test_what_jumps_is_off_by_no_more_than_it_can_be(
    tmp_path: Path, op: str, span: float, contract: str
) -> None:
    """It may jump for what it reads and for how it reads that."""
    rows = {"t": np.array([1, 4, 3, 2], np.float32), "two": np.array([2]), "one": np.float32(1)}
    jump = {
        "TopK": [helper.make_node("TopK", ["z", "two"], ["v", "y"])],
        "Less": [
            helper.make_node("Less", ["z", "one"], ["b"]),
            helper.make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT),
        ],
        "Gather": [
            helper.make_node("ArgMax", ["z"], ["k"], axis=1),
            helper.make_node("Gather", ["t", "k"], ["y"]),
        ],
    }
    axis: dict[str, Any] = {} if op == "Sign" else {"axis": 1}
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["z"]),
        *jump.get(op, [helper.make_node(op, ["z"], ["y"], **axis)]),
    ]
    weights = {"w": np.random.default_rng(0).normal(0, 3, (4, 4)).astype(np.float32), **rows}
    path = save(tmp_path / "m.onnx", nodes, {"x": [1, 4]}, {"y": None}, weights)
    model = onnx.load(path)
    if op in ("ArgMax", "ArgMin", "TopK"):
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    onnx.save(model, path)
    result = bound(path, {"x": (-1e3, 1e3)}, contract=contract, no_search=True, conform=False)
    assert 0 < result.bound <= span
