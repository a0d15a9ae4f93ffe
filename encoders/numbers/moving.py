"""Whether a function only moves elements about, and from where: seen from what it makes of numbers
that tell places."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from encoders.numbers.enclosure import FloatArray


def sources(
    f: Callable[[FloatArray], FloatArray], shape: tuple[int, ...]
) -> npt.NDArray[np.intp] | None:
    """Of each element that f makes of an array of this shape, the place in the flat array where it
    was; −1 of a zero that f puts between them. None where f makes numbers of its own.

    Places are sent as v = 1, 2, … and as −v². An element that is moved is −v² where it was v. A
    constant is not, but 0, nor is a sum, a multiple, a magnitude or an extreme of elements.
    """
    numbers = np.arange(1.0, np.prod(shape, dtype=np.float64) + 1.0).reshape(shape)
    found, squares = np.asarray(f(numbers)), np.asarray(f(-(numbers * numbers)))
    there = (found >= 0.0) & (found <= numbers.size) & (found == np.floor(found))
    if not np.all(there & (squares == -(found * found))):
        return None
    return np.asarray(found.astype(np.intp) - 1)
