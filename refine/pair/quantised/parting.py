"""How rows of a quantised copy part from the original's: forms in the noise of its grids.

Every rounding to a grid is one unknown, however many elements of a row it reaches. Pulled back to
these and to the inputs, each element of a row that is normalised becomes a form in shared unknowns
(`encoders.numbers.row_forms`), of x and of d: a row's mean and variance move with the inputs, and
cancel, as no ranges of single elements say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from encoders.numbers.enclosure import (
    UNIT,
    FloatArray,
    Interval,
    add_up,
    gamma,
    midpoint_radius,
    sum_up,
)
from encoders.numbers.leaning import Parting
from encoders.numbers.row_forms import RowForms
from encoders.program import Step
from refine.bounds.local.forms import row_forms, row_functionals
from refine.bounds.optimising import chunks
from refine.pair.quantised.through import Ranges, Walk

_MOST = 2**23  # coefficients of all forms of a step
_LITTLE, _STEADY = 2.0**-8, 0.1  # of a row's length, of d and x: slopes are as good as constant


def parting(ranges: Ranges, step: Step, tick: Callable[[], None], affordable: int) -> Interval:
    """What is known of the rows that a step normalises, and of how they part; their ranges alone
    where more is no gain, or needs more than so many functionals."""
    rows, (tensor, *_) = step.operator.normalizes, step.reads
    x, held, off = ranges.maps.values[tensor], ranges.held[tensor], ranges.radii[tensor].bound
    known = np.all(np.isfinite(x.hi - x.lo)) and np.all(np.isfinite(off))
    if rows is None or not known or 4 * x.lo.size > affordable:
        return x
    index, centred = rows(step.site)
    middle = midpoint_radius(x)[0].reshape(-1)[index]
    c = middle - middle.mean(axis=1, keepdims=True) if centred else middle
    size, apart = np.linalg.norm(c, axis=1), np.linalg.norm(off.reshape(-1)[index], axis=1)
    reach = np.linalg.norm((x.hi - x.lo).reshape(-1)[index], axis=1) / 2.0
    if np.all((apart <= _LITTLE * size) & (reach <= _STEADY * size)):
        return x
    forms = row_forms(ranges.maps, tensor, index, tick, None, centred=centred)
    parted = None if forms is None else apart_forms(ranges, tensor, index, tick, centred=centred)
    if forms is None or parted is None:
        return x
    # slopes are asked between rows and the middles of the ranges, whose means float64 rounds
    lost = gamma(index.shape[1] + 4) * 2.0 * float(np.max(x.magnitude))
    none = np.zeros(len(index))
    return Parting(x.lo, x.hi, index, none, forms.holding(c, lost), run=held, apart=parted)


def apart_forms(
    ranges: Ranges,
    tensor: str,
    index: npt.NDArray[np.intp],
    tick: Callable[[], None],
    *,
    centred: bool,
) -> RowForms | None:
    """d of the numbers of each row (rows, n) of flat positions, less its mean where `centred`;
    None where that is too much, or not bounded. Forms of both signs are taken for their middle and
    what they are apart, as `refine.bounds.local.forms` does."""
    x, n = ranges.maps.values[tensor], index.shape[1]
    sides: list[_Side] = []
    for sign in (1.0, -1.0):
        parts: list[_Side] = []
        for chunk in chunks(ranges.maps.graph, np.arange(index.size), copies=1):
            c = row_functionals(x.lo.size, index, chunk, centred=centred)
            parts.append(_pulled(ranges, tensor, (sign * c).reshape(-1, *x.lo.shape), tick))
            if parts[-1].size * index.size > _MOST * len(chunk):
                return None
        sides.append(_one_after_the_other(parts))
    up, down = sides
    widths = {name: v.shape[1] for side in sides for name, v in side.moves.items()}
    moves = [side.on_all(widths) for side in sides]
    slope, between = 0.5 * (moves[0] - moves[1]), 0.5 * (moves[0] + moves[1])
    middle, apart = 0.5 * (up.constant - down.constant), 0.5 * (up.constant + down.constant)
    rest = np.maximum(apart, 0.0) + sum_up(np.abs(between), axis=1)
    size = sum_up(np.abs(moves[0]) + np.abs(moves[1]), axis=1)
    size = add_up(size, np.abs(up.constant) + np.abs(down.constant))
    # 1/n is rounded in the functionals, and d may be as large as it is
    largest = float(np.max(ranges.radii[tensor].bound))
    rest = rest + gamma(16) * size + 4.0 * n * UNIT * largest + 2.0**-900
    if not all(np.all(np.isfinite(v)) for v in (middle, slope, rest)):
        return None
    slope = slope[:, np.any(slope != 0.0, axis=0)]
    shape = index.shape
    return RowForms(middle.reshape(shape), slope.reshape(*shape, -1), rest.reshape(shape))


@dataclass(frozen=True)
class _Side:
    """Functionals, (k,), that are at most `constant` plus those of unknowns t, |t| ≤ 1, by name."""

    constant: FloatArray
    moves: Mapping[str, FloatArray]

    @property
    def size(self) -> int:
        return sum(v.size for v in self.moves.values())

    def on(self, name: str, width: int) -> FloatArray:
        """What there is on some unknowns, (k, width)."""
        return self.moves.get(name, np.zeros((len(self.constant), width)))

    def on_all(self, widths: Mapping[str, int]) -> FloatArray:
        """What there is on all of these, (k, unknowns)."""
        none = np.zeros((len(self.constant), 0))
        return np.concatenate([none, *(self.on(name, n) for name, n in widths.items())], axis=1)


def _pulled(ranges: Ranges, tensor: str, c: FloatArray, tick: Callable[[], None]) -> _Side:
    walk = Walk(ranges, tick, unknowns={})
    walk.put(walk.on_d, tensor, c)
    walk.total = np.zeros(len(c))
    for step in reversed(ranges.maps.program.steps):
        walk.carry(step)
    for name, on in walk.on_x.items():
        walk.vary(f"{name}//x", on, ranges.maps.values[name])
    walk.on_x.clear()
    upper, cost = walk.finished()
    assert walk.unknowns is not None
    return _Side(add_up(upper, cost.bound), walk.unknowns)


def _one_after_the_other(parts: Sequence[_Side]) -> _Side:
    widths = {name: v.shape[1] for p in parts for name, v in p.moves.items()}
    moves = {name: np.concatenate([p.on(name, n) for p in parts]) for name, n in widths.items()}
    return _Side(np.concatenate([p.constant for p in parts]), moves)
