"""The grid of a quantised tensor, and how far quantising moves a number.

A stored whole number q in [lowest, highest] stands for (q − zero point)·scale. Over the reals,
QuantizeLinear takes x to q(x) = clamp(⌊x/scale⌉ + zero point), the quotient rounded to the nearest
whole number, ties to even, and DequantizeLinear takes q to the number that it stands for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx.helper import tensor_dtype_to_np_dtype

from encoders.enclosure import FloatArray, Interval, add_up, multiply_up, point
from encoders.operator import Site
from encoders.parameters import axis_of


@dataclass(frozen=True)
class Grid:
    """Scale > 0 and whole zero point, broadcasting to the tensor; the ends of the stored type."""

    scale: FloatArray
    zero_point: FloatArray
    lowest: float
    highest: float

    def clamped(self, steps: FloatArray) -> FloatArray:
        """The stored number for a whole number of steps from zero; monotone, exact."""
        return np.clip(steps + self.zero_point, self.lowest, self.highest)

    def quotient(self, x: Interval) -> Interval:
        """An enclosure of x/scale, outward-rounded; zeros and infinities stay as they are."""
        return Interval(_quotient(x.lo, self.scale, -np.inf), _quotient(x.hi, self.scale, np.inf))

    def stored(self, x: Interval, moved: FloatArray | float = 0.0) -> Interval:
        """The least and the greatest stored number of x in the ranges.

        `moved` ≥ 0 says how far the quotient that is rounded may be from x/scale.
        """
        steps = self.quotient(x).inflate(np.broadcast_to(np.asarray(moved), x.shape))
        return steps.move(np.rint).move(self.clamped)

    def values(self, stored: Interval) -> Interval:
        """Enclosures of the numbers that stored numbers in these ranges stand for."""
        lo, hi = stored.lo - self.zero_point, stored.hi - self.zero_point
        return Interval(-multiply_up(-lo, self.scale), multiply_up(hi, self.scale))


def quantisation_error(x: Interval, grid: Grid, moved: FloatArray | float = 0.0) -> FloatArray:
    """An upper bound on |(q − zero point)·scale − x|, q the stored number of x, per element.

    Half a scale, or the distance to the last grid point beyond the grid's ends; less where all of
    a range is stored as one number. `moved` ≥ 0 says how far the quotient that is rounded may be
    from x/scale, in steps (what a runtime's division loses): q is then ⌊x/scale + m⌉ clamped for
    any |m| ≤ moved. No jump is charged: this is the distance from the identity, which is never
    more than half a step wherever the boundaries lie. Infinite for an unbounded range.

    |⌊a + m⌉ − a| ≤ ½ + |m|, and clamping moves a whole number only towards the ends: beyond the
    last point t of the grid the result is either t, at x − t, or as close as without clamping.
    """
    near = multiply_up(grid.scale, add_up(0.5, moved))
    top = grid.values(point(np.asarray(grid.highest))).lo
    bottom = grid.values(point(np.asarray(grid.lowest))).hi
    spread = np.maximum(near, np.maximum(add_up(x.hi, -top), add_up(bottom, -x.lo)))
    stored = grid.stored(x, moved)
    held = grid.values(stored)
    single = np.maximum(add_up(x.hi, -held.lo), add_up(held.hi, -x.lo))
    bound = np.where(stored.lo == stored.hi, np.minimum(single, spread), spread)
    return np.where(np.isfinite(x.lo) & np.isfinite(x.hi), bound, np.inf)


def check_scale(site: Site, position: int) -> None:
    """Raises UnsupportedModel, naming the node, unless the input holds positive constants."""
    scale = site.constant(position)
    if scale is None:
        raise site.unsupported(f"its scale (input {position}) must be a constant")
    if not np.all(np.asarray(scale, np.float64) > 0):
        raise site.unsupported(f"its scale (input {position}) holds a number that is not positive")


def check_plain(site: Site) -> None:
    """Raises UnsupportedModel for the variants of QuantizeLinear and DequantizeLinear without a
    meaning here: blocks, other precisions, scales that fit no axis."""
    if site.integer("block_size", 0):
        raise site.unsupported("attribute 'block_size': quantisation by blocks is not supported")
    precision = site.integer("precision", 0)
    if precision and tensor_dtype_to_np_dtype(precision) != site.type_of(1).dtype.numpy:
        raise site.unsupported("attribute 'precision' is not the type of the scale")
    shape = site.type_of(0).shape
    for position in (1, 2):
        kind = site.inputs[position] if position < len(site.inputs) else None
        if kind is None or kind.size == 1:
            continue
        if len(kind.shape) != 1 or kind.size != shape[_axis(site)]:
            raise site.unsupported(
                f"input {position} of shape {list(kind.shape)} is neither one number nor one per "
                f"element of axis {_axis(site)} of {list(shape)}"
            )


def along_axis(site: Site, values: Any) -> Any:
    """Scales or zero points (k, *stored) such that they broadcast to the tensor (k, *shape)."""
    rank = len(site.type_of(0).shape)
    if math.prod(values.shape[1:]) == 1:
        return values.reshape(values.shape[0])
    return values.reshape(values.shape[0], -1, *(1,) * (rank - 1 - _axis(site)))


def _axis(site: Site) -> int:
    return axis_of(site, site.integer("axis", 1), len(site.type_of(0).shape))


def _quotient(x: FloatArray, scale: FloatArray, towards: float) -> FloatArray:
    with np.errstate(over="ignore", under="ignore"):
        quotient = np.asarray(x / scale)
    exact = (x == 0) | ~np.isfinite(x)
    return np.where(exact, quotient, np.nextafter(quotient, towards))
