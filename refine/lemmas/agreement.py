"""What several solvers make of the same queries: of the library, or of a folder that was dumped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from onnx_import.errors import ModelError
from onnx_import.files import read_text
from refine.common.visible import visible
from refine.proof.solvers import Asker, Opinion, Reply, Script, Solver, require_installed
from refine.results.obligation import Obligation, Outcome

HYPOTHESES = ".hypotheses.smt2"
"""How the file ends that asks whether the hypotheses of the one beside it can hold."""
_WANTED = "give a folder that --dump-smt2 wrote"

_OPINIONS: Mapping[Outcome, Opinion] = {
    Outcome.DISCHARGED: Opinion.PROVED,
    Outcome.REFUTED: Opinion.REFUTED,
    Outcome.VACUOUS: Opinion.VACUOUS,
    Outcome.UNDECIDED: Opinion.UNKNOWN,
}


@dataclass(frozen=True)
class Agreement:
    """One query, and each solver's reply."""

    name: str
    replies: Mapping[Solver, Reply]

    @property
    def opinions(self) -> set[Opinion]:
        return {reply.opinion for reply in self.replies.values()}

    @property
    def refuted(self) -> bool:
        """Does a solver say that it is false, or empty?"""
        return bool(self.opinions & {Opinion.REFUTED, Opinion.VACUOUS})

    @property
    def agreed(self) -> bool:
        """Is it proved by each solver that reads it?"""
        return self.opinions <= {Opinion.PROVED, Opinion.NOT_READ}


def scripts_of(obligations: Iterable[Obligation]) -> tuple[Script, ...]:
    """Of each obligation that was put to Z3."""
    return tuple(Script(o.name, o.smt2, o.smt2_hypotheses) for o in obligations if o.smt2)


def scripts_in(folder: Path) -> tuple[Script, ...]:
    """The queries of a folder that `--dump-smt2` wrote. Raises ModelError where there are none."""
    try:
        files = sorted(p for p in folder.iterdir() if p.name.endswith(".smt2"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{visible(str(folder))}: cannot be read; {_WANTED}") from error
    asked = [p for p in files if not p.name.endswith(HYPOTHESES)]
    if not asked:
        raise ModelError(f"{visible(str(folder))}: no file there ends in .smt2; {_WANTED}")
    beside = [p.with_suffix(HYPOTHESES) for p in asked]
    return tuple(
        Script(visible(p.stem), read_text(p), read_text(h) if h in files else "")
        for p, h in zip(asked, beside, strict=True)
    )


def opinions_of(obligations: Iterable[Obligation]) -> Mapping[str, Reply]:
    """What Z3 made of obligations when they were discharged, by name."""
    return {o.name: Reply(_OPINIONS[o.outcome], o.seconds, o.detail) for o in obligations}


def agreements(
    scripts: Sequence[Script],
    solvers: Sequence[Solver],
    seconds: float,
    tell: Callable[[str], None],
    known: Mapping[str, Reply] | None = None,
) -> Iterator[Agreement]:
    """Ask each solver each query, `seconds` for each question.

    `known` are replies of Z3 that need not be asked for again, by the query's name; `tell` hears
    the name of each query before it is asked. Raises ModelError for a solver that is not installed.
    """
    require_installed(solvers)
    with ExitStack() as stack:
        askers = {s: stack.enter_context(Asker(s, seconds)) for s in solvers}
        for script in scripts:
            tell(script.name)
            given = {Solver.Z3: known[script.name]} if known and script.name in known else {}
            yield Agreement(
                script.name,
                {s: given.get(s) or asker.opinion(script) for s, asker in askers.items()},
            )
