"""Branching on secant slopes: better bounds of differences where few Relus are unstable.

At an unstable Relu, d_out = s·d_in for some s in [0, 1]; at any other, d_out = m·d_in + r with a
known m and |r| ≤ R. Fix an input, an execution, and with them every node's own rounding η and the
remainders r; read the slopes s of all unstable Relus as free. The difference at the output is then
affine in each s, so over s in [0, 1] it is largest at 0 or at 1 (lemma `slope-vertex`): a bound of
both cases is a bound. Only cases that this input allows are needed (its slopes lie between those),
so that a case which no input of the box allows is void (refine/bounds/feasible.py); looked for
where few Relus are unstable. The Relu whose relaxation costs most is branched on first; the
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
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import numpy as np
import numpy.typing as npt

from encoders.numbers.enclosure import FloatArray
from encoders.program import Program, Step
from refine.bounds.alpha import Branching
from refine.bounds.backward import FixedSlopes, Maps, pull_back
from refine.bounds.best_first import Owners, explored_heaps
from refine.bounds.compact import compacted
from refine.bounds.feasible import impossible

_BATCH = 128
_FEW = 64  # with more elements to branch on, void cases are too rare to look for
_VOIDING = 16  # what a case costs, in cases, where void ones are looked for
_FREE = -1  # the code of a slope that is not fixed; 0 and 1 stand for themselves

Codes = npt.NDArray[np.int8]


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


def can_branch(program: Program) -> bool:
    """Is every operator affine, or one whose free slopes can be branched on?"""
    return all(step.operator.branches or step.affine for step in program.steps)


def branched_upper(
    maps: Maps,
    target: str,
    functionals: FloatArray,
    branching: Branching,
    tick: Callable[[], None] = lambda: None,
) -> FloatArray:
    """Upper bounds (k,) of functionals (k, *shape) of a tensor's differences, the largest first
    branched on, until `branching.cases` cases per functional were bounded, its time is over, or
    nothing is left to branch on. Looking for void cases counts as bounding more of them."""
    maps = compacted(maps, target)
    free = _free_secants(maps, target)
    k = functionals.shape[0]
    if not free.steps:
        return pull_back(maps, {}, {target: functionals}, tick).upper
    order = count()
    codes = np.full((k, free.size), _FREE, dtype=np.int8)
    upper, place = _bounded(
        maps, target, functionals=functionals, free=free, codes=codes, tick=tick
    )
    # Per functional its cases, the largest first; that one is the functional's bound.
    cases = [[(-float(upper[i]), next(order), codes[i], int(place[i]))] for i in range(k)]
    cost = _VOIDING if free.size <= _FEW else 1

    def halved(owner: Owners, parents: list[_Case]) -> list[_Case]:
        halves = _both(parents)
        upper, place = _bounded(
            maps, target, functionals=functionals[owner], free=free, codes=halves, tick=tick
        )
        # A case never gets worse than what was proved of its parent.
        least = [max(-float(u), p[0]) for u, p in zip(upper, [*parents, *parents], strict=True)]
        return [(least[i], next(order), row, int(place[i])) for i, row in enumerate(halves)]

    explored_heaps(
        cases,
        lambda: _largest(cases),
        halved,
        spent=k * cost,
        most=branching.cases * k,
        late=lambda: branching.late,
        cost=cost,
    )
    return np.array([max(-heap[0][0], 0.0) for heap in cases])


_Case = tuple[float, int, Codes, int]


def _both(parents: list[_Case]) -> Codes:
    """Each parent twice: its place fixed to slope 0, then to slope 1."""
    n = len(parents)
    halves = np.concatenate([np.stack([codes for _, _, codes, _ in parents])] * 2)
    for i, (_, _, _, place) in enumerate(parents):
        halves[i, place], halves[n + i, place] = 0, 1
    return halves


def _largest(cases: list[list[_Case]]) -> tuple[npt.NDArray[np.intp], list[_Case]]:
    """Takes out the largest cases of all, those left aside whose functional is settled by a
    largest case that cannot be branched on."""
    tops = [(heap[0][0], owner) for owner, heap in enumerate(cases) if heap[0][3] >= 0]
    heapq.heapify(tops)
    owners: list[int] = []
    taken: list[_Case] = []
    while tops and len(taken) < _BATCH // 2:
        _, owner = heapq.heappop(tops)
        owners.append(owner)
        taken.append(heapq.heappop(cases[owner]))
        if cases[owner] and cases[owner][0][3] >= 0:
            heapq.heappush(tops, (cases[owner][0][0], owner))
    return np.array(owners, dtype=np.intp), taken


def _bounded(
    maps: Maps,
    target: str,
    functionals: FloatArray,
    *,
    free: _FreeSecants,
    codes: Codes,
    tick: Callable[[], None],
) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """Bounds of cases, and for each the free element that costs most; -1 where none is left."""
    seen: dict[str, FloatArray] = {}
    fixed = _fixed(maps, free, codes)
    pulled = pull_back(
        maps,
        {},
        on_differences={target: functionals},
        tick=tick,
        choices=None,
        seen=seen,
        fixed=fixed,
    )
    upper = pulled.upper
    if free.size <= _FEW:
        upper = np.where(impossible(maps, fixed, tick), -np.inf, upper)
    costs = np.zeros(codes.shape)
    start = 0
    for step, positions in zip(free.steps, free.positions, strict=True):
        (tensor,) = step.reads
        part = slice(start, start + len(positions))
        if step.name in seen:
            arrived = seen[step.name].reshape(len(codes), -1)[:, positions]
            costs[:, part] = np.abs(arrived) * maps.errors[tensor].reshape(-1)[positions]
        start += len(positions)
    costs[codes != _FREE] = 0.0
    place = np.argmax(costs, axis=1)
    return upper, np.where(costs[np.arange(len(codes)), place] > 0, place, -1)


def _fixed(maps: Maps, free: _FreeSecants, codes: Codes) -> dict[str, FixedSlopes]:
    """What the cases fix, at every node where anything could be fixed."""
    every: dict[str, FixedSlopes] = {}
    for name, between in maps.difference_maps.items():
        if between.fixed is not None:
            shape = (len(codes), *between.radius.shape)
            every[name] = FixedSlopes(np.zeros(shape), np.zeros(shape, dtype=bool))
    start = 0
    for step, positions in zip(free.steps, free.positions, strict=True):
        part = codes[:, start : start + len(positions)]
        every[step.name].slope.reshape(len(codes), -1)[:, positions] = part == 1
        every[step.name].at.reshape(len(codes), -1)[:, positions] = part != _FREE
        start += len(positions)
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
