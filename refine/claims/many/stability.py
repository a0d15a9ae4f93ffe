"""Which decisions of a data set no allowed execution changes.

Each point, or ball around one, is a claim `argmax` of its own: the label is the real network's at
the point, ties go to the first, and a flip is an input and an execution with another label.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.claims.asked import Question, answered
from refine.claims.many.points import Points
from refine.claims.registry import claim_for
from refine.options.settings import Settings
from refine.results.numerals import plain_number
from refine.results.verdict import Execution, ExitCode, Result, Tolerance, Verdict
from refine.witness.file import save_witness

SCHEMA = "refine-stable-1"


@dataclass(frozen=True)
class Decision:
    """What was found at a point. `code` is the exit code that it would have alone; `claim` names
    the label; the margins are the least towards another label, None where none was proved; `real`
    says whether the real network flips there too, `confirmed` which runtimes do; `file` is where
    the flip is kept."""

    point: int
    code: ExitCode
    verdict: Verdict
    reason: str
    claim: str = ""
    margin: float | None = None
    margin_over_reals: float | None = None
    real: bool | None = None
    confirmed: tuple[str, ...] = ()
    file: str | None = None


@dataclass(frozen=True)
class Stability:
    """What is asked: a graph whose contract `settings` holds, read; `text` the claim; a ball of
    `radius` around each point, within `clip`; flips are kept in `folder`. `until` is when the time
    is over, on the monotonic clock."""

    graph: Graph
    settings: Settings
    text: str
    points: Points
    radius: str
    clip: str | None
    folder: Path
    until: float | None = None

    def decided(self, number: int) -> Decision:
        """One point. Raises ModelError for a model without labels, or a ball without numbers."""
        settings = self.settings
        if self.until is not None:
            left = self.until - time.monotonic()
            if left <= 0:
                why = "the time limit was reached"
                return Decision(number, ExitCode.TIME_OUT, Verdict.UNKNOWN, why)
            settings = replace(settings, timeout=left)
        question = Question(
            claim=claim_for(self.text),
            model=self.graph,
            domain=lambda graph, contract: self.points.domain(
                graph, number, self.radius, self.clip, contract.format_of
            ),
            tolerance=lambda graph: Tolerance(),
            settings=settings,
            text=self.text,
        )
        return self._decision(number, answered(question))

    def _decision(self, number: int, result: Result) -> Decision:
        margins, witness = result.margins or (), result.witness
        found = Decision(
            number,
            result.exit_code,
            result.verdict,
            result.reason,
            claim="" if result.claimed is None else result.claimed.statement,
            margin=min((m.run for m in margins), default=None),
            margin_over_reals=min((m.real for m in margins), default=None),
        )
        if result.verdict is not Verdict.VIOLATED or witness is None:
            return found
        ran = (r for r in witness.replays if isinstance(r, Execution) and r.within)
        found = replace(
            found,
            real=None if witness.reached is None else witness.reached.real,
            confirmed=tuple(r.runtime for r in ran),
        )
        place = self.folder / f"flip-{number}.json"
        try:
            save_witness(replace(result, witness_file=place), place)
        except OSError as error:
            reason = f"{found.reason}; the flip is not saved: {error.strerror or error}"
            return replace(found, reason=reason)
        return replace(found, file=str(place))


def every_decision(
    asked: Stability, numbers: Sequence[int], tell: Callable[[Sequence[Decision]], None]
) -> tuple[Decision, ...]:
    """All of them in order; `tell` hears those so far, before each. Raises ModelError as `decided`
    does at the first point, where no other can be asked either; later, that is the point's row."""
    found: list[Decision] = []
    for number in numbers:
        tell(found)
        try:
            found.append(asked.decided(number))
        except ModelError as error:
            if not found:
                raise
            code = ExitCode.INPUT_ERROR
            found.append(Decision(number, code, Verdict.UNKNOWN, str(error)))
    return tuple(found)


def exit_code_of(decisions: Sequence[Decision]) -> ExitCode:
    """0 only where every decision is stable; else the worst that some point has."""
    codes = {d.code for d in decisions}
    order = (
        *(ExitCode.INTERNAL_ERROR, ExitCode.VIOLATED, ExitCode.INPUT_ERROR),
        *(ExitCode.CONTRACT_BROKEN, ExitCode.TIME_OUT, ExitCode.UNKNOWN, ExitCode.VERIFIED),
    )
    return next((code for code in order if code in codes), ExitCode.UNKNOWN)


def document_of_decisions(asked: Stability, decisions: Sequence[Decision]) -> str:
    """What `--json` writes."""
    contract = asked.settings.contract
    made = {
        "schema": SCHEMA,
        "model": {"path": str(asked.graph.source), "sha256": asked.graph.sha256},
        "data": asked.points.source,
        "contract": contract if isinstance(contract, str) else contract.name,
        "radius": asked.radius,
        "points": len(asked.points),
        "rounded": asked.points.rounded,
        "stable": sum(d.code is ExitCode.VERIFIED for d in decisions),
        "flips": sum(d.verdict is Verdict.VIOLATED for d in decisions),
        "decisions": [_plain(d) for d in decisions],
    }
    return json.dumps(made, indent=2, allow_nan=False) + "\n"


def _plain(decision: Decision) -> dict[str, Any]:
    return {
        "point": decision.point,
        "verdict": decision.verdict.value,
        "contract_broken": decision.code is ExitCode.CONTRACT_BROKEN,
        "reason": decision.reason,
        "claim": decision.claim,
        "margin": plain_number(decision.margin),
        "margin_over_reals": plain_number(decision.margin_over_reals),
        "real": decision.real,
        "confirmed": list(decision.confirmed),
        "file": decision.file,
    }
