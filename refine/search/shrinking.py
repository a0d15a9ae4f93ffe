"""From a point with some property to a simpler one: fewer numbers that are not zero, fewer digits.

Delta debugging (Zeller & Hildebrandt 2002) over the elements of the inputs: all of them at once,
then ever smaller groups, are moved to the simplest numbers with which the property holds still.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from encoders.numbers.enclosure import FloatArray
from encoders.numbers.formats import round_array
from refine.domain.box import Box

_BITS = (1, 2, 3, 5, 8, 12)
_TRIES = 200

Found = TypeVar("Found")
Points = Mapping[str, FloatArray]


def shrunk(
    point: Points,
    box: Box,
    kept: Callable[[Points], Found | None],
    enough: Callable[[], bool] = lambda: False,
) -> Found | None:
    """What `kept` says of the simplest point it accepts; None if it accepts none but `point`.

    `point` holds an array per input of the box, as do the points of the box that `kept` is asked
    about; it says None where the property is lost. `enough` may end it at any time.
    """
    current = _flat(point, box)
    ladder = tuple(_flat(p, box) for p in _simpler(point, box))
    found: Found | None = None
    tries = _TRIES

    def moved(group: npt.NDArray[np.intp], target: FloatArray) -> bool:
        nonlocal current, found, tries
        if np.array_equal(current[group], target[group]):
            return True
        tries -= 1
        trial = current.copy()
        trial[group] = target[group]
        answer = kept(_shaped(trial, box))
        if answer is None:
            return False
        current, found = trial, answer
        return True

    def simplify(group: npt.NDArray[np.intp], rung: int) -> None:
        reached = rung
        for k in range(rung):
            if tries <= 0 or enough():
                return
            if moved(group, ladder[k]):
                reached = k
                break
        if reached > 0 and len(group) > 1:
            for half in np.array_split(group, 2):
                simplify(half, reached)

    simplify(np.arange(len(current)), len(ladder))
    return found


def _simpler(point: Points, box: Box) -> Iterator[Points]:
    """The numbers of the box nearest to 0, its middle, and the point in ever more bits."""
    yield {n: np.clip(0.0, box.lo[n], box.hi[n]) for n in point}
    yield {n: round_array(0.5 * box.lo[n] + 0.5 * box.hi[n], box.formats[n]) for n in point}
    for bits in _BITS:
        yield {n: np.clip(_rounded(v, bits), box.lo[n], box.hi[n]) for n, v in point.items()}


def _rounded(values: FloatArray, bits: int) -> FloatArray:
    mantissa, exponent = np.frexp(values)
    nearest: FloatArray = np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits)
    return nearest


def _flat(point: Points, box: Box) -> FloatArray:
    return np.concatenate([np.asarray(point[n], np.float64).reshape(-1) for n in box.lo])


def _shaped(flat: FloatArray, box: Box) -> dict[str, FloatArray]:
    sizes = [lo.size for lo in box.lo.values()]
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    return {n: part.reshape(box.lo[n].shape) for n, part in zip(box.lo, parts, strict=True)}
