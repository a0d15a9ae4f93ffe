"""Looking for an input that leads a network, as it runs, into an unsafe set.

Over the floats of the domain: random points, the sides and the middle of the box, and projected
gradient descent on the slack of the nearest conjunction from the best of them, in float64; then the
bits of allowed executions on the best points, and steps of single ulps around them. What it returns
is decided exactly (`refine.witness.reach`). Deterministic by seed; the clock can only cut it short.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from encoders.contract.contract import RuntimeContract
from encoders.contract.members import members
from encoders.numbers.enclosure import FloatArray
from encoders.numbers.formats import BINARY64, round_down
from encoders.program import program_of
from gpu_check.emulator.emulator import emulate
from onnx_import.graph import Graph
from refine.bounds.network import InputBox
from refine.bounds.properties.rows import Functionals, functionals_of
from refine.bounds.widened import widened
from refine.domain.box import Box
from refine.domain.properties import Property, Row
from refine.results.verdict import Tolerance
from refine.search.evaluation import Hunt, Points, received
from refine.search.gradients import adjoint, adjoint_of, values_at

_WORK = 2 * 10**9  # multiply-adds spent on float64 evaluations, for an effort of 1
_FEWEST, _MOST = 64, 20000  # points, likewise
_BATCH_BYTES = 32 * 2**20
_MOST_EFFORT = 64.0  # for random points; descents go on as long as there is time
_STARTS = 8
_STEPS = 40
_FIRST_STEP, _DECAY = 0.25, 0.88  # of the box's widths
_POLISHING, _FINER = 0.01, 0.7  # the same, from the best points on
_NEAR = 0.02  # the same, from the middle of a box that a proof has halved often
_OFTEN = 512  # boxes that a proof leaves open between two descents
_ROUNDS = 6  # of descents, for an effort of 1
_JUDGED = 6  # points whose bits are computed
_EMULATED = 2 * 10**8  # multiply-adds spent on bits around the best points, for an effort of 1
_EXECUTIONS = 4
_PARENTS, _FRESH = 4, 16
_NEIGHBOURS = 12  # of each parent
_FINEST = 24  # moves are of 2^-24 of the box at least


@dataclass(frozen=True)
class Reaching:
    """A point, the execution under which it is nearest to the unsafe set, and how near: the least
    over conjunctions of the largest slack of a row; at most 0 means that it lies within."""

    point: Mapping[str, FloatArray]
    execution: RuntimeContract
    slack: float


@dataclass(frozen=True)
class _Aim:
    """Slacks of a property's rows, to float64."""

    graph: Graph
    unsafe: Property

    @cached_property
    def _rows(self) -> list[Row]:
        return [row for part in self.unsafe.unsafe for row in part.rows]

    @cached_property
    def functionals(self) -> Functionals:
        """The rows' left sides."""
        return functionals_of(self._rows, self.graph)

    @cached_property
    def _limits(self) -> FloatArray:
        return np.array([float(round_down(row.at_most, BINARY64)) for row in self._rows])

    def slacks(self, points: Points, outputs: Mapping[str, FloatArray]) -> FloatArray:
        """c·y + a·x − d of every row: (samples, rows)."""
        f, limits = self.functionals, self._limits
        total = np.tile(-limits, (len(next(iter(points.values()))), 1))
        for part, given in ((f.on_outputs, outputs), (f.on_inputs, points)):
            for name, c in part.items():
                x = np.asarray(given[name], np.float64)
                x = np.broadcast_to(x, (len(total), *x.shape[1:])).reshape(len(total), -1)
                total = total + x @ c.reshape(len(limits), -1).T
        return np.where(np.isnan(total), -np.inf, total)

    def nearest(self, slacks: FloatArray) -> tuple[FloatArray, npt.NDArray[np.intp]]:
        """Per sample, the least over conjunctions of the largest slack, and that row."""
        best = np.full(len(slacks), np.inf)
        place = np.zeros(len(slacks), np.intp)
        start = 0
        for part in self.unsafe.unsafe:
            columns = slacks[:, start : start + len(part.rows)]
            if columns.shape[1]:
                worst = np.max(columns, axis=1)
                nearer = worst < best
                place = np.where(nearer, start + np.argmax(columns, axis=1), place)
                best = np.where(nearer, worst, best)
            start += len(part.rows)
        return best, place


def reaching(
    graph: Graph,
    contract: RuntimeContract,
    unsafe: Property,
    box: Box,
    seed: int,
    late: Callable[[], bool] = lambda: False,
    effort: float = 1.0,
) -> tuple[Reaching, ...]:
    """The points found nearest to the unsafe set as executions compute them, nearest first."""
    hunt = Hunt(graph, box, contract, Tolerance())
    aim, rng = _Aim(graph, unsafe), np.random.default_rng(seed)
    work = program_of(graph).work
    share = min(effort, _MOST_EFFORT)
    many = int(np.clip(share * _WORK / max(work, 1), _FEWEST, share * _MOST))
    size = max(sum(t.size for t in graph.types.values()), 1)
    batch = int(np.clip(_BATCH_BYTES // (8 * size), 8, 1024))
    kept = _scored(hunt, aim, _corners(box))
    spent = 0
    while spent < many and not late() and not kept.within:
        kept = kept.best(4 * _STARTS).joined(_scored(hunt, aim, box.sample(rng, batch)))
        spent += batch
    starts = kept.best(_STARTS)
    bits = share * _EMULATED / max(work, 1)
    found = _on_bits(hunt, aim, starts, rng, bits / 4, late)
    rounds = 0
    while not starts.within and not late() and rounds < effort * _ROUNDS:
        begun = starts if rounds == 0 else _scored(hunt, aim, box.sample(rng, _STARTS))
        reached = _descended(hunt, aim, begun, _FIRST_STEP, _DECAY, late)
        polished = _descended(hunt, aim, reached.best(_STARTS), _POLISHING, _FINER, late)
        starts = starts.joined(reached).joined(polished).best(_STARTS)
        rounds += 1
        if found[0].slack <= 0:
            break
    if found[0].slack > 0:
        found = sorted([*found, *_on_bits(hunt, aim, starts, rng, bits, late)], key=_slack)
    return tuple(found)


@dataclass
class Following:
    """Looks where a proof halves boxes: at their middles, and from time to time down from the
    nearest of these. Rare counterexamples lie where bounds stay open longest."""

    hunt: Hunt
    unsafe: Property
    seed: int
    _kept: _Kept | None = None
    _seen: int = 0

    @cached_property
    def _aim(self) -> _Aim:
        return _Aim(self.hunt.graph, self.unsafe)

    def seen(self, boxes: Sequence[InputBox]) -> tuple[Reaching, ...]:
        """Hears of boxes that are still open; the points found in the unsafe set, to float64, as
        executions compute them, nearest first. They are found once."""
        hunt, aim, box = self.hunt, self._aim, self.hunt.box
        if not boxes:
            return ()
        middles = {
            n: np.stack(
                [box.nearest(n, 0.5 * x.lo + 0.5 * x.hi) for x in (b.values[n] for b in boxes)]
            )
            for n in box.lo
        }
        found = _scored(hunt, aim, middles)
        kept = found if self._kept is None else self._kept.joined(found)
        before, self._seen = self._seen, self._seen + len(boxes)
        if before // _OFTEN != self._seen // _OFTEN and not kept.within:
            starts = kept.best(_STARTS)
            reached = _descended(hunt, aim, starts, _NEAR, _DECAY, lambda: False)
            if reached.within:
                kept = reached.best(_JUDGED).joined(kept)
        self._kept = _Kept(kept.points, kept.slack).best(4 * _STARTS)
        if not self._kept.within:
            return ()
        inside = self._kept.best(_JUDGED)
        self._kept = None
        return tuple(
            _on_bits(hunt, aim, inside, np.random.default_rng(self.seed), 0.0, lambda: False)
        )


def _on_bits(
    hunt: Hunt,
    aim: _Aim,
    starts: _Kept,
    rng: np.random.Generator,
    most: float,
    late: Callable[[], bool],
) -> list[Reaching]:
    """Climbing on the bits of executions, from the best points, for so many runs: nearest first."""
    box = hunt.box
    every = (hunt.contract,) if hunt.contract.exact else members(hunt.contract)
    first = _judged(hunt, aim, starts.best(_JUDGED).points, every, late)
    found, executed = sorted(first, key=_slack), 0
    nearest = tuple(dict.fromkeys([r.execution for r in found] + list(every)))[:_EXECUTIONS]
    while found[0].slack > 0 and executed < most and not late():
        tried = [_around(box, r.point, rng) for r in found[:_PARENTS]] + [box.sample(rng, _FRESH)]
        points = {n: np.concatenate([t[n] for t in tried]) for n in box.lo}
        found = sorted([*found, *_judged(hunt, aim, points, nearest, late)], key=_slack)[
            : 2 * _PARENTS
        ]
        executed += len(next(iter(points.values()))) * _EXECUTIONS
    return found


def _slack(reached: Reaching) -> float:
    return reached.slack


@dataclass(frozen=True)
class _Kept:
    """Points (samples, *shape) with their slacks, in float64."""

    points: Points
    slack: FloatArray

    @property
    def within(self) -> bool:
        """Is one of them well inside the unsafe set?"""
        return bool(np.any(self.slack < 0))

    def best(self, most: int) -> _Kept:
        order = np.argsort(self.slack, kind="stable")[:most]
        return _Kept({n: v[order] for n, v in self.points.items()}, self.slack[order])

    def joined(self, other: _Kept) -> _Kept:
        points = {n: np.concatenate([v, other.points[n]]) for n, v in self.points.items()}
        return _Kept(points, np.concatenate([self.slack, other.slack]))


def _scored(hunt: Hunt, aim: _Aim, points: Points) -> _Kept:
    with np.errstate(all="ignore"):
        slack, _ = aim.nearest(aim.slacks(points, hunt.real_outputs(points)))
    return _Kept(points, slack)


def _corners(box: Box) -> Points:
    """Both ends of everything, and the middle."""
    middle = {n: box.nearest(n, 0.5 * lo + 0.5 * box.hi[n]) for n, lo in box.lo.items()}
    return {n: np.stack([lo, box.hi[n], middle[n]]) for n, lo in box.lo.items()}


def _descended(
    hunt: Hunt,
    aim: _Aim,
    starts: _Kept,
    step: float,
    decay: float,
    late: Callable[[], bool],
) -> _Kept:
    """Projected gradient descent on the slack of the row that keeps a point out."""
    box = hunt.box
    points = {n: v.copy() for n, v in starts.points.items()}
    best = starts
    for steps in range(_STEPS + 1):
        if late() or best.within:
            break
        with np.errstate(all="ignore"):
            values = hunt.real_values(points)
            outputs = {t: _valued(hunt.graph, t, values) for t in hunt.graph.outputs}
            slack, rows = aim.nearest(aim.slacks(points, outputs))
        if steps:
            here = _Kept({n: v.copy() for n, v in points.items()}, slack)
            best = best.joined(here).best(4 * _STARTS)
        if steps == _STEPS or best.within:
            break
        for name, slope in _slopes(aim, values, rows).items():
            moved = points[name] - step * (box.hi[name] - box.lo[name]) * np.sign(slope)
            points[name] = box.nearest(name, np.clip(moved, box.lo[name], box.hi[name]))
        step *= decay
    return best


def _valued(graph: Graph, tensor: str, values: Mapping[str, FloatArray]) -> FloatArray:
    """The values of a tensor, with a sample axis; of a constant, too."""
    if tensor in values:
        return values[tensor]
    return np.asarray(graph.constants[tensor], np.float64)[None]


def _slopes(
    aim: _Aim, values: Mapping[str, FloatArray], rows: npt.NDArray[np.intp]
) -> Mapping[str, FloatArray]:
    """The derivative by the inputs of the left side of one row for each sample: (samples, *shape).

    `values` have an axis of samples in front. Networks that may be widened carry all at once.
    """
    graph, f, many = aim.graph, aim.functionals, len(rows)
    wide = widened(program_of(graph), many)
    outputs = {t: c[rows] for t, c in f.on_outputs.items() if not graph.is_constant(t)}
    if wide is None:
        each = [
            adjoint(graph, values_at(values, i), {t: c[i : i + 1] for t, c in outputs.items()})
            for i in range(many)
        ]
        reached = {
            t: np.concatenate([one.get(t, np.zeros((1, *graph.types[t].shape))) for one in each])
            for t in graph.inputs
        }
    else:
        side_by_side = {
            t: np.broadcast_to(v, (many, *v.shape[1:]))[:, 0] for t, v in values.items()
        }
        found = adjoint_of(wide, side_by_side, {t: c[None, :, 0] for t, c in outputs.items()})
        reached = {
            t: found[t].reshape(many, *graph.types[t].shape) for t in graph.inputs if t in found
        }
    zero = {n: np.zeros((many, *graph.types[n].shape)) for n in graph.inputs}
    return {
        n: reached.get(n, zero[n]) + (f.on_inputs[n][rows] if n in f.on_inputs else 0.0)
        for n in graph.inputs
    }


def _around(box: Box, point: Mapping[str, FloatArray], rng: np.random.Generator) -> Points:
    """A point moved in a few of its elements or in all: by single steps of the format, or by parts
    of the box of all sizes."""
    moved: dict[str, FloatArray] = {}
    for name, x in point.items():
        every = np.repeat(x[None], _NEIGHBOURS, axis=0)
        share = rng.random((_NEIGHBOURS, *(1 for _ in x.shape)))
        signs = rng.integers(-1, 2, every.shape) * (rng.random(every.shape) < share)
        scale = 2.0 ** rng.integers(-_FINEST, 0, share.shape) * (box.hi[name] - box.lo[name])
        single = 2.0 * float(box.formats[name].unit_roundoff) * np.abs(every)
        far = rng.random(share.shape) < 0.5
        steps = every + signs * np.where(far, np.maximum(scale, single), single)
        moved[name] = box.nearest(name, np.clip(steps, box.lo[name], box.hi[name]))
    return moved


def _judged(
    hunt: Hunt,
    aim: _Aim,
    points: Points,
    executions: Sequence[RuntimeContract],
    late: Callable[[], bool],
) -> Sequence[Reaching]:
    """Each point under that of these executions which comes nearest."""
    found: list[Reaching] = []
    for execution in executions:
        if found and late():
            break
        with np.errstate(all="ignore"):
            outputs = (
                hunt.real_outputs(points)
                if execution.exact
                else emulate(hunt.graph, received(hunt, points, execution), execution)
            )
            wide = {t: np.asarray(v, np.float64) for t, v in outputs.items()}
            slack, _ = aim.nearest(aim.slacks(points, wide))
        found += [
            Reaching({n: v[i] for n, v in points.items()}, execution, float(s))
            for i, s in enumerate(slack)
        ]
    best: dict[int, Reaching] = {}
    samples = len(next(iter(points.values())))
    for i, reached in enumerate(found):
        at = i % samples
        if at not in best or reached.slack < best[at].slack:
            best[at] = reached
    return list(best.values())
