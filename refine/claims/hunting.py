"""From a search to a witness: candidates evaluated exactly, and replayed on real runtimes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.program import program_of
from onnx_import.graph import Graph
from refine.common.clock import Clock
from refine.common.rounding import float_down
from refine.domain.domain import Domain
from refine.results.verdict import Tolerance, Witness
from refine.search.evaluation import Candidate, Hunt
from refine.search.search import search, tried
from refine.search.shrinking import Points, shrunk
from refine.witness.replay import replays
from refine.witness.witness import confirm, is_violation

_EVALUATED = 4
_MUCH, _TOO_MUCH = 5_000_000, 50_000_000  # multiply-adds, each in balls
_SHRINKING = 1.0  # second


@dataclass(frozen=True)
class Catch:
    """The violation found, if any; every input evaluated exactly; was time too short?"""

    violation: Witness | None
    witnesses: tuple[Witness, ...]
    late: bool

    @property
    def worst(self) -> Witness | None:
        """The witness with the largest error."""
        return max(self.witnesses, key=error_found, default=None)

    @property
    def largest(self) -> float | None:
        """The largest error found, rounded down; infinite for a value that is not finite."""
        return None if self.worst is None else error_found(self.worst)

    def joined(self, other: Catch) -> Catch:
        """What this search and another one found."""
        every = (*self.witnesses, *other.witnesses)
        return Catch(self.violation or other.violation, every, self.late or other.late)


def evaluations(graph: Graph) -> int:
    """How many inputs are worth evaluating exactly: one of a large network; none, and so no search,
    of a network that would take minutes for each."""
    work = program_of(graph).work
    return 0 if work > _TOO_MUCH else 1 if work > _MUCH else _EVALUATED


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
    if not evaluations(graph):
        return Catch(None, (), clock.late)
    clock.tell("searching for a counterexample")
    candidates: list[Candidate] = []
    start, boxes = time.monotonic(), len(domain.boxes)
    for i, box in enumerate(domain.boxes):
        until = start + (seconds if math.isfinite(effort) else seconds * (i + 1) / boxes)
        one = Hunt(graph, box, contract, tolerance)
        candidates += search(one, seed + i, partial(over, clock, until), effort)
    return _judged(candidates, graph, domain, contract, tolerance, clock)


def hunt_at(
    elements: Sequence[Mapping[tuple[str, int], float]],
    graph: Graph,
    domain: Domain,
    contract: RuntimeContract,
    tolerance: Tolerance,
    clock: Clock,
) -> Catch:
    """Inputs of which some elements are given, as by a solver, and the others are in the middle of
    a box that contains these."""
    candidates: list[Candidate] = []
    for box in domain.boxes:
        points: list[Points] = []
        for given in elements:
            point = {n: box.nearest(n, 0.5 * lo + 0.5 * box.hi[n]) for n, lo in box.lo.items()}
            for (name, position), value in given.items():
                point[name].reshape(-1)[position] = value
            if box.contains(point):
                points.append(point)
        if points:
            stacked = {n: np.stack([p[n] for p in points]) for n in box.lo}
            candidates += tried(Hunt(graph, box, contract, tolerance), stacked)
    return _judged(candidates, graph, domain, contract, tolerance, clock)


def _judged(
    candidates: list[Candidate],
    graph: Graph,
    domain: Domain,
    contract: RuntimeContract,
    tolerance: Tolerance,
    clock: Clock,
) -> Catch:
    """The best of the candidates evaluated exactly, violations replayed and made simpler."""
    if not candidates:
        return Catch(None, (), clock.late)
    candidates.sort(key=lambda c: -c.excess)
    clock.tell("evaluating the worst inputs exactly")
    late = clock.late
    most = min(evaluations(graph), 1 if late else _EVALUATED)
    witnesses = [confirm(graph, c) for c in candidates[:most]]
    violations = [w for w in witnesses if is_violation(w, tolerance)]
    shown = [replace(w, replays=replays(w, graph, contract)) for w in violations]
    best = max(shown, key=lambda w: _replayed_excess(w, tolerance), default=None)
    if best is not None and not late:
        clock.tell("simplifying the counterexample")

        def decided(found: Candidate) -> Witness:
            return confirm(graph, found)

        def run(witness: Witness) -> Witness:
            return replace(witness, replays=replays(witness, graph, contract))

        best = simplest(best, domain, tolerance, decided, run, clock)
    return Catch(best, tuple(witnesses), late)


def simplest(
    witness: Witness,
    domain: Domain,
    tolerance: Tolerance,
    decide: Callable[[Candidate], Witness],
    replayed: Callable[[Witness], Witness],
    clock: Clock,
) -> Witness:
    """The violation on simpler numbers: at least half as large, not finite if it was not, and
    confirmed by as many runtimes.

    `decide` evaluates a candidate exactly, and `replayed` runs it as `witness` was run.
    """
    box = next((b for b in domain.boxes if b.contains(witness.inputs)), None)
    if box is None:
        return witness
    epsilon, until = tolerance.of(witness.output), time.monotonic() + _SHRINKING
    confirmed = _confirmations(witness, epsilon)

    def kept(point: Points) -> Witness | None:
        found = decide(
            Candidate(
                point, box.real_point(point), witness.execution, witness.output, witness.index, 0.0
            )
        )
        if not is_violation(found, tolerance) or 2 * error_found(found) < error_found(witness):
            return None
        found = replayed(found)
        return found if _confirmations(found, epsilon) >= confirmed else None

    point = {n: np.asarray(v, np.float64) for n, v in witness.inputs.items()}
    return shrunk(point, box, kept, partial(over, clock, until)) or witness


def over(clock: Clock, until: float) -> bool:
    """Is it too late, for everything or for a search that ends at `until` (monotonic)?"""
    return clock.late or time.monotonic() > until


def error_found(witness: Witness) -> float:
    return float("inf") if not witness.error.finite else float_down(witness.error.lo)


def _replayed_excess(witness: Witness, tolerance: Tolerance) -> tuple[int, float]:
    """Prefer witnesses that real runtimes confirm, then the larger error."""
    return _confirmations(witness, tolerance.of(witness.output)), error_found(witness)


def _confirmations(witness: Witness, epsilon: Fraction | None) -> int:
    return sum(1 for r in witness.replays if epsilon is not None and r.confirms(epsilon))
