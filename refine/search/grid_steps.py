"""Inputs of a quantised network beside the points at which their integers change.

What a copy on grids loses of an input is largest just before its integer changes and, of the other
sign, just after. Elements are moved there one at a time, many such moves scored at once, and those
that gain are made together as long as that gains: on a network of many inputs, of which each adds a
little, no random point comes near to what this finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from encoders.contract.contract import RuntimeContract
from encoders.contract.members import members
from encoders.numbers.enclosure import FloatArray
from encoders.program import program_of
from encoders.quantizing import Grid
from onnx_import.graph import Graph
from refine.domain.box import Box
from refine.pair.quantised.cells import input_grids
from refine.search.evaluation import Candidate, Hunt, Points, Scores, candidate, score

_STARTS, _CLIMBS, _ROUNDS = 48, 3, 40
_MOVES = 192  # that are scored at once
_WORK = 4e7  # multiply-adds of all of them
_IDLE = 4  # rounds without a gain, after which a climb ends
_BESIDE = (2.0**-21, 2.0**-24, 0.0)
"""How far, of a number that is taken to an integer, from where the integer changes: at the nearest
numbers two graphs that divide in different ways differ."""


def climbed(hunt: Hunt, seed: int, late: Callable[[], bool]) -> Iterator[Candidate]:
    """The best inputs that moves of single elements lead to; none for a graph that puts no number
    on a grid."""
    graph = hunt.graph
    if not any(_on_grid(graph)) or not sum(v.size for v in hunt.box.lo.values()):
        return
    rng = np.random.default_rng(seed)
    moves = _Moves(hunt.box, input_grids(graph), rng)
    most = int(np.clip(_WORK / max(program_of(graph).work, 1), 4, _MOVES))
    climb = _Climb(hunt, members(hunt.contract)[0], moves, most)
    starts = moves.drawn(min(_STARTS, 2 * most))
    scores = climb.scored(starts)
    for sample in np.argsort(-scores.excess, kind="stable")[:_CLIMBS]:
        if late():
            return
        yield climb.from_point({n: v[int(sample)] for n, v in starts.items()}, late)


def _on_grid(graph: Graph) -> Iterator[bool]:
    for step in program_of(graph).steps:
        meaning = step.operator.meant(step.site)
        yield meaning is not None and meaning.rounds


@dataclass(frozen=True)
class _Moves:
    """Places in a box beside which integers change."""

    box: Box
    grids: Mapping[str, Grid]
    rng: np.random.Generator

    def drawn(self, count: int) -> dict[str, FloatArray]:
        """Points (count, *shape) all of whose elements are there, or at an end."""
        return {name: self._places(name, count) for name in self.box.lo}

    def of(self, point: Points, count: int) -> dict[str, FloatArray]:
        """Copies of a point, in each of which one element is moved."""
        sizes = {n: v.size for n, v in point.items()}
        names = [n for n, size in sizes.items() if size]
        weights = np.array([sizes[n] for n in names], np.float64)
        chosen = self.rng.choice(len(names), size=count, p=weights / weights.sum())
        made = {n: np.repeat(v[None], count, axis=0) for n, v in point.items()}
        for i, name in enumerate(names):
            rows = np.flatnonzero(chosen == i)
            at = self.rng.integers(0, sizes[name], len(rows))
            places = self._places(name, len(rows)).reshape(len(rows), -1)
            made[name].reshape(count, -1)[rows, at] = places[np.arange(len(rows)), at]
        return made

    def _places(self, name: str, count: int) -> FloatArray:
        lo, hi, rng = self.box.lo[name], self.box.hi[name], self.rng
        size = (count, *lo.shape)
        found = np.where(rng.random(size) < 0.5, lo, hi)
        if name in self.grids:
            grid = self.grids[name]
            first = np.ceil(lo / grid.scale + grid.zero - 0.5)
            last = np.floor(hi / grid.scale + grid.zero - 0.5)
            k = np.floor(first + rng.random(size) * (last - first + 1.0))
            change = (np.clip(k, first, last) + 0.5 - grid.zero) * grid.scale
            beside = change + rng.choice([-1.0, 1.0], size) * rng.choice(_BESIDE, size) * np.abs(
                change
            )
            found = np.where((first <= last) & (rng.random(size) < 0.8), beside, found)
        return self.box.nearest(name, found)


@dataclass(frozen=True)
class _Climb:
    hunt: Hunt
    execution: RuntimeContract
    moves: _Moves
    most: int

    def scored(self, points: Points) -> Scores:
        return score(self.hunt, points, self.execution)

    def from_point(self, point: Mapping[str, FloatArray], late: Callable[[], bool]) -> Candidate:
        """What a point is led to."""
        best = {n: v.copy() for n, v in point.items()}
        reached = float(self.scored({n: v[None] for n, v in best.items()}).excess[0])
        idle = 0
        for _ in range(_ROUNDS):
            if late() or idle >= _IDLE or not np.isfinite(reached):
                break
            moved = self.moves.of(best, self.most)
            gains = self.scored(moved).excess - reached
            order = np.argsort(-gains, kind="stable")
            order = order[gains[order] > 0]
            idle += 1
            if not len(order):
                continue
            made = self._together(best, moved, order)
            scores = self.scored(made)
            first = int(np.argmax(scores.excess))
            if scores.excess[first] > reached:
                reached, idle = float(scores.excess[first]), 0
                best = {n: v[first] for n, v in made.items()}
        whole = {n: v[None] for n, v in best.items()}
        return candidate(self.hunt, whole, 0, self.scored(whole), self.execution)

    @staticmethod
    def _together(
        best: Points, moved: Points, order: npt.NDArray[np.intp]
    ) -> dict[str, FloatArray]:
        """The point after the best move, after half of all that gain, and after all: the better one
        of two moves of one element counts."""
        counts = sorted({1, max(len(order) // 4, 1), max(len(order) // 2, 1), len(order)})
        made = {n: np.repeat(v[None], len(counts), axis=0) for n, v in best.items()}
        for row, count in enumerate(counts):
            for place in order[:count][::-1]:
                for name, v in moved.items():
                    made[name][row] = np.where(v[place] != best[name], v[place], made[name][row])
        return made
