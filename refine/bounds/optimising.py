"""Better real ranges of a tensor: relaxations optimised for each functional, phases branched on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from encoders.lemmas.ranges.making import pulled_range
from encoders.numbers.enclosure import FloatArray
from onnx_import.graph import Graph
from refine.bounds.alpha import Branching
from refine.bounds.backward import Maps, unit_functionals
from refine.bounds.lines import leave_lines, through_best_lines
from refine.bounds.pruning import Rows, bends_at_zero
from refine.bounds.relu_splitting import optimised_upper

CHUNK_BYTES = 32 * 2**20  # coefficients of one pull-back: small enough to stay in cache
_STEPS, _MORE = 2, 3  # times as many steps for lines; and where phases are branched on, too
_MOST_OF_LINES = 2**25  # coefficients of a tensor's functionals, beyond which none are optimised


def optimise_values(
    maps: Maps, output: str, final: bool, branching: Branching, tick: Callable[[], None]
) -> None:
    """Better ranges by chosen lines and slopes and split phases: of the elements that are still
    unstable, or of all elements of an output.

    A bound is worth what lowering it takes off the height −lo·hi/(hi − lo) of the triangle that
    relaxes a Relu; those of outputs are all worth the same.
    """
    _through_lines(maps, output, branching, tick)
    x = maps.values[output]
    rows = np.flatnonzero((x.lo < 0) & (x.hi > 0) | (final & (x.lo < x.hi)))

    def upper(chunk: Rows, both: FloatArray) -> FloatArray:
        lo, hi = x.lo.reshape(-1)[chunk], x.hi.reshape(-1)[chunk]
        share = -lo / (hi - lo)
        worth = np.nan_to_num(np.concatenate([share**2, (1.0 - share) ** 2]))
        if final:
            worth = np.ones(2 * len(chunk))
        parts = replace(branching, total=branching.total * len(chunk) // len(rows))
        return optimised_upper(
            maps, output, functionals=both, branching=parts, worth=worth, tick=tick
        )

    _tighten(maps, output, rows, copies=4, upper=upper, branching=branching)


def _through_lines(maps: Maps, output: str, branching: Branching, tick: Callable[[], None]) -> None:
    """Better ranges where a smooth curve before leaves lines to choose: of all elements, or of
    those whose sign is open where no more is asked."""
    x = maps.values[output]
    open_ = x.lo < x.hi
    if maps.program.readers(output) and bends_at_zero(maps.program, output):
        open_ &= (x.lo < 0) & (x.hi > 0)
    rows = np.flatnonzero(open_)
    if not len(rows) or len(rows) * x.lo.size > _MOST_OF_LINES or not leave_lines(maps, output):
        return
    steps = branching.steps * (_MORE if branching.parts else _STEPS)

    def upper(chunk: Rows, both: FloatArray) -> FloatArray:
        return through_best_lines(
            maps, output, both, steps=steps, late=lambda: branching.late, tick=tick
        )

    _tighten(maps, output, rows, copies=8, upper=upper, branching=branching)


def _tighten(
    maps: Maps,
    output: str,
    rows: Rows,
    *,
    copies: int,
    upper: Callable[[Rows, FloatArray], FloatArray],
    branching: Branching,
) -> None:
    """Better ranges of these elements, until it is late: `upper` bounds, of a chunk of them, what
    they are, and then their negatives."""
    x = maps.values[output]
    lo, hi = x.lo.reshape(-1).copy(), x.hi.reshape(-1).copy()
    for chunk in chunks(maps.graph, rows, copies=copies):
        if branching.late:
            break
        c = unit_functionals(x.shape, chunk)
        found = upper(chunk, np.concatenate([c, -c]))
        hi[chunk] = np.minimum(hi[chunk], found[: len(chunk)])
        lo[chunk] = np.maximum(lo[chunk], -found[len(chunk) :])
    maps.values[output] = pulled_range(x, lo, hi)


def chunks(graph: Graph, rows: Rows, copies: int) -> list[Rows]:
    """Rows in pieces whose coefficients on the widest tensor fit in memory."""
    widest = max(t.size for name, t in graph.types.items() if not graph.is_constant(name))
    size = max(int(CHUNK_BYTES // (8 * max(widest, 1) * copies)), 1)
    return [rows[i : i + size] for i in range(0, len(rows), size)]
