"""Margins of many boxes at once: functionals of all of them pulled back together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.lemmas.claims import STRICTLY_OUT_OF_REACH, SUM_OUT_OF_REACH
from encoders.lemmas.kernel import Radius, apply
from encoders.lemmas.lemma import Lemma
from encoders.numbers.enclosure import FloatArray, Interval, add_down
from encoders.numbers.formats import BINARY64, round_down, round_up
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Graph
from refine.bounds.batch import Batch, BoxBounds, row_of
from refine.bounds.influence import blame
from refine.bounds.network import InputBox, Known, Margin, NetworkBounds
from refine.bounds.properties.combining import factors_of, summed, summed_limit
from refine.bounds.properties.deficits import DEFICIT, LEAST, deficit_in, deficit_of
from refine.bounds.properties.limits import limits_of
from refine.bounds.properties.rows import Floors, Functionals, functionals_of, lower_bounds
from refine.bounds.pruning import feeds_nonlinear
from refine.bounds.settled import Settled, settled
from refine.bounds.widened import widened
from refine.domain.properties import Property, Row

_BATCH = 128  # boxes
_CLOSE = 2.0**-30  # deficits that rounding of functionals alone may be to blame for


class Alone(Protocol):
    """Bounds one box by itself, exactly where its margins end at a limit."""

    def __call__(self, box: InputBox, *, known: Known) -> NetworkBounds: ...


def many_margins(
    graph: Graph, contract: RuntimeContract, unsafe: Sequence[Property], alone: Alone | None
) -> ManyMargins | None:
    """Margins of batches of boxes, where the network takes them: all of one unsafe set, or each box
    of its own, which then differ in the numbers of their rows alone."""
    try:
        network = settled(graph, contract)
        if network is None or widened(network.program, 2) is None:
            return None
    except UnsupportedModel:
        return None
    return ManyMargins(network, contract, tuple(unsafe), alone)


@dataclass(frozen=True)
class ManyMargins:
    """`unsafe` is one set, or one for each box of the only batch; `alone` bounds a box whose margin
    ends just at a limit."""

    network: Settled
    contract: RuntimeContract
    unsafe: tuple[Property, ...]
    alone: Alone | None
    size: int = _BATCH

    @cached_property
    def _rows(self) -> tuple[tuple[tuple[int, int, Row], ...], ...]:
        """Of each set, its rows with their places."""
        return tuple(
            tuple((i, j, row) for i, part in enumerate(p.unsafe) for j, row in enumerate(part.rows))
            for p in self.unsafe
        )

    @cached_property
    def _functionals(self) -> Functionals:
        graph = self.network.program.graph
        return stacked([functionals_of([row for *_, row in rows], graph) for rows in self._rows])

    @cached_property
    def _limits(self) -> tuple[FloatArray, FloatArray]:
        """Of each row, and set: what it allows, and the least number beyond that."""
        rows = list(zip(*self._rows, strict=True))
        most = [[round_up(row.at_most, BINARY64) for *_, row in each] for each in rows]
        least = [[_least_beyond(row) for *_, row in each] for each in rows]
        return np.array(most), np.array(least)

    @cached_property
    def _conjoined(self) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """The conjunctions of several rows, with their rows."""
        found: dict[int, list[int]] = {}
        for k, (i, _, _) in enumerate(self._rows[0]):
            found.setdefault(i, []).append(k)
        return tuple((i, tuple(rows)) for i, rows in found.items() if len(rows) > 1)

    def bounded(
        self, boxes: Sequence[InputBox], around: Known, ranges: Sequence[Mapping[str, Interval]]
    ) -> Batch | None:
        """As of a single box, of each."""
        network = self.network
        wide = widened(network.program, len(boxes))
        if wide is None or not all(part.rows for part in self.unsafe[0].unsafe):
            return None
        with np.errstate(all="ignore"):
            try:
                found, shares = network.batch(
                    wide, boxes, self.contract, around=around, ranges=ranges
                )
                asked = self._asked(found, len(boxes))
                blamed = [blame(found.maps, shares, a.seen, a.pulls) for a in asked]
            except UnsupportedModel:
                return None
            margins = self._margins(boxes, asked)
        nonlinear = [
            t for t in found.maps.values if t in wide.graph.types and feeds_nonlinear(wide, t)
        ]
        made = []
        for b, (box, (mine, lacks)) in enumerate(zip(boxes, margins, strict=True)):
            worst = max(mine, key=deficit_in, default=None)
            deficit = 0.0 if worst is None else deficit_in(worst)
            if self.alone is not None and 0.0 < deficit <= _CLOSE:  # what just ends at a limit
                known = Known({**around.values, **ranges[b]}, around.radii)
                one = self.alone(box, known=known)
                made.append(BoxBounds(one.radii, one.influence, ranges[b], one.margins))
                continue
            inside: Mapping[str, Interval] = {}
            influence: Mapping[str, FloatArray] = {}
            if worst is not None and deficit:
                inside = {t: row_of(found.maps.values[t], b) for t in nonlinear}
                place = worst.conjunction, worst.row
                influence = next(
                    {t: push[each.places.index(place), b][None] for t, push in pushes.items()}
                    for each, pushes in zip(asked, blamed, strict=True)
                    if place in each.places
                )
            made.append(BoxBounds({DEFICIT: lacks}, influence, inside, mine))
        return Batch(found, tuple(made))

    def _asked(self, found: NetworkBounds, boxes: int) -> list[_Asked]:
        """Lower bounds of all rows and, where no row alone keeps some box out, of sums of those of
        a conjunction."""
        rows, (limits, least) = self._functionals.of_boxes(boxes), self._limits
        places = tuple((i, j) for i, j, _ in self._rows[0])
        # what is at most `at_most` is less than the number beyond it
        every = _bounded(found, rows, places, limits, least, STRICTLY_OUT_OF_REACH)
        asked, widths = [every], {}
        for t in every.pulls:
            widths[t] = found.maps.values[t].hi - found.maps.values[t].lo
        for i, of in self._conjoined:
            some = list(of)
            left, some_pulls = every.left[some], {t: c[some] for t, c in every.pulls.items()}
            factor, expected = factors_of(left, some_pulls, widths)
            if not np.any((np.max(left, axis=0) <= 0) & (expected > np.max(left, axis=0))):
                continue
            most = summed_limit(np.broadcast_to(limits[some], left.shape), factor)[None]
            total, place = summed(rows, of, factor), ((i, len(of)),)
            asked.append(_bounded(found, total, place, most, most, SUM_OUT_OF_REACH))
        return asked

    def _margins(
        self, boxes: Sequence[InputBox], asked: Sequence[_Asked]
    ) -> list[tuple[tuple[Margin, ...], Radius]]:
        """Of every box, for each conjunction that it meets, the row, or the sum of rows, that stays
        out of reach by most, and what all of them lack: by pull-backs alone."""
        first = self.unsafe[0]
        lacks = [a.lacks(first.both) for a in asked]
        places = [place for a in asked for place in a.places]
        at = [(a, k) for a, each in enumerate(asked) for k in range(len(each.places))]
        run = np.concatenate([a.left for a in asked])
        real = np.concatenate([a.left_of_reals for a in asked])
        safe = np.concatenate([radius.bound == 0.0 for radius in lacks])
        worst: list[list[Radius]] = [[] for _ in boxes]
        found: list[list[Margin]] = [[] for _ in boxes]
        limits = limits_of(first.unsafe, boxes, self.network.program.graph)
        for i, met in enumerate(limits.met):
            mine = [k for k, (conjunction, _) in enumerate(places) if conjunction == i]
            order = np.lexsort((run[mine], safe[mine]), axis=0)[-1]
            for b in np.flatnonzero(met):
                k = mine[order[b]]
                margin = Margin(
                    i, places[k][1], float(run[k, b]), float(real[k, b]), bool(safe[k, b])
                )
                found[b].append(margin)
                one, row = at[k]
                worst[b].append(lacks[one].taken(np.array([row * len(boxes) + int(b)])))
        return [
            (tuple(m), deficit_of([*one, *limits.why_not(b)]))
            for b, (m, one) in enumerate(zip(found, worst, strict=True))
        ]


@dataclass(frozen=True)
class _Asked:
    """Rows, or a sum of rows, of every box: what the left side is at least, what it may be at most,
    and from `most` on by the lemma nothing is lacking; coefficients on inputs and at relaxations.
    """

    places: tuple[tuple[int, int], ...]
    floors: Floors
    limits: FloatArray
    most: FloatArray
    lemma: Lemma
    pulls: Mapping[str, FloatArray]
    seen: Mapping[str, FloatArray]

    @property
    def left(self) -> FloatArray:
        """By how much executions stay away, at least: (k, boxes)."""
        return self._left(self.floors.run)

    @property
    def left_of_reals(self) -> FloatArray:
        """By how much the real network stays away, at least."""
        return self._left(self.floors.real)

    def _left(self, floor: FloatArray) -> FloatArray:
        left = add_down(floor, -self.limits)
        return np.where(np.isfinite(left), left, -np.inf)

    def lacks(self, both: bool) -> Radius:
        """What each is short of being out of reach, of executions and, if asked, over the reals."""
        floors = self.floors
        floor = np.minimum(floors.run, floors.real) if both else floors.run
        return apply(
            self.lemma,
            floor=np.where(np.isfinite(floor), floor, -np.inf),
            most=np.broadcast_to(self.most, floor.shape),
            lack=np.maximum(-self.left, LEAST),
        )


def _bounded(
    found: NetworkBounds,
    rows: Functionals,
    places: tuple[tuple[int, int], ...],
    limits: FloatArray,
    most: FloatArray,
    lemma: Lemma,
) -> _Asked:
    seen: dict[str, FloatArray] = {}
    floors, pulls = lower_bounds(found, rows, lambda: None, None, late=False, seen=seen)
    return _Asked(places, floors, limits, most, lemma, pulls, seen)


def stacked(each: Sequence[Functionals]) -> Functionals:
    """The rows of many boxes, (k, boxes, *one box's shape), from those of each, (k, 1, ...)."""
    if len(each) == 1:
        return each[0]

    def joined(parts: Sequence[Mapping[str, FloatArray]]) -> dict[str, FloatArray]:
        shapes = {t: c.shape for part in parts for t, c in part.items()}
        return {
            t: np.concatenate([p.get(t, np.zeros(shape)) for p in parts], axis=1)
            for t, shape in shapes.items()
        }

    return Functionals(
        joined([f.on_outputs for f in each]),
        joined([f.on_inputs for f in each]),
        joined([f.off for f in each]),
    )


def _least_beyond(row: Row) -> float:
    """The least number that lies beyond what the row allows."""
    if row.strict:
        return round_up(row.at_most, BINARY64)
    return float(np.nextafter(round_down(row.at_most, BINARY64), np.inf))
