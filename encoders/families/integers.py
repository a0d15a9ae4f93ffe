"""Computed integers: the types that hold them, and that none leaves its own."""

from __future__ import annotations

import numpy as np

from encoders.lemmas.domains import INTEGERS_FIT
from encoders.numbers.enclosure import Interval
from encoders.operator import RoundingBound, Site
from onnx_import.graph import DType
from onnx_import.tensors import integer_limits

INTEGERS = tuple(DType(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64))
"""Types of integers that something computes; from narrower ones numbers are only converted."""
LARGEST = 2**53
"""Integers up to here are float64 numbers."""


def ends_of(dtype: DType) -> tuple[float, float]:
    """The least and the largest integer of a type, no larger than 2^53."""
    least, most = integer_limits(dtype.value)
    return float(max(least, -LARGEST)), float(min(most, LARGEST))


def fitting(bound: RoundingBound, site: Site, q: Interval) -> RoundingBound:
    """The bound if integers in these ranges are numbers of the node's type."""
    dtype = site.outputs[0].dtype
    least, most = ends_of(dtype)
    low, high = (float(np.min(q.lo)), float(np.max(q.hi))) if q.lo.size else (0.0, 0.0)
    return bound.given(
        "integer-fits",
        f"{site.node.describe()}: integers between {low + 0.0:.6g} and {high + 0.0:.6g} are "
        f"numbers of {dtype.value}, and at most 2^53",
        INTEGERS_FIT,
        lo=q.lo,
        hi=q.hi,
        least=least,
        most=most,
    )
