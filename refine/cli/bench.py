"""`refine bench`: the properties of a whole list of instances, settled for what runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click

from gpu_check.common.writing import require_writable, write_text
from refine.claims.many.benching import (
    Bench,
    Row,
    Standing,
    counts_of,
    document_of_rows,
    exit_code_of,
    kept_rows,
    run_list,
)
from refine.claims.many.instances import Instance, read_instances
from refine.cli.answering import hearing
from refine.cli.check import check_command
from refine.cli.passed import passing
from refine.cli.setup.findings import finding_options, require_finding_places, tell_findings
from refine.options.options import limiting
from refine.report.console import Reporter
from refine.report.findings import Finding, Outcome
from refine.results.numerals import down
from refine.results.verdict import ExitCode

_COLUMNS = ("instance", "answer", "margin", "over the reals", "seconds", "")


@passing
@click.command("bench")
@click.argument("instances", metavar="INSTANCES.csv", type=click.Path(path_type=Path))
@partial(limiting, help="Limit of each instance, in place of the list's.")
@click.option(
    "--budget",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long to improve the bounds of an instance; default: all the time that it has.",
)
@click.option("--json", "json_path", metavar="FILE", help="Write the answers, after each instance.")
@click.option("--resume", is_flag=True, help="Keep the answers that the file of --json has.")
@click.option(
    "--counterexamples",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where counterexamples are saved; default: INSTANCES-counterexamples here.",
)
@finding_options
@click.option("--quiet", "-q", is_flag=True, help="Only the counts.")
def bench_command(
    instances: Path,
    timeout: float | None,
    budget: float | None,
    json_path: str | None,
    resume: bool,
    counterexamples: Path | None,
    junit: Path | None,
    sarif: Path | None,
    quiet: bool,
    **passed: Any,
) -> ExitCode:
    """Settle the properties of a list of instances for the network that runs.

    \b
    refine bench instances.csv
    refine bench instances.csv --json answers.json --resume --timeout 60

    Each row of the list is MODEL,PROPERTY,SECONDS as VNN-COMP has it, paths relative to the list;
    both files may be packed (.gz). Each instance is a refine check --claim property of its own.

    Exit code 0 if every instance is verified, else that of the worst answer: 70 internal error, 1
    violated, 2 a file could not be read, 5 contract broken, 3 unknown.
    """
    reporter = Reporter(quiet, silent=json_path == "-")
    kept = None if json_path in (None, "-") else Path(str(json_path))
    if resume and kept is None:
        raise click.UsageError("--resume needs --json FILE, whose answers it keeps")
    if passed["search_seconds"] is not None and passed["no_search"]:
        raise click.UsageError("--search does not go with --no-search")
    if kept is not None:
        require_writable(kept)
    require_finding_places(junit, sarif)
    listed = read_instances(instances, timeout)
    earlier = kept_rows(kept) if resume and kept is not None else ()
    folder = counterexamples or Path(f"{instances.stem}-counterexamples")
    contract = Path(passed["contract"])
    cluster = passed["cluster"]
    if cluster is not None:  # each instance has one of its workers
        passed |= {"cluster": None, "workers": 1}
    bench = Bench(
        _arguments(passed),
        folder,
        budget,
        contract if contract.suffix == ".toml" else None,
        cluster=cluster,
    )

    def keep(rows: Sequence[Row]) -> None:
        if kept is not None:
            write_text(kept, document_of_rows(rows, len(listed)))

    folder.mkdir(exist_ok=True)
    try:
        with reporter.progress("reading the list", hearing(quiet)) as progress:

            def tell(number: int, instance: Instance) -> None:
                progress.tell(f"{number} of {len(listed)}: {instance.name}")

            rows = run_list(bench, listed, earlier, tell, keep)
    finally:
        with suppress(OSError):
            folder.rmdir()  # where nothing was found
    if junit is not None or sarif is not None:
        findings = [_finding(i, row) for i, row in zip(listed, rows, strict=True)]
        tell_findings(findings, junit=junit, sarif=sarif, reporter=reporter)
    if json_path == "-":
        reporter.text(document_of_rows(rows, len(listed)))
    counts = ", ".join(f"{n} {answer}" for answer, n in counts_of(rows).items() if n)
    if quiet and json_path != "-":
        reporter.lines([counts])
    elif json_path != "-":
        cells = [_cells(i, row) for i, row in zip(listed, rows, strict=True)]
        again = f"; counterexamples are in {folder}: refine replay FILE.json --model MODEL"
        more = again if any(row.counterexample for row in rows) else ""
        reporter.table(instances.name, _COLUMNS, cells, f"{len(rows)} instances: {counts}{more}")
    return exit_code_of(rows)


def _arguments(passed: dict[str, Any]) -> tuple[str, ...]:
    """Options as they are written on a command line."""
    written: list[str] = []
    for option in (p for p in check_command.params if p.name in passed):
        value = passed[str(option.name)]
        if isinstance(value, bool):
            names = option.opts if value else option.secondary_opts
            written += names[:1]
        elif value is not None:
            for one in value if isinstance(value, tuple) else (value,):
                written += (option.opts[0], str(one))
    return tuple(written)


def _cells(instance: Instance, row: Row) -> tuple[str, ...]:
    margins = ["" if m is None else down(m, 4) for m in (row.margin, row.margin_over_reals)]
    return (instance.name, row.standing.value, *margins, f"{row.seconds:.1f}", _remark(row))


_OUTCOMES = {
    Standing.VERIFIED: (Outcome.PASSED, "verified"),
    Standing.VIOLATED: (Outcome.FAILED, "violated"),
    Standing.UNKNOWN: (Outcome.UNDECIDED, "unknown"),
    Standing.BROKEN: (Outcome.UNDECIDED, "contract-broken"),
    Standing.UNREAD: (Outcome.ERROR, "input-error"),
    Standing.FAILED: (Outcome.ERROR, "internal-error"),
}


def _finding(instance: Instance, row: Row) -> Finding:
    outcome, rule = _OUTCOMES[row.standing]
    remark = _remark(row)
    model = str(instance.folder / instance.model)
    said = f"{row.standing.value}: {row.reason}"
    more = (said, remark) if remark and remark != row.reason else (said,)
    return Finding(instance.name, model, outcome, rule, said, more, seconds=row.seconds)


def _remark(row: Row) -> str:
    """Beside an answer, what it does not say."""
    if row.standing is Standing.VIOLATED:
        of = {True: "over the reals too", False: "by rounding alone", None: ""}[row.real]
        ran = f"confirmed by {len(row.confirmed)} runtimes" if row.confirmed else "no runtime here"
        return "; ".join(part for part in (of, ran) if part)
    if row.standing is Standing.VERIFIED:
        return ""
    return "out of time" if row.timed_out else row.reason
