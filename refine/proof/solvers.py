"""Solvers beside Z3: which there are, what each can read, and what it makes of a query.

A query is written once, as SMT-LIB; each solver reads that text. Their answers are compared, never
believed alone: what a proof rests on is Z3's.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType

from gpu_check.common.detached import DetachedContext
from onnx_import.errors import ModelError
from refine.proof.smtlib import logic_of
from refine.proof.solver_process import SAT, UNKNOWN, UNSAT, serve

GRACE = 2.0
"""Seconds that a solver has beyond its own limit before its process is ended."""
_STARTING = 60.0  # seconds for the process to start and the solver to be imported
_STATUS = re.compile(r"\(set-info :status [^()]*\)")
_FORMATS = re.compile(r"(?:FloatingPoint|to_fp|[+-]oo|[+-]zero|NaN) (\d+) (\d+)")
_INTERCHANGE = {("5", "11"), ("8", "24"), ("11", "53"), ("15", "113")}


class Solver(Enum):
    """A solver, by the name of its module."""

    Z3 = "z3"
    CVC5 = "cvc5"
    BITWUZLA = "bitwuzla"

    @property
    def package(self) -> str:
        return "z3-solver" if self is Solver.Z3 else self.value


class Opinion(Enum):
    """What a solver makes of a query."""

    PROVED = "proved"
    REFUTED = "refuted"
    VACUOUS = "vacuous"
    UNKNOWN = "unknown"
    NOT_READ = "not its logic"


@dataclass(frozen=True)
class Script:
    """A query as text: `refuting` is unsatisfiable if the goal follows; `hypotheses`, empty where
    there are none, is satisfiable if they can hold."""

    name: str
    refuting: str
    hypotheses: str = ""


@dataclass(frozen=True)
class Reply:
    """A solver's opinion of a query, after so many seconds; `detail` says why it is unknown."""

    opinion: Opinion
    seconds: float = 0.0
    detail: str = ""


def version_of(solver: Solver) -> str:
    """The installed version; "not installed" where there is none."""
    try:
        return version(solver.package) if find_spec(solver.value) else "not installed"
    except PackageNotFoundError:
        return "of unknown version"


def require_installed(solvers: Iterable[Solver]) -> None:
    """Raises ModelError, with the command that installs it, for a solver that is not here."""
    for solver in solvers:
        if find_spec(solver.value) is None:
            raise ModelError(
                f"the solver {solver.value} is not installed; install it with "
                f"'pip install {solver.package}', or ask another with --solver"
            )


def reads(solver: Solver, script: str) -> bool:
    """Does the solver have this script's theory?

    bitwuzla has no real numbers, and of floating-point formats those of IEEE 754 from 16 to 128
    bits alone. cvc5 has all, but in two exponent bits it answers what its own models contradict
    (1.4.2, `check-models`).
    """
    formats = set(_FORMATS.findall(script))
    if solver is Solver.BITWUZLA:
        return logic_of(script) == "QF_FP" and formats <= _INTERCHANGE
    return solver is not Solver.CVC5 or all(bits != "2" for bits, _ in formats)


@dataclass
class Asker:
    """Asks one solver, `limit` seconds for each question, in a process that is ended where it is
    late, and started anew. To be used in a `with` statement."""

    solver: Solver
    limit: float
    process: BaseProcess | None = field(default=None, init=False)
    line: Connection | None = field(default=None, init=False)

    def __enter__(self) -> Asker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def opinion(self, script: Script) -> Reply:
        """Whether the goal follows, and then whether the hypotheses can hold."""
        if not reads(self.solver, script.refuting):
            return Reply(Opinion.NOT_READ)
        answer, why, seconds = self._asked(script.refuting)
        if answer == SAT:
            return Reply(Opinion.REFUTED, seconds)
        if answer != UNSAT:
            return Reply(Opinion.UNKNOWN, seconds, why)
        if not script.hypotheses:
            return Reply(Opinion.PROVED, seconds)
        answer, why, more = self._asked(script.hypotheses)
        if answer == SAT:
            return Reply(Opinion.PROVED, seconds + more)
        if answer == UNSAT:
            return Reply(Opinion.VACUOUS, seconds + more, "the hypotheses contradict each other")
        return Reply(Opinion.UNKNOWN, seconds + more, f"whether the hypotheses can hold: {why}")

    def _asked(self, script: str) -> tuple[str, str, float]:
        plain = _STATUS.sub("", script)  # a solver is not told what to answer
        line = self._line()
        start = time.perf_counter()
        try:
            line.send((self.solver.value, plain, self.limit))
            if line.poll(self.limit + GRACE):
                answer, why = line.recv()
                return answer, why, time.perf_counter() - start
            why = "it did not stop at its time limit, and its process was ended"
        except (EOFError, OSError):
            why = "its process came to an end"
        self._end()
        return UNKNOWN, why, time.perf_counter() - start

    def _line(self) -> Connection:
        if self.line is None:
            context = DetachedContext()
            self.line, theirs = context.Pipe()
            try:
                self.process = context.Process(
                    target=serve, args=(theirs, os.getpid()), daemon=True
                )
                self.process.start()
                theirs.close()
                self._import(self.line)
            except (EOFError, OSError) as error:
                self._end()
                raise ModelError(
                    f"no process that asks {self.solver.value} can be started here"
                ) from error
        return self.line

    def _import(self, line: Connection) -> None:
        """Have the solver imported, outside of any limit; the empty script is refused."""
        line.send((self.solver.value, "", 1.0))
        if not line.poll(_STARTING):
            raise EOFError
        line.recv()

    def _end(self) -> None:
        if self.line is not None:
            self.line.close()
        if self.process is not None:
            self.process.kill()
            self.process.join()
        self.line = self.process = None
