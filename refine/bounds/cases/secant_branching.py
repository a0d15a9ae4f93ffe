"""Branching on secant slopes: better bounds of differences where few Relus are unstable.

At an unstable Relu, d_out = s·d_in for some s in [0, 1]; at any other, d_out = m·d_in + r with a
known m and |r| ≤ R. Fix an input, an execution, and with them every node's own rounding η and the
remainders r; read the slopes s of all unstable Relus as free. The difference at the output is then
affine in each s, so over s in [0, 1] it is largest at 0 or at 1 (lemma `slope-vertex`): a bound of
both cases is a bound. Only cases that this input allows are needed (its slopes lie between those),
so that a case which no input of the box allows is void (refine/bounds/cases/feasible.py), looked
for where few Relus are unstable. The Relu whose relaxation costs most is branched on first; the
others stay relaxed as s = ½ ± ½.

That takes bounds e on |d_in| that hold for *all* slopes the input allows, not only for those of an
execution. The errors of one pass of `network_bounds` are such: every step of theirs relaxes
unstable Relus over the whole of [0, 1], or over all cases but the void ones, and pays R at the
others, the forward radii included. Bounds known from an
earlier pass, with other unstable Relus, are not, and are left out of a pass that branches; so
are networks with other nonlinear operators (`can_branch`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np
import numpy.typing as npt

from encoders.numbers.enclosure import FloatArray
from encoders.operator import SlopeChoice
from encoders.program import Program, Step
from refine.bounds.alpha import Branching
from refine.bounds.backward import FixedSlopes, Maps, pull_back
from refine.bounds.best_first import Owners, explored_heaps
from refine.bounds.cases.confined import Confined, Corner
from refine.bounds.cases.feasible import impossible
from refine.bounds.compact import compacted

_BATCH = 128
_FEW = 64  # with more elements to branch on, void cases are too rare to look for
_VOIDING = 16  # what a case costs, in cases, where void ones are looked for
_FREE = -1  # the code of a slope that is not fixed; 0 and 1 stand for themselves
_SETTLED, _AGAIN = -1, -2  # places: nothing is left to do, or only to look from where it is loudest
_LOOKS = 12  # from there
_GAIN = 0.998  # of a bound: what a look has to lower it to for another one

Codes = npt.NDArray[np.int8]
Reline = Callable[[Maps, Corner], None]


@dataclass(frozen=True)
class _FreeSecants:
    """Where slopes can be branched on: per step, the flat positions of unstable elements.

    A case is a row of codes, one per such element, steps in order.
    """

    steps: tuple[Step, ...]
    positions: tuple[npt.NDArray[np.intp], ...]

    @property
    def size(self) -> int:
        return sum(len(p) for p in self.positions)

    @property
    def parts(self) -> Iterator[tuple[Step, npt.NDArray[np.intp], slice]]:
        """Each step with its positions, and where these are in a row of codes."""
        start = 0
        for step, positions in zip(self.steps, self.positions, strict=True):
            yield step, positions, slice(start, start + len(positions))
            start += len(positions)


def can_branch(program: Program) -> bool:
    """Is every operator affine, or one whose free slopes can be branched on?"""
    return all(step.operator.branches or step.affine for step in program.steps)


def branched_upper(
    maps: Maps,
    target: str,
    functionals: FloatArray,
    branching: Branching,
    tick: Callable[[], None] = lambda: None,
    reline: Reline | None = None,
) -> FloatArray:
    """Upper bounds (k,) of functionals (k, *shape) of a tensor's differences, the largest first
    branched on, until `branching.cases` cases per functional were bounded, its time is over, or
    nothing is left to branch on. Looking for void cases counts as bounding more of them. `reline`
    has lines of roundings touch at another input, where the largest case has nothing to branch on.
    """
    maps = compacted(maps, target)
    maps = replace(maps, lines=dict(maps.lines))
    reline = reline if maps.lines else None
    free = _free_secants(maps, target)
    k = functionals.shape[0]
    if not free.steps:
        return pull_back(maps, {}, {target: functionals}, tick).upper
    order = count()
    codes = np.full((k, free.size), _FREE, dtype=np.int8)
    bounding = _Bounding(maps, target, free, tick)
    first = bounding.bounded(functionals, codes)
    # Per functional its cases, the largest first; that one is the functional's bound.
    cases = [[first.case(i, next(order))] for i in range(k)]
    if reline is not None:
        cases = [[case.looked_at_next()] for (case,) in cases]
    cost = _VOIDING if free.size <= _FEW else 1

    def halved(owner: Owners, parents: list[_Case]) -> list[_Case]:
        halves, n = [_NONE] * (2 * len(parents)), len(parents)
        places = np.array([p.place for p in parents])
        whole, both = np.flatnonzero(places < 0), np.flatnonzero(np.tile(places >= 0, 2))
        if len(whole) and reline is not None:
            asked, at = [parents[i] for i in whole], functionals[owner[whole]]
            tried = [i for i, p in enumerate(asked) if p.place < _AGAIN]
            loudest = min(tried, key=lambda i: asked[i].least, default=-1)
            if loudest >= 0:
                reline(maps, bounding.loudest_input(at[loudest : loudest + 1], asked[loudest]))
            for i, case in zip(whole, bounding.looked_at(at, asked, loudest), strict=True):
                halves[i] = replace(case, number=next(order))
        if len(both):
            codes, at = _both(parents)[both], functionals[owner][both]
            made = bounding.bounded(at, codes)
            for row, i in enumerate(both):
                # A case never gets worse than what was proved of its parent.
                case = made.case(row, next(order))
                case = replace(case, least=max(case.least, parents[i % n].least))
                halves[i] = case.looked_at_next() if reline is not None else case
        return halves

    explored_heaps(
        cases,
        lambda: _largest(cases),
        halved,
        spent=k * cost,
        most=branching.cases * k,
        late=lambda: branching.late,
        cost=cost,
    )
    return np.array([max(-heap[0].least, 0.0) for heap in cases])


@dataclass(frozen=True, order=True)
class _Case:
    """Ordered by the negative of its bound. `place` is the element to branch on next, or says why
    there is none; `tried` are slopes and multipliers (2, elements) that were found for it."""

    least: float
    number: int
    codes: Codes = field(compare=False)
    place: int = field(compare=False)
    tried: FloatArray = field(compare=False)

    def looked_at_next(self) -> _Case:
        """The case, to be looked at from where it is loudest if nothing is to branch on."""
        return self if self.place >= 0 or self.least == np.inf else replace(self, place=_AGAIN)

    def looked_at(self, upper: float, tried: FloatArray, loudest: bool) -> _Case:
        """After a look, from where this case is `loudest`, or another: is one more worth it?"""
        least, place = max(self.least, -max(upper, 0.0)), self.place
        gained = -least <= _GAIN * -self.least
        if place == _AGAIN:
            place -= 1
        elif loudest:
            place = place - 1 if gained and place > _AGAIN - _LOOKS else _SETTLED
        return replace(self, least=least, place=place, tried=tried)


_NONE = _Case(np.inf, 0, np.zeros(0, np.int8), _SETTLED, np.zeros((2, 0)))


def _both(parents: list[_Case]) -> Codes:
    """Each parent twice: its place fixed to slope 0, then to slope 1."""
    n = len(parents)
    halves = np.concatenate([np.stack([p.codes for p in parents])] * 2)
    for i, parent in enumerate(parents):
        if parent.place >= 0:
            halves[i, parent.place], halves[n + i, parent.place] = 0, 1
    return halves


def _largest(cases: list[list[_Case]]) -> tuple[npt.NDArray[np.intp], list[_Case]]:
    """Takes out the largest cases of all, those left aside whose functional is settled by a
    largest case that cannot be branched on."""
    tops = [(h[0].least, i) for i, h in enumerate(cases) if h[0].place != _SETTLED]
    heapq.heapify(tops)
    owners: list[int] = []
    taken: list[_Case] = []
    while tops and len(taken) < _BATCH // 2:
        _, owner = heapq.heappop(tops)
        owners.append(owner)
        taken.append(heapq.heappop(cases[owner]))
        if cases[owner] and cases[owner][0].place != _SETTLED:
            heapq.heappush(tops, (cases[owner][0].least, owner))
    return np.array(owners, dtype=np.intp), taken


@dataclass(frozen=True)
class _Bounded:
    """Bounds of cases, and for each the free element that costs most, `_SETTLED` where none is
    left."""

    upper: FloatArray
    place: npt.NDArray[np.intp]
    codes: Codes

    def case(self, row: int, number: int) -> _Case:
        """One of them, of which nothing was tried."""
        codes, place = self.codes[row], int(self.place[row])
        nothing = np.full((2, len(codes)), np.nan)
        return _Case(-float(self.upper[row]), number, codes, place, nothing)


@dataclass(frozen=True)
class _Bounding:
    """Bounds functionals of a tensor's differences, each in a case."""

    maps: Maps
    target: str
    free: _FreeSecants
    tick: Callable[[], None]

    def bounded(self, functionals: FloatArray, codes: Codes) -> _Bounded:
        """By roundings as they are anywhere in the box."""
        maps, free = self.maps, self.free
        seen: dict[str, FloatArray] = {}
        fixed = _fixed(maps, free, codes)
        pulled = pull_back(
            maps,
            {},
            on_differences={self.target: functionals},
            tick=self.tick,
            choices=None,
            seen=seen,
            fixed=fixed,
        )
        upper = pulled.upper
        if free.size <= _FEW:
            upper = np.where(impossible(maps, fixed, self.tick), -np.inf, upper)
        costs = np.zeros(codes.shape)
        for step, positions, part in free.parts:
            (tensor,) = step.reads
            if step.name in seen:
                arrived = seen[step.name].reshape(len(codes), -1)[:, positions]
                costs[:, part] = np.abs(arrived) * maps.errors[tensor].reshape(-1)[positions]
        costs[codes != _FREE] = 0.0
        place = np.argmax(costs, axis=1)
        found = costs[np.arange(len(codes)), place] > 0
        return _Bounded(upper, np.where(found, place, _SETTLED), codes)

    def looked_at(
        self, functionals: FloatArray, cases: Sequence[_Case], loudest: int
    ) -> list[_Case]:
        """By roundings as they are where each case is possible; lines touch at the `loudest` one's
        input, at none's if that is negative."""
        confined, begun = self._confined(functionals, cases)
        upper, ended = confined.bounded(begun, self.tick)
        tried = _ended(ended, self.free, len(cases))
        return [
            case.looked_at(float(upper[i]), tried[i], i == loudest) for i, case in enumerate(cases)
        ]

    def loudest_input(self, functional: FloatArray, case: _Case) -> Corner:
        """Where a case is at its largest."""
        confined, begun = self._confined(functional, [case])
        return confined.loudest_input(begun)

    def _confined(
        self, functionals: FloatArray, cases: Sequence[_Case]
    ) -> tuple[Confined, Mapping[str, SlopeChoice]]:
        codes = np.stack([case.codes for case in cases])
        fixed = _fixed(self.maps, self.free, codes)
        confined = Confined(self.maps, self.target, functionals, fixed)
        tried = np.stack([case.tried for case in cases])
        return confined, _begun(confined.nothing_tried(), self.free, tried)


def _begun(
    nothing: Mapping[str, SlopeChoice], free: _FreeSecants, before: FloatArray
) -> Mapping[str, SlopeChoice]:
    """What to begin with: slopes and multipliers of before, where there are any."""
    begun = dict(nothing)
    for step, positions, part in free.parts:
        if step.name in nothing:
            choice = nothing[step.name]
            low, multiplier = choice.low_slope.copy(), choice.multiplier.copy()
            for k, held in enumerate((low, multiplier)):
                flat, known = held.reshape(len(held), -1), before[:, k, part]
                flat[:, positions] = np.where(np.isnan(known), flat[:, positions], known)
            multiplier = np.where(choice.phase != 0, multiplier, 0.0)
            begun[step.name] = SlopeChoice(low, choice.phase, multiplier, choice.slack)
    return begun


def _ended(tried: Mapping[str, SlopeChoice], free: _FreeSecants, k: int) -> FloatArray:
    """Slopes and multipliers (k, 2, elements) of what was tried."""
    found = np.full((k, 2, free.size), np.nan)
    for step, positions, part in free.parts:
        if step.name in tried:
            choice = tried[step.name]
            found[:, 0, part] = choice.low_slope.reshape(k, -1)[:, positions]
            found[:, 1, part] = choice.multiplier.reshape(k, -1)[:, positions]
    return found


def _fixed(maps: Maps, free: _FreeSecants, codes: Codes) -> dict[str, FixedSlopes]:
    """What the cases fix, at every node where anything could be fixed."""
    every: dict[str, FixedSlopes] = {}
    for name, between in maps.difference_maps.items():
        if between.fixed is not None:
            shape = (len(codes), *between.radius.shape)
            every[name] = FixedSlopes(np.zeros(shape), np.zeros(shape, dtype=bool))
    for step, positions, part in free.parts:
        every[step.name].slope.reshape(len(codes), -1)[:, positions] = codes[:, part] == 1
        every[step.name].at.reshape(len(codes), -1)[:, positions] = codes[:, part] != _FREE
    return every


def _free_secants(maps: Maps, target: str) -> _FreeSecants:
    """What can be branched on before the target."""
    steps: list[Step] = []
    positions: list[npt.NDArray[np.intp]] = []
    for step in maps.program.steps:
        between = maps.difference_maps[step.name]
        if between.unstable is not None and np.any(between.unstable):
            steps.append(step)
            positions.append(np.flatnonzero(between.unstable))
        if target in step.writes:
            break
    return _FreeSecants(tuple(steps), tuple(positions))
