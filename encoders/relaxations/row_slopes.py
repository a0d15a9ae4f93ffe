"""How functionals of normalised rows move: their own slopes, not those of every number.

w·z of a row z = a/σ has the slopes g_j = (w_j − w̄ − z_j·(w·z)/n)/σ in the numbers x_j of the row
(w̄ = 0 where means are kept), and moves by Σ g_j·d_j of slopes somewhere on the way (the mean value
theorem, of one function). w·z has a range of its own, much narrower than Σ|w_i| times that of z_i
where w has many numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

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
from encoders.relaxations.tangent_rows import Tangents, tangent

_TINY = 2.0**-900


@dataclass(frozen=True)
class Way:
    """Where normalised rows (rows, n) are on the way from x to x̂: their numbers z, 1/σ (rows, 1),
    and `around` more of them, where that is known; `centred` says that their means are taken away.
    """

    z: Interval
    over: Interval
    around: Tangents | None
    centred: bool


def way_of(z: Interval, sigma: Interval, around: Tangents | None, *, centred: bool) -> Way:
    """Of rows with σ (rows, 1) above 0; elsewhere nothing is known of slopes."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        low, high = (1.0 / s for s in (sigma.hi, sigma.lo))
    low, high = np.nextafter(low, -np.inf), np.nextafter(high, np.inf)
    known = (sigma.lo > 0.0) & np.isfinite(low) & np.isfinite(high)
    over = Interval(np.where(known, low, 0.0), np.where(known, high, np.inf))
    return Way(z, over, around, centred)


def own_slopes(way: Way, v: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(k, rows, n) each: the slopes of functionals v (k, rows, n), less their means where means are
    taken away, and how far these are from them at most."""
    n = v.shape[2]
    middle, radius = _functionals(way, v)
    z, apart = midpoint_radius(way.z)
    over, spread = (a[:, 0] for a in midpoint_radius(way.over))
    known = np.isfinite(over) & np.isfinite(spread)
    over, spread = np.where(known, over, 0.0), np.where(known, spread, np.inf)
    size = np.abs(v)
    total = np.sum(size, axis=2, keepdims=True)
    slopes = v - z * (middle / n)[:, :, None]
    reach = np.abs(middle)[:, :, None]
    # z·s is off by |z|·(what s is) and (what z is)·|s|
    off = np.abs(z) * radius[:, :, None] + apart * (reach + radius[:, :, None])
    lost = gamma(4 * n + 32) * (size + total / n + np.abs(z) * reach / n)
    if way.centred:  # means of numbers far from 0 are rounded by more than these are apart
        lost = lost + np.abs(np.sum(v, axis=2, keepdims=True)) / n * (1.0 + 64.0 * UNIT)
    off = (off / n + lost) * (1.0 + 64.0 * UNIT) + _TINY
    high = (over + spread)[:, None]
    with np.errstate(invalid="ignore", over="ignore"):
        rest = off * high + np.abs(slopes) * spread[:, None] + lost * high
        rest = rest * (1.0 + 64.0 * UNIT) + _TINY
    rest = np.where(np.isnan(rest), np.inf, rest)
    return slopes * over[:, None], rest


def _functionals(way: Way, v: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(k, rows): the middles and radii of ranges of v·z."""
    z, apart = midpoint_radius(way.z)
    n = v.shape[2]
    middle = np.sum(v * z, axis=2)
    lost = gamma(n + 8) * np.sum(np.abs(v * z), axis=2) + _TINY
    beside = add_up(dot_up(v, apart, 1), lost)
    low, high = -add_up(-middle, beside), add_up(middle, beside)
    ball = multiply_up(norms_up(v, axis=2), float(np.sqrt(float(n))) * (1.0 + 2.0**-50))
    low, high = np.fmax(low, -ball), np.fmin(high, ball)
    if way.around is not None and way.around.vary:
        low, high = np.fmax(low, -_most(way.around, -v)), np.fmin(high, _most(way.around, v))
    found = midpoint_radius(Interval(low, high))
    known = np.isfinite(found[0]) & np.isfinite(found[1]) & (low <= high)
    return np.where(known, found[0], 0.0), np.where(known, found[1], np.fmin(ball, np.inf))


def _most(at: Tangents, v: FloatArray) -> FloatArray:
    """(k, rows): upper bounds on v·z."""
    found = tangent(at, v)
    both = v * found.across[:, :, None] + at.along * found.down[:, :, None]
    a = at.deviations
    size = np.sum(np.abs(v * found.across[:, :, None]), axis=2)
    size = size + np.sum(np.abs(at.along * found.down[:, :, None]), axis=2)
    largest = np.max(np.abs(a.middle) + a.wide, axis=1)
    lost = gamma(v.shape[2] + 16) * size * largest
    total = a.at_middle(both) + found.constant
    total = add_up(total, gamma(8) * (np.abs(a.at_middle(both)) + np.abs(found.constant)))
    most = add_up(add_up(total, a.moves(both)), lost)
    return np.where(np.isnan(most), np.inf, most)
