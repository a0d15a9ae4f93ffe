"""Functionals of probabilities p = softmax(s) whose scores move together, to the second order.

With s = s̃ + δ and p̃ = softmax(s̃), along the way from s̃ to s the mean of w has the derivatives
Σp·w·(δ − Eδ), Σp·w·((δ − Eδ)² − Var δ) and Σp·w·((δ − Eδ)³ − 3(δ − Eδ)·Var δ − κ₃), E, Var and the
third cumulant κ₃ of δ under the p there. So each p_j is its tangent at s̃, plus
½·p̃_j·((δ_j − Eδ)² − Var δ) under p̃, a quadratic form of what moves the scores, up to a sixth of the
largest third derivative. Since Σp = 1, only how far the w of a row are apart counts.
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
    inner_up,
    midpoint_radius,
    multiply_up,
    signed_sums_up,
    sum_up,
)
from encoders.numbers.forms import Forms
from encoders.relaxations.bending import Backward, Bends, bends_of
from encoders.relaxations.probabilities.shares import Mask, apart
from encoders.relaxations.rows import Rows
from encoders.relaxing import Contribution

_TINY = 2.0**-900
_SLACK = 1.0 + 2.0**-20


@dataclass(frozen=True)
class _Reach:
    """Of scores δ + s̃ (rows, n), s̃ with the probabilities `p` up to `half`: `off` (rows, n, m) are
    what moves δ_j − Eδ, E under these, up to `lost` at most; that is at most `between`, and at most
    `wide` with what is not of t, which is `rest`. `most` is what each probability may be at most
    on the way."""

    p: FloatArray
    half: FloatArray
    off: FloatArray
    lost: FloatArray
    between: FloatArray
    rest: FloatArray
    wide: FloatArray
    most: FloatArray


def _reach(
    moves: FloatArray, rest: FloatArray, p: FloatArray, half: FloatArray, most: FloatArray
) -> _Reach:
    n, high = p.shape[1], add_up(p, half)
    moved = sum_up(np.abs(moves), axis=2)
    off = moves - np.einsum("rj,rjm->rm", p, moves)[:, None, :]
    lost = multiply_up(add_up(moved, _mean_up(high, moved)), gamma(n + 8))
    lost = add_up(lost, _mean_up(half, moved)) + _TINY
    between = add_up(sum_up(np.abs(off), axis=2), lost)
    apart_ = add_up(rest, _mean_up(high, rest))
    return _Reach(p, half, off, lost, between, apart_, add_up(between, apart_), most)


def bent_shares(
    rows: Rows, kept: Mask, x: Interval, forms: Forms, *, range_: Interval, at_middle: Interval
) -> Backward:
    """Pulls back probabilities of scores x, `range_`, and `at_middle` of those in the middle of
    these forms of the scores' tensor, which is in x: (rows, n)."""
    middle, rest = (rows.split(v[None])[0] for v in (forms.middle, forms.rest))
    moves = np.moveaxis(rows.split(np.moveaxis(forms.moves, -1, 0)), 0, -1)
    moves = np.where(kept[:, :, None], moves, 0.0)
    rest = np.where(kept, rest, 0.0)
    wide = np.maximum(add_up(x.hi, -middle), add_up(middle, -x.lo))
    wide = np.where(kept, wide, 0.0)
    p, half = midpoint_radius(at_middle)
    reach = _reach(moves, rest, p, half, np.where(kept, range_.hi, 0.0))
    bends = _bends(reach)
    third, of_row = _third(reach)
    slopes = add_up(multiply_up(half, 2.0), multiply_up(at_middle.hi, _missing(half)[:, None]))
    rounded = add_up(sum_up(multiply_up(slopes, wide), axis=1), _missing(half))
    rounded = multiply_up(rounded, _SLACK)[None]

    def backward(c: FloatArray) -> Contribution:
        w = apart(rows.split(c), kept)
        reached, low = w.reach[:, :, 0], w.middle[:, :, 0]
        at = np.sum(w.rest * p, axis=2, keepdims=True)
        slope = np.where(kept, p * (w.rest - at), 0.0)
        constant = add_up(add_up(low, at[:, :, 0]), inner_up(-slope, middle, 1))
        # what w − middle is rounded by is at most UNIT of it
        lost = multiply_up(reached, add_up(rounded, UNIT))
        beyond = np.minimum(dot_up(w.rest, third, 1), multiply_up(reached, of_row))
        constant = add_up(constant, add_up(add_up(lost, beyond), _TINY))
        bent = bends.most(w.rest.reshape(len(c), -1))
        return Contribution((rows.merge(slope),), add_up(signed_sums_up(constant), bent))

    return backward


def _missing(half: FloatArray) -> FloatArray:
    """(rows,): what the middles of probabilities may add up to beside 1, and sums of them lose."""
    return add_up(sum_up(half, axis=1), gamma(half.shape[1] + 16))


def _bends(reach: _Reach) -> Bends:
    """½·p_j·((δ_j − Eδ)² − Var δ) where t moves δ, and what else δ makes of that."""
    p, half, off = reach.p, reach.half, reach.off
    _, n, m = off.shape
    squares = off[:, :, :, None] * off[:, :, None, :]
    variance = np.einsum("rj,rjkl->rkl", p, squares)[:, None]
    matrices = 0.5 * p[:, :, None, None] * (squares - variance)
    high = add_up(p, half)
    beside = add_up(reach.lost, reach.rest)
    apart_ = multiply_up(beside, add_up(multiply_up(reach.between, 2.0), beside))
    whole = multiply_up(reach.between, reach.between)
    rounded = multiply_up(add_up(whole, _mean_up(high, whole)), gamma(n + 16))
    unsure = add_up(multiply_up(half, add_up(whole, _mean_up(high, whole))), _TINY)
    unsure = add_up(unsure, multiply_up(high, _mean_up(half, whole)))
    each = add_up(add_up(apart_, _mean_up(high, apart_)), rounded)
    each = multiply_up(add_up(multiply_up(high, each), unsure), 0.5 * _SLACK)
    return bends_of(matrices.reshape(-1, m, m), each)


def _mean_up(p: FloatArray, v: FloatArray) -> FloatArray:
    """(rows, 1): upper bounds on Σp·v."""
    return sum_up(multiply_up(p, v), axis=1)[:, None]


def _third(reach: _Reach) -> tuple[FloatArray, FloatArray]:
    """A sixth of the third derivatives at most: of each p_j, and of the mean of any w with
    |w| ≤ 1, (rows,). Only differences of δ count, so that Eδ = 0 under p̃ is taken for granted: it
    moves from there by what Var δ is on the way, which is at most Eδ²."""
    wide = reach.wide
    largest = np.max(wide, axis=1, keepdims=True)
    variance = _mean_up(reach.most, multiply_up(wide, wide))
    variance = np.minimum(variance, multiply_up(largest, largest))
    far = add_up(wide, np.minimum(variance, largest))
    cumulant = multiply_up(np.max(far, axis=1, keepdims=True), variance)
    third = multiply_up(far, add_up(multiply_up(far, far), multiply_up(variance, 3.0)))
    third = multiply_up(add_up(third, cumulant), multiply_up(reach.most, 1.0 / 6.0 * _SLACK))
    steep = add_up(2.0 * np.max(far, axis=1), 3.0 * np.sqrt(variance[:, 0]) * _SLACK)
    return third, multiply_up(variance[:, 0], steep) * (1.0 / 6.0 * _SLACK)
