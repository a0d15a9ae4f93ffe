"""What is written for solvers is SMT-LIB 2.6: read by cvc5's parser in its strict mode, and held
against the standard's own words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_models
import z3
from onnx import helper

from refine.cli.main import run
from refine.lemmas.library import library
from refine.proof.smtlib import standard_script
from refine.proof.z3_solver import Fact, Query, hypotheses_text, smt2_text, solve
from refine.results.answers import ExitCode
from refine.results.obligation import Kind, Outcome

LOGICS = {"QF_LRA", "QF_NRA", "QF_LIRA", "QF_NIRA", "QF_FP"}


@pytest.fixture(scope="module")
def scripts() -> list[str]:
    """Every query of the library, and the question whether its hypotheses can hold."""
    queries = [lemma.query() for lemma in library()]
    return [*map(smt2_text, queries), *filter(None, map(hypotheses_text, queries))]


def lists(text: str) -> Iterator[list[str]]:
    """Head and arguments of every list of a script, however deep; lists as arguments are "()"."""
    text = "\n".join(line for line in text.splitlines() if not line.startswith(";"))
    text = re.sub(r"\|[^|]*\|", "quoted", text)
    stack: list[list[str]] = [[]]
    for word in text.replace("(", " ( ").replace(")", " ) ").split():
        if word == "(":
            stack.append([])
        elif word == ")":
            yield stack.pop()
            stack[-1].append("()")
        else:
            stack[-1].append(word)


def require_standard(text: str) -> None:
    for head, *arguments in filter(None, lists(text)):
        assert head != "^"
        assert head not in ("+", "*", "and", "or") or len(arguments) >= 2, (head, arguments)
        assert head != "set-logic" or arguments[0] in LOGICS
    commands = [line for line in text.splitlines() if not line.startswith(";")]
    assert commands[0] == "(set-info :smt-lib-version 2.6)"
    assert commands[1].startswith("(set-logic ")
    assert commands[-1] == "(check-sat)"


def require_read_by_cvc5(text: str) -> None:
    cvc5 = pytest.importorskip("cvc5", reason="cvc5 is not installed: pip install cvc5")
    solver = cvc5.Solver(cvc5.TermManager())
    for option in ("strict-parsing", "fp-exp", "parse-only"):
        solver.setOption(option, "true")
    parser = cvc5.InputParser(solver)
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, text, "query")
    symbols, names = parser.getSymbolManager(), []
    while not (command := parser.nextCommand()).isNull():
        names.append(command.getCommandName())
        if names[-1] != "check-sat":
            command.invoke(solver, symbols)
    assert names.count("check-sat") == 1


def test_every_lemma_is_in_the_words_of_the_standard(scripts: list[str]) -> None:
    for text in scripts:
        require_standard(text)


def test_cvc5_reads_every_lemma(scripts: list[str]) -> None:
    for text in scripts:
        require_read_by_cvc5(text)


@pytest.mark.parametrize("operator", ["Gemm", "Sqrt", "Floor", "BatchNormalization"])
def test_queries_of_a_check(tmp_path: Path, operator: str) -> None:
    """Sums of one term, roots, integers and ranges of one element, in real numbers and in bits."""
    ones = np.ones(1, np.float32)
    weights: dict[str, Any] = {"w": ones.reshape(1, 1)} if operator == "Gemm" else {}
    if operator == "BatchNormalization":
        weights = dict(zip("sbmv", (ones, ones, ones, 2 * ones), strict=True))
    node = helper.make_node(operator, ["x", *weights], ["y"], "the node")
    small_models.save(tmp_path / "m.onnx", [node], {"x": [1, 1]}, {"y": [1, 1]}, weights)
    arguments = ["--input", "1..2", "--eps", "2", "--z3", "all", "--no-search", "--no-conform"]
    dump = ["--dump-smt2", str(tmp_path / "smt2"), "--quiet"]
    assert run(["check", str(tmp_path / "m.onnx"), *arguments, *dump]) is ExitCode.VERIFIED
    texts = [f.read_text() for f in sorted((tmp_path / "smt2").iterdir())]
    assert any("x0" in text for text in texts)
    for text in texts:
        require_standard(text)
        require_read_by_cvc5(text)


@pytest.mark.parametrize(
    ("formula", "logic"),
    [
        (z3.Real("x") * 3 + z3.Real("y") >= z3.Q(1, 3), "QF_LRA"),
        (z3.Real("x") * z3.Real("y") >= 0, "QF_NRA"),
        (1 / z3.Real("x") >= 0, "QF_NRA"),
        (z3.ToReal(z3.ToInt(z3.Real("x"))) <= z3.Real("x"), "QF_LIRA"),
        (z3.ToReal(z3.ToInt(z3.Real("x"))) * z3.Real("x") >= 0, "QF_NIRA"),
        (z3.Or(z3.Bool("p"), z3.Real("(* a b)") > 0), "QF_LRA"),
    ],
)
def test_the_smallest_logic_is_named(formula: Any, logic: str) -> None:
    text = smt2_text(Query("q", Kind.SCHEMA, (), Fact("f", formula)))
    require_standard(text)
    assert f"(set-logic {logic})" in text


def test_operators_of_one_argument_go() -> None:
    x, p = z3.Real("x"), z3.Bool("p")
    odd = z3.Real("(+ a)") > 0
    goal = z3.And(z3.Or(z3.And(p)), z3.Sum([x]) <= z3.Sum([z3.Product([x])]), odd, z3.And())
    text = smt2_text(Query("q", Kind.SCHEMA, (), Fact("f", goal)))
    require_standard(text)
    require_read_by_cvc5(text)
    assert "|(+ a)|" in text
    solver = z3.Solver()
    solver.add(z3.parse_smt2_string(text), z3.And(p, x == 1, z3.Real("(+ a)") == 1))
    assert solver.check() == z3.unsat  # it still says ¬goal


def test_roots_and_powers_are_products() -> None:
    x = z3.Real("x")
    facts = (Fact("x ≥ 4", x >= 4),)
    proved = Query("q", Kind.SCHEMA, facts, Fact("√(√x·√x) ≥ 2", z3.Sqrt(z3.Sqrt(x) ** 2) >= 2))
    require_standard(smt2_text(proved))
    require_read_by_cvc5(smt2_text(proved))
    assert solve(proved).outcome is Outcome.DISCHARGED
    false = Query("q", Kind.SCHEMA, facts, Fact("√x ≥ 3", z3.Sqrt(x) >= 3))
    assert solve(false).outcome is Outcome.REFUTED
    of_negative = Query("q", Kind.SCHEMA, (), Fact("√x ≥ 0", z3.Sqrt(x) >= 0))
    assert solve(of_negative).outcome is Outcome.REFUTED


def test_texts_for_people_stay_comments() -> None:
    name = "a\nb\u2028(check-sat)\x00\ud800"
    text = smt2_text(Query(name, Kind.SCHEMA, (), Fact("x\r(exit)", z3.Real("x") == 0), node=name))
    require_standard(text)
    require_read_by_cvc5(text)
    assert text.count("(check-sat)") == 3  # two of them in a comment


def test_a_script_keeps_its_names() -> None:
    given = (
        "(set-info :status unknown)\n(declare-fun |a b| () Real)\n(assert (and (< |a b| 1.0)))\n"
    )
    assert standard_script("sat", given) == (
        "(set-info :smt-lib-version 2.6)\n(set-logic QF_LRA)\n(set-info :status sat)\n"
        "(declare-fun |a b| () Real)\n(assert  (< |a b| 1.0))\n"
    )
