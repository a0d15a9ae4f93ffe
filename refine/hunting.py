"""From a search to a witness: candidates evaluated exactly, and replayed on real runtimes."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

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
    deadline: float,
) -> Catch:
    """Search every box of the domain until `deadline` (on the monotonic clock); evaluate the best
    inputs exactly; replay violations."""
    clock.tell("searching for a counterexample")
    candidates: list[Candidate] = []

    def enough() -> bool:
        return clock.late or time.monotonic() > deadline

    for i, box in enumerate(domain.boxes):
        candidates += search(Hunt(graph, box, contract, tolerance), seed + i, enough)
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


def error_found(witness: Witness) -> float:
    return float("inf") if not witness.error.finite else float_down(witness.error.lo)


def _replayed_excess(witness: Witness, tolerance: Tolerance) -> tuple[int, float]:
    """Prefer witnesses that real runtimes confirm, then the larger error."""
    epsilon = tolerance.of(witness.output)
    confirmed = sum(1 for r in witness.replays if epsilon is not None and r.confirms(epsilon))
    return confirmed, error_found(witness)
