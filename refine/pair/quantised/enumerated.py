"""Differences of graphs that store all inputs as integers: every combination of these is followed.

Over a small domain each input is stored as one of a few integers (`refine.pair.quantised.cells`).
For each combination of those of a graph that runs, what every tensor may be is followed in all
executions at once, and for each combination of those of a quantised specification its exact value,
in balls; one that is not quantised has its range over the domain. A difference lies between
the ends of what both may be, in some combination.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import flint
import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import Balls, ObjectArray, object_array
from encoders.arithmetic.possible import Possible
from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import EXACT
from encoders.curves.values import lower, upper
from encoders.numbers.enclosure import FloatArray, Interval, add_down, add_up
from encoders.numbers.formats import BINARY32
from encoders.program import program_of
from encoders.scheduling import contract_at
from gpu_check.emulator.exact import evaluate_real
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import DType, Graph
from refine.bounds.local.possible_steps import PossibleSteps, covers
from refine.bounds.network import InputBox, network_bounds
from refine.pair.quantised.cells import (
    Cell,
    cells,
    classes,
    input_grids,
    read_as,
    scales_of,
    stored_alike,
)

_RUNS = 2**17  # combinations that are followed
_BESIDE_RANGE = 2**12  # the same, where what they are compared with is but a range
_PAIRS = 2**20  # that are compared
_WORK = 2**24  # multiply-adds and elements of all of them
_CHUNK = 2**20  # elements of the largest tensor at once, and of balls
_BALLS = 2**14
_BITS = 80

Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Quantised:
    """Two graphs all of whose inputs are put on grids in the one that runs: inputs and outputs of
    that, and those of the specification."""

    spec: Graph
    impl: Graph
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def both(self) -> bool:
        """Is every input put on a grid in the specification, too?"""
        return set(input_grids(self.spec)) == set(self.spec.inputs)


def quantised(
    spec: Graph, impl: Graph, inputs: Mapping[str, str], outputs: Mapping[str, str]
) -> Quantised | None:
    """The pair, if the graph that runs stores all inputs as integers."""
    kinds = [impl.types[t].dtype for t in (*impl.inputs, *impl.outputs)]
    kinds += [spec.types[t].dtype for t in (*spec.inputs, *spec.outputs)]
    floats = all(kind is DType.FLOAT32 for kind in kinds)
    shapes = all(impl.types[a].shape == spec.types[b].shape for a, b in inputs.items())
    if not (floats and shapes) or set(input_grids(impl)) != set(impl.inputs):
        return None
    return Quantised(spec, impl, inputs, outputs)


def enumerated_gaps(
    pair: Quantised, box: InputBox, contract: RuntimeContract, tick: Callable[[], None]
) -> Mapping[str, Interval]:
    """Ranges of run less specification, for each output of the graph that runs; nothing where the
    combinations are too many, or one is not followed."""
    if not covers(contract) or contract.format_of(DType.FLOAT32) != BINARY32:
        return {}
    parts = _Parts.of(pair, box)
    if parts is None or not _sums_fit(pair.impl, contract):
        return {}
    with np.errstate(all="ignore"):
        count = parts.combinations(parts.runs)
        if _too_much(pair.impl, count) or (not pair.both and count > _BESIDE_RANGE):
            return {}
        if pair.both and _too_much(pair.spec, parts.combinations(parts.reals)):
            return {}
        runs = _followed(pair.impl, parts, contract, tick)
        if runs is None:
            return {}
        if not pair.both:
            held = network_bounds(pair.spec, box_of(pair, box), contract=EXACT, tick=tick)
            real = {t: held.maps.values[t] for t in pair.spec.outputs}
            return {
                a: _between(runs[a].lo.min(axis=0), runs[a].hi.max(axis=0), real[b])
                for a, b in pair.outputs.items()
            }
        exact = _evaluated(pair, parts, tick)
        if exact is None:
            return {}
        return {a: _apart(runs[a], exact[b], parts) for a, b in pair.outputs.items()}


def _sums_fit(graph: Graph, contract: RuntimeContract) -> bool:
    """Do sums of integers stay in int32, whatever is stored, so that they are what is followed?"""
    for step in program_of(graph).steps:
        meaning = step.operator.meant(step.site)
        if meaning is None or not meaning.op:
            continue
        if meaning.own is not None:
            return False
        if meaning.storing is None or any(graph.types[t].dtype.is_float for t in step.reads):
            continue
        limits = [np.iinfo(graph.types[t].dtype.value) for t in step.reads]
        every = [
            Interval(*(np.full(graph.types[t].shape, float(v)) for v in (ends.min, ends.max)))
            for t, ends in zip(step.reads, limits, strict=True)
        ]
        stored = meaning.storing(step.site, every, contract_at(step.site, contract))
        if not np.all(np.isfinite(stored.moved.bound)):
            return False
    return True


def box_of(pair: Quantised, box: InputBox) -> InputBox:
    """The same inputs under the specification's names."""
    return InputBox(
        {b: box.values[a] for a, b in pair.inputs.items()},
        {b: box.errors[a] for a, b in pair.inputs.items()},
    )


@dataclass(frozen=True)
class _Parts:
    """Where the integers of elements change: for each element, by name and flat place, its cells,
    the classes of numbers that the graph that runs stores as one integer, and those of exact
    quotients, with the class of each cell."""

    box: InputBox
    places: tuple[tuple[str, int], ...]
    cells: tuple[tuple[Cell, ...], ...]
    runs: tuple[Interval, ...]
    run_of: tuple[tuple[int, ...], ...]
    reals: tuple[Interval, ...]
    real_of: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(pair: Quantised, box: InputBox) -> _Parts | None:
        """None where there are too many combinations, or inputs are not numbers of float32."""
        ours, theirs = input_grids(pair.impl), input_grids(pair.spec) if pair.both else {}
        places: list[tuple[str, int]] = []
        found: list[tuple[Cell, ...]] = []
        count = 1
        for name in pair.impl.inputs:
            x, shape = box.values[name], pair.impl.types[name].shape
            if np.any(box.errors[name] != 0) or not _in_float32(x):
                return None
            scales = [scales_of(ours[name], shape)]
            other = [scales_of(theirs[pair.inputs[name]], shape)] if theirs else []
            for place, (lo, hi) in enumerate(zip(x.lo.reshape(-1), x.hi.reshape(-1), strict=True)):
                mine = cells(
                    float(lo),
                    float(hi),
                    [float(s[place]) for s in scales],
                    [float(s[place]) for s in other],
                    _RUNS,
                )
                if mine is None:
                    return None
                count *= len(mine)
                if count > _PAIRS:
                    return None
                if len(mine) > 1:
                    places.append((name, place))
                    found.append(tuple(mine))
        run = [classes(each, [c.run for c in each]) for each in found]
        real = [classes(each, [c.real for c in each]) for each in found]
        ends = [r for r, _ in real]
        for i, (name, place) in enumerate(places if theirs else ()):
            alone = read_as(pair.spec, pair.inputs[name])
            if alone is not None:  # any number of a class stands for all of it
                scale = scales_of(alone, pair.impl.types[name].shape)[place]
                ends[i] = stored_alike(ends[i], float(scale))
        return _Parts(
            box,
            tuple(places),
            tuple(found),
            tuple(r for r, _ in run),
            tuple(tuple(p) for _, p in run),
            tuple(ends),
            tuple(tuple(p) for _, p in real),
        )

    def combinations(self, ways: Sequence[Interval]) -> int:
        """How many there are, of one class of each element."""
        return prod(len(w.lo) for w in ways)

    def inputs(self, ways: Sequence[Interval], first: int, last: int) -> dict[str, Interval]:
        """The inputs, (combinations, *shape), of some of them."""
        counts = [len(w.lo) for w in ways]
        chosen = np.unravel_index(np.arange(first, last), counts) if counts else ()
        found: dict[str, Interval] = {}
        for name, x in self.box.values.items():
            low, high = (np.repeat(v.reshape(1, -1), last - first, axis=0) for v in (x.lo, x.hi))
            for (own, place), way, index in zip(self.places, ways, chosen, strict=True):
                if own == name:
                    low[:, place], high[:, place] = way.lo[index], way.hi[index]
            shape = (last - first, *x.shape)
            found[name] = Interval(low.reshape(shape), high.reshape(shape))
        return found

    def pairs(self) -> tuple[Places, Places]:
        """The combinations of runs and of exact quotients that go together, by number."""
        return _numbers(self.runs, self.run_of), _numbers(self.reals, self.real_of)


def _numbers(ways: Sequence[Interval], of: Sequence[Sequence[int]]) -> Places:
    """The number of a combination of classes for each combination of cells."""
    found = np.zeros(1, np.intp)
    for way, places in zip(ways, of, strict=True):
        found = (found[:, None] * len(way.lo) + np.array(places, np.intp)).reshape(-1)
    return found


def _in_float32(x: Interval) -> bool:
    ends = (x.lo, x.hi)
    return all(bool(np.all(v.astype(np.float32).astype(np.float64) == v)) for v in ends)


def _chunks(graph: Graph, count: int, most: int) -> Iterator[tuple[int, int]]:
    """Numbers of the first combination and behind the last one, of those followed at once, that
    have so many elements of the largest tensor."""
    largest = max(t.size for name, t in graph.types.items() if not graph.is_constant(name))
    many = max(most // max(largest, 1), 1)
    yield from pairwise([*range(0, count, many), count])


def _too_much(graph: Graph, count: int) -> bool:
    program = program_of(graph)
    size = program.work + sum(graph.types[t].size for s in program.steps for t in s.writes)
    return count > _RUNS or count * size > _WORK


def _followed(
    graph: Graph, parts: _Parts, contract: RuntimeContract, tick: Callable[[], None]
) -> Mapping[str, Interval] | None:
    """What outputs may be in every execution, (combinations, *shape); None where that may be
    something else than a number."""
    count = parts.combinations(parts.runs)
    steps, least = PossibleSteps(contract), float(BINARY32.smallest_subnormal)
    ends: dict[str, list[tuple[FloatArray, FloatArray]]] = {t: [] for t in graph.outputs}
    for first, last in _chunks(graph, count, _CHUNK):
        given = parts.inputs(parts.runs, first, last)
        values = {t: Possible.within(x.lo, x.hi, least) for t, x in given.items()}
        for step in program_of(graph).steps:
            tick()
            reads = {t: values[t] for t in step.reads}
            values |= dict(zip(step.writes, steps.of(step, reads), strict=True))
        for t in graph.outputs:
            p = values[t]
            if np.any(p.nan | p.infinite):
                return None
            shape = (last - first, *graph.types[t].shape)
            ends[t].append((np.broadcast_to(p.lo, shape), np.broadcast_to(p.hi, shape)))
    return {t: _one_after_the_other(e) for t, e in ends.items()}


def _one_after_the_other(ends: Sequence[tuple[FloatArray, FloatArray]]) -> Interval:
    return Interval(*(np.concatenate(v) for v in zip(*ends, strict=True)))


def _evaluated(
    pair: Quantised, parts: _Parts, tick: Callable[[], None]
) -> Mapping[str, Interval] | None:
    """What the specification's outputs are, (combinations, *shape), in balls."""
    graph, count = pair.spec, parts.combinations(parts.reals)
    field = Balls(_BITS)
    ends: dict[str, list[tuple[FloatArray, FloatArray]]] = {t: [] for t in graph.outputs}
    for first, last in _chunks(graph, count, _BALLS):
        tick()
        given = parts.inputs(parts.reals, first, last)
        with field.working():
            inputs = {b: _balls(given[a]) for a, b in pair.inputs.items()}
            try:
                values = evaluate_real(graph, inputs, field)
            except (UnsupportedModel, ValueError, ArithmeticError):
                return None
            for t in graph.outputs:
                shape = (last - first, *graph.types[t].shape)
                y = np.broadcast_to(np.asarray(values[t], dtype=object), shape)
                ends[t].append((lower(y), upper(y)))
    return {t: _one_after_the_other(e) for t, e in ends.items()}


def _balls(x: Interval) -> ObjectArray:
    """Balls around ranges."""
    ends = zip(x.lo.reshape(-1).tolist(), x.hi.reshape(-1).tolist(), strict=True)
    return object_array((flint.arb(a).union(flint.arb(b)) for a, b in ends), x.lo.shape)


def _between(low: FloatArray, high: FloatArray, real: Interval) -> Interval:
    return Interval(add_down(low, -real.hi), add_up(high, -real.lo))


def _apart(runs: Interval, exact: Interval, parts: _Parts) -> Interval:
    """The hull of run less exact value over all combinations that go together."""
    ours, theirs = parts.pairs()
    shape = runs.lo.shape[1:]
    low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
    many = max(_CHUNK // max(prod(shape), 1), 1)
    for first, last in pairwise([*range(0, len(ours), many), len(ours)]):
        a, b = ours[first:last], theirs[first:last]
        gap = _between(runs.lo[a], runs.hi[a], Interval(exact.lo[b], exact.hi[b]))
        low, high = np.minimum(low, gap.lo.min(axis=0)), np.maximum(high, gap.hi.max(axis=0))
    return Interval(low, high)
