"""Which matrix products mix rows by weights that are probabilities, as attention does."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from encoders.lemmas.kernel import Radius
from encoders.numbers.enclosure import FloatArray, point
from encoders.numbers.moving import sources
from encoders.program import Step
from refine.bounds.backward import Maps

_MOST = 2**52  # positions that float64 numbers tell apart


def mixing(maps: Maps, step: Step) -> tuple[Radius, Radius] | None:
    """What the weights of each row (…, 1) that a step mixes with are off by, where they are
    probabilities: their sum from 1, and the scores that they were made of."""
    if maps.kept or not step.operator.mixes(step.site):
        return None
    way, made = _way(maps, step.reads[0])
    if made is None or made.operator.shares is None:
        return None
    rows = made.operator.shares(made.site)
    if rows is None or rows.size > _MOST:
        return None
    found = _moved(way, made, rows)
    if found is None:
        return None
    off, scores = maps.local[made.name], maps.radii[made.reads[0]]
    sums = off.taken(rows).summed(axis=1)
    return sums.taken(found), scores.taken(rows).worst(axis=1).taken(found)


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


def _moved(way: list[Step], made: Step, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp] | None:
    """Which of these rows each row along the last axis of the moved tensor is, (…, 1), in any
    order; None where one is none of them."""
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
    return np.asarray(found[..., :1])


def _carried(way: list[Step], numbers: FloatArray) -> FloatArray:
    """Where these steps, of which the last is the first to run, move numbers."""
    for step in reversed(way):
        numbers = step.operator.values(step.site, [point(numbers)]).range.lo
    return numbers
