"""Relu: max(x, 0). Exact in every format; a flushing runtime may lose a subnormal result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from encoders.arithmetic import Arithmetic
from encoders.contract import RuntimeContract
from encoders.elements import broadcast_element
from encoders.elementwise import (
    Lines,
    Secant,
    elementwise_differences,
    elementwise_values,
    free_slopes,
)
from encoders.enclosure import FloatArray, Interval, add_up, multiply_up
from encoders.operator import (
    DifferenceMap,
    Field,
    ObjectArray,
    Operator,
    RoundingBound,
    Site,
    ValueMap,
)
from encoders.rounding_bounds import exact_unless_flushed


def check(site: Site) -> None:
    if not site.type_of(0).dtype.is_float:
        raise site.unsupported(f"Relu of {site.type_of(0).dtype.value} is not supported")


def real(site: Site, inputs: Sequence[ObjectArray | None], field: Field) -> tuple[ObjectArray, ...]:
    (x,) = inputs
    assert x is not None
    return (field.maximum(x, field.constant(np.zeros(()))),)


def runtime(
    site: Site, inputs: Sequence[Any], arithmetic: Arithmetic[Any], contract: RuntimeContract
) -> tuple[Any, ...]:
    return (arithmetic.maximum(inputs[0], arithmetic.constant(np.zeros((), np.float32))),)


def relaxation(x: Interval) -> Lines:
    """The triangle relaxation; the lower line is 0 or x, whichever cuts off less (CROWN)."""
    lo, hi = x.lo, x.hi
    unstable = (lo < 0) & (hi > 0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        steep = np.where(unstable, hi / (hi - lo), 0.0)
    steep = np.clip(np.where(np.isfinite(steep), steep, 1.0), 0.0, 1.0)
    high_slope = np.where(lo >= 0, 1.0, steep)
    # The line passes above (lo, 0) and (hi, hi) whatever the rounding of its slope.
    over_lo = multiply_up(high_slope, -lo)
    over_hi = add_up(hi, -np.nextafter(high_slope * hi, -np.inf))
    high = np.where(unstable, np.maximum(over_lo, over_hi), 0.0)
    low_slope = np.where((lo >= 0) | (unstable & (hi > -lo)), 1.0, 0.0)
    return Lines(low_slope, np.zeros_like(lo), high_slope, high)


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    (x,) = ranges
    image = x.move(lambda v: np.maximum(v, 0.0))
    lines = relaxation(x)
    plain = elementwise_values(image, lines, x)
    return replace(plain, choice=free_slopes(lines, (x.lo < 0) & (x.hi > 0), x))


def differences(
    site: Site, ranges: Sequence[Interval], errors: Sequence[FloatArray]
) -> DifferenceMap:
    """The best of three secants over the hull [l, h] of real and run-time range.

    With slope 1 the remainder is relu(−x̂) − relu(−x), at most min(e, max(0, −l)); with slope 0 it
    is relu(x̂) − relu(x), at most min(e, max(0, h)); with slope ½ it is (|x̂| − |x|)/2 ≤ e/2.
    """
    (error,) = errors
    hull = ranges[0].inflate(error)
    open_one = np.minimum(error, np.maximum(-hull.lo, 0.0))
    open_zero = np.minimum(error, np.maximum(hull.hi, 0.0))
    best = np.minimum(open_one, open_zero)
    half = best > 0.5 * error
    slope = np.where(half, 0.5, np.where(open_one <= open_zero, 1.0, 0.0))
    remainder = np.where(half, 0.5 * error, best)
    # |slope·d| + |r|: it also holds where d is what other slopes upstream would make it, which
    # branching on secant slopes asks for (refine/secants.py).
    radius = np.where(half, error, np.where(slope > 0, add_up(error, remainder), remainder))
    undecided = half & (error > 0)
    return elementwise_differences(Secant(slope, remainder), radius, error, undecided)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    return exact_unless_flushed(site, result, contract)


OPERATORS = (
    Operator(
        "Relu",
        since=6,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        element=broadcast_element,
        branches=True,
        positive_part=True,
    ),
)
