"""Real values at a point: evaluated in balls, far more precisely than ranges are carried forward.

Where every input is one number nothing has to be relaxed: the exact semantics of the operators
gives every tensor, and pull-backs are left to the errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from encoders.arithmetic.exact_fields import Balls
from encoders.numbers.enclosure import SMALLEST, UNIT, BoolArray, FloatArray, Interval
from encoders.program import program_of
from gpu_check.emulator.exact import evaluate_exact
from onnx_import.graph import Graph

_MOST_WORK = 2**27  # multiply-adds of one evaluation
_BITS = 128


def values_at(graph: Graph, box: Mapping[str, Interval]) -> Mapping[str, Interval]:
    """The real value of every tensor that varies; nothing where some input is no single number, or
    the graph is too large to be evaluated so."""
    points = all(np.array_equal(x.lo, x.hi) and np.all(np.isfinite(x.lo)) for x in box.values())
    if not points or program_of(graph).work > _MOST_WORK:
        return {}
    given = {t: np.broadcast_to(x.lo, graph.types[t].shape) for t, x in box.items()}
    try:
        exact = evaluate_exact(graph, given, Balls(_BITS), every_tensor=True)
    except ValueError:  # a stored infinity, a logarithm of nothing: ranges say what is known
        return {}
    return {t: enclosed(values) for t, values in exact.items()}


def enclosed(balls: Any) -> Interval:
    """Float64 ends around an array of balls; infinite ones around what has no value here."""
    shape = np.shape(balls)
    flat = np.reshape(np.asarray(balls, dtype=object), -1).tolist()
    middle = np.array([float(b.mid()) for b in flat], np.float64).reshape(shape)
    radius = np.array([float(b.rad()) for b in flat], np.float64).reshape(shape)
    zero = np.array([b == 0 for b in flat], np.bool_).reshape(shape)
    return _around(middle, radius, zero)


def _around(middle: FloatArray, radius: FloatArray, zero: BoolArray) -> Interval:
    """Conversions of both to float64 err by at most an ulp, and so do the sums below."""
    with np.errstate(all="ignore"):
        wide = radius * (1.0 + 8 * UNIT) + np.abs(middle) * (8 * UNIT) + 8 * SMALLEST
        wide = np.where(zero, 0.0, wide)
        lo, hi = middle - wide, middle + wide
    unknown = ~(np.isfinite(lo) & np.isfinite(hi))
    return Interval(np.where(unknown, -np.inf, lo), np.where(unknown, np.inf, hi))
