"""What a worker tells its watcher: the answer as it would be now."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from refine.process.supervision import Answer, Watcher
from refine.report.console import Reporter
from refine.results.document import json_text
from refine.results.verdict import Result

_MANY = 4096  # elements of outputs and inputs, beyond which only the largest bounds are told


@dataclass(frozen=True)
class Telling:
    """Tells a watcher, if there is one and a limit, what has been proved so far."""

    watcher: Watcher | None
    quiet: bool
    wants_json: bool

    def so_far(self, result: Result) -> None:
        """Give the process that watches this one what to print if time runs out from here on."""
        if self.watcher is None or self.watcher.limit is None:
            return
        brief = _brief(result)
        document = json_text(brief) if self.wants_json else ""
        report = Reporter(self.quiet).report_of(brief)
        self.watcher.tell(Answer(result.exit_code.value, report, document))

    def finish(self) -> None:
        """Wait for leave to answer, if somebody watches."""
        finish(self.watcher)


def finish(watcher: Watcher | None) -> None:
    """Wait for leave to answer, if somebody watches."""
    if watcher is not None:
        watcher.finish()


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
