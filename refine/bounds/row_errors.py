"""How much of an unsafe set's rows executions may take: what a proof over the reals has to leave.

For a row Σ c·y + Σ a·x ≤ d of an unsafe set, the error is the supremum of c·y − c·ŷ over a box and
all allowed executions. Where an execution ŷ is in the row, the real network is in the row with d
moved up by this error. One pull-back on differences bounds it, so that errors which outputs share
cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.numbers.enclosure import FloatArray, add_up, dot_up
from onnx_import.graph import Graph
from refine.bounds.alpha import Branching
from refine.bounds.backward import pull_back
from refine.bounds.margins import Functionals, functionals_of, within_limits
from refine.bounds.network import InputBox, Known, NetworkBounds, network_bounds
from refine.domain.properties import Property, Row

ROWS = "margin"
"""What stands for the outputs in the bounds of rows: how much each of them may be moved."""
_CHUNK_BYTES = 32 * 2**20  # coefficients of one pull-back


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

    @cached_property
    def _functionals(self) -> Functionals:
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

        `errors` has one entry, `ROWS`, of shape (rows,): 0 for rows of conjunctions whose limits no
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
        met = set(within_limits(self.unsafe.unsafe, box, self.graph))
        asked = [k for k, (i, _) in enumerate(self._rows) if i in met]
        errors = np.zeros(len(self._rows))
        with np.errstate(all="ignore"):  # infinities and NaN mean that nothing is known
            errors[asked] = self._moved(found, asked, backward, tick)
        return replace(found, errors={ROWS: errors})

    def _moved(
        self, bounds: NetworkBounds, asked: Sequence[int], backward: bool, tick: Callable[[], None]
    ) -> FloatArray:
        """Upper bounds of c·y − c·ŷ, rows `asked` of them."""
        largest = max((x.lo.size for x in bounds.maps.values.values()), default=1)
        step = max(1, _CHUNK_BYTES // (8 * max(largest, 1)))
        parts = [np.zeros(0)]
        for start in range(0, len(asked), step):
            rows = self._functionals.taken(asked[start : start + step])
            parts.append(_moved(bounds, rows, len(asked[start : start + step]), backward, tick))
        moved = np.concatenate(parts)
        return add_up(moved, np.full(len(moved), self.lost)) if self.lost else moved


def _moved(
    bounds: NetworkBounds, rows: Functionals, k: int, backward: bool, tick: Callable[[], None]
) -> FloatArray:
    maps, apart, shared = bounds.maps, np.zeros(k), np.zeros(k)
    varied = {t: -c for t, c in rows.on_outputs.items() if t in maps.values}
    for tensor, c in rows.on_outputs.items():
        errors = bounds.errors[tensor]
        cost = dot_up(c, errors)
        apart = add_up(apart, cost)
        if tensor not in varied:
            shared = add_up(shared, cost)
        off = rows.off[tensor]  # a coefficient that float64 does not hold
        if np.any(off):
            extra = dot_up(off, errors)
            apart, shared = add_up(apart, extra), add_up(shared, extra)
    if not varied:
        return np.where(np.isnan(apart), np.inf, np.maximum(apart, 0.0))
    most = None if backward else 0
    pulled = pull_back(maps, {}, varied, tick, most=most).upper
    joint = add_up(shared, pulled)
    best = np.fmin(
        np.where(np.isnan(joint), np.inf, joint), np.where(np.isnan(apart), np.inf, apart)
    )
    return np.maximum(best, 0.0)
