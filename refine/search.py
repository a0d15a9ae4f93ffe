"""Looking for an input on which the runtime is far from the real network.

Over the floats of the domain, guided by float64 (`refine.evaluation`): random points; the edges of
what may break down (`refine.brinks`); inputs that make the roundings of the first sums agree
(`refine.chain_attack`); and hill-climbing in steps of all sizes, down to single ulps, from several
starts at once. What it returns are candidates; `refine.witness` decides exactly. Deterministic:
how much is tried follows from the model's size and the effort asked for, not from the clock,
which can only cut it short.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from encoders.contract import AnyOrder, Blocked, Contraction, RuntimeContract, members
from encoders.enclosure import FloatArray
from encoders.formats import round_array
from encoders.operator import site_of
from encoders.registry import lookup
from gpu_check.emulator import emulate
from gpu_check.screening import agrees, screen
from refine.adjoint import adjoint, values_at
from refine.brinks import approach, brinks
from refine.chain_attack import FirstSums, aligned_inputs, first_sums, potential
from refine.evaluation import (
    Candidate,
    Hunt,
    Points,
    Run,
    Scores,
    candidate,
    element_at,
    received,
    score,
)
from refine.pullback import unit_functionals

_WORK = 6 * 10**8  # multiply-adds spent on emulation, for an effort of 1
_FEWEST, _MOST = 96, 6000  # evaluations, likewise
_BATCH_BYTES = 64 * 2**20
_STARTS = 12  # hill climbs at once
_CULL = 8  # generations, after which the worse half of them ends
_FEWEST_STARTS = 2
_LONGEST = 64  # generations, after which new climbs start
_RESTART = 12  # batches of random points to start them from
_KEPT = 8
_BLOCK = 256
_SCREENED = 5  # how much more is tried where a screen makes it cheap
_BRINKS = 12
_BRINK_WORK = 10**8
_ALIGNMENTS = 8  # alignments before climbing
_ALIGNED_STARTS = 4
_ALIGNMENT_WORK = 64  # evaluations that an alignment counts as
_TARGETS = 64  # output elements considered as targets


@dataclass(frozen=True)
class _Climbs:
    """Points being improved, each on its own, and their scores."""

    points: Points
    scores: Scores

    def __len__(self) -> int:
        return len(self.scores.excess)

    def best(self, n: int) -> _Climbs:
        return self.at(np.argsort(-self.scores.excess, kind="stable")[:n])

    def at(self, rows: npt.ArrayLike) -> _Climbs:
        rows = np.atleast_1d(rows)
        scores = Scores(self.scores.excess[rows], self.scores.place[rows])
        return _Climbs({name: v[rows] for name, v in self.points.items()}, scores)

    def joined(self, other: _Climbs) -> _Climbs:
        points = {n: np.concatenate([v, other.points[n]]) for n, v in self.points.items()}
        excess = np.concatenate([self.scores.excess, other.scores.excess])
        place = np.concatenate([self.scores.place, other.scores.place])
        return _Climbs(points, Scores(excess, place))

    @property
    def broken(self) -> bool:
        """Is there a value that is no number? There is nothing worse to find."""
        return bool(np.any(np.isinf(self.scores.excess)))


def search(
    hunt: Hunt, seed: int, late: Callable[[], bool] = lambda: False, effort: float = 1.0
) -> tuple[Candidate, ...]:
    """The best candidates found, best first; fewer are tried once `late` says so."""
    rng = np.random.default_rng(seed)
    executions = _executions(hunt.contract)
    work = sum(lookup(n).work(site_of(hunt.graph, n)) for n in hunt.graph.order)
    quick, run = _quickest(hunt, executions, rng)
    usual = int(np.clip(_WORK // max(work, 1), _FEWEST, _MOST))
    usual *= _SCREENED if run is screen else 1
    evaluations = int(effort * usual)
    widest = max(t.size for t in hunt.graph.types.values())
    batch = int(np.clip(_BATCH_BYTES // (8 * widest), 16, 512))
    batch = min(batch, max(usual // 6, 16))

    def scored(points: Points) -> _Climbs:
        return _Climbs(points, score(hunt, points, quick, run))

    climbs, spent = scored(hunt.box.sample(rng, batch)), batch
    starts = _diverse(climbs)
    if not climbs.broken and not late():
        most = int(np.clip(_BRINK_WORK // (200 * max(work, 1)), 2, _BRINKS))
        for points in _edges(hunt, climbs.points, most, late):
            climbs = climbs.joined(scored(points)).best(batch)
    while spent < min(evaluations, usual) // 4 and not late():
        climbs = climbs.joined(scored(hunt.box.sample(rng, batch))).best(batch)
        spent += batch
    starts = starts.joined(climbs.best(_KEPT))
    sums = None if late() or starts.broken else first_sums(hunt, quick, starts.best(1).points)
    ended = starts
    generation = 0
    while spent < evaluations and not starts.broken and not late():
        if sums is not None and generation == 0:
            for turn in range(_ALIGNMENTS):
                start = starts.at(turn % _FEWEST_STARTS)
                found = scored(_aligned(hunt, sums, quick, start, rng))
                starts = starts.joined(found).best(_STARTS)
                spent += _ALIGNMENT_WORK
            starts = starts.best(_ALIGNED_STARTS)
        starts = _improved(starts, scored(_children(hunt, starts, rng, batch)))
        spent += batch
        generation += 1
        if generation % _CULL == 0 and len(starts) > _FEWEST_STARTS:
            starts = starts.best(max(len(starts) // 2, _FEWEST_STARTS))
        elif generation >= _LONGEST:
            ended, generation = ended.joined(starts).best(_KEPT), 0
            starts = _diverse(scored(hunt.box.sample(rng, _RESTART * batch)))
    kept = starts.joined(ended).joined(climbs.best(_KEPT)).best(_KEPT)
    candidates: list[Candidate] = []
    for execution in executions:
        if execution is quick or not late():
            again = _Climbs(kept.points, score(hunt, kept.points, execution))
            candidates += _candidates(hunt, again, execution)
    return tuple(sorted(candidates, key=lambda c: -c.excess)[:_KEPT])


def _executions(contract: RuntimeContract) -> tuple[RuntimeContract, ...]:
    """What is tried; where any order is allowed, also the usual one of matrix libraries."""
    some = members(contract)
    if not isinstance(contract.order, AnyOrder) or contract.contraction is Contraction.NEVER:
        return some
    blocks = Blocked(_BLOCK)
    return (*some, replace(some[0], name=f"{contract.name}/blocks/fma-always", order=blocks))


def _quickest(
    hunt: Hunt, executions: tuple[RuntimeContract, ...], rng: np.random.Generator
) -> tuple[RuntimeContract, Run]:
    """An execution, and the quickest way to run it that seems to give its bits."""
    sample = hunt.box.sample(rng, 64)
    with np.errstate(all="ignore"):
        for execution in reversed(executions):
            fused = execution.contraction is Contraction.ALWAYS
            if fused and agrees(hunt.graph, received(hunt, sample, execution), execution):
                return execution, screen
    return executions[-1] if len(executions) == 1 else executions[1], emulate


def _diverse(sample: _Climbs) -> _Climbs:
    """The best of each of the three kinds of points that a box samples in turn.

    Small inputs matter: steps of their ulps are fine enough to change few roundings at a time.
    """
    kinds = [sample.at(np.arange(kind, len(sample), 3)) for kind in range(3)]
    first, second, third = (k.best(_STARTS // 3) for k in kinds)
    return first.joined(second).joined(third)


def _candidates(hunt: Hunt, climbs: _Climbs, execution: RuntimeContract) -> list[Candidate]:
    rows = range(len(climbs))
    return [candidate(hunt, climbs.points, i, climbs.scores, execution) for i in rows]


def _edges(
    hunt: Hunt, sample: Points, most: int, late: Callable[[], bool]
) -> Iterator[dict[str, FloatArray]]:
    """Inputs around the first `most` brinks."""
    for brink in brinks(hunt.graph, hunt.real_values(sample))[:most]:
        if late():
            return
        yield approach(hunt, brink, sample)


def _aligned(
    hunt: Hunt,
    sums: FirstSums,
    execution: RuntimeContract,
    start: _Climbs,
    rng: np.random.Generator,
) -> dict[str, FloatArray]:
    """An input near the start, for an output element on which much rounding acts."""
    graph = hunt.graph
    values = values_at(hunt.real_values(start.points), 0)
    output, element = element_at(graph, int(start.scores.place[0]))
    shape = graph.types[output].shape
    others = rng.permutation(graph.types[output].size)[:_TARGETS]
    elements = np.unique([element, *others])
    derivative = adjoint(graph, values, {output: unit_functionals(shape, elements)})
    reached = derivative.get(sums.node.outputs[0])
    if reached is None:
        return dict(start.points)
    likeliest = np.argsort(-potential(graph, values, derivative), kind="stable")
    chosen = likeliest[min(int(rng.geometric(0.5)) - 1, len(likeliest) - 1)]
    along = reached[chosen].reshape(-1) * rng.choice([-1.0, 1.0])
    return aligned_inputs(sums, hunt, execution, start.points[sums.input][0], along, rng)


def _improved(starts: _Climbs, children: _Climbs) -> _Climbs:
    """Each start, or the best of its children if that is better; child i is of start i mod n."""
    n = len(starts)
    rows = np.arange(n)
    own = children.scores.excess[: len(children) // n * n].reshape(-1, n)
    best = np.argmax(own, axis=0)
    better = own[best, rows] > starts.scores.excess
    return starts.joined(children).at(np.where(better, n + best * n + rows, rows))


def _children(
    hunt: Hunt, starts: _Climbs, rng: np.random.Generator, n: int
) -> dict[str, FloatArray]:
    """Neighbours of the starts, in turn: some coordinates moved, far, a little, or by few ulps."""
    parents = np.arange(n) % len(starts)
    children: dict[str, FloatArray] = {}
    for name, lo in hunt.box.lo.items():
        hi, fmt = hunt.box.hi[name], hunt.box.formats[name]
        x = starts.points[name][parents]
        column = (n, *(1,) * lo.ndim)
        rate = np.exp(rng.uniform(np.log(1.0 / max(lo.size, 1)), 0.0, column))
        moved = rng.random(x.shape) < rate
        finest = 1.5 * fmt.precision
        coarsest = np.where(rng.random(column) < 0.2, 1.0, 0.5 * fmt.precision)
        size = np.exp2(-rng.uniform(coarsest, finest, column))
        step = (hi - lo) * size * rng.standard_normal(x.shape)
        ulps = np.abs(x) * float(fmt.unit_roundoff) * rng.integers(-8, 9, x.shape)
        new = x + np.where(rng.random(column) < 0.8, step, ulps)
        children[name] = np.clip(round_array(np.where(moved, new, x), fmt), lo, hi)
    return children
