"""Claims about gradients: bounds that runs keep to, and derivatives that are NaN behind a mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from small_models import save

import refine
from encoders.contract.presets import IEEE_ANY
from encoders.numbers.enclosure import Interval
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import.errors import ModelError
from onnx_import.onnx.reader import load
from onnx_import.onnx.writer import model_of
from refine.bounds.network import InputBox, Known
from refine.bounds.problem import Network
from refine.gradients.request import Request
from refine.proof.input_splitting import bound_parts, halved, part_of
from refine.results.verdict import Verdict

Nodes = Sequence[tuple[str, str, str]]
QUICK: Mapping[str, Any] = {"budget": 1.0, "search": 2.0, "conform": False, "z3": "none"}


def written(folder: Path, nodes: Nodes, stored: Mapping[str, Any], inputs: str = "x") -> Path:
    made = [helper.make_node(op, read.split(), [out]) for op, read, out in nodes]
    weights = {n: np.asarray(v, np.float32) for n, v in stored.items()}
    shapes = dict.fromkeys(inputs.split(), (2,))
    return save(folder / "masked.onnx", made, shapes, {"Y": None}, weights)


Z: Mapping[str, Any] = {"zero": 0.0, "one": 1.0, "least": 0.001}
DIVISION: Nodes = (("Equal", "n zero", "c"), ("Div", "x n", "q"), ("Where", "c zero q", "Y"))
EXPONENTIAL: Nodes = (
    ("Greater", "a zero", "c"), ("Exp", "a", "e"), ("Add", "a one", "p"), ("Where", "c p e", "Y"),
)  # fmt: skip
CAPPED: Nodes = (
    ("Greater", "a zero", "c"), ("Min", "a zero", "m"), ("Exp", "m", "e"), ("Add", "a one", "p"),
    ("Where", "c p e", "Y"),
)  # fmt: skip
ROOT: Nodes = (("Greater", "x zero", "c"), ("Sqrt", "x", "s"), ("Where", "c s zero", "Y"))
NORM: Nodes = (("ReduceL2", "x", "Y"),)
HARMLESS: Nodes = (
    ("Equal", "n zero", "c"), ("Where", "c one n", "d"), ("Div", "x d", "q"),
    ("Where", "c zero q", "Y"),
)  # fmt: skip
SMALL: Nodes = (
    ("Abs", "n", "a"), ("Less", "a least", "c"), ("Where", "c one n", "d"), ("Div", "x d", "q"),
    ("Where", "c zero q", "Y"),
)  # fmt: skip
SMALL_LATE: Nodes = (
    ("Abs", "n", "a"), ("Less", "a least", "c"), ("Div", "x n", "q"), ("Where", "c zero q", "Y"),
)  # fmt: skip
ROOT_SAFE: Nodes = (
    ("Greater", "x zero", "c"), ("Where", "c x one", "d"), ("Sqrt", "d", "s"),
    ("Where", "c s zero", "Y"),
)  # fmt: skip
LOG_SOFTMAX: Nodes = (("LogSoftmax", "x", "Y"),)
BOTH = ("x=-1..1", "n=-1..1")


@pytest.mark.parametrize(
    ("nodes", "inputs", "ranges", "verdict"),
    [
        (DIVISION, "x n", ("x=-1..1", "n=-1..1"), Verdict.VIOLATED),
        (DIVISION, "x n", ("x=-1..1", "n=0.25..1"), Verdict.VERIFIED),
        (EXPONENTIAL, "a", ("a=-1..100",), Verdict.VIOLATED),
        (CAPPED, "a", ("a=-1..100",), Verdict.VERIFIED),
        (ROOT, "x", ("x=0..1",), Verdict.VIOLATED),
        (NORM, "x", ("x=-1..1",), Verdict.VIOLATED),
        (HARMLESS, "x n", BOTH, Verdict.VERIFIED),
        ((*HARMLESS[:-1], ("Identity", "q", "Y")), "x n", BOTH, Verdict.VERIFIED),
        (SMALL, "x n", BOTH, Verdict.VERIFIED),
        (SMALL_LATE, "x n", BOTH, Verdict.VIOLATED),
        (ROOT_SAFE, "x", ("x=-1..1",), Verdict.VERIFIED),
        (LOG_SOFTMAX, "x", ("x=-1000..1000",), Verdict.VERIFIED),
    ],
)
def test_a_mask_put_on_too_late_is_found(
    nodes: Nodes, inputs: str, ranges: tuple[str, ...], verdict: Verdict, tmp_path: Path
) -> None:
    path = written(tmp_path, nodes, Z, inputs)
    result = refine.check(path, claim="gradient-safe", input=ranges, **QUICK)
    assert result.verdict is verdict
    if verdict is Verdict.VIOLATED:
        assert result.witness is not None
        point = result.witness.inputs
        assert all(np.all(np.isfinite(v)) for v in OnnxRuntime(path).run(point).values())
        gradient = Request(ones=True).gradient_of(load(path))
        data = model_of(gradient, "gradient").SerializeToString()
        found = OnnxRuntime(data).run(point)
        assert any(np.any(np.isnan(np.asarray(v, np.float64))) for v in found.values())


LEFT_OUT: Nodes = (
    ("Div", "one n", "q"), ("Add", "q masks", "s"), ("Exp", "s", "e"), ("Mul", "x e", "p"),
    ("Equal", "n zero", "c"), ("Where", "c zero p", "Y"),
)  # fmt: skip


def test_a_score_that_a_stored_mask_leaves_out_may_be_infinite(tmp_path: Path) -> None:
    """+∞ − ∞ is NaN at run time, and the derivative by x is 0 times that, though Y is finite."""
    path = written(tmp_path, LEFT_OUT, {**Z, "masks": [-np.inf, -np.inf]}, "x n")
    given = {"x": np.ones(2, np.float32), "n": np.zeros(2, np.float32)}
    assert np.all(OnnxRuntime(path).run(given)["Y"] == 0)
    asked: dict[str, Any] = {"claim": "gradient-safe", "wrt": "x", **QUICK}
    for contract in ("ort-cpu", "ieee-any"):
        result = refine.check(path, input=("x=1..2", "n=0..1"), contract=contract, **asked)
        assert result.verdict is not Verdict.VERIFIED
        result = refine.check(path, input=("x=1..2", "n=0.5..1"), contract=contract, **asked)
        assert result.verdict is Verdict.VERIFIED


FACTOR_TOO_LATE: Nodes = (
    ("Add", "x masks", "s"), ("Exp", "s", "e"), ("Div", "one n", "q"), ("Mul", "e q", "p"),
    ("Equal", "n zero", "c"), ("Where", "c zero p", "Y"),
)  # fmt: skip


def test_what_comes_back_to_a_score_that_is_left_out_is_multiplied_by_its_power(
    tmp_path: Path,
) -> None:
    """By 0, which is NaN of the derivative 0·∞ of a quotient that is masked too late; and a score
    that is left out may be as large as it likes."""
    path = written(tmp_path, FACTOR_TOO_LATE, {**Z, "masks": [-np.inf, -np.inf]}, "x n")
    asked: dict[str, Any] = {"claim": "gradient-safe", "wrt": "x", **QUICK}
    for contract in ("ort-cpu", "ieee-any"):
        result = refine.check(path, input=("x=1..500", "n=0..1"), contract=contract, **asked)
        assert result.verdict is Verdict.VIOLATED
        result = refine.check(path, input=("x=1..500", "n=0.5..1"), contract=contract, **asked)
        assert result.verdict is Verdict.VERIFIED


def test_what_is_assumed_of_numbers_below_the_normal_ones_is_said(tmp_path: Path) -> None:
    """Of a divisor as small as any, that one operation does not read it as 0 and another not; a
    contract that keeps them, or a mask that leaves none, needs no such assumption."""
    path = written(tmp_path, HARMLESS, Z, "x n")
    asked: dict[str, Any] = {"claim": "gradient-safe", "input": BOTH, **QUICK}
    for contract, nodes, needed in (
        ("ieee-any", HARMLESS, True), ("ort-cpu", HARMLESS, False), ("ieee-any", SMALL, False),
    ):  # fmt: skip
        path = written(tmp_path, nodes, Z, "x n")
        result = refine.check(path, contract=contract, **asked)
        assert result.verdict is Verdict.VERIFIED
        assert ("subnormals" in {a.name for a in result.assumptions}) is needed
        assert not result.bounds
        assert result.theorem is not None


def test_a_counterexample_is_replayed_from_its_file(tmp_path: Path) -> None:
    path = written(tmp_path, ROOT, Z)
    kept = tmp_path / "found.json"
    options = {**QUICK, "counterexample": kept}
    result = refine.check(path, claim="gradient-safe", input="0..1", **options)
    assert result.verdict is Verdict.VIOLATED
    again = refine.replay(kept)
    assert again
    assert again.witness.output == "grad_x"


def test_a_bound_on_the_gradient_holds_of_runs(tmp_path: Path) -> None:
    """Against derivatives by hand in float64, which are far more exact than the bound."""
    rng = np.random.default_rng(2)
    weights = rng.normal(size=(2, 2)).astype(np.float32)
    nodes: Nodes = (("MatMul", "x W", "h"), ("Tanh", "h", "t"), ("Mul", "t t", "Y"))
    path = written(tmp_path, nodes, {"W": weights})
    result = refine.check(path, claim="gradient", input="-1..1", eps=1e-4, **QUICK)
    assert result.verdict is Verdict.VERIFIED
    (bound,) = result.bounds.values()
    gradient = Request(ones=True).gradient_of(load(path))
    machine = OnnxRuntime(model_of(gradient, "gradient").SerializeToString())
    for _ in range(20):
        x = rng.uniform(-1, 1, 2).astype(np.float32)
        t = np.tanh(x.astype(float) @ weights.astype(float))
        wanted = weights.astype(float) @ (2 * t * (1 - t * t))
        (found,) = machine.run({"x": x}).values()
        assert np.all(np.abs(np.asarray(found, float) - wanted) <= bound)
    worse = refine.check(path, claim="gradient", input="-1..1", eps=1e-9, **QUICK)
    assert worse.verdict is Verdict.VIOLATED


def test_a_claim_is_of_derivatives_by_what_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, (("Mul", "x w", "h"), ("Sigmoid", "h", "Y")), {"w": [1.0, 2.0]})
    asked = {"claim": "gradient", "input": "-1..1", "eps": 1e-3, **QUICK}
    result = refine.check(path, wrt="x,w", loss="mean(Y*Y)", **asked)
    assert result.verdict is Verdict.VERIFIED
    assert set(result.bounds) == {"grad_x", "grad_w"}
    with pytest.raises(ModelError, match="target"):
        refine.check(path, loss="mse", **asked)
    with pytest.raises(ModelError, match="there are no rules 'other'"):
        refine.check(path, rules="other", **asked)
    with pytest.raises(ModelError, match="no input or weight"):
        refine.check(path, wrt="q", **asked)


def test_conventions_and_rounded_numbers_are_said(tmp_path: Path) -> None:
    path = written(tmp_path, (("Relu", "x", "h"), ("Erf", "h", "Y")), {})
    result = refine.check(path, claim="gradient", input="0.5..1", eps=1e-3, **QUICK)
    assert result.verdict is Verdict.VERIFIED
    said = {a.name: a.text for a in result.assumptions}
    assert "relu'(0) = 0" in said["kinks"]
    assert "√(4/π)" in said["stored-numbers"]


def test_that_a_slope_may_be_the_other_one_is_said_where_it_matters(tmp_path: Path) -> None:
    weight = {"W": [[0.1], [0.3]]}
    path = written(tmp_path, (("MatMul", "x W", "h"), ("Relu", "h", "Y")), weight)
    asked: dict[str, Any] = {"claim": "gradient", "eps": 1e-3, **QUICK}
    across = refine.check(path, input="-1..1", **asked)
    assert across.verdict is not Verdict.VERIFIED
    assert any("crosses a kink" in note for note in across.notes)
    assert any("relu'(0) = 0" in a.text for a in across.assumptions)
    aside = refine.check(path, input="0.5..1", **asked)
    assert aside.verdict is Verdict.VERIFIED
    assert not any("kink" in note for note in aside.notes)


@pytest.mark.parametrize("safe", [True, False])
def test_ranges_are_halved_where_a_mask_keeps_a_divisor_from_zero(
    safe: bool, tmp_path: Path
) -> None:
    """Over the whole range the mask is open and the divisor may be 0: on parts it is decided."""
    divisor = [("Where", "c one n", "d"), ("Div", "x d", "q")] if safe else [("Div", "x n", "q")]
    nodes = [("Less", "n least", "c"), *divisor, ("Where", "c zero q", "Y")]
    made = [helper.make_node(op, read.split(), [out]) for op, read, out in nodes]
    stored = {n: np.float32(v) for n, v in (("zero", 0), ("one", 1), ("least", 0.001))}
    path = save(tmp_path / "m.onnx", made, {"x": (1,), "n": (1,)}, {"Y": None}, stored)
    gradient = Request(ones=True).gradient_of(load(path))
    problem = Network(gradient, IEEE_ANY)
    ranges = {"x": Interval(np.array([-1.0]), np.array([1.0]))}
    ranges["n"] = Interval(np.array([0.0]), np.array([1.0]))
    box = InputBox(ranges, {t: np.zeros(1) for t in ranges})
    open_ = [part_of(box, problem.bounds(box))]
    assert not np.isfinite(open_[0].errors["grad_x"][0])
    stuck = []
    for _ in range(16):
        stuck += [part for part in open_ if not part.splittable]
        halves = [(half, part.known) for part in open_ for half in halved(part) or ()]
        if not halves:
            break
        parts = bound_parts((problem, Known({}, {})), halves)
        open_ = [p for p in parts if not all(np.all(np.isfinite(e)) for e in p.errors.values())]
    assert bool(stuck) is not safe
    assert not safe or not open_
