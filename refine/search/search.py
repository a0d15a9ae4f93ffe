"""Looking for an input on which the runtime is far from the real network.

Over the floats of the domain, guided by float64 (`refine.search.evaluation`): random points; the
edges of what may break down (`refine.search.breakdowns`); places where rounding acts most
(`refine.search.rounding_density`); inputs that make the roundings of the first sums agree
(`refine.search.aligned_rounding`); and hill-climbing in steps of all sizes, down to single ulps,
from several starts at once. What it returns are candidates; `refine.witness.witness` decides
exactly. Deterministic: how much is tried follows from the model's size and the effort asked for,
not from the clock, which can only cut it short.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from encoders.contract.contract import Contraction, RuntimeContract, Subnormals
from encoders.contract.members import members
from encoders.contract.orders import InBlocks
from encoders.functions.erf import ERF
from encoders.numbers.enclosure import FloatArray
from encoders.numbers.formats import BINARY64, round_array
from encoders.program import program_of
from gpu_check.emulator.compiled import compiled_chains
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.screening import agrees, screen
from refine.bounds.backward import unit_functionals
from refine.search.aligned_rounding import FirstSums, aligned_inputs, first_sums, potential
from refine.search.breakdowns import approach, breakdowns
from refine.search.evaluation import (
    Candidate,
    Hunt,
    Points,
    Run,
    candidate,
    element_at,
    received,
    score,
)
from refine.search.flips import AROUND, HALVINGS, around, beyond, jumping, jumps
from refine.search.gradients import adjoint, values_at
from refine.search.population import Climbs
from refine.search.rounding_density import NEIGHBOURS, densest

_WORK = 6 * 10**8  # multiply-adds spent on emulation, for an effort of 1
_FEWEST, _MOST = 96, 6000  # evaluations, likewise
_BATCH_BYTES = 64 * 2**20
_HEAVY = 2**19  # elements, beyond which random points are all that there is time for
_AT_ONCE, _GLIMPSED = 2**21, 2**27  # elements of these, in one evaluation and in all
_BY_BALLS = 128  # elements for which there is time while a ball is evaluated
_STARTS = 12  # hill climbs at once
_CULL = 8  # generations, after which the worse half of them ends
_FEWEST_STARTS = 2
_LONGEST = 64  # generations, after which new climbs start
_RESTART = 12  # batches of random points to start them from
_RETURNING = 3  # one restart in so many goes on from the best points
_KEPT = 8
_SCREENED = 5  # how much more is tried where emulation is cheap
_SAMPLED = 64  # points on which executions are compared
_BREAKDOWNS = 12
_STEPS = 32  # looked at, each on one line
_STEP_SHARE = 4  # a quarter of the evaluations
_PER_EXECUTION = 400  # evaluations for which one more execution is tried there
_BREAKDOWN_WORK = 10**8
_ALIGNMENTS = 3  # alignments before climbing
_ALIGNED_STARTS = 4
_ALIGNMENT_WORK = 64  # evaluations that an alignment counts as
_ALIGNING = 2**22  # multiply-adds of an alignment, for an effort of 1
_MORE_ALIGNING = 8.0  # times as many at most
_FEWEST_PLACES = 8  # for a look at where rounding acts most
_LATE = 0.75  # of all moves are of the last terms of the first sums
_LAST = 1 / 8  # of them
_FEW = 32  # terms
_COARSE = 8.0  # such moves are 2^-8 of the box, or more
_TARGETS = 64  # output elements considered as targets


def search(
    hunt: Hunt, seed: int, late: Callable[[], bool] = lambda: False, effort: float = 1.0
) -> tuple[Candidate, ...]:
    """The best candidates found, best first; fewer are tried once `late` says so, which must happen
    if the effort is infinite."""
    rng = np.random.default_rng(seed)
    executions = members(hunt.contract)
    if all(np.array_equal(low, hunt.box.hi[name]) for name, low in hunt.box.lo.items()):
        return _at_a_point(hunt, executions, rng, late)
    work, weight = program_of(hunt.graph).work, _weight(hunt)
    if weight > _HEAVY:
        return _glimpsed(hunt, executions, rng=rng, weight=weight, late=late, effort=effort)
    quick, run, cheap = _quickest(hunt, executions, rng, late)
    usual = int(np.clip(_WORK // max(work, 1), _FEWEST, _MOST))
    usual *= _SCREENED if cheap else 1
    evaluations = effort * usual
    batch = int(np.clip(_BATCH_BYTES // (8 * weight), 16, 512))
    batch = min(batch, max(usual // 6, 16))

    def scored(points: Points) -> Climbs:
        return Climbs(points, score(hunt, points, quick, run))

    climbs, spent = scored(hunt.box.sample(rng, batch)), batch
    starts = _diverse(climbs)
    if not climbs.broken and not late():
        most = int(np.clip(_BREAKDOWN_WORK // (200 * max(work, 1)), 2, _BREAKDOWNS))
        for points in _edges(hunt, climbs.points, most, late):
            climbs = climbs.joined(scored(points)).best(batch)
    candidates = _everywhere(hunt, executions, _first(climbs.points, _SAMPLED, usual), late)
    if not climbs.broken and not late():
        looked = _parting(executions, quick, candidates)[: max(usual // _PER_EXECUTION, 1)]
        for part in _parted(_flipping(hunt, climbs.points, rng, usual), batch):
            climbs = climbs.joined(scored(part)).best(batch)
            candidates += _everywhere(hunt, looked, part, late)
    while spent < min(evaluations, usual) // 4 and not late():
        climbs = climbs.joined(scored(hunt.box.sample(rng, batch))).best(batch)
        spent += batch
    starts = starts.joined(climbs.best(_KEPT))
    aligning = int(_ALIGNING * np.clip(effort, 1.0, _MORE_ALIGNING))
    sums = None if late() or starts.broken else first_sums(hunt, quick, starts.best(1).points)
    order = {} if sums is None else _places(sums, hunt)
    ended, generation, restarts = starts, 0, 0
    while spent < evaluations and not starts.broken and not late():
        if generation == 0:
            asked = int(min((evaluations - spent) / 4, usual))
            places = min(2 * batch, asked) // NEIGHBOURS
            if places >= _FEWEST_PLACES:
                rounds = asked // (places * NEIGHBOURS)
                dense = densest(
                    hunt,
                    scored,
                    start=starts.best(_KEPT),
                    rng=rng,
                    places=places,
                    rounds=rounds,
                    late=late,
                )
                starts, spent = dense.joined(starts).at(np.arange(_STARTS)), spent + asked
            if sums is not None:
                for turn in range(_ALIGNMENTS):
                    start = starts.at(turn % _FEWEST_STARTS)
                    found = scored(_aligned(hunt, sums, quick, start=start, rng=rng, work=aligning))
                    found = found.joined(scored(_children(hunt, found, order, rng, batch)))
                    starts = starts.joined(found.best(1)).best(_STARTS)
                    spent += _ALIGNMENT_WORK + batch
                starts = starts.best(_ALIGNED_STARTS)
        starts = _improved(starts, scored(_children(hunt, starts, order, rng, batch)))
        spent += batch
        generation += 1
        if generation % _CULL == 0 and len(starts) > _FEWEST_STARTS:
            starts = starts.best(max(len(starts) // 2, _FEWEST_STARTS))
        elif generation >= _LONGEST:
            ended, generation, restarts = ended.joined(starts).best(_KEPT), 0, restarts + 1
            returning = restarts % _RETURNING == 0
            fresh = hunt.box.sample(rng, _RESTART * batch)
            starts = ended if returning else _diverse(scored(fresh))
    kept = starts.joined(ended).joined(climbs.best(_KEPT)).best(_KEPT)
    for execution in executions:
        if execution is quick or not late():
            again = Climbs(kept.points, score(hunt, kept.points, execution))
            candidates += _candidates(hunt, again, execution)
    return tuple(sorted(candidates, key=lambda c: -c.excess)[:_KEPT])


def glimpse(
    hunt: Hunt, seed: int, late: Callable[[], bool] = lambda: False, effort: float = 1.0
) -> tuple[Candidate, ...]:
    """The best of a few random points, one at a time: for networks of which one evaluation takes
    seconds."""
    rng, executions = np.random.default_rng(seed), members(hunt.contract)
    return _glimpsed(hunt, executions, rng, weight=_AT_ONCE, late=late, effort=effort)


def tried(hunt: Hunt, points: Points) -> tuple[Candidate, ...]:
    """These points of the box under every execution, best first."""
    candidates: list[Candidate] = []
    for execution in members(hunt.contract):
        candidates += _candidates(hunt, Climbs(points, score(hunt, points, execution)), execution)
    return tuple(sorted(candidates, key=lambda c: -c.excess))


def _at_a_point(
    hunt: Hunt,
    executions: tuple[RuntimeContract, ...],
    rng: np.random.Generator,
    late: Callable[[], bool],
) -> tuple[Candidate, ...]:
    """The one point of the box under every execution, or as many as there is time for."""
    points, found = hunt.box.sample(rng, 1), list[Candidate]()
    for execution in executions:
        if found and late():
            break
        found += _candidates(hunt, Climbs(points, score(hunt, points, execution)), execution)
    return tuple(sorted(found, key=lambda c: -c.excess)[:_KEPT])


def _weight(hunt: Hunt) -> int:
    """Elements of the widest tensor, counted as what evaluating one takes elsewhere."""
    graph, types = hunt.graph, hunt.graph.types
    widest = max(types[t].size for t in types if not graph.is_constant(t))
    slow = any(
        ERF in step.operator.functions
        and hunt.contract.format_of(types[step.output].dtype) == BINARY64
        for step in program_of(graph).steps
    )
    return widest * (_BY_BALLS if slow else 1)


def _glimpsed(
    hunt: Hunt,
    executions: tuple[RuntimeContract, ...],
    rng: np.random.Generator,
    *,
    weight: int,
    late: Callable[[], bool],
    effort: float,
) -> tuple[Candidate, ...]:
    """The best of random points, few at a time under one execution: each has so many elements that
    nothing is known of them from so few."""
    each, rest = max(_AT_ONCE // weight, 1), effort * max(_GLIMPSED // weight, 1)
    found: list[Candidate] = []
    turn = 0
    while rest > 0 and not late():
        execution = executions[turn % len(executions)]
        points = hunt.box.sample(rng, each)
        climbs = Climbs(points, score(hunt, points, execution))
        found += _candidates(hunt, climbs.best(_KEPT), execution)
        found = sorted(found, key=lambda c: -c.excess)[:_KEPT]
        turn, rest = turn + 1, rest - each
        if climbs.broken:
            break
    return tuple(found)


def _quickest(
    hunt: Hunt,
    executions: tuple[RuntimeContract, ...],
    rng: np.random.Generator,
    late: Callable[[], bool],
) -> tuple[RuntimeContract, Run, bool]:
    """An execution, and the quickest way to run it that seems to give its bits; is it a quick one?

    Compiled, all chains are quick: the execution that rounds most is taken then, of those for which
    there is time.
    """
    if compiled_chains() is not None:
        sample = hunt.box.sample(rng, _SAMPLED)
        chained = [e for e in executions if isinstance(e.order, InBlocks)]
        chained = [e for e in chained if _keeps(e)] or chained
        errors: list[float] = []
        for execution in chained:
            if errors and late():
                break
            errors.append(float(score(hunt, sample, execution).excess.mean()))
        if chained:
            return chained[int(np.argmax(errors))], emulate, True
    sample = hunt.box.sample(rng, 64)
    with np.errstate(all="ignore"):
        for execution in reversed(executions):
            fused = execution.contraction is Contraction.ALWAYS
            if fused and agrees(hunt.graph, received(hunt, sample, execution), execution):
                return execution, screen, True
    return executions[-1] if len(executions) == 1 else executions[1], emulate, False


def _keeps(execution: RuntimeContract) -> bool:
    """Are subnormal numbers kept? Where they are not, little else differs."""
    return Subnormals.FLUSH not in (execution.results, execution.operands)


def _diverse(sample: Climbs) -> Climbs:
    """The best of each of the three kinds of points that a box samples in turn.

    Small inputs matter: steps of their ulps are fine enough to change few roundings at a time.
    """
    kinds = [sample.at(np.arange(kind, len(sample), 3)) for kind in range(3)]
    first, second, third = (k.best(_STARTS // 3) for k in kinds)
    return first.joined(second).joined(third)


def _candidates(hunt: Hunt, climbs: Climbs, execution: RuntimeContract) -> list[Candidate]:
    rows = range(len(climbs))
    return [candidate(hunt, climbs.points, i, climbs.scores, execution) for i in rows]


def _first(points: Points, most: int, usual: int) -> dict[str, FloatArray]:
    """Some of the points: fewer where evaluation is dear."""
    few = int(np.clip(usual // most, 8, most))
    return {name: v[:few] for name, v in points.items()}


def _everywhere(
    hunt: Hunt,
    executions: tuple[RuntimeContract, ...],
    points: Points,
    late: Callable[[], bool],
) -> list[Candidate]:
    """The best of the points under each execution."""
    found: list[Candidate] = []
    for execution in executions:
        if late():
            break
        climbs = Climbs(points, score(hunt, points, execution))
        found += _candidates(hunt, climbs.best(_KEPT), execution)
    return found


def _parting(
    executions: tuple[RuntimeContract, ...], quick: RuntimeContract, seen: list[Candidate]
) -> tuple[RuntimeContract, ...]:
    """Executions that err otherwise than `quick` and those before on what was seen, the ones that
    err most first."""
    errors: dict[RuntimeContract, tuple[float, ...]] = {}
    for c in seen:
        errors[c.execution] = (*errors.get(c.execution, ()), c.excess)
    kept: list[RuntimeContract] = []
    for execution in sorted(errors, key=lambda e: -max(errors[e], default=0.0)):
        known = [errors[quick]] if quick in errors else []
        if errors[execution] not in (*known, *(errors[k] for k in kept)):
            kept.append(execution)
    return tuple(kept)


def _flipping(
    hunt: Hunt, sample: Points, rng: np.random.Generator, usual: int
) -> dict[str, FloatArray]:
    """Inputs around steps of the network, none if it has none that the box crosses."""
    none = {name: v[:0] for name, v in sample.items()}
    if not jumping(hunt.graph):
        return none
    most = int(np.clip(usual // (_STEP_SHARE * (HALVINGS + AROUND)), 2, _STEPS))
    driven = beyond(hunt, sample, most)
    pool = {name: np.concatenate([v, driven[name]]) for name, v in sample.items()}
    found = jumps(hunt, pool, rng, most)
    return around(hunt, found, pool, rng) if found else none


def _parted(points: Points, size: int) -> Iterator[dict[str, FloatArray]]:
    for start in range(0, len(next(iter(points.values()))), size):
        yield {name: v[start : start + size] for name, v in points.items()}


def _edges(
    hunt: Hunt, sample: Points, most: int, late: Callable[[], bool]
) -> Iterator[dict[str, FloatArray]]:
    """Inputs around the first `most` breakdowns."""
    for breakdown in breakdowns(hunt.graph, hunt.real_values(sample))[:most]:
        if late():
            return
        yield approach(hunt, breakdown, sample)


def _aligned(
    hunt: Hunt,
    sums: FirstSums,
    execution: RuntimeContract,
    *,
    start: Climbs,
    rng: np.random.Generator,
    work: int,
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
    return aligned_inputs(
        sums,
        hunt,
        execution=execution,
        near=start.points[sums.input][0],
        derivative=along,
        rng=rng,
        work=work,
    )


def _improved(starts: Climbs, children: Climbs) -> Climbs:
    """Each start, or the best of its children if that is better; child i is of start i mod n."""
    n = len(starts)
    rows = np.arange(n)
    own = children.scores.excess[: len(children) // n * n].reshape(-1, n)
    best = np.argmax(own, axis=0)
    better = own[best, rows] > starts.scores.excess
    return starts.joined(children).at(np.where(better, n + best * n + rows, rows))


def _places(sums: FirstSums, hunt: Hunt) -> dict[str, FloatArray]:
    """By element of the input: how many of the first sums' terms come after it. Nothing where they
    are few."""
    if len(sums.elements) < _FEW:
        return {}
    after = np.zeros(hunt.graph.types[sums.input].size)
    after[sums.elements] = np.arange(len(sums.elements), 0.0, -1.0) - 1.0
    return {sums.input: after.reshape(hunt.graph.types[sums.input].shape)}


def _children(
    hunt: Hunt,
    starts: Climbs,
    order: Mapping[str, FloatArray],
    rng: np.random.Generator,
    n: int,
) -> dict[str, FloatArray]:
    """Neighbours of the starts, in turn: some coordinates moved, far, a little, or by few ulps.

    Most of them, where an order of the elements is known, keep all but the last few: what the
    first sums had rounded by then stays as it is, and all that comes later is sampled anew.
    """
    parents = np.arange(n) % len(starts)
    children: dict[str, FloatArray] = {}
    for name, lo in hunt.box.lo.items():
        hi, fmt = hunt.box.hi[name], hunt.box.formats[name]
        x = starts.points[name][parents]
        column = (n, *(1,) * lo.ndim)
        rate = np.exp(rng.uniform(np.log(1.0 / max(lo.size, 1)), 0.0, column))
        moved = rng.random(x.shape) < rate
        finest = np.full(column, 1.5 * fmt.precision)
        coarsest = np.where(rng.random(column) < 0.2, 1.0, 0.5 * fmt.precision)
        if name in order:
            most = np.log(_LAST * lo.size)
            last = order[name] < np.exp(rng.uniform(0.0, most, column))
            late = rng.random(column) < _LATE
            moved = np.where(late, last, moved)
            coarsest, finest = np.where(late, 1.0, coarsest), np.where(late, _COARSE, finest)
        size = np.exp2(-rng.uniform(coarsest, finest, column))
        by_ulps = np.broadcast_to(rng.random(column) < 0.2, x.shape)[moved]
        width = np.broadcast_to((hi - lo) * size, x.shape)[moved]
        steps = rng.integers(-8, 9, by_ulps.shape) * float(fmt.unit_roundoff)
        far = width * rng.standard_normal(by_ulps.shape)
        new = round_array(x[moved] + np.where(by_ulps, np.abs(x[moved]) * steps, far), fmt)
        x[moved] = np.clip(new, *(np.broadcast_to(end, x.shape)[moved] for end in (lo, hi)))
        children[name] = x
    return children
