"""`refine zoo`: does every bug of the zoo get the answer that its header expects?"""

from __future__ import annotations

from pathlib import Path

import click

from refine.cli.answering import hearing, require_json_place, tell_json
from refine.report.console import Reporter
from refine.results.document import strict_json
from refine.results.verdict import ExitCode
from refine.zoo import document, folders, row, run_entry, shipped_zoo

_COLUMNS = ("entry", "expected", "verdict", "right graph", "seconds", "witness")


@click.command("zoo")
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default=shipped_zoo)
@click.option("--only", metavar="NAME", help="Run this entry alone.")
@click.option("--json", "json_path", metavar="FILE", help="Write the results; - for stdout.")
def zoo_command(folder: Path, only: str | None, json_path: str | None) -> ExitCode:
    """Run the bugs of a zoo, each a wrong graph beside the right one.

    \b
    refine zoo
    refine zoo --only batchnorm-epsilon

    Exit code 0 if every wrong graph gets the verdict that its header expects and every right one
    is verified, 2 if an entry cannot be read, else 1.
    """
    reporter = Reporter(silent=json_path == "-")
    require_json_place(json_path)
    entries = folders(folder, only)
    with reporter.progress("running the zoo", hearing()) as progress:
        outcomes = []
        for entry in entries:
            progress.tell(entry.name)
            outcomes.append(run_entry(entry))
    tell_json(strict_json(document(tuple(outcomes))), json_path, reporter)
    expected = sum(o.as_expected for o in outcomes)
    answer = f"{expected} of {len(outcomes)} entries are as expected"
    unread = [o.failure for o in outcomes if o.wrong is None or o.right is None]
    for failure in unread:
        reporter.error(failure)
    reporter.table("zoo", _COLUMNS, [row(o) for o in outcomes], answer)
    if unread:
        return ExitCode.INPUT_ERROR
    return ExitCode.VERIFIED if expected == len(outcomes) else ExitCode.VIOLATED
