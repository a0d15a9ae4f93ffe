"""Branching on the input box: the bound of the union of parts is the largest of theirs.

Anytime and best first: the part with the largest bound is halved along the input whose width is
most to blame, and its halves are bounded anew, starting from what was proved of the whole. The
bound never gets worse. Parts are independent, so workers share them. Which parts are halved next
is decided by what was made of those before, in the order in which they were given out, and so by
nothing that depends on how many workers there are; only time cuts a run short where it is.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count, takewhile
from typing import TypeAlias

import numpy as np

from encoders.lemmas.kernel import Radius, remembered
from encoders.numbers.enclosure import FloatArray, Interval
from refine.bounds.alpha import Branching
from refine.bounds.batch import Batches, InBatches
from refine.bounds.best_first import explored
from refine.bounds.network import InputBox, Known, Margin, NetworkBounds
from refine.bounds.problem import Problem
from refine.process.pool import Pool, Submit, WorkLost
from refine.proof.compose import first_failure, node_obligations
from refine.results.obligation import Obligation

_PATIENCE = 0.2  # seconds, between looks at the clock
_HALVINGS = 8  # without a gain, after which a part is bounded with more effort
_GAIN = 0.98  # of a part's bound: what a half's has to be at most to be one
_EFFORT = Branching(steps=8, cases=64)
_IN_A_ROW = 4  # halvings of one element of an input, after which another has its turn
_AHEAD = 8  # parts that are halved before it is known what came of those before
_SHARE = 4  # or one in so many of those that wait


Asked: TypeAlias = tuple[InputBox, Known]
"""A box, and what was proved over one around it."""
Place: TypeAlias = tuple[str, tuple[int, ...]]
"""An input and the place of one of its elements."""


Look: TypeAlias = Callable[[Sequence[InputBox]], bool]
"""Hears of boxes that are still open; is what was to be found there found?"""


def _look_away(boxes: Sequence[InputBox]) -> bool:
    return False


@dataclass(frozen=True)
class Part:
    """One box with what was proved over it. `failure` is an obligation that does not hold; `idle`
    counts the halvings that led to it since the last one that lowered the bound, to speak of.
    `halvings` has the element whose range was halved last, and how often in a row."""

    box: InputBox
    radii: Mapping[str, Radius]
    influence: Mapping[str, FloatArray]
    known: Known
    failure: Obligation | None
    margins: tuple[Margin, ...] = ()
    idle: int = 0
    halvings: tuple[Place | None, int] = (None, 0)

    @property
    def errors(self) -> Mapping[str, FloatArray]:
        """The numbers of the radii."""
        return {t: radius.bound for t, radius in self.radii.items()}

    @cached_property
    def place(self) -> Place | None:
        """The input element most to blame whose range still has a number strictly inside; after
        some halvings of one in a row the next one, for influence is a guess that may pass through 0
        where what an element costs does not."""
        last, times = self.halvings
        found = _most_to_blame(self, last if times >= _IN_A_ROW else None)
        return _most_to_blame(self, None) if found is None else found

    @property
    def splittable(self) -> bool:
        """Is there an input whose range can be halved?"""
        return self.place is not None


Around: TypeAlias = tuple[Problem, Known]
"""What all work shares: a problem, and what was proved around all its parts."""


_Effort: TypeAlias = tuple[Part, float]
"""A part, and the seconds that effort may take; no clock is shared with other machines."""


@dataclass(frozen=True)
class Split:
    """The parts that cover the box, and how many were bounded on the way."""

    parts: tuple[Part, ...]
    bounded: int


def part_of(box: InputBox, bounds: NetworkBounds) -> Part:
    """What is kept of a box's bounds: of radii the lemmas that they rest on, and not each step."""
    every = (o for group in node_obligations(bounds).values() for o in group)
    inner, outer = bounds.maps.radii, bounds.radii
    kept = remembered({(False, t): inner[t] for t in inner} | {(True, t): outer[t] for t in outer})
    known = Known(dict(bounds.maps.values), {t: kept[False, t] for t in inner})
    radii = {t: kept[True, t] for t in outer}
    return Part(box, radii, bounds.influence, known, first_failure(every), bounds.margins)


def split_box(
    problem: Problem,
    whole: Part,
    excess: Callable[[Mapping[str, FloatArray]], float],
    *,
    enough: float,
    deadline: float,
    pool: Pool,
    parts: Sequence[Part] = (),
    look: Look = _look_away,
) -> Split:
    """Halve until every part's `excess` (a measure of its errors, such as bound/ε) is at most
    `enough`, nothing can be halved, or `deadline` (on the monotonic clock) has passed. Where there
    are `parts`, which cover the whole, these are halved. `look` hears of halves that are left open,
    and ends it where it has seen enough."""
    batches = _batches_of(problem)
    piece = 1 if batches is None else batches.size
    frontier = _Parts(excess, enough, most=max(piece // 2, 1), look=look)
    frontier.restore(parts or [whole])
    shared: Around = problem, whole.known
    with pool.sharing(shared) as submit:
        expansion = _Pooled(submit, piece=piece, deadline=deadline, single=problem.single)
        explored(frontier, expansion, lambda: frontier.ended or time.monotonic() >= deadline)
    return Split(frontier.parts, expansion.bounded)


@dataclass
class _Parts:
    """Parts that may be halved, the one with the largest excess first, and those that need not or
    cannot be. At most `most` are taken at once, and a share of those that wait; `away` counts the
    ones of which nothing has come back."""

    excess: Callable[[Mapping[str, FloatArray]], float]
    enough: float
    most: int = 1
    heap: list[tuple[float, int, Part]] = field(default_factory=list)
    look: Look = _look_away
    ended: bool = False
    whole: list[Part] = field(default_factory=list)
    order: count[int] = field(default_factory=count)
    away: int = 0

    @property
    def parts(self) -> tuple[Part, ...]:
        return (*self.whole, *(part for _, _, part in self.heap))

    def take(self) -> Sequence[Part] | None:
        taken: list[Part] = []
        if self.away >= max(_AHEAD, len(self.heap) // _SHARE):
            return None
        most = min(self.most, max(len(self.heap) // _SHARE, 1))
        while self.heap and len(taken) < most:
            part = heapq.heappop(self.heap)[2]
            if part.splittable:
                taken.append(part)
            else:
                self.whole.append(part)
        self.away += len(taken)
        return taken or None

    def put(self, made: _Made) -> None:
        self.away -= made.of
        left = self._put(made.parts)
        if left and not self.ended:
            self.ended = self.look([part.box for part in left])

    def restore(self, taken: Sequence[Part]) -> None:
        self._put(taken)

    def _put(self, made: Sequence[Part]) -> list[Part]:
        """Returns those that are left open."""
        left = []
        for part in made:
            excess = self.excess(part.errors)
            if excess <= self.enough:
                self.whole.append(replace(part, known=Known({}, {})))
            else:
                heapq.heappush(self.heap, (-excess, next(self.order), part))
                left.append(part)
        return left


@dataclass(frozen=True)
class _Made:
    """What so many parts were halved into."""

    of: int
    parts: Sequence[Part]


@dataclass
class _Pooled:
    """Has parts halved by workers, pieces of work of at most `piece` halves each; `bounded` counts
    these. What is made comes in the order in which it was started, while there is time."""

    submit: Submit[Around]
    piece: int
    deadline: float
    single: bool
    bounded: int = 0
    running: list[_Halving] = field(default_factory=list)
    lost: list[_Halving] = field(default_factory=list)

    @property
    def room(self) -> bool:
        return not self.lost  # how much is under way is for the frontier to say

    @property
    def pending(self) -> bool:
        return bool(self.running)

    def start(self, taken: Sequence[Part]) -> None:
        others = []
        for part in taken:
            if self.single and part.idle >= _HALVINGS:
                seconds = max(self.deadline - time.monotonic(), 0.0)
                future = self.submit(_bound_again, (part, seconds))
                self.running.append(_Halving([part], [future], 1))
            else:
                others.append(part)
        if not others:
            return
        halves = [(half, part.known) for part in others for half in halved(part) or ()]
        pieces = [halves[i : i + self.piece] for i in range(0, len(halves), self.piece)]
        futures = [self.submit(bound_parts, some) for some in pieces]
        self.running.append(_Halving(others, futures, len(halves)))

    def finished(self) -> Sequence[_Made]:
        left = self.deadline - time.monotonic()
        if left > 0:
            first = [future for future in self.running[0].futures if not future.done()]
            wait(first, timeout=min(left, _PATIENCE), return_when=FIRST_COMPLETED)
            ready = [*takewhile(lambda halving: halving.ready, self.running)]
        else:
            ready = [halving for halving in self.running if halving.ready]
        self.running = [halving for halving in self.running if halving not in ready]
        return [made for halving in ready for made in self._counted(halving)]

    def _counted(self, halving: _Halving) -> list[_Made]:
        try:
            made = halving.counted()
        except WorkLost:
            self.lost.append(halving)
            return []
        self.bounded += halving.halves
        return [_Made(len(halving.taken), made)]

    def abandoned(self) -> Sequence[Sequence[Part]]:
        left = [*self.lost, *self.running]
        for future in (f for halving in left for f in halving.futures):
            future.cancel()
        return [halving.taken for halving in left]


@dataclass(eq=False)
class _Halving:
    """Parts that are being halved, or one that is bounded anew, and what is to come of it."""

    taken: Sequence[Part]
    futures: Sequence[Future[Sequence[Part]]]
    halves: int

    @property
    def ready(self) -> bool:
        return all(future.done() for future in self.futures)

    def counted(self) -> list[Part]:
        """What was made of each part, and for how long nothing has been gained."""
        done = [made for future in self.futures for made in future.result()]
        if self.halves != 2 * len(self.taken):
            return done
        parents = [part for part in self.taken for _ in range(2)]
        return [
            replace(
                half,
                idle=0 if _size(half) <= _GAIN * _size(part) else part.idle + 1,
                halvings=_halvings(part),
            )
            for half, part in zip(done, parents, strict=True)
        ]


def _size(part: Part) -> float:
    return max((radius.largest for radius in part.radii.values()), default=0.0)


def halved(part: Part) -> tuple[InputBox, InputBox] | None:
    """Two boxes that cover the part's box, or None if there is nothing to gain or to halve."""
    if part.place is None:
        return None
    name, index = part.place
    x = part.box.values[name]
    middle = 0.5 * x.lo[index] + 0.5 * x.hi[index]
    below, above = x.hi.copy(), x.lo.copy()
    below[index], above[index] = middle, middle
    return (
        InputBox({**part.box.values, name: Interval(x.lo, below)}, part.box.errors),
        InputBox({**part.box.values, name: Interval(above, x.hi)}, part.box.errors),
    )


def _halvings(part: Part) -> tuple[Place | None, int]:
    """What `halved` halves of a part, and how often in a row it has been that."""
    last, times = part.halvings
    return part.place, times + 1 if part.place == last else 1


def _most_to_blame(part: Part, other_than: Place | None) -> Place | None:
    best: tuple[float, str, tuple[int, ...]] | None = None
    for name, influence in part.influence.items():
        x = part.box.values[name]
        middle = 0.5 * x.lo + 0.5 * x.hi
        score = np.where((x.lo < middle) & (middle < x.hi), influence, 0.0)
        if other_than is not None and other_than[0] == name:
            score[other_than[1]] = 0.0
        flat = int(np.argmax(score))
        index = tuple(int(i) for i in np.unravel_index(flat, score.shape))
        if score[index] > 0 and (best is None or score[index] > best[0]):
            best = (float(score[index]), name, index)
    return None if best is None else best[1:]


def bound_parts(shared: Around, asked: Sequence[Asked]) -> Sequence[Part]:
    """Bound boxes, at once if that can be done, starting from what is known over larger ones; what
    is shared holds over one that contains them all."""
    problem, around = shared
    batches, batch = _batches_of(problem), None
    if batches is not None:
        ranges = [known.values for _, known in asked]
        batch = batches.bounded([box for box, _ in asked], around, ranges)
    if batch is None or _owes(batch.bounds):
        return [part_of(box, problem.bounds(box, known=_joined(k, around))) for box, k in asked]
    return [
        Part(box, b.radii, b.influence, Known(b.ranges, {}), None, b.margins)
        for (box, _), b in zip(asked, batch.boxes, strict=True)
    ]


def _bound_again(shared: Around, asked: _Effort) -> Sequence[Part]:
    """A part bounded by itself, with effort: no worse than before."""
    (problem, around), (part, seconds) = shared, asked
    effort = replace(_EFFORT, until=time.monotonic() + seconds)
    known = _joined(part.known, around)
    bounds = problem.bounds(part.box, known=known, branching=effort)
    made = part_of(part.box, bounds)
    if made.failure is not None:
        return [replace(part, idle=0)]
    radii = {t: radius.and_also(part.radii[t]) for t, radius in made.radii.items()}
    return [replace(made, radii=radii, margins=part.margins)]


def _batches_of(problem: Problem) -> Batches | None:
    return problem.batches if isinstance(problem, InBatches) else None


def _joined(known: Known, around: Known) -> Known:
    """What is known over a box and, for what is not, over one around it."""
    return Known({**around.values, **known.values}, {**around.radii, **known.radii})


def _owes(bounds: NetworkBounds) -> bool:
    """Is an obligation open?"""
    every = (o for group in node_obligations(bounds).values() for o in group)
    return first_failure(every) is not None
