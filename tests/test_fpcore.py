"""FPCore kernels: what is read, what is refused, and the command line on them."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from kernel_files import FILES, body_of, has_functions, interpreted, kernel, read

from encoders.arithmetic.exact_fields import Balls, enclosure
from encoders.contract.presets import SEQUENTIAL
from encoders.numbers.formats import BINARY32, BINARY64, round_fraction
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_exact
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import DType
from refine.cli.main import run
from refine.domain.domain import DomainOptions, read_domain


@pytest.mark.parametrize("path", [f for f in FILES if not has_functions(f)], ids=lambda p: p.stem)
def test_both_meanings_are_those_of_the_text(path: Path) -> None:
    """Run time against Python's or numpy's floats, bit for bit; the reals against rationals."""
    graph, domain = read(path)
    single = graph.types[graph.outputs[0]].dtype is DType.FLOAT32
    kind, fmt = (np.float32, BINARY32) if single else (np.float64, BINARY64)
    points = domain.boxes[0].sample(np.random.default_rng(3), 30)
    typed = {name: v.astype(kind) for name, v in points.items()}
    computed = emulate(graph, typed, SEQUENTIAL)[graph.outputs[0]]
    body = body_of(path)
    for i in range(30):
        at = {name: v[i] for name, v in typed.items()}
        expected = interpreted(body, at, lambda q: kind(float(round_fraction(q, fmt))), np.sqrt)
        assert computed[i] == expected
        if "sqrt" not in path.read_text():
            rational = {name: Fraction(float(v)) for name, v in at.items()}
            truth = interpreted(body, rational, lambda q: q)
            wide = {name: np.asarray(v, np.float64) for name, v in at.items()}
            lo, hi = enclosure(evaluate_exact(graph, wide, Balls(400))[graph.outputs[0]].item())
            assert lo <= truth <= hi
            assert hi - lo < Fraction(1, 2**200)


def test_the_precondition_is_the_domain(tmp_path: Path) -> None:
    path = kernel(tmp_path, "(+ x y)", "(and (<= -1/2 x 0.1) (< 0 y) (>= 3 y))")
    _, domain = read(path)
    (box,) = domain.boxes
    assert float(box.lo["x"]) == -0.5
    assert Fraction(float(box.hi["x"])) < Fraction(1, 10)
    assert float(box.lo["y"]) == 2.0**-1074
    assert float(box.hi["y"]) == 3.0


def test_options_override_the_precondition(tmp_path: Path) -> None:
    graph = load(kernel(tmp_path, "(* x x)", "(<= 1 x 2)", "x"))
    domain = read_domain(graph, DomainOptions(inputs=("x=3..4",)), SEQUENTIAL.format_of)
    assert float(domain.boxes[0].lo["x"]) == 3.0


@pytest.mark.parametrize("pre", ["TRUE", "(<= 0 x 1)", "(and (<= 0 x 1) (<= 0 y 1) (< x y))"])
def test_a_precondition_that_is_no_box_gives_no_domain(tmp_path: Path, pre: str) -> None:
    graph = load(kernel(tmp_path, "(+ x y)", pre))
    assert any("precondition" in note for note in graph.notes)
    with pytest.raises(ModelError, match="no domain is given"):
        read_domain(graph, DomainOptions(), SEQUENTIAL.format_of)


def test_repeated_expressions_are_one_node(tmp_path: Path) -> None:
    graph = load(kernel(tmp_path, "(let ([a (* x y)]) (+ a (sqrt (* x y))))"))
    assert [node.op for node in graph.order] == ["Mul", "Sqrt", "Add"]


@pytest.mark.parametrize(
    ("body", "op"),
    [
        ("(if (< x y) x y)", "Min"),
        ("(if (< x y) y x)", "Max"),
        ("(if (>= x y) y x)", "Min"),
        ("(if (> x y) x y)", "Max"),
        ("(if (< x 0) (- x) x)", "Abs"),
        ("(if (>= x 0) x (- x))", "Abs"),
        ("(if (< x 0) x (- x))", "Where"),
        ("(if (>= x 0) (- x) x)", "Where"),
        ("(if (< x 1) (* 2 x) x)", "Where"),
    ],
)
def test_branches_without_a_jump_become_operators_without_one(
    tmp_path: Path, body: str, op: str
) -> None:
    graph = load(kernel(tmp_path, body))
    assert graph.order[-1].op == op
    for x in (-2.5, -1.0, 0.0, 0.75, 3.0):
        at = {"x": x, "y": 0.75}
        given = {name: np.array([at[name]]) for name in graph.inputs}
        computed = emulate(graph, given, SEQUENTIAL)[graph.outputs[0]][0]
        assert computed == interpreted(body_of(graph.source or tmp_path), at, float)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("(FPCore (x) (+ x z))", "name z has no value"),
        ("(FPCore (x) (while (< x 1) ([x x (+ x 1)]) x))", "loops"),
        ("(FPCore (x) (cast x))", "precision"),
        ("(FPCore (x) (fma x x x))", "FMA"),
        ("(FPCore (x) (gamma x))", "gamma"),
        ("(FPCore (x) (pow x x))", "exponent"),
        ("(FPCore (x) (+ x 1 2))", "no meaning"),
        ("(FPCore (x) (if TRUE x x))", "comparison"),
        ("(FPCore (x) :precision binary80 x)", "binary80"),
        ("(FPCore (x) :round toZero (+ x 1))", "toZero"),
        ("(FPCore (x) (+ 1 2))", "constant"),
        ("(FPCore (x) x) (FPCore (y) y)", "2 expressions"),
        ("(FPCore (x) (+ x 1)", "never closed"),
        ("(FPCore (x) (+ x 1]))", "stray"),
        ('(FPCore (x) :name "open (+ x 1))', "cannot be read"),
        ("(FPCore (x x) (+ x 1))", "different"),
        ("(FPCore ((! :precision binary32 x)) x)", "plain names"),
        ("(FPCore)", "arguments and a body"),
        ("hello", "hello"),
        ("(" * 5000, "nested"),
        ("(FPCore (x) (let ([x 1] y) x))", "binding"),
        ("(FPCore (x) :pre (<= 1 x 2) :pre (<= 1 x 9) (+ x 1))", "property :pre twice"),
    ],
)
def test_what_has_no_meaning_is_refused_in_a_sentence(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "bad.fpcore"
    path.write_text(text)
    with pytest.raises(ModelError, match=words) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert "bad.fpcore" in str(caught.value)


_QUICK = ["--contract", "sequential", "--z3", "none", "--budget", "4"]


def test_a_claim_about_a_kernel_is_proved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kernel(tmp_path, "(/ x (+ x 1))", "(<= 0 x 999)", "x")
    assert run(["check", str(path), "--eps", "3e-16", *_QUICK, "--json", "-"]).value == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "verified"
    assert document["worst_found"] is None or document["worst_found"] <= document["bound"]


def test_a_kernel_is_refuted_and_the_witness_runs_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kernel(tmp_path, "(- (* x 0.1) y)", "(and (<= 1 x 2) (<= 1 y 2))")
    saved = tmp_path / "found.json"
    arguments = ["--eps", "1e-18", *_QUICK, "--json", "-", "--counterexample", str(saved)]
    assert run(["check", str(path), *arguments]).value == 1
    document = json.loads(capsys.readouterr().out)
    assert "FPCore" in json.dumps(document["counterexample"])
    assert run(["replay", str(saved)]).value == 1


def test_z3_agrees_about_a_square(capsys: pytest.CaptureFixture[str]) -> None:
    """Both factors are one variable there; and the search sees the errors of float64."""
    path = next(f for f in FILES if f.stem == "nonlin2")
    arguments = ["--contract", "sequential", "--budget", "1", "--json", "-"]
    assert run(["bound", str(path), *arguments]).value == 0
    document = json.loads(capsys.readouterr().out)
    assert 1e-15 < document["worst_found"] <= document["bound"]


def test_a_jump_is_charged(tmp_path: Path) -> None:
    """A branch that rounding can flip: the bound is not below the height of the jump."""
    path = kernel(tmp_path, "(if (< (* x 0.1) 0.1) 0 x)", "(<= 0 x 2)", "x")
    result = run(["check", str(path), "--eps", "0.5", *_QUICK, "--no-search", "-q"])
    assert result.value == 3
