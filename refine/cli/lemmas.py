"""`refine lemmas`: the lemma library, proved and printed; what other solvers say of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from refine.cli.answering import hearing
from refine.lemmas.agreement import Agreement, agreements, opinions_of, scripts_in, scripts_of
from refine.lemmas.cache import default_directory
from refine.lemmas.library import dump_smt2 as write_smt2
from refine.lemmas.library import library, prove_library
from refine.proof.solvers import Opinion, Reply, Solver, require_installed, version_of
from refine.report.console import Reporter
from refine.results.obligation import Kind
from refine.results.verdict import ExitCode

_ALL = "all"
_LONGEST = 1e6  # seconds: solvers count milliseconds in 32 bits


@click.command("lemmas")
@click.option(
    "--dump-smt2",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write every query to a solver into this folder.",
)
@click.option("--no-cache", is_flag=True, help="Prove every lemma anew.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.0, min_open=True, max=_LONGEST),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="For each question to a solver.",
)
@click.option(
    "--kind",
    type=click.Choice(["schema", "format", _ALL]),
    default=_ALL,
    show_default=True,
    help="Lemmas over the reals (schema), those of floating-point formats, or both.",
)
@click.option(
    "--solver",
    type=click.Choice([*(s.value for s in Solver), _ALL]),
    help="Print what these solvers make of each lemma.",
)
@click.option(
    "--queries",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Ask the queries that --dump-smt2 wrote there, of a check too, and not the library.",
)
def lemmas_command(
    *,
    dump_smt2: Path | None,
    no_cache: bool,
    timeout: float,
    kind: str,
    solver: str | None,
    queries: Path | None,
) -> ExitCode:
    """Prove the lemma library and print it.

    \b
    refine lemmas
    refine lemmas --kind schema --dump-smt2 queries

    With --solver, exit code 1 if a solver refutes a query that is to be proved, or shows that its
    hypotheses cannot hold; 3 if one does not know.
    """
    if not timeout > 0.0:  # NaN passes any range
        raise click.UsageError("--timeout takes a number of seconds above 0")
    reporter = Reporter()
    solvers = tuple(s for s in Solver if solver in (s.value, _ALL))
    require_installed(solvers)
    if queries is not None:
        if dump_smt2 is not None or no_cache or kind != _ALL:
            raise click.UsageError("--queries stands alone: only --solver and --timeout go with it")
        scripts = scripts_in(queries)
        solvers = solvers or (Solver.Z3,)
        with reporter.progress("asking solvers", hearing()) as progress:
            rows = tuple(agreements(scripts, solvers, timeout, progress.tell))
        return _told(reporter, rows, solvers)
    kinds = {"schema": (Kind.SCHEMA,), "format": (Kind.FORMAT,)}.get(
        kind, (Kind.SCHEMA, Kind.FORMAT)
    )
    with reporter.progress("proving the lemma library", hearing()) as progress:
        cache = None if no_cache else default_directory()
        obligations = prove_library(kinds, timeout, cache, processes=2)
        if solvers:
            known = opinions_of(obligations)
            asked = agreements(scripts_of(obligations), solvers, timeout, progress.tell, known)
            rows = tuple(asked)
    if dump_smt2 is not None:
        write_smt2(obligations, dump_smt2)
    if solvers:
        return _told(reporter, rows, solvers)
    reporter.lemmas(obligations, (m.statement for m in library(kinds)))
    proved = all(o.discharged for o in obligations)
    return ExitCode.VERIFIED if proved else ExitCode.UNKNOWN


def _told(reporter: Reporter, rows: Sequence[Agreement], solvers: Sequence[Solver]) -> ExitCode:
    """The table of agreement, and the exit code."""
    cells = [[row.name, *(_cell(row.replies[s]) for s in solvers)] for row in rows]
    agreed = sum(row.agreed for row in rows)
    answer = f"{agreed} of {len(rows)} proved by every solver that reads them"
    reporter.table("solvers", ("query", *(s.value for s in solvers)), cells, answer)
    reporter.lines(_summary(solver, [row.replies[solver] for row in rows]) for solver in solvers)
    reporter.lines(f"{row.name}: {_why(row)}" for row in rows if not row.agreed)
    if any(row.refuted for row in rows):
        return ExitCode.VIOLATED
    return ExitCode.VERIFIED if all(row.agreed for row in rows) else ExitCode.UNKNOWN


def _cell(reply: Reply) -> str:
    took = "" if reply.opinion is Opinion.NOT_READ else f" {reply.seconds:.2f} s"
    return f"{reply.opinion.value}{took}"


def _summary(solver: Solver, replies: Sequence[Reply]) -> str:
    counts = {o: sum(reply.opinion is o for reply in replies) for o in Opinion}
    told = ", ".join(f"{n} {o.value}" for o, n in counts.items() if n)
    return f"{solver.value} {version_of(solver)}: {told}"


def _why(row: Agreement) -> str:
    return "; ".join(
        f"{solver.value} says {reply.opinion.value}" + (f" ({reply.detail})" * bool(reply.detail))
        for solver, reply in row.replies.items()
        if reply.opinion is not Opinion.NOT_READ
    )
