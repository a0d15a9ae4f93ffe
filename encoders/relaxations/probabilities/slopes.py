"""How means Σp·w of probabilities move with their scores: by slopes of their own.

Σp·w has the slopes g_j = p_j·(w_j − Σp·w) in the scores, and moves by Σ g_j·d_j of slopes somewhere
on the way (the mean value theorem, of one function). Where the w of a row are many, Σp·w is known
much better than what the slopes of every probability, times |w|, say together.
"""

from __future__ import annotations

import numpy as np

from encoders.numbers.enclosure import (
    UNIT,
    FloatArray,
    Interval,
    add_up,
    gamma,
    midpoint_radius,
    multiply_up,
    sum_up,
)

_TINY = 2.0**-900


def largest_means(p: Interval, v: FloatArray) -> FloatArray:
    """(…, rows, 1): upper bounds on Σq·v of v ≥ 0 (…, rows, n), for all q of a sum of 1 in p
    (rows, n)."""
    order = np.argsort(-v, axis=-1, kind="stable")
    ends = (np.broadcast_to(a, v.shape) for a in (p.lo, p.hi))
    lo, hi = (np.take_along_axis(a, order, axis=-1) for a in ends)
    sorted_ = np.take_along_axis(v, order, axis=-1)
    # each has all it may of what is left of 1 by those before it, and by what all must
    lost, room = gamma(v.shape[-1] + 4), add_up(hi, -lo)
    before = np.cumsum(room, axis=-1) - room
    left = add_up(1.0, -np.sum(lo, axis=-1, keepdims=True) * (1.0 - lost))
    given = np.clip(add_up(left, -before * (1.0 - 2.0 * lost)), 0.0, room)
    mean = sum_up(multiply_up(add_up(lo, given), sorted_), axis=-1)
    return np.asarray(np.minimum(mean, sorted_[..., 0])[..., None])


def own_slopes(p: Interval, w: FloatArray, reach: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(k, rows, n) each: slopes of means Σp·w of coefficients w (k, rows, n) with |w| ≤ `reach`
    (k, rows, 1), and how far these are from what they are for any p in the ranges at most."""
    high = largest_means(p, np.maximum(add_up(w, reach), 0.0))
    low = largest_means(p, np.maximum(add_up(reach, -w), 0.0))
    mean, spread = midpoint_radius(Interval(-add_up(low, -reach), add_up(high, -reach)))
    share, apart = midpoint_radius(p)
    off = w - mean
    slopes = share * off
    lost = multiply_up(add_up(reach, np.abs(mean)), 8.0 * UNIT)
    rest = add_up(multiply_up(apart, np.abs(off)), multiply_up(p.hi, add_up(spread, lost)))
    return slopes, rest * (1.0 + 16.0 * UNIT) + _TINY
