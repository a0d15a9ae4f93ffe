"""Planes above and below each probability of p = softmax(s), over ranges of the scores.

With u_j = log p_j = s_j − log Σ e^s, which is concave, p_j = e^u is at most the chord c + b·u over
its range, b ≥ 0, and u at most its tangent plane. And p_j = 1/y, y = Σ_k e^(s_k − s_j), is at least
2z − z²·y whatever z, as (1 − z·y)² ≥ 0, where every exponential is at most its chord. These are of
the kind of Wei, Wang, Li, Wu, Liu and Han, Convex bounds on the softmax function (2023): where
scores go far the tangent with what it bends by is looser.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.curves.values import enclosed
from encoders.functions.exp import EXP
from encoders.functions.log import LOG
from encoders.numbers.enclosure import (
    BoolArray,
    FloatArray,
    Interval,
    add_down,
    add_up,
    dot_up,
    gamma,
    inner_up,
    midpoint_radius,
    multiply_up,
    sum_up,
)
from encoders.numbers.forms import Forms
from encoders.relaxations.rows import Rows

_MOST = 2**16  # differences of scores
_TINY = 2.0**-900
_LEAST = 2.0**-100  # of probabilities whose logarithms are of use
_SMALL = 2.0**-400  # of 1/y: less has squares below the range of float64
_LARGE = 2.0**100  # scores: from there on what slopes lose in subnormal numbers counts


@dataclass(frozen=True)
class _Planes:
    """`slopes` (rows, n, n) on the scores, and what is beside that (rows, n); `gap` is about how
    far they are from the probabilities at the middles, and `size` Σ|slopes|·|s| at most."""

    slopes: FloatArray
    beside: FloatArray
    gap: FloatArray
    size: FloatArray


@dataclass(frozen=True)
class Weighed:
    """Functionals (k, rows, n) of probabilities, at most `base` (k, rows, 1) + Σ(more − less)·p,
    both of no negative number."""

    base: FloatArray
    more: FloatArray
    less: FloatArray


@dataclass(frozen=True)
class SharePlanes:
    """Planes above and below the probabilities of rows of scores (rows, n)."""

    above: _Planes
    below: _Planes

    def cost(self, w: Weighed) -> FloatArray:
        """(k, rows): about what is lost."""
        return np.asarray(
            np.einsum("krn,rn->kr", w.more, self.above.gap)
            + np.einsum("krn,rn->kr", w.less, self.below.gap)
        )

    def backward(self, w: Weighed) -> tuple[FloatArray, FloatArray]:
        """What these functionals are at most, slopes (k, rows, n) on the scores and a constant
        (k, rows)."""
        more, less = (v.transpose(1, 0, 2) for v in (w.more, w.less))
        slopes = np.matmul(more, self.above.slopes) - np.matmul(less, self.below.slopes)
        lost = gamma(2 * w.more.shape[2] + 8)
        size = add_up(dot_up(w.more, self.above.size, 1), dot_up(w.less, self.below.size, 1))
        total = add_up(inner_up(w.more, self.above.beside, 1), multiply_up(size, lost))
        total = add_up(total, inner_up(w.less, -self.below.beside, 1))
        return slopes.transpose(1, 0, 2), add_up(add_up(w.base[:, :, 0], total), _TINY)


def differences(x: Interval) -> Interval:
    """s_k − s_j of rows of scores (rows, n) in x: (rows, j, k)."""
    low = add_down(x.lo[:, None, :], -x.hi[:, :, None])
    return Interval(low, add_up(x.hi[:, None, :], -x.lo[:, :, None]))


def differences_of(rows: Rows, forms: Forms) -> Interval:
    """The same, of scores whose tensor these forms enclose."""
    middle, rest = (rows.split(v[None])[0] for v in (forms.middle, forms.rest))
    moves = np.moveaxis(rows.split(np.moveaxis(forms.moves, -1, 0)), 0, -1)
    at = middle[:, None, :] - middle[:, :, None]
    apart = moves[:, None, :, :] - moves[:, :, None, :]
    size = sum_up(np.abs(moves), axis=2)
    lost = add_up(np.abs(middle), size) * gamma(2)
    beside = add_up(rest, lost)
    off = add_up(sum_up(np.abs(apart), axis=3), add_up(beside[:, None, :], beside[:, :, None]))
    return Interval(add_down(at, -off), add_up(at, off))


def has_planes(x: Interval, kept: BoolArray) -> bool:
    """Have rows of scores (rows, n) in x, of which some are `kept`, planes of their own: are they
    few, and no scores so large that what slopes are rounded by below the range of float64 counts?
    """
    few = x.lo.size * x.shape[1] <= _MOST and bool(np.all(np.isfinite(x.hi - x.lo)))
    return few and bool(np.max(np.where(kept, x.magnitude, 0.0), initial=0.0) <= _LARGE)


def share_planes(
    x: Interval, kept: BoolArray, p: Interval, at_middle: Interval, apart: Interval
) -> SharePlanes | None:
    """Of rows of scores (rows, n) in x, of which those `kept` have probabilities in p, and
    `at_middle` in the middles of x, and which differ by `apart`; None where they have none."""
    if not has_planes(x, kept):
        return None
    return SharePlanes(_above(x, kept, p, at_middle), _below(x, kept, at_middle, apart))


def _above(x: Interval, kept: BoolArray, p: Interval, at_middle: Interval) -> _Planes:
    n = x.shape[1]
    middle, radius = midpoint_radius(x)
    share, half = midpoint_radius(at_middle)
    known = kept & (p.lo > _LEAST) & (p.lo < p.hi) & (at_middle.lo > _LEAST)
    ends = [np.where(known, v, e) for v, e in ((p.lo, 0.5), (p.hi, 1.0), (at_middle.hi, 1.0))]
    logs = enclosed(lambda field, v: field.function(LOG, v), np.stack(ends))
    steep = (ends[1] - ends[0]) / (logs.hi[1] - logs.lo[0])
    steep = np.where(known, steep, 0.0)
    chord = np.maximum(
        add_up(p.lo, multiply_up(steep, -logs.lo[0])), add_up(p.hi, multiply_up(steep, -logs.lo[1]))
    )
    own = np.eye(n)[None]
    slopes = steep[:, :, None] * (own - share[:, None, :])
    slopes = np.where(kept[:, None, :], slopes, 0.0)
    # slopes are off by what shares are, and by three roundings
    off = add_up(half[:, None, :], 4.0 * gamma(1))
    off = sum_up(multiply_up(off, np.where(kept, radius, 0.0)[:, None, :]), axis=2)
    moved = add_up(multiply_up(steep, off), _scaled_up(steep, logs.hi[2]))
    size = sum_up(multiply_up(np.abs(slopes), np.where(kept, x.magnitude, 0.0)[:, None, :]), axis=2)
    at = -np.einsum("rjk,rk->rj", slopes, np.where(kept, middle, 0.0))
    at = add_up(at, multiply_up(size, gamma(n + 4)))
    beside = np.where(known, add_up(add_up(chord, moved), at), np.where(kept, p.hi, 0.0)) + _TINY
    at_middles = beside + np.einsum("rjk,rk->rj", slopes, np.where(kept, middle, 0.0))
    return _Planes(slopes, beside, np.maximum(at_middles - share, 0.0), size)


def _scaled_up(a: FloatArray, b: FloatArray) -> FloatArray:
    """Upper bounds on a·b, a ≥ 0 and b of either sign."""
    product = a * b
    return add_up(product, np.abs(product) * gamma(2) + _TINY)


def _below(x: Interval, kept: BoolArray, at_middle: Interval, apart: Interval) -> _Planes:
    n = x.shape[1]
    middle, _ = midpoint_radius(x)
    share, _ = midpoint_radius(at_middle)
    own = np.eye(n, dtype=np.bool_)[None]
    counted = kept[:, None, :] & kept[:, :, None] & ~own
    lo, hi = np.where(counted, apart.lo, -1.0), np.where(counted, apart.hi, 1.0)
    powers = enclosed(lambda field, v: field.function(EXP, v), np.stack([lo, hi])).hi
    with np.errstate(invalid="ignore"):
        steep = (powers[1] - powers[0]) / np.maximum(hi - lo, 2.0**-500)
    steep = np.where(counted & np.isfinite(steep), steep, 0.0)
    chord = np.maximum(
        add_up(powers[0], _scaled_up(steep, -lo)), add_up(powers[1], _scaled_up(steep, -hi))
    )
    chords = np.where(counted, chord, 0.0)
    start = np.sum(chords, axis=2) * 1.0
    start = add_up(add_up(start, 1.0), sum_up(np.abs(chords), axis=2) * gamma(n + 8))
    between = np.where(counted, middle[:, None, :] - middle[:, :, None], 0.0)
    z = 1.0 / (start + np.sum(steep * between, axis=2))
    z = np.where(np.isfinite(z) & (z > _SMALL) & kept, z, 0.0)
    start = np.where(z > 0.0, start, 1.0)
    falls = np.where(z[:, :, None] > 0.0, (z * z)[:, :, None] * steep, 0.0)
    slopes = -falls
    slopes[:, range(n), range(n)] = np.sum(falls, axis=2)
    read = np.where(kept, x.magnitude, 0.0)
    size = sum_up(multiply_up(np.abs(slopes), read[:, None, :]), axis=2)
    each = add_up(read[:, None, :], read[:, :, None])
    lost = sum_up(multiply_up(falls, each), axis=2) * gamma(n + 16)
    square = multiply_up(multiply_up(z, z), np.abs(start))
    beside = 2.0 * z - z * z * start
    lost = add_up(lost, add_up(square, 2.0 * z) * gamma(8)) + _TINY
    beside = np.where(z > 0.0, add_down(beside, -lost), 0.0)
    at_middles = beside + np.einsum("rjk,rk->rj", slopes, np.where(kept, middle, 0.0))
    gap = np.maximum(share - at_middles, 0.0)
    return _Planes(slopes, beside, gap, size)
