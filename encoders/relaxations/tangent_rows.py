"""Functionals of normalised rows a/σ through two functionals of a: what is asked for, and σ's own.

σ = √(‖a‖²/n + ε) is the norm of A = (a/√n, √ε). Along a unit vector u it is at least
τ = A·u, a functional of a, and at most √(τ² + D²) where A is within D of the line through u. So
v·z = s/σ, with s = v·a, lies between two functions of s and τ alone. Over a rectangle the larger
one is convex in s, so that a chord in s is above it, and what is left depends on τ alone. Rows
that vary by as much as they are long cost by the square of that, not by their ratio.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.numbers.row_forms import RowForms
from encoders.numbers.enclosure import (
    UNIT,
    FloatArray,
    Interval,
    add_up,
    dot_up,
    gamma,
    multiply_up,
    norms_up,
    sum_up,
)

_PIECES = 8
_TINY = 2.0**-960
_SLACK = 32.0 * UNIT


@dataclass(frozen=True)
class Tangents:
    """Rows (rows, n) within `wide` of `c`, and within `reach` (rows,) of it as vectors; τ of them
    is `along`·a + `base`, between the ends of `grid` (rows, pieces + 1); σ is between `low` and,
    on each piece, `high` (rows, pieces)."""

    c: FloatArray
    wide: FloatArray
    reach: FloatArray
    along: FloatArray
    base: FloatArray
    grid: FloatArray
    low: FloatArray
    high: FloatArray
    tilt: FloatArray
    size: FloatArray
    forms: RowForms | None


@dataclass(frozen=True)
class Tangent:
    """v·a/σ ≤ `across`·v·x + `down`·along·x + `constant` of functionals (k, rows); `excess`: about
    how much that is above the value at the middle."""

    across: FloatArray
    down: FloatArray
    constant: FloatArray
    excess: FloatArray


def tangents(
    x: Interval, c: FloatArray, wide: FloatArray, *, sigma: Interval, epsilon: float, centred: bool,
    forms: RowForms | None
) -> Tangents | None:
    """Of rows x whose deviations are within `wide` of `c`, or None where nothing is known of
    them."""
    n = c.shape[1]
    if not (np.all(np.isfinite(c)) and np.all(np.isfinite(wide)) and np.all(sigma.lo > 0.0)):
        return None
    reach = norms_up(wide, axis=1)
    if forms is not None:
        c, wide, reach = forms.middle, forms.wide, forms.reach
    length = norms_up(c, axis=1)
    root = float(np.sqrt(n))
    middle = np.sqrt(length * length / n + epsilon)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        along = c / (n * middle)[:, None] * (1.0 - 2.0**-40)
        base = epsilon / middle * (1.0 - 2.0**-40)
    if not (np.all(np.isfinite(along)) and np.all(np.isfinite(base))):
        return None
    # (along·√n, base/√ε) is shorter than 1, and A is this near to a multiple of it
    apart = add_up(reach / root * (1.0 + 2.0**-50), (length / root + np.sqrt(epsilon)) * 2.0**-36)
    at = np.sum(along * c, axis=1)
    slack = gamma(n + 8) * np.sum(np.abs(along * c), axis=1) + _TINY
    norm = norms_up(along, axis=1)
    moves = np.minimum(dot_rows(along, wide), multiply_up(norm, reach))
    if forms is not None:
        moves = np.minimum(moves, forms.along(along[None])[0])
    moves = add_up(moves, slack)
    ends = at + base - moves * (1.0 + _SLACK), at + base + moves * (1.0 + _SLACK)
    least = sigma.lo[:, 0]
    share = np.linspace(0.0, 1.0, _PIECES)
    grid = ends[0][:, None] + (ends[1] - ends[0])[:, None] * share
    grid[:, -1] = ends[1]
    kink = np.clip(least, ends[0], ends[1])[:, None]
    grid = np.sort(np.concatenate([grid, kink], axis=1), axis=1)
    top = np.hypot(np.abs(grid) * (1.0 + 2.0**-38), apart[:, None]) * (1.0 + 2.0**-38)
    high = np.minimum(np.maximum(top[:, :-1], top[:, 1:]), sigma.hi[:, :1])
    high = np.maximum(high, least[:, None])
    total = np.abs(np.sum(along, axis=1)) + gamma(n) * np.sum(np.abs(along), axis=1)
    tilt = total if centred else np.zeros(len(c))
    return Tangents(
        c, wide, reach, along, base, grid, least, high, tilt, np.max(x.magnitude, axis=1), forms
    )


def dot_rows(w: FloatArray, values: FloatArray) -> FloatArray:
    """|w|·values of each row, rounded up."""
    return sum_up(multiply_up(np.abs(w), values), axis=1)


def tangent(at: Tangents, v: FloatArray, *, centred: bool) -> Tangent:
    """Of functionals v (k, rows, n) of the normalised rows, whose sums are 0 but for rounding where
    the rows are centred."""
    n = v.shape[2]
    middle = np.sum(v * at.c, axis=2)
    lost = gamma(n + 8) * np.sum(np.abs(v * at.c), axis=2) + _TINY
    norm = norms_up(v, axis=2)
    reach = np.minimum(dot_up(v, at.wide, 1), multiply_up(norm, at.reach))
    if at.forms is not None:
        reach = np.minimum(reach, at.forms.along(v))
    reach = add_up(reach, lost) * (1.0 + _SLACK)
    low, high = middle - reach - _SLACK * np.abs(middle), middle + reach + _SLACK * np.abs(middle)
    first, last = at.grid[:, 0], at.grid[:, -1]
    centre = np.sum(at.along * at.c, axis=1) + at.base
    sigma = np.maximum(centre, at.low)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        width = last - first
        rise = (1.0 / np.maximum(last, at.low) - 1.0 / np.maximum(first, at.low)) / width
        fall = (1.0 / at.high[:, -1] - 1.0 / at.high[:, 0]) / width
    rise, fall = np.where(width > 0.0, rise, 0.0), np.where(width > 0.0, fall, 0.0)
    steep = [np.where(s > 0.0, s * rise, s * fall) for s in (low, high)]
    best: Tangent | None = None
    coefficient = dot_up(v, np.zeros_like(at.wide), 1)  # shape alone
    del coefficient
    for down in (0.5 * (steep[0] + steep[1]), steep[0], steep[1], np.zeros_like(low)):
        found = _chord(at, down, low, high)
        across, constant = found
        value = middle / sigma
        excess = constant + across * middle + down * centre - value
        moves = np.abs(across) * reach + np.abs(down) * 0.5 * width
        del moves
        spread = 0.5 * dot_up(v * across[:, :, None] + at.along * down[:, :, None], at.wide, 1)
        new = Tangent(across, down, constant, excess + spread)
        best = new if best is None else _better(best, new)
    assert best is not None
    total = np.abs(np.sum(v, axis=2)) + gamma(n) * np.sum(np.abs(v), axis=2)
    tilt = total if centred else 0.0
    terms = np.sum(np.abs(v), axis=2) * np.abs(best.across)
    terms = terms + np.sum(np.abs(at.along), axis=1) * np.abs(best.down)
    rounded = gamma(n + 16) * terms * at.size
    off = (np.abs(best.across) * tilt + np.abs(best.down) * at.tilt) * at.size
    constant = best.constant + best.down * at.base
    size = np.abs(best.constant) + np.abs(best.down * at.base)
    constant = constant + _SLACK * size + (rounded + off) * (1.0 + _SLACK) + _TINY
    return Tangent(best.across, best.down, constant, best.excess + rounded + off)


def _better(a: Tangent, b: Tangent) -> Tangent:
    first = a.excess <= b.excess  # NaN is never better
    return Tangent(
        *(
            np.where(first, p, q)
            for p, q in (
                (a.across, b.across),
                (a.down, b.down),
                (a.constant, b.constant),
                (a.excess, b.excess),
            )
        )
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
    """The largest s/σ − down·τ, (k, rows): at the ends of pieces, on each of which 1/σ is constant
    or convex in τ for s ≥ 0; and by the largest σ of each piece for s < 0."""
    falls = -down[:, :, None] * at.grid
    up = s[:, :, None] / np.maximum(at.grid, at.low[:, None]) + falls
    ends = np.maximum(falls[:, :, :-1], falls[:, :, 1:])
    under = s[:, :, None] / at.high + ends
    most = np.max(np.abs(s[:, :, None]) / at.low[:, None] + np.abs(falls), axis=2)
    found = np.where(s >= 0.0, np.max(up, axis=2), np.max(under, axis=2))
    return np.asarray(found + _SLACK * most)
