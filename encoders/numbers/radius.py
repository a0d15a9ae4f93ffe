"""The one gate that every bound on an error passes: a radius is a number ≥ 0, or +∞.

|computed − exact| ≤ r with a negative r would be a proof of anything, and a NaN compares as one
likes. Whatever is neither becomes +∞ here, which proves nothing; who built it says so.
"""

from __future__ import annotations

import numpy as np

from encoders.numbers.enclosure import FloatArray, lowest


def is_radius(bound: FloatArray) -> bool:
    """Is every number at least 0 (NaN is not)? One that stands for all is read once."""
    if bound.size > 1 and not any(bound.strides):
        return bool(bound.item(0) >= 0.0)
    return lowest(bound) >= 0.0


def radius_of(bound: FloatArray) -> FloatArray:
    """The bound, +∞ where it is negative or no number."""
    return bound if is_radius(bound) else np.where(bound >= 0.0, bound, np.inf)


def largest_radius(bound: FloatArray) -> float:
    """The largest of them, 0 of none."""
    return float(np.max(radius_of(bound), initial=0.0))


def is_negative(bound: FloatArray) -> bool:
    """Is a number among them that no bound can be? NaN, from ∞ − ∞, only says that nothing is
    known."""
    return not is_radius(bound) and bool(np.any(bound < 0.0))
