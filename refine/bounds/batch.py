"""Many boxes bounded at once: the pass of `refine.bounds.network` over a widened program.

The steps, their maps and lemmas are the same; what differs is which functionals are pulled back:
of every box those elements whose sign it leaves open, and none on differences, whose errors are
those that were proved over a larger box or that composition gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.lemmas.differences import GIVEN_ERROR, PULLED_BACK
from encoders.lemmas.kernel import Radius, apply
from encoders.lemmas.ranges.making import both_ranges, given_ranges, pulled_range
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.numbers.radius import is_negative, radius_of
from encoders.program import Program, Step, forward
from refine.bounds.backward import Maps, pull_back
from refine.bounds.influence import Shares, add_shares
from refine.bounds.joint.joining import Joining, as_it_is
from refine.bounds.local.errors import Runs, bound_errors
from refine.bounds.local.values import bound_values
from refine.bounds.network import InputBox, Known, Margin, NetworkBounds, NodeBounds
from refine.bounds.optimising import CHUNK_BYTES
from refine.bounds.pruning import MOST_SPLIT_INPUTS, Rows, feeds_nonlinear


@dataclass(frozen=True)
class BoxBounds:
    """What is kept of one box of a batch: as of `NetworkBounds`, and the ranges of tensors."""

    radii: Mapping[str, Radius]
    influence: Mapping[str, FloatArray]
    ranges: Mapping[str, Interval]
    margins: tuple[Margin, ...] = ()

    @property
    def errors(self) -> Mapping[str, FloatArray]:
        """The numbers of the radii."""
        return {t: radius.bound for t, radius in self.radii.items()}


@dataclass(frozen=True)
class Batch:
    """Bounds of a network with a row for each box, and what is kept of each."""

    bounds: NetworkBounds
    boxes: tuple[BoxBounds, ...]


@runtime_checkable
class InBatches(Protocol):
    """A problem that may bound many boxes at once."""

    @property
    def batches(self) -> Batches | None:
        """None where it cannot."""


class Batches(Protocol):
    """Bounds boxes many at a time."""

    @property
    def size(self) -> int:
        """How many boxes make a good batch."""

    def bounded(
        self, boxes: Sequence[InputBox], around: Known, ranges: Sequence[Mapping[str, Interval]]
    ) -> Batch | None:
        """Bounds of each box; None where they have to be bounded one by one.

        `around` was proved over a box that contains all of them, `ranges` over one around each.
        """


def batch_bounds(
    program: Program,
    boxes: Sequence[InputBox],
    contract: RuntimeContract,
    *,
    around: Known,
    ranges: Sequence[Mapping[str, Interval]],
    tick: Callable[[], None] = lambda: None,
    runs: Runs | None = None,
    besides: NetworkBounds | None = None,
    errors_too: bool = False,
) -> tuple[NetworkBounds, Shares]:
    """Bounds of a program widened to as many rows as there are boxes, row by row, and whose width
    that of hidden elements is.

    `around` are bounds proved over a box that contains them all, `ranges` those of some tensors
    over one that contains each. `runs` as of `network_bounds`; `besides` has the nodes that no
    input changes (refine/bounds/settled.py). `errors_too` pulls back the errors of elements whose
    sign is open, too. Raises UnsupportedModel, naming the node, where
    functionals of many boxes cannot be carried.
    """
    names = program.graph.inputs
    stacked = {n: _stacked([b.values[n] for b in boxes]) for n in names}
    maps = Maps(program, given_ranges(stacked), kept=1)
    for name in names:
        error = np.concatenate([b.errors[name] for b in boxes])
        maps.err_by(name, apply(GIVEN_ERROR, U=error))

    shares: dict[str, Mapping[str, FloatArray]] = {}
    joining = Joining.of(program, as_it_is(program.graph, contract) if runs is None else None)

    def bounded(step: Step, before: Mapping[str, NodeBounds]) -> tuple[NodeBounds]:
        nonlocal maps
        tick()
        maps, step = joining.at(step, maps)
        output, bends = step.output, feeds_nonlinear(maps.program, step.output)
        bends = bends and step.name not in joining.inside
        bound_values(maps, step)
        if output in around.values:
            maps.values[output] = both_ranges(maps.values[output], around.values[output])
        if any(output in known for known in ranges):
            nothing = maps.values[output]
            known = _stacked([r.get(output, row_of(nothing, i)) for i, r in enumerate(ranges)])
            maps.values[output] = both_ranges(nothing, known)
        if bends:
            shares[output] = _refined(maps, output, tick)
        rounding, assumed, run = bound_errors(maps, step, contract, runs)
        if output in around.radii:
            maps.err_by(output, maps.radii[output].and_also(around.radii[output]))
        if errors_too and bends:
            _refined_errors(maps, output, tick)
        if step.name in maps.flaws:
            rounding = rounding.flawed()
        values, errors = maps.values[output], maps.errors[output]
        return (NodeBounds(step, values, errors, rounding=rounding, assumed=assumed, run=run),)

    nodes = tuple(forward(program, {}, bounded).values())
    if besides is not None:
        nodes = (*besides.nodes, *nodes)
        maps.values.update(besides.maps.values)
        for tensor, radius in besides.maps.radii.items():
            maps.err_by(tensor, radius)
    radii = {t: maps.radii[t] for t in program.graph.outputs}
    return NetworkBounds(maps, nodes, radii, {}, {}), shares


def row_of(x: Interval, row: int) -> Interval:
    """One box's ranges among those of many."""
    return Interval(x.lo[row : row + 1].copy(), x.hi[row : row + 1].copy())


def _stacked(ranges: Sequence[Interval]) -> Interval:
    """Ranges of single rows, one after the other."""
    return Interval(np.concatenate([x.lo for x in ranges]), np.concatenate([x.hi for x in ranges]))


def _refined(maps: Maps, output: str, tick: Callable[[], None]) -> Mapping[str, FloatArray]:
    """Better ranges of the elements that leave something open, by unit functionals and their
    negatives; and which part of their width each element of an input accounts for."""
    x = maps.values[output]
    boxes, lo, hi = len(x.lo), *(end.reshape(len(end), -1).copy() for end in (x.lo, x.hi))
    wanted = lo < hi
    if all(s.affine or s.operator.positive_part for s in maps.program.readers(output)):
        wanted = (lo < 0) & (hi > 0)
    places, real = _places(wanted)
    widest = max(maps.graph.types[t].size for t in maps.values)
    step = max(int(CHUNK_BYTES // (16 * widest)), 1)
    box = np.arange(boxes)
    shares = {
        t: np.zeros((*lo.shape, size // boxes))
        for t in maps.graph.inputs
        if (size := maps.values[t].lo.size) <= boxes * MOST_SPLIT_INPUTS
    }
    for start in range(0, len(places), step):
        at, there = places[start : start + step], real[start : start + step]
        c = np.zeros((2, len(at), *lo.shape))
        c[0, np.arange(len(at))[:, None], box, at] = there
        c[1] = -c[0]
        pulled = pull_back(maps, {output: c.reshape(-1, *x.shape)}, {}, tick)
        upper = np.where(there, pulled.upper[: len(at)], np.inf)
        lower = np.where(there, -pulled.upper[len(at) :], -np.inf)
        for row in range(len(at)):
            hi[box, at[row]] = np.minimum(hi[box, at[row]], upper[row])
            lo[box, at[row]] = np.maximum(lo[box, at[row]], lower[row])
        add_shares(maps, shares, pulled.on_inputs, at, there)
    maps.values[output] = pulled_range(x, lo, hi)
    return shares


def _refined_errors(maps: Maps, output: str, tick: Callable[[], None]) -> None:
    """Better errors of the elements whose sign is open as they run."""
    x, error = maps.values[output], maps.errors[output]
    boxes = len(error)
    wanted = ((x.lo - error < 0) & (x.hi + error > 0)).reshape(boxes, -1)
    if not all(s.affine or s.operator.positive_part for s in maps.program.readers(output)):
        wanted = np.ones_like(wanted)
    places, real = _places(wanted & np.isfinite(error).reshape(boxes, -1))
    widest = max(maps.graph.types[t].size for t in maps.values)
    step = max(int(CHUNK_BYTES // (8 * widest)), 1)
    box, found = np.arange(boxes), np.full(wanted.shape, np.inf)
    for start in range(0, len(places), step):
        at, there = places[start : start + step], real[start : start + step]
        c = np.zeros((len(at), *wanted.shape))
        c[np.arange(len(at))[:, None], box, at] = there
        upper = pull_back(maps, {}, {output: c.reshape(-1, *x.shape)}, tick).upper
        upper = np.where(there, upper, np.inf)
        if is_negative(upper):
            maps.flaws.add(maps.program.writers[output].name)
        for row, limit in enumerate(radius_of(upper)):
            found[box, at[row]] = np.minimum(found[box, at[row]], limit)
    limit = apply(PULLED_BACK, U=found.reshape(error.shape))
    maps.err_by(output, maps.radii[output].and_also(limit))


def _places(wanted: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> tuple[Rows, FloatArray]:
    """Positions (k, boxes) of what is wanted of each box (boxes, elements), and 1 where they are
    that, 0 where a box has fewer than another."""
    counts = np.count_nonzero(wanted, axis=1)
    most = int(np.max(counts, initial=0))
    places = np.argsort(~wanted, axis=1, kind="stable")[:, :most].T
    return places, (np.arange(most)[:, None] < counts).astype(np.float64)
