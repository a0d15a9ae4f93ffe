"""Relative precision as it is asked for: by command, from Python, for a tolerance."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import relative
from onnx import ModelProto, TensorProto, helper

import refine
from encoders.contract.contract import BiasPlacement, Subnormals
from encoders.contract.presets import PAIRWISE, SEQUENTIAL, SEQUENTIAL_FMA
from gpu_check.emulator.emulator import emulate
from refine.cli.main import run
from refine.domain.domain import DomainOptions, read_domain
from refine.everyday.tolerances import tolerances
from refine.results.summary import advice_of
from refine.results.verdict import ExitCode, Result, Verdict

UNIT = 2.0**-53
QUIET: dict[str, Any] = {"conform": False, "budget": 0.0, "z3": "none", "no_search": True}


def made(
    nodes: list[Any],
    inputs: dict[str, tuple[int, ...]],
    output: tuple[int, ...],
    elem: int = TensorProto.DOUBLE,
    **constants: Any,
) -> ModelProto:
    return relative.written(elem, nodes, inputs, output, **constants)


def node(op: str, reads: str, writes: str, **attributes: Any) -> Any:
    return helper.make_node(op, reads.split(), [writes], **attributes)


def product(size: int, elem: int = TensorProto.DOUBLE) -> ModelProto:
    return relative.matrices(size)(elem)


def total(terms: int) -> ModelProto:
    return relative.total(terms)(TensorProto.DOUBLE)


def squares(elem: int = TensorProto.FLOAT) -> ModelProto:
    """√(mean x² + ε), a denominator of a normalisation."""
    nodes = [
        node("Mul", "x x", "q"),
        node("ReduceMean", "q", "m", axes=[1], keepdims=1),
        node("Add", "m e", "z"),
        node("Sqrt", "z", "y"),
    ]
    return made(nodes, {"x": (1, 6)}, (1, 1), elem, e=np.array([1e-5]))


def asked(model: ModelProto, ends: str, **options: Any) -> Result:
    domain = {i.name: ends for i in model.graph.input}
    return refine.bound(model, domain, relative=True, **{**QUIET, **options})


@pytest.mark.parametrize("contract", [SEQUENTIAL, "ieee-any"], ids=["sequential", "any order"])
def test_a_product_of_positive_matrices_costs_a_unit_a_term(contract: Any) -> None:
    found = asked(product(6), "0.1..1000", contract=contract)
    assert found.verdict is Verdict.VERIFIED
    assert found.bound == pytest.approx(6 * UNIT, rel=1e-9)


def test_the_contract_says_how_a_sum_is_taken() -> None:
    assert asked(total(16), "0.1..9", contract=SEQUENTIAL).bound == pytest.approx(15 * UNIT)
    assert asked(total(16), "0.1..9", contract=PAIRWISE).bound == pytest.approx(4 * UNIT)


def test_a_fused_step_is_one_rounding() -> None:
    step = [node("Gemm", "a x c", "t"), node("Gemm", "t x c", "y")]
    model = made(step, dict.fromkeys("axc", (1, 1)), (1, 1))
    fused = replace(SEQUENTIAL_FMA, bias=BiasPlacement.FIRST)
    assert asked(model, "0.1..9", contract=fused).bound == pytest.approx(2 * UNIT)
    assert asked(model, "0.1..9", contract=SEQUENTIAL).bound == pytest.approx(4 * UNIT)


def test_no_size_of_numbers_matters_until_they_underflow() -> None:
    model = made([node("Mul", "x x", "y")], {"x": (1,)}, (1,))
    assert asked(model, "1e-100..1e100").bound == pytest.approx(UNIT)
    assert asked(model, "1e-200..1e100").bound > 1.0
    assert asked(model, "1e-200..1e200").verdict is Verdict.UNKNOWN  # overflows


def test_of_all_positive_numbers_a_precision_is_left_open() -> None:
    found = asked(product(6), "0..1e308")
    (figures,) = found.relative
    assert found.verdict is Verdict.UNKNOWN
    assert figures.error == np.inf
    assert figures.while_normal == pytest.approx(6 * UNIT, rel=1e-9)
    assert "normal-range" in [o.name for o in found.obligations if not o.discharged]


def test_what_may_be_zero_has_an_rtol_with_an_atol() -> None:
    found = asked(product(4, TensorProto.FLOAT), "0..1")
    (figures,) = found.relative
    assert found.verdict is Verdict.UNKNOWN
    assert figures.error == np.inf
    assert figures.rtol == pytest.approx(4 * 2.0**-24, rel=1e-6)
    assert 0.0 < figures.atol < 1e-35


def test_a_difference_has_no_precision_near_zero_and_one_away_from_it() -> None:
    model = made([node("Sub", "x z", "d"), node("Mul", "d c", "y")], dict.fromkeys("xz", (1,)),
                 (1,), c=np.array([3.0]))  # fmt: skip
    near = asked(model, "1..2")
    assert near.verdict is Verdict.UNKNOWN
    far = refine.bound(model, {"x": "3..4", "z": "1..2"}, relative=True, **QUIET)
    assert far.bound == pytest.approx(2 * UNIT, rel=1e-6)


def test_that_a_result_may_be_zero_is_the_reason_and_the_way_out_is_said() -> None:
    result = asked(total(4), "-1..1")
    assert result.verdict is Verdict.UNKNOWN
    assert "where the real value may be 0: y[0, 0] lies between -4 and 4" in result.reason
    said = " ".join(advice_of(result))
    assert "--rtol proved" in said
    assert "--budget" not in said
    assert asked(total(4), "0.5..1").verdict is Verdict.VERIFIED


def test_denominators_take_inputs_of_both_signs() -> None:
    found = asked(squares(), "-1..1")
    assert found.verdict is Verdict.VERIFIED
    assert found.bound < 6 * 2.0**-24


@pytest.mark.parametrize("eps", [1e-6, 1e-7])
def test_a_claim_is_verified_or_left_open(eps: float) -> None:
    domain = {"x": "-1..1"}
    found = refine.check(squares(), domain, eps=eps, claim="relative", **QUIET)
    assert bool(found) == (eps > found.bound)
    assert found.verdict is (Verdict.VERIFIED if eps == 1e-6 else Verdict.UNKNOWN)


def test_nothing_is_known_of_a_value_that_is_zero_over_the_reals_alone() -> None:
    """The logarithm of a softmax of one score: 0 times an unknown precision is unknown."""
    nodes = [node("LogSoftmax", "x", "s", axis=1), node("Neg", "s", "y")]
    found = asked(made(nodes, {"x": (2, 1)}, (2, 1), TensorProto.FLOAT), "1..2")
    (figures,) = found.relative
    assert found.verdict is Verdict.UNKNOWN
    assert figures.error == np.inf
    assert 0.0 < figures.atol < 1e-5


def test_an_input_with_a_larger_relative_error_is_found(tmp_path: Path) -> None:
    model = made([node("Mul", "x x", "q"), node("Add", "q z", "y")], dict.fromkeys("xz", (1,)),
                 (1,), TensorProto.FLOAT)  # fmt: skip
    domain = {"x": "1..2", "z": "-3..0"}
    options = {**QUIET, "no_search": False}
    found = refine.check(model, domain, eps=1e-3, claim="relative", **options)
    assert found.verdict is Verdict.VIOLATED
    assert found.witness is not None
    x, z = (Fraction(float(found.witness.inputs[n][0])) for n in "xz")
    value, real = Fraction(found.witness.value), x * x + z
    assert abs(value - real) > Fraction(1, 1000) * abs(real)
    assert found.witness.error.lo <= abs(value - real) / abs(real) <= found.witness.error.hi


@pytest.mark.parametrize("build", [squares, lambda: product(5, TensorProto.FLOAT)])
def test_executions_stay_within_the_bounds(build: Any) -> None:
    rng = np.random.default_rng(3)
    model = build()
    ends = "-1..1" if len(model.graph.input) == 1 else "0..1"
    found = asked(model, ends)
    (figures,) = found.relative
    low = -1.0 if ends.startswith("-") else 0.0
    given = {}
    for i in model.graph.input:
        shape = (600, *(d.dim_value for d in i.type.tensor_type.shape.dim))
        tiny = np.exp(rng.uniform(-103, 0, shape))
        x = np.where(rng.random(shape) < 0.4, tiny, rng.uniform(low, 1.0, shape))
        given[i.name] = np.where(rng.random(shape) < 0.1, 0.0, x).astype(np.float32)
    graph = refine.load(model)
    wide = {n: v.astype(np.float64) for n, v in given.items()}
    if len(wide) == 1:
        eps = np.float64(np.float32(1e-5))
        exact = np.sqrt(np.mean(wide["x"] ** 2, axis=-1, keepdims=True) + eps)
    else:
        exact = wide["a"] @ wide["b"]
    flushing = replace(PAIRWISE, results=Subnormals.FLUSH, operands=Subnormals.FLUSH)
    for way in (SEQUENTIAL, SEQUENTIAL_FMA, PAIRWISE, flushing):
        (y,) = emulate(graph, given, way).values()
        off, slack = np.abs(y.astype(np.float64) - exact), 2.0**-45 * np.abs(exact)
        assert np.all(off <= figures.rtol * np.abs(exact) + figures.atol + slack)
        if np.isfinite(figures.error):
            assert np.all(off <= figures.error * np.abs(exact) + slack)


def test_command_document_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, page = tmp_path / "r.json", tmp_path / "r.html"
    model = tmp_path / "sum.onnx"
    model.write_bytes(total(8).SerializeToString())
    given = [str(model), "--input", "0.1..2", "--no-conform", "--budget", "0"]
    code = run(["bound", *given, "--relative", "--json", str(path), "--report", str(page)])
    shown = capsys.readouterr().out
    assert code is ExitCode.VERIFIED
    assert "precision 7.7" in shown
    document = json.loads(path.read_text())
    (figures,) = document["relative"]
    assert figures["relative_error"] == document["bound"] == pytest.approx(7 * UNIT)
    assert figures["ulps"] >= 7.0
    assert "relative precision" in page.read_text()
    assert run(["bound", *given, "--relative", "--margin"]) is ExitCode.INPUT_ERROR


def test_a_tolerance_takes_the_better_of_both() -> None:
    graph, contract = refine.load(product(8, TensorProto.FLOAT)), SEQUENTIAL
    options = DomainOptions(inputs=("a=0..1", "b=0..1"))
    domain = read_domain(graph, options, contract.format_of)
    plain = tolerances(graph, contract, [domain])
    proved = tolerances(graph, contract, [domain], rtol=None)
    assert plain.rtol == 0
    assert Fraction(8, 2**24) <= proved.rtol < Fraction(9, 2**24)
    assert proved.largest["y"] < 1e-30 < plain.largest["y"]
