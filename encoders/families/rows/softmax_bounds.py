"""Softmax, its logarithm and log Σ eˣ over rows: ranges, Jacobians and rounding errors.

A runtime is taken to subtract the largest element m of the row, exponentiate, add in some order,
and divide, or multiply by the reciprocal (Blanchard, Higham & Higham 2021, IMA J. Numer. Anal. 41,
analyse this algorithm). With t = x − m ≤ 0, S = Σ eᵗ ≥ 1:

- an error a in t is a factor within e^a of 1 in eᵗ, the exponential's accuracy another factor and,
  below the normal range, an absolute term;
- all terms are positive, so the sum's relative error is the largest of its terms' plus that of
  n − 1 additions, each of partial sums below the total (lemma `sum-any-order`);
- the quotient's relative error follows (lemma `relative-quotient`).

These are relative errors, so small probabilities keep small errors. Where t is far below 0, as it
is behind a mask of −10⁹, an error in t may exceed 1; but eᵗ and what is computed for it are then
both at most e^(t + a), and against S ≥ 1 that is an absolute error. So is, whatever is known of t,
|e^(t(1 + δ)) − eᵗ| ≤ e^(t(1 − u))·|t|·u ≤ u/(e·(1 − u)) for |δ| ≤ u.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.curves.values import BALLS, ball_array, lower, upper
from encoders.functions.accuracy import FunctionAccuracy
from encoders.functions.exp import EXP
from encoders.functions.log import LOG
from encoders.lemmas.combining import EXACT
from encoders.lemmas.exponentials import (
    ANY_PROBABILITY,
    EXP_FACTOR,
    EXP_FAR_BELOW,
    EXP_QUOTIENT,
    EXP_STEADY,
    EXP_SUM,
    LOG_MOVES,
    ROUNDED_TWICE,
)
from encoders.lemmas.kernel import Radius, apply, enclosed, exactly_zero
from encoders.lemmas.operations import UNTOUCHED
from encoders.lemmas.products import FLUSHED_SUM
from encoders.lemmas.ranges.functions import MONOTONE_RANGE
from encoders.lemmas.ranges.making import both_ranges
from encoders.lemmas.ranges.placing import range_along, range_of, range_signed
from encoders.lemmas.ranges.range import Range
from encoders.lemmas.ranges.rows import LOG_PROBABILITY, PROBABILITY
from encoders.lemmas.rows import WEIGHTED_MEAN
from encoders.numbers.enclosure import (
    FloatArray,
    Interval,
    add_up,
    midpoint_radius,
    multiply_up,
)
from encoders.relaxations.low_rank import LowRank, Pairs, is_wide, low_rank
from encoders.rounding.rounding_bounds import Rounder
from encoders.rounding.tracked_functions import function_error

Mask = npt.NDArray[np.bool_]

MOST_ENTRIES = (
    2**20
)  # of Jacobians that are stored entry by entry, as fits a cache: no tighter, quicker
_FAR, _BEYOND = -16.0, -2000.0


def _others(terms: ObjectArray) -> ObjectArray:
    """Σ_{j≠i} of balls (rows, n), without subtracting."""
    zero = np.zeros_like(terms[:, :1]) + 0 * terms[:, :1]
    before = np.concatenate([zero, np.add.accumulate(terms, axis=1)[:, :-1]], axis=1)
    back = np.add.accumulate(terms[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(before + np.concatenate([back[:, 1:], zero], axis=1))


def _odds(x: Interval, kept: Mask | None) -> tuple[ObjectArray, ObjectArray, Mask]:
    """Balls around the least and the largest Σ_{j≠i} e^(x_j − x_i) over the j that are `kept`; and
    which rows are bounded."""
    known = np.all(np.isfinite(x.lo) & np.isfinite(x.hi), axis=1, keepdims=True)
    low = BALLS.function(EXP, ball_array(np.where(known, x.lo, 0.0)))
    high = BALLS.function(EXP, ball_array(np.where(known, x.hi, 0.0)))
    count = 1 if kept is None else kept.astype(object)
    return _others(low * count) / high, _others(high * count) / low, np.broadcast_to(known, x.shape)


def softmax_range(x: Interval, kept: Mask | None = None) -> Range:
    """Range of each probability over rows (rows, n), 0 for the scores that are not `kept`: they
    rise in their own scores and fall in the others."""
    with BALLS.working():
        least, most, known = _odds(x, kept)
        lo, hi = lower(1 / (1 + most)), upper(1 / (1 + least))
    range_ = _monotone(x, np.where(known, lo, 0.0), np.where(known, hi, 1.0))
    range_ = both_ranges(range_, enclosed(PROBABILITY))
    return range_ if kept is None else range_signed(range_, kept.astype(np.float64))


def _monotone(x: Interval, low: FloatArray, high: FloatArray) -> Range:
    """Of what rises or falls in each number of a row, by what it is at least and at most at the
    corners of the row's range."""
    return enclosed(MONOTONE_RANGE, X=range_along(range_of(x), axis=1), a=low, b=high)


def log_softmax_range(x: Interval, kept: Mask | None = None) -> Range:
    """Range of each probability's logarithm, 0 for the scores that are not `kept`."""
    with BALLS.working():
        least, most, known = _odds(x, kept)
        lo = lower(-BALLS.function(LOG, 1 + most))
        hi = upper(-BALLS.function(LOG, 1 + least))
    range_ = _monotone(x, np.where(known, lo, -np.inf), np.where(known, hi, np.inf))
    range_ = enclosed(LOG_PROBABILITY, X=range_)
    return range_ if kept is None else range_signed(range_, kept.astype(np.float64))


def log_sum_exp_range(x: Interval) -> Range:
    """Range of log Σ eˣ, (rows, 1)."""
    known = np.all(np.isfinite(x.lo) & np.isfinite(x.hi), axis=1, keepdims=True)

    def total(v: FloatArray) -> ObjectArray:
        powers = BALLS.function(EXP, ball_array(np.where(known, v, 0.0)))
        return BALLS.function(LOG, np.add.reduce(powers, axis=1, keepdims=True))

    with BALLS.working():
        lo, hi = lower(total(x.lo)), upper(total(x.hi))
    return _monotone(x, np.where(known, lo, -np.inf), np.where(known, hi, np.inf))


def softmax_jacobian(p: Interval) -> Interval | LowRank:
    """∂y_i/∂x_j = y_i(δ_ij − y_j), (rows, n, n), from ranges of the probabilities."""
    own = _own_slopes(p)
    if is_wide(p, MOST_ENTRIES):
        return low_rank(*_products_of(p), own)
    a, b = p.lo[:, :, None], p.hi[:, :, None]
    c, d = p.lo[:, None, :], p.hi[:, None, :]
    low, high = -multiply_up(b, d), multiply_up(-a, c)
    at = np.arange(p.shape[1])
    low[:, at, at], high[:, at, at] = own.lo, own.hi
    return Interval(low, high)


def _own_slopes(p: Interval) -> Interval:
    """Ranges of y(1 − y)."""
    ends = [
        (multiply_up(v, add_up(1.0, -v)), -multiply_up(-v, -add_up(-1.0, v))) for v in (p.lo, p.hi)
    ]
    straddles = (p.lo <= 0.5) & (p.hi >= 0.5)
    return Interval(
        np.minimum(ends[0][1], ends[1][1]),
        np.where(straddles, 0.25, np.maximum(ends[0][0], ends[1][0])),
    )


def _products_of(p: Interval) -> tuple[Pairs, Pairs]:
    """Of −y_i·y_j, the middle and the spread as outer products: with every y between m − s ≥ 0 and
    m + s, y_i·y_j is within m_i·s_j + s_i·m_j of m_i·m_j + s_i·s_j."""
    m, s = midpoint_radius(p)
    m = np.maximum(m, s)
    return ((m, -m), (s, -s)), ((m, s), (s, m))


def log_softmax_jacobian(p: Interval, kept: Mask | None = None) -> Interval | LowRank:
    """δ_ij − y_j, 0 for i that are not `kept`."""
    if is_wide(p, MOST_ENTRIES):
        ones = np.ones(p.shape) if kept is None else np.broadcast_to(kept * 1.0, p.shape)
        m, s = midpoint_radius(p)
        own = Interval(ones * -add_up(p.hi, -1.0), ones * add_up(1.0, -p.lo))
        return low_rank(((ones, -m),), ((ones, s),), own)
    n = p.shape[1]
    identity = np.eye(n)[None]
    low, high = -add_up(p.hi[:, None, :], -identity), add_up(identity, -p.lo[:, None, :])
    if kept is not None:
        low, high = np.where(kept[:, :, None], low, 0.0), np.where(kept[:, :, None], high, 0.0)
    return Interval(low, high)


def mean_moved(given: Radius) -> Radius:
    """How far log Σ eˣ moves, (rows, 1), for errors (rows, n): its slopes add up to 1."""
    return _row(apply(WEIGHTED_MEAN, e=given.worst(axis=1)))


@dataclass(frozen=True)
class Exponentials:
    """Errors of a row's shifted exponentials: t off by `shift`, eᵗ by the relative `power` and the
    absolute `gone`, and by `tiny` beyond that; their sum S by the relative `total`, (rows, 1)."""

    shift: Radius
    power: Radius
    gone: Radius
    tiny: float
    total: Radius


def exponentials(r: Rounder, accuracy: FunctionAccuracy, x: Interval) -> Exponentials:
    """For rows (rows, n) of run-time inputs."""
    n = x.shape[1]
    if r.exact:
        zero = exactly_zero(EXACT, x.shape)
        return Exponentials(zero, zero, zero, 0.0, exactly_zero(EXACT, (x.shape[0], 1)))
    spread = np.maximum(add_up(np.max(x.hi, axis=1, keepdims=True), -x.lo), 0.0)
    lost = r.operand_loss(x)
    read = lost + _row(lost.worst(axis=1))
    flushed = _flushed(r, add_up(spread, 1.0))
    shift = r.after(r.of_sum, spread, read) + flushed
    relative = 0.0 if accuracy.ulps is None else 2.0 * r.unit * accuracy.ulps
    tiny = 2.0 * r.flushed + (r.smallest_normal if accuracy.flushes else 0.0)
    if accuracy.ulps is not None:
        tiny += accuracy.ulps * float(r.format.smallest_subnormal)
    else:
        assert accuracy.units is not None
        tiny += accuracy.units * r.unit
    tiny = float(np.nextafter(tiny * (1.0 + 2.0**-50), np.inf))
    power = apply(EXP_FACTOR, e=shift, eps=relative)
    behind = np.minimum(add_up(x.hi, -np.max(x.lo, axis=1, keepdims=True)), 0.0)
    far = _far_below(add_up(behind, shift.bound))
    once = 0.36788 * r.unit / (1.0 - r.unit) * (1.0 + 2.0**-49)
    gone = apply(EXP_STEADY, e=read + flushed, u=r.unit, c=once, eps=relative)
    if np.any(far < np.inf):
        gone = gone.and_also(apply(EXP_FAR_BELOW, E=far, eps=relative))
    steps = (n - 1) * r.unit
    total = apply(
        EXP_SUM,
        w=_row(_weighed(r, power, gone)),
        n=float(n),
        tau=tiny,
        m=n - 1.0,
        u=r.unit,
        rho=steps / (1.0 - steps) * (1.0 + 2.0**-40) if steps < 0.5 else np.inf,
        lost=r.flushed + r.lost_operands,
    )
    return Exponentials(shift, power, gone, tiny, total)


def _flushed(r: Rounder, size: FloatArray) -> Radius:
    """What a number of at most this magnitude, which is not 0, loses by being flushed."""
    if not r.flushed:
        return exactly_zero(UNTOUCHED, size.shape)
    return apply(FLUSHED_SUM, T=size, tiny=r.flushed)


def two_flushed(r: Rounder, size: FloatArray) -> Radius:
    """What two operands of a sum of about this magnitude lose by being flushed."""
    one = _flushed(r, add_up(size, 1.0))
    return one + one if r.flushed else one


def _row(radius: Radius) -> Radius:
    """(rows,) as (rows, 1)."""
    return radius.moved(lambda v: v[:, None])


def _weighed(r: Rounder, power: Radius, gone: Radius) -> Radius:
    """What Σp̂ is off by relative to S ≥ 1, (rows,): a mean of the relative errors, weighed by the
    probabilities; those that vanish are charged with their absolute errors."""
    vanishing = gone.bound < r.unit
    absolute = gone.summed(axis=1)
    if not np.any(vanishing):
        return apply(WEIGHTED_MEAN, e=power.worst(axis=1)).and_also(absolute)
    mean = apply(WEIGHTED_MEAN, e=power.worst(axis=1, where=~vanishing))
    rest = gone.times(vanishing.astype(np.float64)).summed(axis=1)
    return (mean + rest).and_also(absolute)


def _far_below(t: FloatArray) -> FloatArray:
    """Upper bounds on eᵗ where t is far below 0, infinity elsewhere."""
    far = t < _FAR
    bound = np.full_like(t, np.inf)
    if np.any(far):
        with BALLS.working():
            nearest = np.maximum(t[far], _BEYOND)
            bound[far] = upper(BALLS.function(EXP, ball_array(nearest)))
    return bound


def softmax_error(r: Rounder, accuracy: FunctionAccuracy, e: Exponentials, y: Interval) -> Radius:
    """|computed − y| for probabilities y at run-time inputs; divided or multiplied by 1/S."""
    if r.exact:
        return exactly_zero(EXACT, y.shape)
    quotient = apply(EXP_QUOTIENT, Y=y.hi, w=e.power, far=e.gone, W=e.total, tau=e.tiny)
    error = apply(ROUNDED_TWICE, Y=y.hi, e=quotient, u=r.unit, h=r.underflow, lost=r.flushed)
    if accuracy.ulps is None:
        return error
    least, n = float(r.format.smallest_subnormal), float(y.shape[1])
    whatever = apply(ANY_PROBABILITY, u=r.unit, ulps=accuracy.ulps, n=n, least=least)
    return error.and_also(whatever)


def log_error(r: Rounder, accuracy: FunctionAccuracy, e: Exponentials, n: int) -> Radius:
    """|computed log S − log S|, (rows, 1): |log Ŝ − log S| ≤ W/(1 − W) for a relative error W."""
    moved = apply(LOG_MOVES, W=e.total)
    top = np.log(n) * 1.01
    twice = 2.0 * moved.bound
    reached = Interval(np.minimum(-twice, 0.0), add_up(top, twice))
    return moved + function_error(r, accuracy, reached)
