""" "Rational", which no ONNX file has: numbers written as fractions, against exact arithmetic."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from kernel_files import exact_error, kernel, read

from encoders.arithmetic.exact_fields import Rationals, fraction
from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import IEEE_ANY, SEQUENTIAL
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import exactly_zero
from encoders.numbers.formats import BINARY16, BINARY32, FloatFormat, round_fraction, small_format
from encoders.operator import site_of
from encoders.registry import lookup, operators
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_exact
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Graph
from refine.bounds.network import network_bounds
from refine.proof.proof import input_box


def _scaled(folder: Path, number: str, precision: str = "binary64") -> Path:
    return kernel(folder, f"(* x {number})", "(<= 1 x 2)", "x", f":precision {precision}")


def _in(fmt: FloatFormat | None) -> RuntimeContract:
    return SEQUENTIAL if fmt is None else replace(SEQUENTIAL, compute_format=fmt)


@pytest.mark.parametrize("number", ["0.1", "1/3", "-7.3e5", "1e-310"])
@pytest.mark.parametrize("precision", ["binary64", "binary32"])
def test_it_is_exact_over_the_reals_and_rounded_at_run_time(
    tmp_path: Path, number: str, precision: str
) -> None:
    graph, _ = read(_scaled(tmp_path, number, precision))
    one = {"x": np.asarray(1.0, graph.types["x"].dtype.numpy)}
    exact = evaluate_exact(graph, one, Rationals())[graph.outputs[0]].item()
    assert fraction(exact) == Fraction(number)
    stored = emulate(graph, {"x": one["x"][None]}, SEQUENTIAL)[graph.outputs[0]][0]
    expected = Fraction(number)
    if precision == "binary64":
        assert float(stored) == float(expected)
    else:
        assert Fraction(float(stored)) == round_fraction(expected, BINARY32)


def _excess(graph: Graph, contract: RuntimeContract, bound: float) -> Fraction:
    """The largest error at some points, minus the bound."""
    points = (1.0, 1.125, 1.25, 1.5, 1.75, 2.0)
    errors = [exact_error(graph, contract, {"x": x}) for x in points]
    return max(e for e in errors if e is not None) - Fraction(bound)


@pytest.mark.parametrize("fmt", [None, BINARY32, BINARY16, small_format(5, 4)])
@pytest.mark.parametrize("number", ["0.1", "1/3", "-7.3"])
def test_bounds_hold(tmp_path: Path, number: str, fmt: FloatFormat | None) -> None:
    contract = _in(fmt)
    graph, domain = read(_scaled(tmp_path, number), contract=contract)
    box = input_box(domain.boxes[0], domain, contract)
    for backward in (False, True):
        bounds = network_bounds(graph, box, contract, backward=backward)
        assert _excess(graph, contract, bounds.largest) <= 0
    any_order = replace(IEEE_ANY, compute_format=contract.compute_format)
    assert bounds.largest <= network_bounds(graph, box, any_order).largest


def test_forgetting_what_storing_it_loses_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = _in(small_format(5, 4))
    path = kernel(tmp_path, "(fmax x 0.7)", "(<= 0 x 0.5)", "x")
    graph, domain = read(path, contract=contract)
    box = input_box(domain.boxes[0], domain, contract)
    node = graph.order[0]
    right = lookup(node).rounding(site_of(graph, node), (), box.values["x"], contract)

    error = exact_error(graph, contract, {"x": 0.0})
    assert error is not None
    assert error <= Fraction(network_bounds(graph, box, contract).largest)
    forgetful = replace(right, radius=exactly_zero(EXACT, ()))
    wrong = replace(operators()["Rational"], rounding=lambda *_: forgetful)
    monkeypatch.setattr(
        "encoders.program.lookup", lambda n: wrong if n.op == "Rational" else lookup(n)
    )
    assert Fraction(network_bounds(replace(graph), box, contract).largest) < error


def test_a_number_that_overflows_is_refused(tmp_path: Path) -> None:
    graph, _ = read(_scaled(tmp_path, "1e39", "binary32"))
    node = graph.order[0]
    with pytest.raises(UnsupportedModel, match="overflows float32"):
        lookup(node).check(site_of(graph, node))
