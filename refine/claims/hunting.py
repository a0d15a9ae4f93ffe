"""From a search to a witness: candidates evaluated exactly, and replayed on real runtimes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial

import numpy as np

from refine.bounds.network import InputBox
from refine.claims.quarry import Followed, Quarry
from refine.common.clock import Clock
from refine.common.rounding import float_down
from refine.domain.domain import Domain
from refine.results.verdict import Tolerance, Witness
from refine.search.evaluation import Candidate, Hunt
from refine.search.search import tried
from refine.search.shrinking import Points, shrunk
from refine.witness.witness import is_violation

_SHRINKING = 1.0  # second
_TRIES = 8  # times that what a proof led to is evaluated exactly


@dataclass(frozen=True)
class Catch:
    """The violation found, if any, and on how many runtimes it was seen; every input evaluated
    exactly; was time too short?"""

    violation: Witness | None
    witnesses: tuple[Witness, ...]
    late: bool
    confirmed: int = 0

    @property
    def worst(self) -> Witness | None:
        """The witness with the largest error; a violation that was simplified may have another one
        than what it was made of."""
        last = () if self.violation is None else (self.violation,)
        return max((*self.witnesses, *last), key=error_found, default=None)

    @property
    def largest(self) -> float | None:
        """The largest error found, rounded down; infinite for a value that is not finite."""
        return None if self.worst is None else error_found(self.worst)

    def joined(self, other: Catch) -> Catch:
        """What this search and another one found."""
        every = (*self.witnesses, *other.witnesses)
        found = [c for c in (self, other) if c.violation is not None]
        best = max(found, key=lambda c: c.confirmed, default=self)
        return Catch(best.violation, every, self.late or other.late, best.confirmed)

    @property
    def convincing(self) -> bool:
        """Is there a violation, and did a real runtime show it, if any could be asked?"""
        found = self.violation
        return found is not None and (self.confirmed > 0 or not found.replays)


NOTHING = Catch(None, (), late=False)


def hunt(
    quarry: Quarry,
    domain: Domain,
    tolerance: Tolerance,
    seed: int,
    clock: Clock,
    seconds: float,
    effort: float = 1.0,
) -> Catch:
    """Search every box, against every reading of the specification, for so many seconds in all;
    evaluate the best inputs exactly; replay violations. An infinite effort uses all of that time.
    """
    if not quarry.most:
        return replace(NOTHING, late=clock.late)
    clock.tell("searching for a counterexample")
    candidates: list[Candidate] = []
    begin = time.monotonic()
    turns = [(box, meant) for box in domain.boxes for meant in quarry.references]
    for i, (box, meant) in enumerate(turns):
        late = partial(over, clock, begin + seconds * (i + 1) / len(turns))
        one = Hunt(quarry.graph, box, quarry.contract, tolerance, meant)
        with np.errstate(all="ignore"):  # overflow and 0/0 are among what is looked for
            candidates += quarry.leads(one, seed + i, late)
            candidates += quarry.searched(one, seed + i, late, effort)
    return _judged(candidates, quarry, domain, tolerance, clock)


@dataclass
class Trail:
    """The search that goes where a proof halves boxes; `catch` is what it has found by now."""

    quarry: Quarry | None
    domain: Domain
    tolerance: Tolerance
    seed: int
    clock: Clock
    catch: Catch = NOTHING
    tries: int = _TRIES
    followed: dict[int, Followed] = field(default_factory=dict)

    def look(self, place: int, boxes: Sequence[InputBox]) -> bool:
        """Hears of parts of a box of the domain that are left open: is a violation found?"""
        quarry = self.quarry
        if quarry is None or quarry.following is None or not quarry.most or not self.tries:
            return False
        if place not in self.followed:
            box = self.domain.boxes[place]
            one = Hunt(quarry.graph, box, quarry.contract, self.tolerance)
            self.followed[place] = quarry.following(one, self.seed + place)
        candidates = list(self.followed[place](boxes))
        if candidates:
            self.tries -= 1
            found = _judged(candidates, quarry, self.domain, self.tolerance, self.clock)
            self.catch = self.catch.joined(found)
        return self.catch.violation is not None


def hunt_at(
    elements: Sequence[Mapping[tuple[str, int], float]],
    quarry: Quarry,
    domain: Domain,
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
        for meant in quarry.references if points else ():
            stacked = {n: np.stack([p[n] for p in points]) for n in box.lo}
            one = Hunt(quarry.graph, box, quarry.contract, tolerance, meant)
            candidates += tried(one, stacked)
    return _judged(candidates, quarry, domain, tolerance, clock)


def _judged(
    candidates: list[Candidate],
    quarry: Quarry,
    domain: Domain,
    tolerance: Tolerance,
    clock: Clock,
) -> Catch:
    """The best of the candidates evaluated exactly, violations replayed and made simpler."""
    if not candidates:
        return replace(NOTHING, late=clock.late)
    candidates.sort(key=lambda c: -c.excess)
    clock.tell("evaluating the worst inputs exactly")
    late = clock.late
    most = min(quarry.most, 1) if late else quarry.most
    witnesses = [quarry.decide(c) for c in candidates[:most]]
    violations = [quarry.replayed(w) for w in witnesses if is_violation(w, tolerance)]
    best = max(violations, key=lambda w: _replayed_excess(w, tolerance), default=None)
    if best is not None and not late:
        clock.tell("simplifying the counterexample")
        best = _simplest(best, quarry, domain, tolerance, clock)
    confirmed = 0 if best is None else _confirmations(best, tolerance)
    return Catch(best, tuple(witnesses), late, confirmed)


def _simplest(
    witness: Witness, quarry: Quarry, domain: Domain, tolerance: Tolerance, clock: Clock
) -> Witness:
    """The violation on simpler numbers: at least half as large, not finite if it was not, and
    confirmed by as many runtimes."""
    box = next((b for b in domain.boxes if b.contains(witness.inputs)), None)
    if box is None:
        return witness
    until = time.monotonic() + _SHRINKING
    confirmed = _confirmations(witness, tolerance)

    def kept(point: Points) -> Witness | None:
        found = quarry.decide(
            Candidate(
                inputs=point,
                real_inputs=box.real_point(point),
                execution=witness.execution,
                output=witness.output,
                index=witness.index,
                excess=0.0,
                against=witness.spec_execution,
            )
        )
        if not is_violation(found, tolerance) or 2 * error_found(found) < error_found(witness):
            return None
        found = quarry.replayed(found)
        return found if _confirmations(found, tolerance) >= confirmed else None

    point = {n: np.asarray(v, np.float64) for n, v in witness.inputs.items()}
    return shrunk(point, box, kept, partial(over, clock, until)) or witness


def over(clock: Clock, until: float) -> bool:
    """Is it too late, for everything or for a search that ends at `until` (monotonic)?"""
    return clock.late or time.monotonic() > until


def error_found(witness: Witness) -> float:
    """The error, rounded down; of a property, how far inside the unsafe set the outputs lie."""
    if witness.reached is not None and witness.error.finite:
        return max(float_down(-witness.reached.slack), 0.0)
    return float("inf") if not witness.error.finite else float_down(witness.error.lo)


def _replayed_excess(witness: Witness, tolerance: Tolerance) -> tuple[int, float]:
    """Prefer witnesses that real runtimes confirm, then the larger error."""
    return _confirmations(witness, tolerance), error_found(witness)


def _confirmations(witness: Witness, tolerance: Tolerance) -> int:
    """On how many runtimes the violation is seen; of a property, whose outputs have no ε, how many
    reach the unsafe set."""
    epsilon = tolerance.of(witness.output) if witness.reached is None else Fraction(0)
    return sum(1 for r in witness.replays if epsilon is not None and r.confirms(epsilon))
