"""`--junit FILE` and `--sarif FILE`: answers for tools that collect test results and findings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from gpu_check.common.writing import require_writable, write_text
from refine.report.console import Reporter
from refine.report.findings import Finding


def finding_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options, of a command that calls `tell_findings`."""
    for name, what in (("sarif", "a SARIF 2.1.0 log"), ("junit", "JUnit's XML")):
        command = click.option(
            f"--{name}",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help=f"Write the answer as {what}, for continuous integration.",
        )(command)
    return command


def require_finding_places(*paths: Path | None) -> None:
    """Raises OSError before any work is done, where one of the files cannot be written."""
    for path in paths:
        if path is not None:
            require_writable(path)


def tell_findings(
    findings: Sequence[Finding], *, junit: Path | None, sarif: Path | None, reporter: Reporter
) -> None:
    """Write them where the options say; the answer stands, with or without the files."""
    suite = f"refine {click.get_current_context().info_name}"
    written: list[tuple[Path, str]] = []
    if junit is not None:
        from refine.report.junit import junit_text

        written.append((junit, junit_text(suite, findings)))
    if sarif is not None:
        from refine.report.sarif import sarif_text

        written.append((sarif, sarif_text(findings)))
    for path, text in written:
        try:
            write_text(path, text)
        except OSError as error:
            reporter.error(f"{path} is not written: {error.strerror or error}")
