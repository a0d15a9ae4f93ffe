"""Rows of a tensor as affine forms of the network's inputs, by pulling each number back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from encoders.numbers.enclosure import UNIT, FloatArray, add_up, gamma, midpoint_radius, sum_up
from encoders.numbers.row_forms import RowForms
from refine.bounds.backward import Maps, pull_back
from refine.bounds.optimising import chunks

_MOST = 2**24  # slopes


def row_functionals(
    size: int, index: npt.NDArray[np.intp], chosen: npt.NDArray[np.intp], *, centred: bool
) -> FloatArray:
    """Functionals (chosen, size) of a tensor of so many elements: each of the chosen numbers of its
    rows (rows, n), flat positions, less the mean of its row where `centred`."""
    n = index.shape[1]
    c = np.zeros((len(chosen), size))
    if centred:
        np.put_along_axis(c, index[chosen // n], -1.0 / n, axis=1)
    c[np.arange(len(chosen)), index.reshape(-1)[chosen]] += 1.0
    return c


def row_forms(
    maps: Maps,
    tensor: str,
    index: npt.NDArray[np.intp],
    tick: Callable[[], None],
    most: int | None,
    *,
    centred: bool,
) -> RowForms | None:
    """The numbers of each row (rows, n) of flat positions, less their mean where `centred`, by
    linear bounds from both sides, which are taken for their middle and what they are apart;
    None where that is too much, or not bounded."""
    x = maps.values[tensor]
    given = [midpoint_radius(maps.values[t]) for t in maps.graph.inputs]
    mid, radius = (np.concatenate([v[k].reshape(-1) for v in given]) for k in (0, 1))
    if index.size * len(mid) > _MOST:
        return None
    slopes, sides = (np.zeros((2, index.size, *s)) for s in ((len(mid),), ()))
    for chunk in chunks(maps.graph, np.arange(index.size), copies=1):
        c = row_functionals(x.lo.size, index, chunk, centred=centred)
        for side, sign in enumerate((1.0, -1.0)):
            functionals = (sign * c).reshape(len(chunk), *x.lo.shape)
            pulled = pull_back(maps, {tensor: functionals}, {}, tick, most=most)
            assert pulled.beside is not None
            parts = [
                pulled.on_inputs[t].reshape(len(chunk), -1)
                if t in pulled.on_inputs
                else np.zeros((len(chunk), maps.values[t].lo.size))
                for t in maps.graph.inputs
            ]
            slopes[side, chunk] = sign * np.concatenate(parts, axis=1)
            sides[side, chunk] = sign * pulled.beside
    slope, between = 0.5 * (slopes[0] + slopes[1]), 0.5 * (slopes[0] - slopes[1])
    side, apart = 0.5 * (sides[0] + sides[1]), 0.5 * (sides[0] - sides[1])
    size = sum_up(np.abs(slopes).sum(axis=0) * (np.abs(mid) + radius), axis=1)
    size = add_up(size, np.abs(sides).sum(axis=0))
    rest = between @ mid + apart + sum_up(np.abs(between) * radius, axis=1)
    # 1/n is rounded in the functionals, as are all of these sums
    rest = rest + 4.0 * UNIT * np.max(x.magnitude) + gamma(len(mid) + 16) * size + 2.0**-900
    middle = slope @ mid + side
    moves = slope * radius
    if not all(np.all(np.isfinite(v)) for v in (middle, moves, rest)):
        return None
    shape = index.shape
    return RowForms(middle.reshape(shape), moves.reshape(*shape, -1), rest.reshape(shape))
