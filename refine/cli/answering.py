"""How commands answer: what a worker tells its watcher, and where an answer as JSON goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np

from gpu_check.common.writing import require_writable, write_text
from refine.cli.setup.journal import journal_of
from refine.common.visible import visible
from refine.process.supervision import Answer, Watcher
from refine.report.console import Reporter
from refine.results.document import json_text
from refine.results.verdict import Result

_MANY = 4096  # elements of outputs and inputs, beyond which only the largest bounds are told


@dataclass(frozen=True)
class Telling:
    """Tells a watcher, if there is one and a limit, what has been proved so far."""

    watcher: Watcher | None
    reporter: Reporter
    wants_json: bool

    def so_far(self, result: Result) -> None:
        """Give the process that watches this one what to print if time runs out from here on."""
        if self.watcher is None or self.watcher.limit is None:
            return
        brief = _brief(result)
        document = json_text(brief) if self.wants_json else ""
        report = self.reporter.report_of(brief)
        self.watcher.tell(Answer(result.exit_code.value, report, document))

    def finish(self) -> None:
        """Wait for leave to answer, if somebody watches."""
        finish(self.watcher)


def hearing(quiet: bool = False, until: float | None = None) -> Callable[[str], None]:
    """Who hears what is being done, beside a terminal: the log and, unless `quiet`, the process
    that watches this one, which says it now and then. `until` is when the work ends (monotonic),
    if it is known."""
    context = click.get_current_context()
    watcher: Watcher | None = context.obj
    until = until if watcher is None or watcher.limit is None else watcher.limit
    journal = journal_of(context)

    def hear(stage: str) -> None:
        if journal is not None:
            journal.note(stage)
        if watcher is not None and not quiet:
            watcher.progress(visible(stage), until)

    return hear


def finish(watcher: Watcher | None) -> None:
    """Wait for leave to answer, if somebody watches."""
    if watcher is not None:
        watcher.finish()


def require_json_place(json_path: str | None) -> None:
    """Raises OSError before any work is done if `--json` names a file that cannot be written."""
    if json_path not in (None, "-"):
        require_writable(Path(str(json_path)))


def tell_json(document: str, json_path: str | None, reporter: Reporter) -> None:
    """Write an answer where `--json` says: to a file, to standard output, nowhere."""
    if json_path == "-":
        reporter.text(document)
    elif json_path is not None:
        write_text(Path(json_path), document)


def _brief(result: Result) -> Result:
    """The result without what would take seconds to write down."""
    boxes = result.domain.boxes
    elements = sum(b.size for b in result.bounds.values())
    elements += sum(x.size for box in boxes for x in box.lo.values())
    if elements <= _MANY:
        return result
    bounds = {t: np.array([np.max(b, initial=0.0)]) for t, b in result.bounds.items()}
    note = "out of time: the largest bound of each output, without the boxes of the domain"
    domain = replace(result.domain, boxes=())
    return replace(result, bounds=bounds, domain=domain, notes=(*result.notes, note), witness=None)
