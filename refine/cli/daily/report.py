"""`refine report`: a saved result as a page."""

from __future__ import annotations

from pathlib import Path

import click

from gpu_check.common.writing import require_writable, write_text
from refine.report.console import Reporter
from refine.results.answers import ExitCode
from refine.results.saved import page_of_file


@click.command("report")
@click.argument("file", metavar="RESULT.json", type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Where the page is written; default: beside the result.",
)
def report_command(file: Path, output: Path | None) -> ExitCode:
    """Make a page of a result that --json wrote: one file, which a browser shows offline.

    The claim and its verdict, what to fix, the counterexample layer by layer, the bound of every
    output element, the graph and its layers with what each costs, and what all rests on. Every
    number is in the page as JSON, too. check, bound and diff write it at once with --report.

    \b
    refine bound net.onnx --input -1..1 --json result.json
    refine report result.json -o result.html
    """
    place = file.with_suffix(".html") if output is None else output
    require_writable(place)
    write_text(place, page_of_file(file))
    Reporter().lines([f"wrote {place}"])
    return ExitCode.VERIFIED
