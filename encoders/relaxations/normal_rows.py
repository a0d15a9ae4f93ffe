"""Functionals of normalised rows z = c/σ, c = x less its mean where that is taken away.

‖z‖ ≤ √n, so that w·z is at most ‖w‖·√n whatever x is, and Σz = 0 where the mean is taken away, so
that w may be taken less its own. Where σ is known better than z, w·z is near w·c/σ₀. Differences
ẑ − z are at most ‖d‖/σ long (lemma `normalized-row`). A Jacobian's ranges, entry by entry, say less
of rows that vary by as much as they are long.
"""

from __future__ import annotations

import numpy as np

from encoders.lemmas.kernel import Radius, apply, carried_back
from encoders.lemmas.normalizing import NORMALIZED_ROW
from encoders.lemmas.rows import ALONG_ROW
from encoders.numbers.enclosure import (
    UNIT,
    BoolArray,
    FloatArray,
    Interval,
    add_up,
    dot_up,
    gamma,
    midpoint_radius,
    multiply_up,
    norms_up,
    signed_sums_up,
    sum_up,
)
from encoders.relaxations.rows import Rows
from encoders.relaxations.tangent_rows import Tangents, tangent
from encoders.relaxing import Contribution, DifferenceMap, Moved, ValueMap
from encoders.rounding.norms import norm_moved

_TINY = 2.0**-960
_TOGETHER = 0.5  # of what coefficients on a row's numbers cost, if these vary as they do by chance


def longest(n: int) -> float:
    """At least the norm of a normalised row of n numbers."""
    return float(np.sqrt(float(n))) * (1.0 + 2.0**-50)


def normalized_values(
    rows: Rows,
    x: Interval,
    *,
    deviation: FloatArray,
    sigma: Interval,
    centred: bool,
    mapped: ValueMap,
    charge: FloatArray,
    around: Tangents | None,
) -> ValueMap:
    """Normalised rows of x (rows, n), of which `mapped` is what a Jacobian says; that costs about
    |c|·`charge`. Deviations are at most `deviation` (rows, n)."""
    n = x.shape[1]
    if around is not None and not around.vary:
        around = None
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        over = Interval(
            np.nextafter(1.0 / sigma.hi[:, 0], -np.inf), np.nextafter(1.0 / sigma.lo[:, 0], np.inf)
        )
    slope, apart = midpoint_radius(over)
    known = np.isfinite(slope) & np.isfinite(apart)
    slope, apart = np.where(known, slope, 0.0), np.where(known, apart, np.inf)
    _, radius = midpoint_radius(x)
    size, length = np.max(x.magnitude, axis=1), norms_up(deviation, axis=1)

    def backward(c: FloatArray) -> Contribution:
        w = rows.split(c)
        v = _less_mean(w) if centred else w
        norm = multiply_up(norms_up(v, axis=2), 1.0 + 4.0 * UNIT)
        ball = multiply_up(norm, longest(n))
        along = np.minimum(dot_up(v, deviation, 1), multiply_up(norm, length))
        total = sum_up(np.abs(w), axis=2)
        lost = multiply_up(multiply_up(total, size), np.abs(slope) * gamma(n + 32))
        scaled = add_up(add_up(multiply_up(along, apart), multiply_up(lost, 2.0)), _TINY)
        on_rows = rows.split(_first(mapped.backward(rows.merge(v)), c))
        costs = np.stack(
            [
                add_up(dot_up(v, charge, 1), _TOGETHER * dot_up(on_rows, radius, 1)),
                add_up(scaled, _TOGETHER * dot_up(v * slope[:, None], radius, 1)),
                ball,
            ]
        )
        if around is not None:
            near = tangent(around, v)
            costs = np.concatenate([costs, near.excess[None]])
        best = np.argmin(np.where(np.isfinite(costs), costs, np.finfo(np.float64).max), axis=0)
        pulled = mapped.backward(rows.merge(_where(best == 0, v)))
        # what w less its mean is rounded by is at most UNIT of it
        rounded = multiply_up(ball, 2.0 * UNIT)
        left = np.where(best == 0, rounded, np.where(best == 1, scaled, ball))
        straight = _where(best == 1, v * slope[:, None])
        if around is not None:
            left = np.where(best == 3, near.constant + rounded, left)
            both = v * near.across[:, :, None] + around.along * near.down[:, :, None]
            straight = straight + _where(best == 3, both)
        through = _first(pulled, c) + rows.merge(straight)
        # what a tangent leaves may be negative
        total = sum_up(left, axis=1) if around is None else signed_sums_up(left)
        return Contribution((through,), add_up(pulled.constant, total))

    return ValueMap(mapped.range, backward)


def normalized_limit(given: Radius, sigma: FloatArray, n: int) -> Radius:
    """How long differences of normalised rows are, (rows, 1), whose numbers are off by `given`."""
    return apply(NORMALIZED_ROW, e=norm_moved(given), low=sigma, Y=longest(n))


def normalized_differences(
    rows: Rows,
    given: Radius,
    *,
    limit: Radius,
    centred: bool,
    mapped: DifferenceMap,
    charge: FloatArray,
) -> DifferenceMap:
    """Differences of normalised rows that are at most `limit` (rows, 1) long; `mapped` is what a
    Jacobian says of them, which costs about |c|·`charge`."""
    length = limit.moved(lambda v: v[:, 0])

    def backward(c: FloatArray) -> Moved:
        w = rows.split(c)
        v = _less_mean(w) if centred else w
        norm = multiply_up(norms_up(v, axis=2), 1.0 + 4.0 * UNIT)
        ball = apply(ALONG_ROW, C=norm, e=length.on(norm.shape))
        on_rows = rows.split(_taken(mapped.backward(rows.merge(v)), c))
        cost = add_up(dot_up(v, charge, 1), _TOGETHER * dot_up(on_rows, given.bound, 1))
        followed = cost <= ball.bound
        pulled = mapped.backward(rows.merge(_where(followed, v)))
        # what w less its mean is rounded by is at most UNIT of it
        left = ball.times(np.where(followed, 2.0 * UNIT, 1.0)).summed(axis=1)
        return Moved(pulled.coefficients, carried_back((pulled.cost, left)))

    return DifferenceMap(mapped.radius, backward)


def _less_mean(w: FloatArray) -> FloatArray:
    return np.asarray(w - np.mean(w, axis=2, keepdims=True))


def _where(rows: BoolArray, v: FloatArray) -> FloatArray:
    return np.where(rows[:, :, None], v, 0.0)


def _first(pulled: Contribution, c: FloatArray) -> FloatArray:
    (found,) = pulled.coefficients
    return np.zeros(c.shape) if found is None else found


def _taken(pulled: Moved, c: FloatArray) -> FloatArray:
    (found,) = pulled.coefficients
    return np.zeros(c.shape) if found is None else found
