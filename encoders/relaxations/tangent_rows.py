"""Functionals of normalised rows a/σ through two functionals of a: what is asked for, and σ's own.

σ = √(‖a‖²/n + ε) is the norm of A = (a/√n, √ε). Along a vector u no longer than 1 it is at least
τ = A·u, a functional of a, and at most √(τ² + D²) where A is within D of the line through u. So
v·z = s/σ, with s = v·a, lies between two functions of s and τ alone. Over a rectangle the larger
one is convex in s, so that a chord in s is above it, and what is left depends on τ alone. Rows
that vary by as much as they are long cost by the square of that, not by their ratio.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from encoders.numbers.enclosure import (
    UNIT,
    FloatArray,
    Interval,
    add_up,
    dot_up,
    gamma,
    midpoint_radius,
    multiply_up,
    norms_up,
)
from encoders.numbers.row_forms import RowForms

_LITTLE = 0.03  # of a row's length: slopes entry by entry are as good then
_PIECES = 8  # of the range of τ, on each of which the largest σ is taken
_TINY = 2.0**-960
_SLACK = 32.0 * UNIT  # of a handful of roundings
_LESS = 1.0 - 2.0**-40  # by how much u is shorter than 1, more than its roundings
_MORE = 1.0 + 2.0**-38


@dataclass(frozen=True)
class Spread:
    """Rows (rows, n) within `wide` of `middle`, and within `reach` (rows,) of it as vectors, or
    enclosed by `forms`."""

    middle: FloatArray
    wide: FloatArray
    reach: FloatArray
    forms: RowForms | None

    @classmethod
    def of(cls, ranges: Interval, forms: RowForms | None) -> Spread:
        """Of rows in these ranges, which `forms` enclose as well."""
        if forms is not None:
            return cls(forms.middle, forms.wide, forms.reach, forms)
        middle, wide = midpoint_radius(ranges)
        return cls(middle, wide, norms_up(wide, axis=1), None)

    def moves(self, v: FloatArray) -> FloatArray:
        """(k, rows): how far functionals v (k, rows, n) are from what they are of the middle, in
        float64 too."""
        n = v.shape[2]
        moved = np.minimum(dot_up(v, self.wide, 1), multiply_up(norms_up(v, axis=2), self.reach))
        if self.forms is not None:
            moved = np.minimum(moved, self.forms.along(v))
        lost = gamma(n + 8) * np.sum(np.abs(v * self.middle), axis=2) + _TINY
        return add_up(moved, lost)

    def at_middle(self, v: FloatArray) -> FloatArray:
        """(k, rows): functionals of the middle, in float64."""
        return np.asarray(np.sum(v * self.middle, axis=2))


@dataclass(frozen=True)
class Tangents:
    """Deviations a of rows: τ of them, `along`·a + `base`, is between the ends of `grid`, whose
    columns are (rows, pieces + 1); σ is at least `low`, and on each piece 1/σ at least the line
    between two numbers at its ends, `inverse` (2, rows, pieces).

    Where means were taken away, what a functional w says of a is what it says of the numbers x
    themselves but for Σw times their mean, which is at most `largest` (rows,) of |x|.
    """

    deviations: Spread
    along: FloatArray
    base: FloatArray
    grid: FloatArray
    low: FloatArray
    inverse: FloatArray
    largest: FloatArray
    centred: bool

    @property
    def vary(self) -> bool:
        """Do any rows vary by enough, beside their length, that this is a gain?"""
        a = self.deviations
        return bool(np.any(a.reach > _LITTLE * norms_up(a.middle, axis=1)))


@dataclass(frozen=True)
class Tangent:
    """v·a/σ ≤ `across`·v·x + `down`·along·x + `constant` of functionals (k, rows); `excess` is
    about what that is above the value in the middle, and half of how far it moves."""

    across: FloatArray
    down: FloatArray
    constant: FloatArray
    excess: FloatArray


def tangents(
    x: Interval,
    deviation: Interval,
    *,
    sigma: Interval,
    epsilon: float,
    centred: bool,
    forms: RowForms | None,
) -> Tangents | None:
    """Of rows x (rows, n) with these deviations, which `forms` enclose as well; None where nothing
    is known of them."""
    if not (np.all(np.isfinite(deviation.hi - deviation.lo)) and np.all(sigma.lo > 0.0)):
        return None
    a = Spread.of(deviation, forms)
    n = a.middle.shape[1]
    root, length = float(np.sqrt(n)), norms_up(a.middle, axis=1)
    centre = np.sqrt(length * length / n + epsilon) * (1.0 + 2.0**-48)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        along = a.middle / (n * centre)[:, None] * _LESS
        base = epsilon / centre * _LESS
    if not (np.all(np.isfinite(along)) and np.all(np.isfinite(base))):
        return None
    # u = (along·√n, base/√ε), and A of the middle is this near to a multiple of it
    apart = add_up(a.reach / root * (1.0 + 2.0**-50), (length / root + np.sqrt(epsilon)) * 2.0**-36)
    at, moved = a.at_middle(along[None])[0] + base, a.moves(along[None])[0]
    moved = (moved + np.abs(at) * _SLACK) * (1.0 + _SLACK)
    grid = _grid(at - moved, at + moved, sigma.lo[:, 0])
    return Tangents(
        deviations=a,
        along=along,
        base=base,
        grid=grid,
        low=sigma.lo[:, 0],
        inverse=_inverse(grid, apart[:, None], sigma),
        largest=np.max(x.magnitude, axis=1),
        centred=centred,
    )


def _grid(first: FloatArray, last: FloatArray, bend: FloatArray) -> FloatArray:
    """(rows, pieces + 1): from the first to the last, evenly, with one more piece at a bend."""
    grid = first[:, None] + (last - first)[:, None] * np.linspace(0.0, 1.0, _PIECES)
    grid[:, -1] = last
    return np.sort(np.concatenate([grid, np.clip(bend, first, last)[:, None]], axis=1), axis=1)


def _inverse(grid: FloatArray, apart: FloatArray, sigma: Interval) -> FloatArray:
    """Below 1/√(τ² + D²), D = `apart`, and below 1/σ: on each piece the least of it, or, where it
    is convex (τ > D/√2), its tangent in the middle, if that leaves less."""
    left, right = grid[:, :-1], grid[:, 1:]
    top = np.hypot(np.abs(grid) * _MORE, apart) * _MORE
    high = np.maximum(np.minimum(np.maximum(top[:, :-1], top[:, 1:]), sigma.hi), sigma.lo)
    least = np.broadcast_to(1.0 / high * (1.0 - _SLACK), (2, *high.shape))
    at = 0.5 * (left + right)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        root = np.hypot(at * _MORE, apart)
        value, slope = 1.0 / root, -at * _MORE * _MORE / root / root / root
        ends = np.stack([value + slope * (t - at) for t in (left, right)])
        size = value + np.abs(slope) * (right - left)
        tangent = ends - 64.0 * UNIT * size - 2.0**-38 * np.abs(ends)
        better = (left > 0.75 * apart) & (np.sum(tangent, axis=0) > np.sum(least, axis=0))
    return np.where(better, tangent, least)


def tangent(at: Tangents, v: FloatArray) -> Tangent:
    """Of functionals v (k, rows, n) of the normalised rows, whose sums are 0 but for rounding where
    the rows are centred."""
    a = at.deviations
    middle, reach = a.at_middle(v), a.moves(v) * (1.0 + _SLACK)
    away = reach + _SLACK * np.abs(middle)
    low, high = middle - away, middle + away
    centre = a.at_middle(at.along[None])[0] + at.base
    value = middle / np.maximum(centre, at.low)
    found: list[Tangent] = []
    for down in _slopes(at, low, high):
        across, constant = _chord(at, down, low, high)
        both = v * across[:, :, None] + at.along * down[:, :, None]
        excess = constant + across * middle + down * centre - value
        found.append(Tangent(across, down, constant, excess + 0.5 * dot_up(both, a.wide, 1)))
    best = found[0]
    for other in found[1:]:
        best = _better(best, other)
    size = np.abs(best.constant) + np.abs(best.down * at.base)
    lost = _rounded(at, v, best.across) + _rounded(at, at.along[None], best.down)
    constant = best.constant + best.down * at.base + _SLACK * size
    return replace(
        best, constant=constant + lost * (1.0 + _SLACK) + _TINY, excess=best.excess + lost
    )


def _slopes(at: Tangents, low: FloatArray, high: FloatArray) -> list[FloatArray]:
    """Slopes in τ (k, rows) to try: those of chords at both ends of s, between them, and none."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        width = at.grid[:, -1] - at.grid[:, 0]
        first, last = (np.maximum(at.grid[:, k], at.low) for k in (0, -1))
        rise = (1.0 / last - 1.0 / first) / width
        fall = (at.inverse[1, :, -1] - at.inverse[0, :, 0]) / width
    rise, fall = (np.where(width > 0.0, s, 0.0) for s in (rise, fall))
    ends = [np.where(s > 0.0, s * rise, s * fall) for s in (low, high)]
    return [0.5 * (ends[0] + ends[1]), *ends, np.zeros_like(low)]


def _rounded(at: Tangents, w: FloatArray, times: FloatArray) -> FloatArray:
    """What may be lost of `times`·w·x in float64, and of a mean that w does not cancel."""
    n, size = w.shape[2], np.sum(np.abs(w), axis=2)
    lost = gamma(2 * n + 16) * size
    if at.centred:
        lost = lost + np.abs(np.sum(w, axis=2))
    return np.asarray(np.abs(times) * lost * at.largest)


def _better(a: Tangent, b: Tangent) -> Tangent:
    """Of each functional and row that of less excess; NaN is none."""
    other = (b.excess < a.excess) | np.isnan(a.excess)
    return Tangent(
        across=np.where(other, b.across, a.across),
        down=np.where(other, b.down, a.down),
        constant=np.where(other, b.constant, a.constant),
        excess=np.where(other, b.excess, a.excess),
    )


def _chord(
    at: Tangents, down: FloatArray, low: FloatArray, high: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """(slope, constant): s/σ ≤ slope·s + `down`·τ + constant for s between `low` and `high`."""
    tops = [_largest(at, s, down) for s in (low, high)]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        slope = (tops[1] - tops[0]) / (high - low)
        slope = np.where(np.isfinite(slope), slope, 0.0)
        left = [
            t - slope * s + _SLACK * (np.abs(t) + np.abs(slope * s))
            for t, s in zip(tops, (low, high), strict=True)
        ]
    return slope, np.maximum(*left)


def _largest(at: Tangents, s: FloatArray, down: FloatArray) -> FloatArray:
    """The most that s/σ − down·τ is, (k, rows), at an end of a piece: for s ≥ 0 since σ is at least
    max(τ, low), of which the inverse is linear or convex in τ on each; for s < 0 by the line below
    1/σ."""
    falls = -down[:, :, None] * at.grid
    over = s[:, :, None] / np.maximum(at.grid, at.low[:, None]) + falls
    under = [
        s[:, :, None] * line + there
        for line, there in zip(at.inverse, (falls[:, :, :-1], falls[:, :, 1:]), strict=True)
    ]
    size = np.abs(s) / at.low + np.max(np.abs(falls), axis=2)
    highest = np.max(np.maximum(*under), axis=2)
    return np.asarray(np.where(s >= 0.0, np.max(over, axis=2), highest) + _SLACK * size)
