"""From a search to a witness: candidates evaluated exactly, and replayed on real runtimes."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import partial

from encoders.contract import RuntimeContract
from onnx_import.graph import Graph
from refine.clock import Clock
from refine.domain import Domain
from refine.evaluation import Candidate, Hunt
from refine.replay import replays
from refine.rounding import float_down
from refine.search import search
from refine.verdict import Tolerance, Witness
from refine.witness import confirm, is_violation

_EVALUATED = 4


@dataclass(frozen=True)
class Catch:
    """The violation found, if any; the witness with the largest error; was time too short?"""

    violation: Witness | None
    worst: Witness | None
    late: bool

    @property
    def largest(self) -> float | None:
        """The largest error found, rounded down; infinite for a value that is not finite."""
        return None if self.worst is None else error_found(self.worst)


def hunt(
    graph: Graph,
    domain: Domain,
    contract: RuntimeContract,
    tolerance: Tolerance,
    seed: int,
    clock: Clock,
    seconds: float,
    effort: float = 1.0,
) -> Catch:
    """Search the boxes of the domain in turn, for so many seconds in all; evaluate the best inputs
    exactly; replay violations. An infinite effort uses all of that time."""
    clock.tell("searching for a counterexample")
    candidates: list[Candidate] = []
    start, boxes = time.monotonic(), len(domain.boxes)
    for i, box in enumerate(domain.boxes):
        until = start + (seconds if math.isfinite(effort) else seconds * (i + 1) / boxes)
        one = Hunt(graph, box, contract, tolerance)
        candidates += search(one, seed + i, partial(_over, clock, until), effort)
    if not candidates:
        return Catch(None, None, clock.late)
    candidates.sort(key=lambda c: -c.excess)
    clock.tell("evaluating the worst inputs exactly")
    late = clock.late
    witnesses = [confirm(graph, c) for c in candidates[: 1 if late else _EVALUATED]]
    violations = [w for w in witnesses if is_violation(w, tolerance)]
    shown = [replace(w, replays=replays(w, graph, contract)) for w in violations]
    best = max(shown, key=lambda w: _replayed_excess(w, tolerance), default=None)
    return Catch(best, max(witnesses, key=error_found), late)


def _over(clock: Clock, until: float) -> bool:
    return clock.late or time.monotonic() > until


def error_found(witness: Witness) -> float:
    return float("inf") if not witness.error.finite else float_down(witness.error.lo)


def _replayed_excess(witness: Witness, tolerance: Tolerance) -> tuple[int, float]:
    """Prefer witnesses that real runtimes confirm, then the larger error."""
    epsilon = tolerance.of(witness.output)
    confirmed = sum(1 for r in witness.replays if epsilon is not None and r.confirms(epsilon))
    return confirmed, error_found(witness)
