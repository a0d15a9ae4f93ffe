"""Other solvers on the queries that Z3 proved; and what becomes of a solver that is late, is lost,
reads nothing or is not there."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import small_models
import z3

from refine.cli.main import run
from refine.lemmas.agreement import agreements, scripts_in
from refine.lemmas.library import library
from refine.proof import solvers
from refine.proof.solvers import Asker, Opinion, Script, Solver, reads, version_of
from refine.proof.z3_solver import Fact, Query, hypotheses_text, smt2_text
from refine.results.answers import ExitCode
from refine.results.obligation import Kind

HERE = [s for s in Solver if version_of(s) != "not installed"]
EACH = [
    pytest.param(
        s,
        marks=pytest.mark.skipif(
            s not in HERE, reason=f"{s.value} is not installed: pip install {s.package}"
        ),
    )
    for s in Solver
]
QUICK = ("maximum-exact", "relu-exact", "flush-operand", "halving-exact", "widening-exact",
         "small-sum-exact", "correctly-rounded-sum", "overflow-threshold-sum")  # fmt: skip
"""Format lemmas that take cvc5 a second each; the others take up to a quarter of a minute."""


def script(name: str, goal: object, *hypotheses: object) -> Script:
    facts = tuple(Fact(str(h), h) for h in hypotheses)
    query = Query(name, Kind.SCHEMA, facts, Fact(str(goal), goal))
    return Script(name, smt2_text(query), hypotheses_text(query))


def of_library(kind: Kind) -> Iterator[Script]:
    for lemma in library((kind,)):
        query = lemma.query()
        yield Script(lemma.name, smt2_text(query), hypotheses_text(query))


X, Y = z3.Reals("x y")
TRUE = script("true", X * Y <= 1, X >= 0, X <= 1, Y >= 0, Y <= 1)
FALSE = script("false", X * Y <= 1, X <= 1, Y <= 1)
EMPTY = script("empty", X == 7, X > 1, X < 1)
BROKEN = Script("broken", "(set-logic QF_LRA)\n(assert (= x x))\n(check-sat)\n")


def unheard(said: str) -> None:
    pass


def is_quick(name: str) -> bool:
    return name.startswith(QUICK)


@pytest.mark.parametrize("solver", EACH)
def test_solvers_agree_on_the_library(solver: Solver) -> None:
    if solver is Solver.Z3:
        pytest.skip("tests/test_lemmas.py")
    formats = [s for s in of_library(Kind.FORMAT) if is_quick(s.name)]
    rows = list(agreements([*of_library(Kind.SCHEMA), *formats], [solver], 60.0, unheard))
    assert {row.name: row.replies for row in rows if not row.agreed} == {}
    proved = {row.name for row in rows if row.opinions == {Opinion.PROVED}}
    assert len(proved) > 5
    assert solver is not Solver.CVC5 or len(proved) == len(rows)


@pytest.mark.parametrize("solver", EACH)
def test_solvers_agree_on_a_whole_check(solver: Solver, tmp_path: Path) -> None:
    model, dumped = small_models.mlp(tmp_path / "m.onnx"), tmp_path / "queries"
    check = ["check", str(model), "--input", "-1..1", "--eps", "1", "--no-search", "--quiet"]
    assert run([*check, "--dump-smt2", str(dumped)]) is ExitCode.VERIFIED
    (row,) = {str(row.opinions - {Opinion.NOT_READ}) for row in agreements(
        scripts_in(dumped), [solver], 60.0, unheard
    )} - {str(set())}  # fmt: skip
    assert row == str({Opinion.PROVED})
    assert run(["lemmas", "--queries", str(dumped), "--solver", solver.value]) is ExitCode.VERIFIED


@pytest.mark.parametrize("solver", EACH)
def test_what_is_false_or_empty_is_said(solver: Solver) -> None:
    if solver is Solver.BITWUZLA:
        pytest.skip("bitwuzla has no real numbers")
    with Asker(solver, 30.0) as asker:
        given = {s.name: asker.opinion(s).opinion for s in (TRUE, FALSE, EMPTY, BROKEN)}
    assert given == {
        "true": Opinion.PROVED,
        "false": Opinion.REFUTED,
        "empty": Opinion.VACUOUS,
        "broken": Opinion.UNKNOWN,
    }


@pytest.mark.parametrize("solver", EACH)
def test_bits_that_are_false(solver: Solver) -> None:
    text = (
        "(set-logic QF_FP)\n(declare-fun x () (_ FloatingPoint 8 24))\n"
        "(assert (not (fp.eq x x)))\n(check-sat)\n"
    )
    with Asker(solver, 30.0) as asker:
        assert asker.opinion(Script("nan", text)).opinion is Opinion.REFUTED


def test_formats_that_solvers_do_not_have() -> None:
    def declares(sort: str, logic: str = "QF_FP") -> str:
        return f"(set-logic {logic})\n(declare-fun x () {sort})\n(check-sat)\n"

    assert reads(Solver.BITWUZLA, declares("(_ FloatingPoint 11 53)"))
    assert not reads(Solver.BITWUZLA, declares("(_ FloatingPoint 3 4)"))
    assert not reads(Solver.BITWUZLA, declares("(_ FloatingPoint 8 8)"))
    assert not reads(Solver.BITWUZLA, declares("Real", "QF_NRA"))
    assert reads(Solver.CVC5, declares("(_ FloatingPoint 3 4)"))
    assert not reads(Solver.CVC5, declares("(_ FloatingPoint 2 3)"))
    assert reads(Solver.Z3, declares("(_ FloatingPoint 2 3)"))


@pytest.mark.parametrize("solver", EACH)
def test_a_solver_that_is_late_or_lost_is_asked_again(
    solver: Solver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit ends the process from outside, whatever the solver does about its own."""
    if solver is Solver.BITWUZLA:
        pytest.skip("bitwuzla has no real numbers")
    with Asker(solver, 30.0) as asker:
        assert asker.opinion(TRUE).opinion is Opinion.PROVED
        assert asker.process is not None
        first = asker.process.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)  # as one that never comes back
        asker.limit = 0.01
        monkeypatch.setattr(solvers, "GRACE", 0.1)
        late = asker.opinion(TRUE)
        assert late.opinion is Opinion.UNKNOWN
        assert "did not stop" in late.detail
        monkeypatch.undo()
        asker.limit = 30.0
        assert asker.opinion(TRUE).opinion is Opinion.PROVED
        assert asker.process is not None
        assert asker.process.pid not in (None, first)
        asker.process.kill()
        asker.process.join()
        lost = asker.opinion(TRUE)
        assert lost.opinion is Opinion.UNKNOWN
        assert "came to an end" in lost.detail
        assert asker.opinion(TRUE).opinion is Opinion.PROVED


def test_a_process_that_cannot_start_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(solvers, "serve", os._exit)  # ends before it answers
    folder = put(tmp_path / "q", TRUE)
    assert run(["lemmas", "--queries", folder]) is ExitCode.INPUT_ERROR
    assert "can be started here" in capsys.readouterr().err


# The command


def put(folder: Path, *written: Script) -> str:
    folder.mkdir()
    for s in written:
        (folder / f"{s.name}.smt2").write_text(s.refuting)
        if s.hypotheses:
            (folder / f"{s.name}.hypotheses.smt2").write_text(s.hypotheses)
    return str(folder)


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ([TRUE], ExitCode.VERIFIED),
        ([TRUE, FALSE], ExitCode.VIOLATED),
        ([TRUE, EMPTY], ExitCode.VIOLATED),
        ([TRUE, BROKEN], ExitCode.UNKNOWN),
    ],
)
def test_exit_codes(
    tmp_path: Path, written: list[Script], code: ExitCode, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = put(tmp_path / "q", *written)
    assert run(["lemmas", "--queries", folder, "--solver", "z3"]) is code
    shown = capsys.readouterr().out
    assert f"{len(written) - (code is not ExitCode.VERIFIED)} of {len(written)} proved" in shown
    assert all(s.name in shown for s in written)


def test_folders_without_queries_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bytes").mkdir()
    (tmp_path / "bytes" / "a.smt2").write_bytes(b"\xff\x00")
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "a.smt2")
    for folder in (tmp_path, tmp_path / "missing", tmp_path / "bytes", tmp_path / "pipe"):
        assert run(["lemmas", "--queries", str(folder)]) is ExitCode.INPUT_ERROR
        said = capsys.readouterr().err
        assert said.startswith("refine: ")
        assert said.count("\n") == 1
    put_in = put(tmp_path / "q", TRUE)
    assert run(["lemmas", "--queries", put_in, "--no-cache"]) is ExitCode.INPUT_ERROR
    for seconds in ("nan", "inf", "0", "-1"):
        assert run(["lemmas", "--queries", put_in, "--timeout", seconds]) is ExitCode.INPUT_ERROR


def test_a_missing_solver_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(solvers, "find_spec", lambda name: None if name == "cvc5" else name)
    assert run(["lemmas", "--kind", "schema", "--solver", "all"]) is ExitCode.INPUT_ERROR
    assert "pip install cvc5" in capsys.readouterr().err
