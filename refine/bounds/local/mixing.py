"""Which matrix products mix rows by weights that are probabilities, as attention does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from encoders.numbers.enclosure import (
    FloatArray,
    Interval,
    add_up,
    midpoint_radius,
    point,
    sum_up,
)
from encoders.numbers.moving import sources
from encoders.numbers.row_forms import RowForms
from encoders.program import Step
from encoders.relaxations.probabilities.mixtures import Mix, Near
from refine.bounds.backward import Maps
from refine.bounds.local.forms import row_forms

_MOST = 2**52  # positions that float64 numbers tell apart
_LITTLE = 0.03  # of all weights of a row: products of ranges are as good then
_MOST_PRODUCTS = 2**21  # of a functional of mixtures with how these move


def mixing(maps: Maps, step: Step) -> Mix | None:
    """Of the weights that a step mixes with, where they are probabilities."""
    if maps.kept or not step.operator.mixes(step.site):
        return None
    way, made = _way(maps, step.reads[0])
    if made is None or made.operator.shares is None:
        return None
    rows = made.operator.shares(made.site)
    if rows is None or rows.size > _MOST:
        return None
    moved = _moved(way, made, rows)
    if moved is None:
        return None
    at, found = moved
    off, scores = maps.local[made.name], maps.radii[made.reads[0]]
    sums = off.taken(rows).summed(axis=1)
    near = _near(made, maps.values[made.reads[0]], rows, at, found)
    return Mix(sums.taken(found), scores.taken(rows).worst(axis=1).taken(found), near)


def _near(
    made: Step,
    scores: Interval,
    rows: npt.NDArray[np.intp],
    at: npt.NDArray[np.intp],
    found: npt.NDArray[np.intp],
) -> Near | None:
    """The probabilities that a step makes of the middles of its scores. Those of scores that are
    moved by from −a to b are within tanh((a + b)/4) of them in total variation: the ratios of new
    and old weights lie within a factor e^(a + b). Scores that are left out do not count."""
    if len(made.reads) != 1:
        return None
    middle, radius = midpoint_radius(scores)
    if not (np.all(np.isfinite(middle)) and np.all(np.isfinite(radius))):
        return None
    two = np.sort(radius.reshape(-1)[rows], axis=1)[:, -2:]
    apart = 2.0 * np.tanh(0.25 * np.sum(two, axis=1) * (1.0 + 2.0**-40)) * (1.0 + 2.0**-40)
    if np.all(apart <= _LITTLE):
        return None
    weights, off = midpoint_radius(made.operator.values(made.site, [point(middle)]).range)
    apart = add_up(apart, sum_up(off.reshape(-1)[rows], axis=1))
    return Near(weights.reshape(-1)[at], apart[found], None)


def forms_of_mixed(
    maps: Maps, step: Step, tick: Callable[[], None], most: int | None, affordable: int
) -> RowForms | None:
    """Of the rows of what a step mixes, as they stand in its tensor; None where that needs more
    than so many functionals."""
    x = maps.values[step.reads[1]]
    inputs = sum(maps.values[t].lo.size for t in maps.graph.inputs)
    if x.lo.ndim < 2 or 2 * x.lo.size > affordable or not np.all(np.isfinite(x.hi - x.lo)):
        return None
    if x.lo.size * inputs * maps.values[step.reads[0]].lo.shape[-2] > _MOST_PRODUCTS:
        return None
    index = np.arange(x.lo.size).reshape(-1, x.lo.shape[-1])
    return row_forms(maps, step.reads[1], index, tick, most, centred=False)


def _way(maps: Maps, tensor: str) -> tuple[list[Step], Step | None]:
    """The steps that only move what the last one, which is no such step, has made."""
    way = list[Step]()
    while (step := maps.program.writers.get(tensor)) is not None:
        if not (step.operator.movement and len(step.reads) == 1 and step.output == tensor):
            break
        if np.any(maps.local[step.name].bound):
            return way, None
        way.append(step)
        (tensor,) = step.reads
    return way, step


def _moved(
    way: list[Step], made: Step, rows: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]] | None:
    """Where each weight is in the probabilities as they are made, and which of these rows each row
    along the last axis of the moved tensor is, (…, 1), in any order; None where one is none of
    them."""
    at = sources(partial(_carried, way), made.site.outputs[0].shape)
    if at is None or at.ndim < 2 or at.shape[-1] != rows.shape[1]:
        return None
    if np.any(at < 0):  # zeros that a file stores stand between them
        return None
    row = np.zeros(rows.size, np.intp)
    row[rows.reshape(-1)] = np.repeat(np.arange(len(rows)), rows.shape[1])
    found = row[at]
    once = np.sort(at, axis=-1)
    if np.any(found != found[..., :1]) or np.any(once[..., 1:] == once[..., :-1]):
        return None
    return at, np.asarray(found[..., :1])


def _carried(way: list[Step], numbers: FloatArray) -> FloatArray:
    """Where these steps, of which the last is the first to run, move numbers."""
    for step in reversed(way):
        numbers = step.operator.values(step.site, [point(numbers)]).range.lo
    return numbers
