"""Exact numbers as float64, rounded the safe way."""

from __future__ import annotations

from fractions import Fraction

import numpy as np


def float_down(q: Fraction) -> float:
    """The largest float64 not above q ≥ 0."""
    try:
        value = float(q)
    except OverflowError:
        return float(np.finfo(np.float64).max)
    return value if Fraction(value) <= q else float(np.nextafter(value, -np.inf))


def float_up(q: Fraction) -> float:
    """The smallest float64 not below q ≥ 0; infinite beyond the largest."""
    try:
        value = float(q)
    except OverflowError:
        return float("inf")
    return value if Fraction(value) >= q else float(np.nextafter(value, np.inf))
