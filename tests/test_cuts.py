"""Graphs that part and meet again: cut where they part, bounded there, and named."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from small_models import save

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.presets import EXACT, PRESETS
from encoders.numbers.enclosure import FloatArray, Interval
from gpu_check.emulator.exact import evaluate_real
from gpu_check.runtimes.replay import NotReplayed, replay_on_onnxruntime
from onnx_import import load
from refine.api import diff
from refine.bounds.network import InputBox
from refine.cli.main import run
from refine.pair.comparison import Comparison, comparison
from refine.pair.equality import equal_outputs
from refine.pair.extremes import with_extremes
from refine.pair.pair import Pair, pair_of
from refine.results.verdict import Side, Verdict

_N = helper.make_node
_F = np.float32
Nodes = Sequence[onnx.NodeProto]
Constants = dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]


def _saved(folder: Path, name: str, nodes: Nodes, constants: Constants, opset: int = 17) -> Path:
    path = folder / f"{name}.onnx"
    return save(path, nodes, {"x": (1, 8)}, {"y": (1, 4)}, constants, opset=opset)


def _constants(seed: int = 3) -> Constants:
    rng = np.random.default_rng(seed)
    shapes = {"w": (8, 16), "b": (16,), "v": (16, 16), "c": (16,), "u": (16, 4)}
    made: Constants = {k: rng.normal(size=s).astype(_F) / _F(3) for k, s in shapes.items()}
    return made | {"zero": np.zeros((), _F), "six": np.array(6, _F)}


_SPEC = (
    _N("MatMul", ["x", "w"], ["m"], name="first"),
    _N("Add", ["m", "b"], ["a"], name="bias"),
    _N("Relu", ["a"], ["r"], name="relu"),
    _N("Gemm", ["r", "v", "c"], ["h"], name="middle"),
    _N("Clip", ["h", "zero", "six"], ["k"], name="clip"),
    _N("MatMul", ["k", "u"], ["y"], name="last"),
)
_IMPL = (
    _N("Gemm", ["x", "w", "b"], ["a"], name="one"),
    _N("Max", ["zero", "a"], ["r"], name="two"),
    _N("MatMul", ["r", "v"], ["n"], name="three"),
    _N("Add", ["c", "n"], ["h"], name="four"),
    _N("Less", ["h", "zero"], ["l"], name="five"),
    _N("Where", ["l", "zero", "h"], ["g"], name="six"),
    _N("Min", ["six", "g"], ["k"], name="seven"),
    _N("MatMul", ["k", "u"], ["y"], name="eight"),
)


def _pair(spec: Path, impl: Path, contract: str = "exact") -> Pair:
    pair = pair_of(Side(load(spec), EXACT), Side(load(impl), PRESETS[contract]))
    return Pair(pair.spec, pair.impl, pair.inputs, pair.outputs, equal_outputs(pair))


def _points(count: int, seed: int = 0) -> dict[str, FloatArray]:
    drawn = np.random.default_rng(seed).uniform(-1, 1, (count, 1, 8))
    return {"x": drawn.astype(_F).astype(np.float64)}


def _bounded(problem: Comparison) -> float:
    box = InputBox(
        {"x": Interval(np.full((1, 8), -1.0), np.full((1, 8), 1.0))}, {"x": np.zeros((1, 8))}
    )
    return problem.bounds(box).largest


def _run(path: Path, points: FloatArray) -> FloatArray:
    rows = []
    for x in points:
        outcome = replay_on_onnxruntime(path, {"x": x.astype(_F)})
        assert not isinstance(outcome, NotReplayed)
        rows.append(outcome.outputs["y"].astype(np.float64))
    return np.stack(rows)


@pytest.mark.parametrize(
    ("changed", "place", "node"),
    [
        ({"u": 1e-5}, (3, 1), "eight"),
        ({"b": 1e-4}, (2,), "one"),
        ({"c": 1e-3}, (5,), "four"),
        ({"six": -5.5}, (), "seven"),
    ],
)
def test_a_changed_constant_among_rewrites(
    tmp_path: Path, changed: dict[str, float], place: tuple[int, ...], node: str
) -> None:
    constants = _constants()
    spec = _saved(tmp_path, "spec", _SPEC, constants)
    ((name, by),) = changed.items()
    other = {k: v.copy() for k, v in constants.items()}
    other[name][place] += _F(by)
    impl = _saved(tmp_path, "impl", _IMPL, other)
    pair = _pair(spec, impl)
    assert not pair.equal
    problem = comparison(pair, _points(4))
    assert problem.joined is not None
    (change,) = problem.joined.changes
    assert pair.impl.graph.writers[change.impl].name == node
    points = _points(200, 1)["x"]
    found = float(np.max(np.abs(_run(impl, points) - _run(spec, points))))
    bound = _bounded(problem)
    assert found <= bound + 1e-6
    assert bound <= 20 * found + 1e-6


def test_rewrites_alone_are_equal(tmp_path: Path) -> None:
    spec = _saved(tmp_path, "spec", _SPEC, _constants())
    impl = _saved(tmp_path, "impl", _IMPL, _constants())
    pair = _pair(spec, impl)
    assert pair.equal == {"y"}
    assert _bounded(comparison(pair, _points(4))) == 0.0


def test_what_runs_stays_within_the_bound(tmp_path: Path) -> None:
    """Two changes and a runtime: onnxruntime against the specification in float64."""
    constants = _constants(5)
    other = {k: v.copy() for k, v in constants.items()}
    other["b"][0] += _F(3e-5)
    other["u"] = other["u"].astype(np.float16).astype(_F)
    spec, impl = (
        _saved(tmp_path, n, g, c) for n, g, c in (("s", _SPEC, constants), ("i", _IMPL, other))
    )
    problem = comparison(_pair(spec, impl, "ieee-any"), _points(4))
    assert problem.joined is not None
    assert len(problem.joined.changes) == 2
    points = _points(300, 2)["x"]
    w, b, v, c, u = (constants[k].astype(np.float64) for k in "wbvcu")
    h = np.clip(np.maximum(points @ w + b, 0) @ v + c, 0, 6)
    found = np.max(np.abs(_run(impl, points) - h @ u))
    assert found <= _bounded(problem)


def test_an_operator_that_is_another_is_named(tmp_path: Path) -> None:
    spec = _saved(tmp_path, "spec", _SPEC, _constants())
    nodes = [*_IMPL]
    nodes[1] = _N("Sigmoid", ["a"], ["r"], name="two")
    pair = _pair(spec, _saved(tmp_path, "impl", nodes, _constants()))
    problem = comparison(pair, _points(4))
    assert problem.joined is not None
    assert [pair.impl.graph.writers[c.impl].name for c in problem.joined.changes] == ["two"]


def test_choices_by_a_comparison_are_extremes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(-3, 4, (40, 1, 8)) / 2.0
    for compare in ("Less", "LessOrEqual", "Greater", "GreaterOrEqual"):
        for operands in (["x", "c"], ["c", "x"]):
            for chosen in (["x", "c"], ["c", "x"]):
                nodes = [_N(compare, operands, ["l"]), _N("Where", ["l", *chosen], ["w"])]
                nodes.append(_N("MatMul", ["w", "u"], ["y"]))
                constants: Constants = {"c": np.array(0.5, _F), "u": np.eye(8, 4, dtype=_F)}
                graph = load(_saved(tmp_path, "where", nodes, constants))
                made = with_extremes(graph)
                assert len(made.order) == 2
                before, after = (
                    evaluate_real(g, {"x": points}, ApproximateReals())["y"] for g in (graph, made)
                )
                np.testing.assert_array_equal(before, after)
    other = [_N("Less", ["x", "c"], ["l"]), _N("Where", ["l", "x", "d"], ["w"])]
    other.append(_N("MatMul", ["w", "u"], ["y"]))
    graph = load(_saved(tmp_path, "other", other, constants | {"d": np.array(0.25, _F)}))
    assert with_extremes(graph) is graph


def test_the_document_names_the_culprit_first(tmp_path: Path) -> None:
    """Rounded weights are harmless beside a limit of Clip that was lost."""
    constants = _constants()
    other = {k: v.copy() for k, v in constants.items()} | {"six": np.array(0.5, _F)}
    other["v"] = (other["v"].astype(np.float64) * (1 + 1e-6)).astype(_F)
    spec, impl = (
        _saved(tmp_path, n, g, c) for n, g, c in (("s", _SPEC, constants), ("i", _IMPL, other))
    )
    path = tmp_path / "out.json"
    asked = ["diff", str(spec), str(impl), "--input=-1..1", "--impl-as=real", "--budget=0"]
    more = ["--no-search", "--no-conform", "--z3=none", f"--json={path}", "-q"]
    run([*asked, *more])
    document = json.loads(path.read_text())
    assert document["relation"] == "equal but for constants"
    assert document["matching"]["inputs"] == {"by": "name", "pairs": {"x": "x"}}
    first, second = document["differences"]
    assert first["impl"][-1] == "seven"
    assert "six is 0.5, specified 6" in first["text"]
    assert second["impl"][-1] == "four"
    assert first["effect"] > 100 * second["effect"]


_ERF = (
    _N("Div", ["x", "s"], ["a"]),
    _N("Erf", ["a"], ["b"]),
    _N("Add", ["b", "one"], ["c"]),
    _N("Mul", ["x", "c"], ["d"]),
    _N("Mul", ["d", "half"], ["e"]),
    _N("MatMul", ["e", "u"], ["y"]),
)
_TANH = (
    _N("Mul", ["x", "x"], ["a"]),
    _N("Mul", ["a", "x"], ["b"]),
    _N("Mul", ["b", "cubic"], ["c"]),
    _N("Add", ["c", "x"], ["d"]),
    _N("Mul", ["d", "scale"], ["e"]),
    _N("Tanh", ["e"], ["f"]),
    _N("Add", ["f", "one"], ["g"]),
    _N("Mul", ["g", "half"], ["h"]),
    _N("Mul", ["h", "x"], ["i"]),
    _N("MatMul", ["i", "u"], ["y"]),
)


@pytest.mark.parametrize("nodes", [_ERF, _TANH], ids=["erf", "tanh"])
def test_two_forms_of_gelu_are_bounded_together(tmp_path: Path, nodes: Nodes) -> None:
    """Against float64 on a fine grid: the bound is above every gap, and not far above."""
    numbers = {"s": 1.4142135, "one": 1, "half": 0.5, "cubic": 0.044715, "scale": 0.7978845}
    constants: Constants = {k: np.array(v, _F) for k, v in numbers.items()}
    constants["u"] = np.eye(8, 4, dtype=_F)
    whole = [_N("Gelu", ["x"], ["e"]), _N("MatMul", ["e", "u"], ["y"])]
    spec = _saved(tmp_path, "whole", whole, {"u": constants["u"]}, opset=20)
    impl = _saved(tmp_path, "written", nodes, constants, opset=20)
    problem = comparison(_pair(spec, impl), _points(4))
    assert problem.joined is not None
    t = np.linspace(-1, 1, 20001)
    grid = {"x": np.repeat(t[:, np.newaxis], 8, axis=1)[:, np.newaxis]}
    reals = ApproximateReals(wide=True)
    real = [evaluate_real(load(p), grid, reals)["y"] for p in (spec, impl)]
    found = float(np.max(np.abs(real[0] - real[1])))
    # erf and tanh on the grid are right to float64 alone, the bound to more
    assert 1e-10 < found * (1.0 - 1e-9) <= _bounded(problem) <= 1.2 * found


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_change_that_outgrows_the_numbers_is_charged_in_full(tmp_path: Path, sign: int) -> None:
    """The run computes 0.5 − x where x turned is specified: what it computes is no number of the
    specified range, however narrow that is."""
    half = {"half": np.float32(0.5), "w": np.eye(3, dtype=np.float32)}
    turned = [
        *(_N("Transpose", ["x"], ["t"]), _N("Reshape", ["t", "s"], ["y"])),
        _N("MatMul", ["x", "w"], ["z"]),
    ]
    other = [_N("Sub", ["half", "x"], ["y"]), _N("MatMul", ["x", "w"], ["z"])]
    ends = {"x": [2, 3]}, {"y": [2, 3], "z": [2, 3]}
    sized = {"s": np.array([2, 3]), "w": half["w"]}
    spec = save(tmp_path / "spec.onnx", turned, *ends, sized)
    impl = save(tmp_path / "impl.onnx", other, *ends, half)
    lo, hi = sorted((19.0 * sign, 21.0 * sign))
    box = {"x": Interval(np.full((2, 3), lo), np.full((2, 3), hi))}
    problem = comparison(_pair(spec, impl), {"x": np.full((1, 2, 3), lo)})
    assert problem.joined is not None
    bounds = problem.bounds(InputBox(box, {"x": np.zeros((2, 3))}))
    farthest = max(abs(hi - (0.5 - hi)), abs(lo - (0.5 - lo)))
    assert farthest <= np.min(bounds.radii["y"].bound) <= farthest * 1.01


def test_a_limit_that_is_infinite_is_passed_without_a_warning(tmp_path: Path) -> None:
    ends = {"x": [2, 3]}, {"y": [2, 3]}
    spec = save(tmp_path / "spec.onnx", [_N("Identity", ["x"], ["y"])], *ends)
    limit = {"most": np.float32(np.inf)}
    impl = save(tmp_path / "impl.onnx", [_N("Min", ["x", "most"], ["y"])], *ends, limit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = diff(spec, impl, "-1..1", "0.01", budget=0, no_search=True, conform=False)
    assert result.verdict is Verdict.VERIFIED
