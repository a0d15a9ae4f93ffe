"""How far what runs stays from an unsafe set: rows of a property bounded below, in one pull-back.

For a row Σ c·ŷ + Σ a·x ≤ d of an unsafe conjunction, its left side, negated, is pulled back as a
functional of real values and differences at once, so that errors which outputs share cancel. A box
is safe from a conjunction where one of its rows cannot hold anywhere in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.lemmas.claims import STRICTLY_OUT_OF_REACH
from encoders.lemmas.kernel import Radius, apply
from encoders.numbers.enclosure import (
    BoolArray,
    FloatArray,
    Interval,
    add_down,
    add_up,
    dot_up,
    inner_up,
)
from encoders.numbers.formats import BINARY64, round_down, round_up
from encoders.program import program_of
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Graph
from refine.bounds.alpha import Branching
from refine.bounds.backward import Maps, pull_back
from refine.bounds.batch import Batch, Batches, BoxBounds, batch_bounds, row_of
from refine.bounds.deficits import LEAST, Option, best_of, beyond, deficit_of
from refine.bounds.influence import blame
from refine.bounds.network import InputBox, Known, Margin, NetworkBounds, network_bounds
from refine.bounds.pruning import feeds_nonlinear
from refine.bounds.relu_splitting import optimised_upper
from refine.bounds.widened import widened
from refine.domain.properties import Conjunction, Property, Row
from refine.domain.vnnlib import Half, is_empty

DEFICIT = "property"
"""What stands for the outputs in the bounds of a property: how much its margin lacks."""
_BATCH = 128  # boxes
_CLOSE = 2.0**-30  # deficits that rounding of functionals alone may be to blame for
_FEW = 64  # terms of a row that is looked at in exact numbers
_PHASES = 8  # splits of phases per row, for every one that a tensor's elements get


@dataclass(frozen=True)
class Functionals:
    """Rows as functionals of tensors: c·ŷ + a·x, arrays (k, *shape) per output and input.

    The true coefficients are at most `off` away, element by element.
    """

    on_outputs: Mapping[str, FloatArray]
    on_inputs: Mapping[str, FloatArray]
    off: Mapping[str, FloatArray]

    def of_boxes(self, many: int) -> Functionals:
        """All rows, of every box of a batch: (k, boxes, *one box's shape)."""

        def spread(c: FloatArray) -> FloatArray:
            return np.broadcast_to(c, (c.shape[0], many, *c.shape[2:]))

        parts = (self.on_outputs, self.on_inputs, self.off)
        return Functionals(*({t: spread(c) for t, c in part.items()} for part in parts))

    def taken(self, rows: Sequence[int]) -> Functionals:
        """Some of the rows."""
        chosen = list(rows)
        parts = (self.on_outputs, self.on_inputs, self.off)
        return Functionals(*({t: c[chosen] for t, c in part.items()} for part in parts))


@dataclass(frozen=True)
class Margins:
    """The problem of keeping a network, as it runs under a contract, out of an unsafe set."""

    graph: Graph
    contract: RuntimeContract
    unsafe: Property
    single: bool = False

    @cached_property
    def rows(self) -> tuple[tuple[int, int, Row], ...]:
        return tuple(
            (i, j, row)
            for i, part in enumerate(self.unsafe.unsafe)
            for j, row in enumerate(part.rows)
        )

    @cached_property
    def functionals(self) -> Functionals:
        return functionals_of([row for _, _, row in self.rows], self.graph)

    def bounds(
        self,
        box: InputBox,
        backward: bool = True,
        tick: Callable[[], None] = lambda: None,
        known: Known | None = None,
        branching: Branching | None = None,
    ) -> NetworkBounds:
        """Bounds over one box, of the network and of the property's margins there.

        `radii` has one entry, `DEFICIT`: 0 where the box is proved safe, else how much the margin
        of the worst conjunction lacks.
        """
        found = network_bounds(
            self.graph,
            box,
            contract=self.contract,
            backward=backward,
            tick=tick,
            known=known,
            branching=None if branching is None else replace(branching, cases=0),
        )
        met = within_limits(self.unsafe.unsafe, box, self.graph)
        reachable = set(met)
        asked = [k for k, (i, _, _) in enumerate(self.rows) if i in reachable]
        with np.errstate(all="ignore"):
            floors, pulls = _floors(
                found,
                self.functionals.taken(asked),
                tick=tick,
                effort=branching,
                late=not backward,
            )
        chosen = self._chosen(met, [self.rows[k] for k in asked], floors, found)
        margins = tuple(margin for margin, _ in chosen)
        worst = max(margins, key=_deficit, default=None)
        influence = found.influence
        if worst is not None:
            at = next(
                k
                for k, place in enumerate(asked)
                if self.rows[place][:2] == (worst.conjunction, worst.row)
            )
            ends = found.maps.values
            influence = {t: np.abs(c[at]) * (ends[t].hi - ends[t].lo) for t, c in pulls.items()}
        radii = {DEFICIT: deficit_of([lacks for _, lacks in chosen])}
        return replace(found, radii=radii, influence=influence, margins=margins)

    @cached_property
    def batches(self) -> Batches | None:
        """Margins of many boxes at once, where the network takes them."""
        if widened(program_of(self.graph), 2) is None:
            return None
        return _Many(self)

    def _chosen(
        self,
        met: Iterable[int],
        rows: Sequence[tuple[int, int, Row]],
        floors: _Floors,
        bounds: NetworkBounds,
    ) -> tuple[tuple[Margin, Radius], ...]:
        """Of each conjunction that the box meets, the row that stays out of reach by most, and what
        it lacks."""
        found: dict[int, list[Option]] = {i: [] for i in met}
        for k, (i, j, row) in enumerate(rows):
            run, real = floors.run[k], floors.real[k]
            lower = np.minimum(run, real) if self.unsafe.both else run
            floor = Fraction(float(lower)) if np.isfinite(lower) else None
            run_left, real_left = _less(run, row.at_most), _less(real, row.at_most)
            if floor is None or not beyond(floor, row):
                least = _of_ranges(row, bounds)
                if least is not None and beyond(least, row):
                    floor, low = least, float(round_down(least - row.at_most, BINARY64))
                    run_left, real_left = max(run_left, low), max(real_left, low)
            found[i].append(Option(j, row, floor, run_left, real_left))
        return tuple(best_of(i, options) for i, options in found.items())


@dataclass(frozen=True)
class _Many:
    """Margins of batches of boxes, by functionals of all of them at once."""

    problem: Margins
    size: int = _BATCH

    def bounded(
        self, boxes: Sequence[InputBox], around: Known, ranges: Sequence[Mapping[str, Interval]]
    ) -> Batch | None:
        """As `Margins.bounds`, of each box."""
        problem = self.problem
        wide = widened(program_of(problem.graph), len(boxes))
        if wide is None or not all(part.rows for part in problem.unsafe.unsafe):
            return None
        with np.errstate(all="ignore"):
            try:
                found, shares = batch_bounds(
                    wide, boxes, problem.contract, around=around, ranges=ranges
                )
                functionals = problem.functionals.of_boxes(len(boxes))
                seen: dict[str, FloatArray] = {}
                floors, pulls = _floors(found, functionals, lambda: None, None, False, seen)
                pushes = blame(found.maps, shares, seen, pulls)
            except UnsupportedModel:
                return None
            margins = self._margins(boxes, floors)
        nonlinear = [t for t in found.maps.values if feeds_nonlinear(wide, t)]
        first = {(i, j): k for k, (i, j, _) in enumerate(problem.rows)}
        made = []
        for b, (box, (mine, lacks)) in enumerate(zip(boxes, margins, strict=True)):
            worst = max(mine, key=_deficit, default=None)
            if worst is not None and 0.0 < _deficit(worst) <= _CLOSE:  # what just ends at a limit
                alone = problem.bounds(
                    box, known=Known({**around.values, **ranges[b]}, around.radii)
                )
                made.append(BoxBounds(alone.radii, alone.influence, ranges[b], alone.margins))
                continue
            deficit = 0.0 if worst is None else _deficit(worst)
            known: Mapping[str, Interval] = {}
            influence: Mapping[str, FloatArray] = {}
            if worst is not None and deficit:
                known = {t: row_of(found.maps.values[t], b) for t in nonlinear}
                k = first[worst.conjunction, worst.row]
                influence = {t: push[k, b][None] for t, push in pushes.items()}
            made.append(BoxBounds({DEFICIT: lacks}, influence, known, mine))
        return Batch(found, tuple(made))

    def _margins(
        self, boxes: Sequence[InputBox], floors: _Floors
    ) -> list[tuple[tuple[Margin, ...], Radius]]:
        """Of every box, for each conjunction that it meets, the row that stays out of reach by
        most, and what all of them lack: by pull-backs alone."""
        rows, both = self.problem.rows, self.problem.unsafe.both
        least = np.array([[_least_beyond(row)] for _, _, row in rows])
        limits = np.array([[round_up(row.at_most, BINARY64)] for _, _, row in rows])
        run, real = (add_down(f, -limits) for f in (floors.run, floors.real))
        floor = np.minimum(floors.run, floors.real) if both else floors.run
        run, real = (np.where(np.isfinite(left), left, -np.inf) for left in (run, real))
        lacks = apply(
            STRICTLY_OUT_OF_REACH,  # what is at most `at_most` is less than the number beyond it
            floor=np.where(np.isfinite(floor), floor, -np.inf),
            most=least,
            lack=np.maximum(-run, LEAST),
        )
        safe = lacks.bound == 0.0
        places: list[list[int]] = [[] for _ in boxes]
        unsafe = self.problem.unsafe.unsafe
        found: list[list[Margin]] = [[] for _ in boxes]
        for i, met in enumerate(_within(unsafe, boxes, self.problem.graph)):
            mine = [k for k, (conjunction, _, _) in enumerate(rows) if conjunction == i]
            order = np.lexsort((run[mine], safe[mine]), axis=0)[-1]
            for b in np.flatnonzero(met):
                k = mine[order[b]]
                margin = Margin(
                    i, rows[k][1], float(run[k, b]), float(real[k, b]), bool(safe[k, b])
                )
                found[b].append(margin)
                places[b].append(k * len(boxes) + int(b))
        none = deficit_of([])
        return [
            (tuple(m), deficit_of([lacks.taken(np.array(p))]) if p else none)
            for m, p in zip(found, places, strict=True)
        ]


@dataclass(frozen=True)
class _Floors:
    """Lower bounds (k,) on the left sides of rows: of every execution, and over the reals; of many
    boxes, (k, boxes)."""

    run: FloatArray
    real: FloatArray


def _floors(
    bounds: NetworkBounds,
    rows: Functionals,
    tick: Callable[[], None],
    effort: Branching | None,
    late: bool,
    seen: dict[str, FloatArray] | None = None,
) -> tuple[_Floors, Mapping[str, FloatArray]]:
    """Lower bounds of rows, and the coefficients of each on inputs; `seen` as in `pull_back`."""
    maps = bounds.maps
    given = (*rows.on_outputs.values(), *rows.on_inputs.values())
    k = next((c.shape[: 1 + maps.kept] for c in given), (0,))
    if not k[0]:
        return _Floors(np.zeros(0), np.zeros(0)), {}
    varied = {t: -c for t, c in rows.on_outputs.items() if t in maps.values}
    values = dict(varied)
    for t, c in rows.on_inputs.items():
        values[t] = values[t] - c if t in values else -c
    fixed = _of_constants(bounds, rows, k)
    most = 0 if late else None
    real = pull_back(maps, values, {}, tick, most=most) if values else None
    run = pull_back(maps, values, varied, tick, seen=seen, most=most) if values else None
    upper_real = add_up(fixed, real.upper) if real is not None else fixed
    upper_run = add_up(fixed, run.upper) if run is not None else fixed
    if effort is not None and len(values) == 1 and len(varied) == 1:
        better = _optimised(maps, values, effort=effort, tick=tick)
        moved = pull_back(maps, {}, varied, tick).upper
        upper_real = np.minimum(upper_real, add_up(fixed, better))
        upper_run = np.minimum(upper_run, add_up(fixed, add_up(better, moved)))
    pulls = {} if run is None else run.on_inputs
    return _Floors(-upper_run, -upper_real), pulls


def _optimised(
    maps: Maps, values: Mapping[str, FloatArray], effort: Branching, tick: Callable[[], None]
) -> FloatArray:
    """Upper bounds by chosen slopes and split phases, of functionals of one tensor's values."""
    ((tensor, c),) = values.items()
    parts = replace(effort, total=_PHASES * effort.parts * bool(effort.total))
    return optimised_upper(
        maps, tensor, functionals=c, branching=parts, worth=np.ones(len(c)), tick=tick
    )


def _of_constants(bounds: NetworkBounds, rows: Functionals, k: tuple[int, ...]) -> FloatArray:
    """Upper bounds, of shape k, of what constant outputs and rounded coefficients come to."""
    maps, total = bounds.maps, np.zeros(k)
    for tensor, c in rows.on_outputs.items():
        if tensor not in maps.values:
            held, away = _constant(bounds, tensor)
            total = add_up(total, add_up(inner_up(-c, held), dot_up(c, away)))
    for tensor, off in rows.off.items():
        if not np.any(off):
            continue
        if tensor in maps.values:
            reach = add_up(maps.values[tensor].magnitude, maps.errors[tensor])
        else:
            held, away = _constant(bounds, tensor)
            reach = add_up(np.abs(held), away)
        total = add_up(total, dot_up(off, reach, maps.kept))
    return total


def _constant(bounds: NetworkBounds, tensor: str) -> tuple[FloatArray, FloatArray]:
    """A constant output, and how far what runs may be from it: without limit where float64 does not
    hold it."""
    stored = np.asarray(bounds.maps.graph.constants[tensor])
    wide = stored.astype(np.float64)
    same = wide.astype(stored.dtype) == stored
    return wide, np.where(same, bounds.errors[tensor], np.inf)


def functionals_of(rows: Sequence[Row], graph: Graph) -> Functionals:
    """Rows of exact numbers as float64 functionals of a graph's outputs and inputs."""
    off: dict[str, FloatArray] = {}
    sides = []
    for names, part in ((graph.outputs, "outputs"), (graph.inputs, "inputs")):
        found: dict[str, FloatArray] = {}
        start = 0
        for name in names:
            size, shape = graph.types[name].size, graph.types[name].shape
            flat, error = np.zeros((len(rows), size)), np.zeros((len(rows), size))
            for k, row in enumerate(rows):
                for i, factor in getattr(row, part).items():
                    if start <= i < start + size:
                        flat[k, i - start], error[k, i - start] = _nearest(factor)
            if np.any(flat) or np.any(error):
                found[name] = flat.reshape(len(rows), *shape)
                spread = error.reshape(len(rows), *shape)
                off[name] = add_up(off[name], spread) if name in off else spread
            start += size
        sides.append(found)
    return Functionals(sides[0], sides[1], off)


def _of_ranges(row: Row, bounds: NetworkBounds) -> Fraction | None:
    """A lower bound on a row's left side, of every execution and over the reals, from ranges and
    errors alone, exact: where those end just at what is allowed, a pull-back, rounded outwards,
    ends beside it. None where there is none."""
    graph, total = bounds.maps.graph, Fraction(0)
    if len(row.outputs) + len(row.inputs) > _FEW:
        return None
    for names, factors in ((graph.outputs, row.outputs), (graph.inputs, row.inputs)):
        start = 0
        for name in names:
            size = graph.types[name].size
            for i, factor in factors.items():
                if start <= i < start + size:
                    ends = _ends_at(bounds, name, i - start, of_runs=names is graph.outputs)
                    if ends is None:
                        return None
                    total += min(factor * end for end in ends)
            start += size
    return total


def _ends_at(
    bounds: NetworkBounds, tensor: str, place: int, *, of_runs: bool
) -> tuple[Fraction, Fraction] | None:
    """Between which numbers an element lies, over the reals and, if asked, in every execution."""
    maps = bounds.maps
    if tensor in maps.values:
        error = maps.errors[tensor].reshape(-1)[place]
        held = maps.values[tensor]
        low, high = held.lo.reshape(-1)[place].item(), held.hi.reshape(-1)[place].item()
    else:
        error = bounds.errors[tensor].reshape(-1)[place]
        low = high = np.asarray(maps.graph.constants[tensor]).reshape(-1)[place].item()
    slack = float(error) if of_runs else 0.0
    low, high = (v if isinstance(v, int) else float(v) for v in (low, high))
    if not np.all(np.isfinite([low, high, slack])):
        return None
    return Fraction(low) - Fraction(slack), Fraction(high) + Fraction(slack)


def _nearest(factor: Fraction) -> tuple[float, float]:
    """A float64 number, and a bound on how far it is from the exact one."""
    low, high = round_down(factor, BINARY64), round_up(factor, BINARY64)
    return float(low), 0.0 if low == high else float(np.nextafter(float(high) - float(low), np.inf))


def within_limits(unsafe: Sequence[Conjunction], box: InputBox, graph: Graph) -> list[int]:
    """The conjunctions within whose limits an input of the box may lie."""
    return [i for i, met in enumerate(_within(unsafe, [box], graph)) if met[0]]


def _within(
    unsafe: Sequence[Conjunction], boxes: Sequence[InputBox], graph: Graph
) -> list[BoolArray]:
    """For each conjunction, the boxes of which an input may lie within its limits."""

    def ends(box: InputBox, side: str) -> FloatArray:
        sides = [getattr(box.values[name], side).reshape(-1) for name in graph.inputs]
        return np.concatenate([*sides, np.zeros(0)])

    lo, hi = (np.stack([ends(box, side) for box in boxes]) for side in ("lo", "hi"))

    def meets(i: int, half: Half) -> BoolArray:
        """By Helly's theorem in one dimension: a range, and both sides, meet if any two do."""
        met = np.full(len(boxes), not is_empty(half))
        if half.lo is not None:
            down, up = round_down(half.lo, BINARY64), round_up(half.lo, BINARY64)
            met &= hi[:, i] > down if half.lo_open else hi[:, i] >= up
        if half.hi is not None:
            down, up = round_down(half.hi, BINARY64), round_up(half.hi, BINARY64)
            met &= lo[:, i] < up if half.hi_open else lo[:, i] <= down
        return met

    none = np.full(len(boxes), True)
    return [
        np.logical_and.reduce([none, *(meets(*one) for one in part.limits.items())])
        for part in unsafe
    ]


def _least_beyond(row: Row) -> float:
    """The least number that lies beyond what the row allows."""
    if row.strict:
        return round_up(row.at_most, BINARY64)
    return float(np.nextafter(round_down(row.at_most, BINARY64), np.inf))


def _less(floor: float, at_most: Fraction) -> float:
    """floor − at_most, rounded down; for people and for choosing what to do next."""
    if not np.isfinite(floor):
        return -np.inf
    return float(round_down(Fraction(float(floor)) - at_most, BINARY64))


def _deficit(margin: Margin) -> float:
    return 0.0 if margin.safe else max(-margin.run, LEAST)
