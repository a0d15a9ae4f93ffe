"""How far rows that are normalised are from being constant: a direction in which they lean.

Ranges of the numbers in a row say little of its variance: where they overlap it may be 0 for all
that is known of them one by one. A functional w·x of a whole row is bounded like any other, by
pulling it back to the network's inputs; its least value, over ‖w‖, is one of the norm. Of all
directions that is best which leads to the nearest point of what the row may be, and a convex
programme over the linear bounds of its numbers finds about that one. Any direction is sound.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from encoders.numbers.enclosure import UNIT, FloatArray, gamma, midpoint_radius
from encoders.numbers.leaning import Lean
from encoders.program import Step
from refine.bounds.backward import Maps, pull_back
from refine.bounds.local.forms import row_forms
from refine.bounds.optimising import chunks

_STEPS = 300
_TINY = 2.0**-1070  # more than float64 loses in a product
_LITTLE = 0.1  # of the norm that rows have in the middle: slopes are as good as constant
_FAR = 0.5  # of it: without this, next to nothing is known
_SPARE = 8  # times as many functionals as are affordable otherwise


def lean(
    maps: Maps, step: Step, tick: Callable[[], None], most: int | None, affordable: int
) -> Lean | None:
    """Of the rows that a step normalises; None where that is no gain, or needs more than so many
    functionals."""
    rows = step.operator.normalizes
    tensor = step.reads[0]
    x = maps.values[tensor]
    if rows is None or not np.all(np.isfinite(x.hi - x.lo)):
        return None
    index, centred = rows(step.site)
    mid, radius = midpoint_radius(x)
    middle = mid.reshape(-1)[index]
    c = middle - middle.mean(axis=1, keepdims=True) if centred else middle
    reach = np.linalg.norm(radius.reshape(-1)[index], axis=1)
    size = np.linalg.norm(c, axis=1)
    needed = 1 if np.any(reach > _FAR * size) else _SPARE
    if np.all(reach <= _LITTLE * size) or 2 * needed * x.lo.size > affordable:
        return None
    forms = row_forms(maps, tensor, index, tick, most, centred=centred)
    if forms is None:
        return None
    w = _nearest(c, forms.moves)
    w = w - w.mean(axis=1, keepdims=True) if centred else w
    # any direction will do: one of about 1, whose squares float64 holds
    w = w * np.ldexp(1.0, -np.frexp(np.max(np.abs(w), axis=1, keepdims=True))[1])
    functionals = np.zeros((len(w), x.lo.size))
    np.put_along_axis(functionals, index, -w, axis=1)
    found = np.zeros(len(w))
    for chunk in chunks(maps.graph, np.arange(len(w)), copies=1):
        part = functionals[chunk].reshape(len(chunk), *x.lo.shape)
        found[chunk] = -pull_back(maps, {tensor: part}, {}, tick, most=most).upper
    n = index.shape[1]
    slack = 4.0 * n * UNIT
    # the middles of the ranges need not be what the tensor may be
    inside = np.sum(w * middle, axis=1) - slack * np.sum(np.abs(w * middle), axis=1) - n * _TINY
    found = np.minimum(found, inside)
    # Σw is not quite 0, and the mean is no more than the largest number
    tilt = total_up(w, slack)
    mean = np.max(x.magnitude.reshape(-1)[index], axis=1) if centred else np.zeros(len(w))
    along = found - tilt * mean * (1.0 + slack) - slack * np.abs(found) - _TINY
    norm = along / (np.linalg.norm(w, axis=1) * (1.0 + slack)) * (1.0 - slack)
    norm = np.where(np.isfinite(norm) & np.isfinite(found), np.maximum(norm, 0.0), 0.0)
    # slopes are asked between rows and the middles of the ranges, whose means float64 rounds
    lost = gamma(n + 4) * 2.0 * float(np.max(x.magnitude))
    return Lean(index, w, found, norm, forms.holding(c, lost))


def total_up(w: FloatArray, slack: float) -> FloatArray:
    """Upper bounds on |Σw| of rows, of whose sums float64 loses at most `slack` times Σ|w|."""
    return np.asarray(np.abs(np.sum(w, axis=1)) + slack * np.sum(np.abs(w), axis=1))


def _nearest(c: FloatArray, moves: FloatArray) -> FloatArray:
    """The point c + Σ moves·t, |t| ≤ 1, nearest to 0 of each row, about, by projected gradients
    with momentum (Nesterov 1983; Beck and Teboulle 2009)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        step = 1.0 / np.maximum(np.sum(moves * moves, axis=(1, 2)), 1e-300)[:, None]
    t = np.zeros((len(c), moves.shape[2]))
    ahead, momentum = t, 1.0
    for _ in range(_STEPS):
        at = c + np.einsum("rni,ri->rn", moves, ahead)
        new = np.clip(ahead - step * np.einsum("rni,rn->ri", moves, at), -1.0, 1.0)
        grown = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        ahead, t, momentum = new + (momentum - 1.0) / grown * (new - t), new, grown
    found = c + np.einsum("rni,ri->rn", moves, t)
    lost = np.linalg.norm(found, axis=1) < 1e-6 * np.linalg.norm(c, axis=1)
    return np.where(lost[:, None], c, found)
