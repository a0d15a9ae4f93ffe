"""Mean and variance of rows that a runtime keeps from number to number, as Welford does.

m̂_k = m̂_(k−1) + (x_k − m̂_(k−1))/k, and the variance adds up (x_k − m̂_(k−1))·(x_k − m̂_k). What the
means are off by counts by itself here, not by its square as where the mean is taken away first:
numbers that are a unit apart may have a computed variance of 0.
"""

from __future__ import annotations

import numpy as np

from encoders.families.rows.normalization import Normalized
from encoders.lemmas.kernel import Radius, apply
from encoders.lemmas.normalizing import (
    OVER_SIGMA,
    RELATIVELY_ROUNDED,
    RUNNING_MEAN,
    RUNNING_VARIANCE,
)
from encoders.numbers.enclosure import FloatArray, Interval, add_up, multiply_up
from encoders.rounding.norms import relative_sum, root_off, underflown
from encoders.rounding.rounding_bounds import Rounder, below_normal

_UP = 1.0 + 2.0**-40


def running_mean(r: Rounder, x: Interval, read: Radius) -> Radius:
    """What every mean on the way is off by, (rows, 1), for numbers x (rows, n) that are read with
    an error of at most `read`."""
    n, u = x.shape[1], r.unit
    size = np.max(x.magnitude, axis=1, keepdims=True)
    apart = _apart(x)
    lost = r.lost
    given = read.worst(axis=1).moved(lambda e: e[:, None])
    if lost:
        given = given + below_normal(3.0 * lost)
    tiny, step = 3.0 * lost, 3.0 * u * (1.0 + 2.0 * u) * _UP
    left = 1.0 - step - u * _UP * (n + 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        whole = step * apart + (1.0 + 4.0 * u) * given.bound * _UP
        whole = whole + 0.5 * (n + 1.0) * (u * size + tiny) * _UP
        most = whole / left * _UP if left > 0.0 else np.full_like(size, np.inf)
        each = (step * (apart + most) + (1.0 + 4.0 * u) * given.bound) * _UP
        rounded = (u * (size + 2.0 * most) + tiny) * _UP
        last = (each + 0.5 * n * rounded) * _UP
        most = np.maximum(most, (each + 0.5 * (n + 1.0) * rounded) * (1.0 + 2.0**-36))
    numbers = {"L": last, "A": each, "R": rounded, "B": most, "X": size, "P": apart}
    return apply(RUNNING_MEAN, k=float(n), E=given, u=u, h=tiny, **numbers)


def running_sigma(r: Rounder, x: Interval, v: Normalized, *, mean: Radius, read: Radius) -> Radius:
    """What the computed σ, rounded, is off by, relative to σ, (rows, 1); infinite where it may come
    out as 0."""
    n, low, lost = x.shape[1], v.sigma.lo, r.lost
    off = _off(r, mean, read)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        share = off.bound / low * _UP
        part = share * (3.0 + share) * _UP + 2.0**-1000
        part = np.where(np.isfinite(part), part, np.inf)
        square = low * low * (1.0 - 2.0**-50)
    variance = apply(RUNNING_VARIANCE, M=off, a=part, low=low, g=relative_sum(r, n + 6))
    if lost:
        gone = below_normal(4.0 * (n + 4.0) * lost)
        variance = variance + apply(OVER_SIGMA, e=gone, low=square)
    root = root_off(variance, np.ones_like(low))
    return apply(RELATIVELY_ROUNDED, e=root, u=r.unit) + underflown(r, low)


def running_most(
    r: Rounder, x: Interval, v: Normalized, *, mean: Radius, read: Radius, sigma: Radius
) -> float:
    """The largest magnitude on the way, where σ is off by the relative `sigma`: of what adds up to
    n·var, and of var + ε."""
    n, off = x.shape[1], _off(r, mean, read).bound
    inner = add_up(np.sqrt(v.variance.hi) * (1.0 + 2.0**-50), 2.0 * off)
    total = multiply_up(multiply_up(inner, inner), n * (1.0 + relative_sum(r, n + 6)) * _UP)
    root = multiply_up(v.sigma.hi, add_up(1.0, sigma.bound))
    return float(np.max(np.maximum(total, multiply_up(root, root)), initial=0.0))


def _off(r: Rounder, mean: Radius, read: Radius) -> Radius:
    """(rows, 1): what a number less a mean is off by before it is rounded."""
    off, lost = mean + read.worst(axis=1).moved(lambda e: e[:, None]), r.lost
    return off + below_normal(3.0 * lost) if lost else off


def _apart(x: Interval) -> FloatArray:
    """(rows, 1): how far two numbers of a row are from each other at most."""
    return add_up(np.max(x.hi, axis=1, keepdims=True), -np.min(x.lo, axis=1, keepdims=True))
