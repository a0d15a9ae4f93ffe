"""A process that asks solvers, one script after another, and can be ended at any time.

A solver's own time limit is looked at only where the solver looks; some never come back from
preprocessing. So whoever waits for this process ends it when it is late. Solvers are imported here
alone: a crash of theirs is this process's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from multiprocessing.connection import Connection
from types import MappingProxyType
from typing import Any

from gpu_check.common.children import start_worker
from refine.proof.z3_solver import answer_to

SAT, UNSAT, UNKNOWN = "sat", "unsat", "unknown"


def serve(line: Connection, parent: int) -> None:
    """Answer (solver, script, seconds) with (sat, unsat or unknown; why), until the line closes."""
    start_worker(parent)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # what a solver says beside its answer
        os.dup2(nowhere, stream)
    while True:
        try:
            solver, script, seconds = line.recv()
        except EOFError:
            return
        line.send(_answer(solver, script, seconds))


def _answer(solver: str, script: str, seconds: float) -> tuple[str, str]:
    try:
        return _ASKED[solver](script, seconds)
    except Exception as error:  # theirs, of any kind: a script they do not read among them
        return UNKNOWN, " ".join(str(error).split()) or type(error).__name__


def _cvc5(script: str, seconds: float) -> tuple[str, str]:
    """Two ways of choosing what products to look at, half of the time each."""
    known = _cvc5_by("none", script, seconds / 2)
    return known if known[0] != UNKNOWN else _cvc5_by("always", script, seconds / 2)


def _cvc5_by(relevance: str, script: str, seconds: float) -> tuple[str, str]:
    cvc5: Any = import_module("cvc5")
    solver = cvc5.Solver(cvc5.TermManager())
    solver.setOption("tlimit-per", str(max(1, round(seconds * 1000))))
    solver.setOption("fp-exp", "true")  # formats other than float32 and float64
    solver.setOption("nl-rlv", relevance)
    parser = cvc5.InputParser(solver)
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, script, "query")
    symbols = parser.getSymbolManager()
    while not (command := parser.nextCommand()).isNull():
        if command.getCommandName() == "check-sat":
            break
        command.invoke(solver, symbols)
    result = solver.checkSat()
    if result.isSat() or result.isUnsat():
        return (SAT if result.isSat() else UNSAT), ""
    return UNKNOWN, str(result.getUnknownExplanation()).rpartition(".")[2].lower()


def _bitwuzla(script: str, seconds: float) -> tuple[str, str]:
    bitwuzla: Any = import_module("bitwuzla")
    options = bitwuzla.Options()
    options.set(bitwuzla.Option.TIME_LIMIT_PER, max(1, round(seconds * 1000)))
    parser = bitwuzla.Parser(bitwuzla.TermManager(), options)
    parser.parse(script, True, False)
    answer = str(parser.bitwuzla().check_sat())
    return (answer, "") if answer in (SAT, UNSAT) else (UNKNOWN, "it gives no answer in this time")


_ASKED: Mapping[str, Callable[[str, float], tuple[str, str]]] = MappingProxyType(
    {"z3": answer_to, "cvc5": _cvc5, "bitwuzla": _bitwuzla}
)
