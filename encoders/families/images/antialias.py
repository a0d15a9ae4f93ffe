"""Interpolation along one axis that is wide enough, where it shrinks, to see every pixel.

A pixel i has for an output at the coordinate x the weight f((i − x)·c), c the smaller of scale and
1, divided by the sum of all such weights: f is 1 − |t| for |t| < 1, or Keys' kernel (1981). Pixels
beyond the edge are the one at it, or left out before the division.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from encoders.families.images.axis import (
    UNIT,
    Axis,
    Float32s,
    Taps,
    cost_of_keys,
    exactly_cubed,
    power_of_two,
    steepness_of_keys,
)
from encoders.families.images.resizing import is_cubic, keys_parameter
from encoders.operator import Site

_DISTANCE = 4.0  # roundings of a pixel's distance from a place, at most
_ARGUMENT = 20.0  # of how wide the kernel is, and of the distance times c, whose size is 2 at most
_UP = 1.0 + 2.0**-40


@dataclass(frozen=True)
class Kernel:
    """f with its reach `half`, how steep it is, and what computing it costs at most."""

    cubic: bool
    a: Fraction
    half: int
    steep: float
    cost: float

    def exact(self, t: Fraction) -> Fraction:
        """f(t)."""
        t, a = abs(t), self.a
        if not self.cubic:
            return max(1 - t, Fraction(0))
        if t < 1:
            return ((a + 2) * t - (a + 3)) * t * t + 1
        return (((t - 5) * t + 8) * t - 4) * a if t < 2 else Fraction(0)

    def computed(self, t: Float32s) -> Float32s:
        """f(t) in float32, in onnxruntime's order."""
        one, a = np.float32(1), np.float32(float(self.a))
        t = np.abs(t)
        if not self.cubic:
            return np.where(t < one, one - t, np.float32(0))
        inner = ((a + np.float32(2)) * t - (a + np.float32(3))) * t * t + one
        outer = (((t - np.float32(5)) * t + np.float32(8)) * t - np.float32(4)) * a
        return np.where(t < one, inner, np.where(t < np.float32(2), outer, np.float32(0)))


def kernel_of(site: Site) -> Kernel:
    """The node's."""
    if not is_cubic(site):
        return Kernel(False, Fraction(0), 1, 1.0, 2.0 * UNIT)
    a = keys_parameter(site)
    cost = max(cost_of_keys(float(a), outer) for outer in (False, True))
    return Kernel(True, a, 2, steepness_of_keys(float(a)), cost)


def antialiased(
    site: Site,
    axis: int,
    n: int,
    at: Float32s,
    places: Sequence[Fraction],
    scales: tuple[np.float32, Fraction],
    off: float,
) -> Axis:
    """Along an axis of n pixels at the coordinates `at`, those of onnxruntime, and `places`, from
    which those of others are at most `off`.

    Raises UnsupportedModel where nothing of the axis is seen, or nearly nothing.
    """
    kernel, inside = kernel_of(site), bool(site.integer("exclude_outside", 0))
    exact, free = [], np.zeros((len(places), n))
    for o, place in enumerate(places):
        taps, reach = _exact(site, kernel, place, n, min(scales[1], Fraction(1)), (inside, off))
        exact.append(taps)
        for i, error in reach:
            free[o, i] += error
    rows = [_computed(kernel, x, n, scales[0], inside) for x in at]
    count = max(*(len(taps) for taps in exact), *(len(row) for _, row in rows), 1)
    index = np.zeros((count, len(rows)), np.intp)
    weights = np.zeros((count, len(rows)), np.float32)
    for o, (first, row) in enumerate(rows):
        index[:, o] = np.clip(first + np.arange(count), 0, n - 1)
        weights[: len(row), o] = row
    padded = tuple(taps + ((taps[-1][0], Fraction(0)),) * (count - len(taps)) for taps in exact)
    return Axis(axis, n, padded, index, weights, free * _UP)


def _exact(
    site: Site, kernel: Kernel, place: Fraction, n: int, c: Fraction, how: tuple[bool, float]
) -> tuple[Taps, list[tuple[int, float]]]:
    """Pixels with their weights; and pixels with how far weights may be off that are computed in
    float32 in whatever way, from a place that may be off as `how` says beside what is left out.

    With w the weights before the division and S their sum, each is within d of f's, and the sum of
    m of them within D = Σd + m·u·Σ(|w| + d) of S. Where D ≤ |S|/2 the quotient, of two more
    roundings and added to others beyond the edge, is within
    2·d/|S| + 2·|w|·D/S² + 2·(m + 3)·u·(|w| + d)/|S| of w/S.
    """
    (inside, moved), half = how, kernel.half / c
    first, last = math.floor(place - half) + 1, math.ceil(place + half) - 1
    if last < 0 or first >= n:
        raise site.unsupported("an output sees no pixel, where runtimes differ")
    # one pixel more on either side, which a rounded coordinate may reach
    seen = [i for i in range(first - 1, last + 2) if not inside or 0 <= i < n]
    at = [(i - place) * c for i in seen]
    raw = [kernel.exact(t) for t in at]
    total, m = sum(raw, Fraction(0)), len(raw)
    errors = [_error(kernel, t, place, n, c, moved) for t in at]
    size, sizes = abs(float(total)), sum(abs(float(w)) for w in raw)
    off = sum(errors) + m * UNIT * (sizes + sum(errors))
    if not off <= size / 2.0:
        raise site.unsupported("the weights of what an output sees nearly cancel")
    merged: dict[int, Fraction] = {}
    reach = []
    for i, w, d in zip(seen, raw, errors, strict=True):
        pixel, large = min(max(i, 0), n - 1), abs(float(w))
        merged[pixel] = merged.get(pixel, Fraction(0)) + w / total
        rounded = 2.0 * (m + 3) * UNIT * (large + d) / size
        reach.append((pixel, 2.0 * d / size + 2.0 * large * off / size**2 + rounded))
    return tuple(sorted(merged.items())), reach


def _error(
    kernel: Kernel, t: Fraction, place: Fraction, n: int, c: Fraction, moved: float
) -> float:
    """How far f at a pixel's distance t may be off; 0 where all steps are exact, and where the
    pixel is so far beyond the kernel's reach that it stays there."""
    if not moved and power_of_two(c) and exactly_cubed(kernel.a, t):
        return 0.0
    far = abs(float(place)) + n + 2.0
    off = (float(c) * (moved + _DISTANCE * UNIT * far) + _ARGUMENT * UNIT) * _UP
    if abs(t) > kernel.half + off:
        return 0.0
    return kernel.steep * off + kernel.cost


def _computed(
    kernel: Kernel, at: np.float32, n: int, scale: np.float32, inside: bool
) -> tuple[int, Float32s]:
    """The first pixel and the weights that onnxruntime computes."""
    one, half = np.float32(1), np.float32(0.5)
    wide = one / scale
    support = np.float32(kernel.half) * (wide if wide >= one else one)
    shrunk = one / wide if wide >= one else one
    center = half + at
    low, high = int(np.floor(center - support + half)), int(np.floor(center + support + half))
    high = low + min(high - low, math.ceil(support) * 2 + 1)
    cut = (min(max(low, 0), n), min(max(high, 0), n))
    first, end = cut if inside else (low, high)
    steps = np.arange(first, end).astype(np.float32)
    row = kernel.computed((steps - center + half) * shrunk)
    total = np.float32(0)
    for w in row:
        total = total + w
    if not inside and cut[0] < cut[1]:
        row = _folded(row, cut[0] - first, end - cut[1])
    return cut[0], np.asarray(row * (one / total if total else one), np.float32)


def _folded(row: Float32s, before: int, after: int) -> Float32s:
    """What lies beyond the edges added to what is at them, one after the other."""
    row = row.copy()
    for w in row[:before].copy():
        row[before] += w
    for w in row[len(row) - after :].copy():
        row[len(row) - after - 1] += w
    return np.asarray(row[before : len(row) - after])
