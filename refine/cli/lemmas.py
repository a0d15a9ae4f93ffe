"""`refine lemmas`: the lemma library, proved and printed."""

from __future__ import annotations

from pathlib import Path

import click

from refine.lemmas.cache import default_directory
from refine.lemmas.library import dump_smt2 as write_smt2
from refine.lemmas.library import library, prove_library
from refine.report.console import Reporter
from refine.results.obligation import Kind
from refine.results.verdict import ExitCode


@click.command("lemmas")
@click.option("--dump-smt2", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--no-cache", is_flag=True, help="Prove every lemma anew.")
@click.option(
    "--timeout",
    type=float,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="For each question to Z3.",
)
@click.option(
    "--kind", type=click.Choice(["schema", "format", "all"]), default="all", show_default=True
)
def lemmas_command(dump_smt2: Path | None, no_cache: bool, timeout: float, kind: str) -> ExitCode:
    """Prove the lemma library and print it."""
    kinds = {"schema": (Kind.SCHEMA,), "format": (Kind.FORMAT,)}.get(
        kind, (Kind.SCHEMA, Kind.FORMAT)
    )
    reporter = Reporter()
    with reporter.progress("proving the lemma library"):
        cache = None if no_cache else default_directory()
        obligations = prove_library(kinds, timeout, cache, processes=2)
    reporter.lemmas(obligations, (m.statement for m in library(kinds)))
    if dump_smt2 is not None:
        write_smt2(obligations, dump_smt2)
    proved = all(o.discharged for o in obligations)
    return ExitCode.VERIFIED if proved else ExitCode.UNKNOWN
