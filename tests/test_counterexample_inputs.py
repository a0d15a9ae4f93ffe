"""The inputs of a counterexample are those that were evaluated, and inputs of the domain.

With `--round-inputs` the real network receives what the user wrote, not a float64 beside it.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from small_models import save

from encoders.contract.presets import SEQUENTIAL
from encoders.numbers.formats import BINARY16, BINARY64
from onnx_import import load
from onnx_import.graph import Graph
from refine.claims.kinds.accuracy import check
from refine.claims.options import Options
from refine.domain.domain import DomainOptions, read_domain
from refine.lemmas.cache import default_directory
from refine.proof.cross_check import EVERYTHING
from refine.results.verdict import Execution, Result, Tolerance, Verdict
from refine.search.evaluation import Candidate
from refine.witness.file import load_witness, save_witness
from refine.witness.replay import run_again


def scaled(folder: Path, *then: str) -> Graph:
    """y = 10·x, and operators of one argument after that."""
    names = ["t0", *(f"t{i}" for i in range(1, len(then))), "y"] if then else ["y"]
    nodes = [helper.make_node("Mul", ["x", "ten"], [names[0]])]
    nodes += [
        helper.make_node(op, [a], [b]) for op, a, b in zip(then, names, names[1:], strict=False)
    ]
    save(folder / "m.onnx", nodes, {"x": [1]}, {"y": [1]}, {"ten": np.float32(10.0)})
    return load(folder / "m.onnx")


def settled(graph: Graph, text: str, eps: str) -> Result:
    options = DomainOptions(inputs=(text,), round_inputs=True)
    domain = read_domain(graph, options, SEQUENTIAL.format_of)
    how = Options(None, default_directory(), search_seconds=0.2)
    return check(graph, domain, SEQUENTIAL, Tolerance(Fraction(eps)), how)


@pytest.mark.parametrize("tenths", range(1, 10))
def test_a_step_at_what_the_user_wrote_is_not_crossed(tmp_path: Path, tenths: int) -> None:
    """⌊10·(k/10)⌋ = k, and fl(10·fl(k/10)) = k in binary32: there is no error to be found, though
    ⌊10·x⌋ is k − 1 for the float64 number below k/10."""
    result = settled(scaled(tmp_path, "Floor"), f"0.{tenths}..0.{tenths}", "1/2")
    assert result.verdict is not Verdict.VIOLATED
    assert result.worst_found == 0


def test_a_step_that_a_real_input_of_the_domain_crosses_is_found(tmp_path: Path) -> None:
    result = settled(scaled(tmp_path, "Floor"), "0.69999..0.7", "1/2")
    assert result.verdict is Verdict.VIOLATED
    assert result.witness is not None
    (x,) = (Fraction(v) for v in result.witness.real_inputs["x"])
    assert Fraction("0.69999") <= x < Fraction("0.7")


@pytest.mark.parametrize("text", ["0.123..0.123", "0.7..0.71", "-0.3..-0.1"])
def test_the_real_input_of_a_witness_lies_in_the_domain_and_comes_back_from_its_file(
    tmp_path: Path, text: str
) -> None:
    result = settled(scaled(tmp_path), text, "1e-12")
    assert result.verdict is Verdict.VIOLATED
    witness = result.witness
    assert witness is not None
    (x,) = (Fraction(v) for v in witness.real_inputs["x"])
    low, high = map(Fraction, text.split(".."))
    assert low <= x <= high
    exact = abs(Fraction(witness.value) - 10 * x)
    assert witness.error.lo <= exact <= witness.error.hi
    save_witness(result, tmp_path / "c.json")
    again = run_again(*_saved(tmp_path / "c.json"))
    assert again.error == witness.error


def _saved(path: Path) -> tuple[Graph, Candidate]:
    saved = load_witness(path, load)
    return saved.graph, saved.candidate


def test_what_the_runtime_receives_is_the_bound_itself_rounded(tmp_path: Path) -> None:
    """Just above a tie of binary16 a bound rounds up, though the float64 below it is the tie."""
    graph = scaled(tmp_path)
    tie = Fraction(1) + Fraction(1, 2**11)
    text = f"1.{str(10**40 // 2**11).zfill(40)}1"
    assert tie < Fraction(text) < tie + Fraction(1, 2**60)
    options = DomainOptions(inputs=(f"{text}..2",), round_inputs=True)
    box = read_domain(graph, options, lambda dtype: BINARY16).boxes[0]
    assert box.lo["x"].tolist() == [1 + 2.0**-10]


def test_a_counterexample_in_a_wider_format_keeps_its_inputs(tmp_path: Path) -> None:
    """No float32 number stands for them, and no runtime here can be given them."""
    square = helper.make_node("Mul", ["x", "x"], ["y"])
    graph = load(save(tmp_path / "m.onnx", [square], {"x": [1]}, {"y": [1]}))
    contract = replace(SEQUENTIAL, compute_format=BINARY64)
    domain = read_domain(graph, DomainOptions(inputs=("0.1..0.3",)), contract.format_of)
    how = Options(None, default_directory(), search_seconds=0.2)
    result = check(graph, domain, contract, Tolerance(Fraction(0)), how)
    assert result.verdict is Verdict.VIOLATED
    witness = result.witness
    assert witness is not None
    assert domain.boxes[0].contains(witness.inputs)
    x = float(witness.inputs["x"][0])
    assert x == witness.real_inputs["x"][0]
    assert x != float(np.float32(x))
    assert witness.value == x * x
    assert not any(isinstance(r, Execution) for r in witness.replays)


def test_a_root_at_zero_warns_of_nothing(tmp_path: Path) -> None:
    """Its slope is infinite there; what is infinite times 0 is no number, and no bound."""
    root = helper.make_node("Sqrt", ["x"], ["y"])
    graph = load(save(tmp_path / "m.onnx", [root], {"x": [1]}, {"y": [1]}))
    domain = read_domain(graph, DomainOptions(inputs=("0..0",)), SEQUENTIAL.format_of)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = check(
            graph,
            domain,
            SEQUENTIAL,
            Tolerance(Fraction(1, 10**9)),
            Options(EVERYTHING, default_directory()),
        )
    assert found.verdict is Verdict.VERIFIED
