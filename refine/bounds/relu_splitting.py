"""Branching on phases: functionals of real values bounded over both signs of hidden elements.

The bound of a functional is the largest of its parts' bounds. Best first: the part that gives a
functional its bound is split by the sign of the unstable element whose relaxation costs it most; of
the functionals, those that have most to gain for the parts they have taken so far go first.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders.numbers.enclosure import FloatArray
from encoders.operator import SlopeChoice
from encoders.program import Step
from refine.bounds.alpha import Branching, Descended, choice_of, descended, free_steps, start_of
from refine.bounds.backward import Maps, pull_back
from refine.bounds.best_first import Owners, explored_heaps
from refine.bounds.compact import compacted

_BATCH = 256  # parts bounded together: their coefficients stay in cache
_NOWHERE = -1
_DECIDING = 2.0  # what deciding a sign is worth, in mean gains of lowering a bound


@dataclass(frozen=True)
class _Unstable:
    """The elements whose phase is undecided: per step, their flat positions; steps in order."""

    steps: tuple[Step, ...]
    positions: tuple[npt.NDArray[np.intp], ...]

    @property
    def size(self) -> int:
        return sum(len(p) for p in self.positions)


@dataclass(frozen=True, order=True)
class _Part:
    """What is chosen at every unstable element, in a part of a functional's inputs.

    Ordered by the negative of its bound. `place` is the element to branch on next.
    """

    least: float
    number: int
    low_slope: FloatArray
    phase: npt.NDArray[np.int8]
    multiplier: FloatArray
    place: int


def optimised_upper(
    maps: Maps,
    target: str,
    functionals: FloatArray,
    *,
    branching: Branching,
    worth: FloatArray | None = None,
    tick: Callable[[], None] = lambda: None,
) -> FloatArray:
    """Rigorous upper bounds (k,) of functionals (k, *shape) of a tensor's values.

    Slopes are chosen for each; with `worth` (k,), what lowering each bound is worth, phases are
    branched on until a bound is negative or a known input attains it, or effort is spent.
    """
    k = functionals.shape[0]
    maps = compacted(maps, target)
    unstable = _unstable(maps, target)
    if not unstable.steps:
        return pull_back(maps, {target: functionals}, {}, tick).upper
    start = {s.name: start_of(choice_of(maps, s), k) for s in unstable.steps}
    first = descended(maps, target, c=functionals, start=start, steps=branching.steps, tick=tick)
    if worth is None or branching.total == 0:
        return first.upper
    order = count()
    parts = [[p] for p in _parts(maps, unstable, first, first.upper, order)]
    attained = first.attained.copy()
    hoped = worth * np.maximum(first.upper - np.maximum(attained, 0.0), 0.0)
    deciding = _DECIDING * float(np.mean(hoped, where=np.isfinite(hoped)))

    def taken() -> tuple[Owners, list[_Part]]:
        gains = _Gains(worth, attained, deciding, np.array([len(p) for p in parts]))
        return _largest(parts, gains, branching.parts)

    def halved(owner: Owners, parents: list[_Part]) -> list[_Part]:
        children = _choices(maps, unstable, parents)
        found = descended(
            maps,
            target,
            c=functionals[owner],
            start=children,
            steps=branching.steps // 2,
            tick=tick,
        )
        # A part never gets worse than what was proved of its parent.
        upper = np.minimum(found.upper, np.tile([-p.least for p in parents], 2))
        np.maximum.at(attained, owner, found.attained)
        return _parts(maps, unstable, found, upper, order)

    explored_heaps(parts, taken, halved, spent=0, most=branching.total, late=lambda: branching.late)
    return np.array([-heap[0].least for heap in parts])


@dataclass(frozen=True)
class _Gains:
    """What splitting a part of each functional promises; `parts` are those it has so far."""

    worth: FloatArray
    attained: FloatArray
    deciding: float
    parts: npt.NDArray[np.intp]

    def of(self, owner: int, part: _Part, more: int) -> float:
        """Of one part, `more` others being split at once: lower bounds, and signs decided."""
        upper, low = -part.least, float(self.attained[owner])
        if part.place == _NOWHERE or upper <= 0.0:
            return 0.0
        gain = float(self.worth[owner]) * (upper - max(low, 0.0))
        if low < 0.0:
            gain += self.deciding * low / (low - upper)
        return gain / (int(self.parts[owner]) + more)


def _largest(
    parts: list[list[_Part]], gains: _Gains, most: int
) -> tuple[npt.NDArray[np.intp], list[_Part]]:
    """Takes out the parts to split next, each the largest of its functional by then."""
    queue: list[tuple[float, int, int]] = []

    def enter(owner: int, more: int) -> None:
        if parts[owner] and gains.parts[owner] + more < most:
            gain = gains.of(owner, parts[owner][0], more)
            if gain > 0:
                heapq.heappush(queue, (-gain, owner, more))

    for owner in range(len(parts)):
        enter(owner, 0)
    owners: list[int] = []
    chosen: list[_Part] = []
    while queue and len(chosen) < _BATCH // 2:
        _, owner, more = heapq.heappop(queue)
        owners.append(owner)
        chosen.append(heapq.heappop(parts[owner]))
        enter(owner, more + 1)
    return np.array(owners, dtype=np.intp), chosen


def _choices(maps: Maps, unstable: _Unstable, parents: list[_Part]) -> dict[str, SlopeChoice]:
    """Where children start: each parent twice, its place ≥ 0 in the first and ≤ 0 in the other."""
    n = len(parents)
    low = np.tile(np.stack([p.low_slope for p in parents]), (2, 1))
    phase = np.tile(np.stack([p.phase for p in parents]), (2, 1))
    multiplier = np.tile(np.stack([p.multiplier for p in parents]), (2, 1))
    places = np.array([p.place for p in parents])
    phase[np.arange(n), places], phase[np.arange(n, 2 * n), places] = 1, -1
    choices: dict[str, SlopeChoice] = {}
    start = 0
    for step, positions in zip(unstable.steps, unstable.positions, strict=True):
        plain = start_of(choice_of(maps, step), 2 * n)
        part = slice(start, start + len(positions))
        plain.low_slope.reshape(2 * n, -1)[:, positions] = low[:, part]
        plain.phase.reshape(2 * n, -1)[:, positions] = phase[:, part]
        plain.multiplier.reshape(2 * n, -1)[:, positions] = multiplier[:, part]
        choices[step.name] = plain
        start += len(positions)
    return choices


def _parts(
    maps: Maps, unstable: _Unstable, found: Descended, upper: FloatArray, order: count[int]
) -> list[_Part]:
    """What was bounded, as parts; each is branched next on the unstable element whose upper bound
    costs it most."""
    n = len(upper)

    def at_unstable(arrays: Mapping[str, Any]) -> Any:
        pairs = zip(unstable.steps, unstable.positions, strict=True)
        return np.concatenate([arrays[k.name].reshape(n, -1)[:, at] for k, at in pairs], axis=1)

    low = at_unstable({name: c.low_slope for name, c in found.choices.items()})
    phase = at_unstable({name: c.phase for name, c in found.choices.items()})
    multiplier = at_unstable({name: c.multiplier for name, c in found.choices.items()})
    unseen = {name: np.zeros(c.phase.shape) for name, c in found.choices.items()}
    arrived = at_unstable({**unseen, **found.seen})
    ceilings = [
        choice_of(maps, step).bounds().high.reshape(-1)[at]
        for step, at in zip(unstable.steps, unstable.positions, strict=True)
    ]
    high = np.concatenate(ceilings)
    loss = np.where(phase == 0, np.maximum(arrived, 0.0) * high, 0.0)
    best = np.argmax(loss, axis=1)
    place = np.where(loss[np.arange(n), best] > 0, best, _NOWHERE)
    return [
        _Part(
            -float(upper[i]),
            next(order),
            low_slope=low[i],
            phase=phase[i],
            multiplier=multiplier[i],
            place=int(place[i]),
        )
        for i in range(n)
    ]


def _unstable(maps: Maps, target: str) -> _Unstable:
    steps = tuple(free_steps(maps, target))
    return _Unstable(steps, tuple(np.flatnonzero(choice_of(maps, step).free) for step in steps))
