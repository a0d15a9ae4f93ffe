"""How much of an unsafe set's rows executions may take: what a proof over the reals has to leave.

For a row Σ c·y + Σ a·x ≤ d of an unsafe set, the error is the supremum of c·y − c·ŷ over a box and
all allowed executions. Where an execution ŷ is in the row, the real network is in the row with d
moved up by this error. One pull-back on differences bounds it, so that errors which outputs share
cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from encoders.contract.contract import RuntimeContract
from encoders.lemmas.claims import MOVED_DOWN
from encoders.lemmas.combining import EXACT
from encoders.lemmas.differences import GIVEN_ERROR
from encoders.lemmas.kernel import Radius, apply, carried_back, exactly_zero, known_at
from encoders.numbers.enclosure import Interval
from encoders.program import program_of
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Graph
from refine.bounds.alpha import Branching
from refine.bounds.backward import pull_back
from refine.bounds.batch import Batch, Batches, BoxBounds, batch_bounds, row_of
from refine.bounds.network import InputBox, Known, NetworkBounds, network_bounds
from refine.bounds.properties.limits import Limits, limits_of
from refine.bounds.properties.rows import Functionals, functionals_of
from refine.bounds.pruning import feeds_nonlinear
from refine.bounds.widened import widened
from refine.domain.properties import Property, Row

ROWS = "margin"
"""What stands for the outputs in the bounds of rows: how much each of them may be moved."""
_CHUNK_BYTES = 32 * 2**20  # coefficients of one pull-back
_BATCH_NUMBERS = 2**22  # likewise, of a batch of boxes
_MOST_BOXES, _FEWEST_BOXES = 128, 8


@dataclass(frozen=True)
class RowErrors:
    """The problem of how far executions move the rows of an unsafe set, in the order of the set.

    Every error grows by `lost`, which something beside the network takes.
    """

    graph: Graph
    contract: RuntimeContract
    unsafe: Property
    lost: float = 0.0
    single: bool = False

    @cached_property
    def _rows(self) -> tuple[tuple[int, Row], ...]:
        return tuple((i, row) for i, part in enumerate(self.unsafe.unsafe) for row in part.rows)

    @property
    def many(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def limits(self, boxes: Sequence[InputBox]) -> Limits:
        """Of the conjunction of each row: which boxes have an input within its limits."""
        found = limits_of(self.unsafe.unsafe, boxes, self.graph)
        of_rows = np.array([i for i, _ in self._rows], np.intp)
        return Limits(found.unmet.moved(partial(np.take, indices=of_rows, axis=0)))

    @cached_property
    def functionals(self) -> Functionals:
        """The rows' left sides."""
        return functionals_of([row for _, row in self._rows], self.graph)

    def bounds(
        self,
        box: InputBox,
        backward: bool = True,
        tick: Callable[[], None] = lambda: None,
        known: Known | None = None,
        branching: Branching | None = None,
    ) -> NetworkBounds:
        """Bounds over one box, of the network and of its rows' errors there.

        `radii` has one entry, `ROWS`, of shape (rows,): 0 for rows of conjunctions whose limits no
        input of the box meets.
        """
        found = network_bounds(
            self.graph,
            box,
            contract=self.contract,
            backward=backward,
            tick=tick,
            known=known,
            branching=branching,
        )
        limits = self.limits([box])
        with np.errstate(all="ignore"):  # infinities and NaN mean that nothing is known
            moved = self._moved(found, np.flatnonzero(limits.met[:, 0]), backward, tick)
        return replace(found, radii={ROWS: self.lacking(moved, limits, 0)})

    def lacking(self, moved: Radius, limits: Limits, box: int) -> Radius:
        """By how much rows may be missed that are met in a box and `moved` by the network."""
        if self.lost:
            moved = moved + apply(GIVEN_ERROR, U=self.lost)
        down, unmet = apply(MOVED_DOWN, e=moved), np.flatnonzero(~limits.met[:, box])
        for reason in limits.why_not(box):
            down = down.and_also(known_at((self.many,), [(unmet, reason)]))
        return down

    @cached_property
    def batches(self) -> Batches | None:
        """Rows of many boxes at once, where the network takes them and rows are not too many."""
        program = program_of(self.graph)
        largest = max((self.graph.types[t].size for s in program.steps for t in s.reads), default=1)
        size = min(_MOST_BOXES, _BATCH_NUMBERS // max(len(self._rows) * largest, 1))
        constant = any(self.graph.is_constant(t) for t in self.functionals.on_outputs)
        if size < _FEWEST_BOXES or constant or widened(program, 2) is None:
            return None
        return _Many(self, size)

    def _moved(
        self,
        bounds: NetworkBounds,
        asked: npt.NDArray[np.intp],
        backward: bool,
        tick: Callable[[], None],
    ) -> Radius:
        """Bounds on |c·y − c·ŷ| of rows `asked`; nothing is known of the others."""
        largest = max((x.lo.size for x in bounds.maps.values.values()), default=1)
        step = max(1, _CHUNK_BYTES // (8 * max(largest, 1)))
        parts = []
        for start in range(0, len(asked), step):
            some = asked[start : start + step]
            rows = self.functionals.taken(some.tolist())
            parts.append((some, _moved(bounds, rows, (len(some),), backward, tick)))
        return known_at((self.many,), parts)


@dataclass(frozen=True)
class _Many:
    """Rows of batches of boxes, by functionals of all of them at once."""

    problem: RowErrors
    size: int

    def bounded(
        self, boxes: Sequence[InputBox], around: Known, ranges: Sequence[Mapping[str, Interval]]
    ) -> Batch | None:
        """As `RowErrors.bounds`, of each box, by pull-backs alone."""
        problem, program = self.problem, program_of(self.problem.graph)
        wide = widened(program, len(boxes))
        if wide is None:
            return None
        rows = problem.functionals.of_boxes(len(boxes))
        with np.errstate(all="ignore"):
            try:
                found, _ = batch_bounds(wide, boxes, problem.contract, around=around, ranges=ranges)
                moved = _moved(found, rows, (problem.many, len(boxes)), True, lambda: None)
                pushes = pull_back(found.maps, dict(rows.on_outputs), {}).on_inputs
            except UnsupportedModel:
                return None
        nonlinear = [t for t in found.maps.values if feeds_nonlinear(wide, t)]
        made, limits = [], problem.limits(boxes)
        for b, box in enumerate(boxes):
            column = moved.moved(partial(np.take, indices=b, axis=1))
            lacking = problem.lacking(column, limits, b)
            worst = int(np.argmax(lacking.bound)) if problem.many else 0
            known = {t: row_of(found.maps.values[t], b) for t in nonlinear}
            influence = {
                t: (np.abs(c[worst, b]) * (box.values[t].hi - box.values[t].lo)[0])[None]
                for t, c in pushes.items()
            }
            made.append(BoxBounds({ROWS: lacking}, influence, known))
        return Batch(found, tuple(made))


def _moved(
    bounds: NetworkBounds,
    rows: Functionals,
    shape: tuple[int, ...],
    backward: bool,
    tick: Callable[[], None],
) -> Radius:
    """Bounds on |c·y − c·ŷ|, of shape (rows,), or (rows, boxes) of a batch."""
    maps, apart, shared = bounds.maps, list[Radius](), list[Radius]()
    varied = {t: -c for t, c in rows.on_outputs.items() if t in maps.values}
    for tensor, c in rows.on_outputs.items():
        radius, off = bounds.radii[tensor], rows.off[tensor]
        cost = radius.weighed(c, maps.kept)
        apart.append(cost)
        if tensor not in varied:
            shared.append(cost)
        if np.any(off):  # a coefficient that float64 does not hold
            extra = radius.weighed(off, maps.kept)
            apart.append(extra)
            shared.append(extra)
    whole = carried_back(apart) if apart else exactly_zero(EXACT, shape)
    if not varied:
        return whole
    moved = pull_back(maps, {}, varied, tick, most=None if backward else 0).moved
    return whole if moved is None else whole.and_also(carried_back((moved, *shared)))
