"""Whether a function only moves elements about, and from where: seen from what it makes of numbers
that tell places."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from encoders.numbers.enclosure import FloatArray

_AWAY = 2.0**100  # beyond what anything is clipped to


def sources(
    f: Callable[[FloatArray], FloatArray], shape: tuple[int, ...]
) -> npt.NDArray[np.intp] | None:
    """Of each element that f makes of an array of this shape, the place in the flat array where it
    was; −1 of a zero that f puts between them. None where f makes numbers of its own.

    Two arrays are sent, of small positive numbers and of huge negative ones, none of them whole or
    a float32: an element that is moved is at the same place of both. A constant is not, but 0, nor
    is a sum, a multiple, a magnitude, an extreme or a rounded or clipped element.
    """
    places = np.arange(np.prod(shape, dtype=np.intp), dtype=np.float64)
    small, huge = places + 1.3, -_AWAY * (places + 1.7)
    found, other = (np.asarray(f(sent.reshape(shape))) for sent in (small, huge))
    if found.shape != other.shape:
        return None
    with np.errstate(invalid="ignore"):
        near = np.rint(found - 1.3)
    at = np.where((near >= 0.0) & (near < len(places)), near, -1.0).astype(np.intp)
    if not len(places):
        return at if not np.any(found) and not np.any(other) else None
    moved = (at >= 0) & (small[at] == found) & (huge[at] == other)
    if not np.all(moved | ((found == 0.0) & (other == 0.0))):
        return None
    return np.where(moved, at, -1)
