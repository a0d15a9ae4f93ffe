"""Functionals of normalised rows z = c/σ, c = x less its mean where that is taken away.

‖z‖ ≤ √n, so that w·z is at most ‖w‖·√n whatever x is, and Σz = 0 where the mean is taken away, so
that w may be taken less its own. Where σ is known better than z, w·z is near w·c/σ₀. Differences
ẑ − z are at most ‖d‖/σ long (lemma `normalized-row`). A Jacobian's ranges, entry by entry, say less
of rows that vary by as much as they are long.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.lemmas.carrying import FOLLOWED
from encoders.lemmas.claims import REAL_GAP
from encoders.lemmas.kernel import Radius, apply, carried_back
from encoders.lemmas.normalizing import FUNCTIONAL_OF_ROW, NORMALIZED_ROW, RELATIVE_DEPTH
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
from encoders.numbers.row_forms import RowForms
from encoders.relaxations.row_slopes import Way, own_slopes
from encoders.relaxations.rows import Rows
from encoders.relaxations.tangent_rows import Tangents, tangent
from encoders.relaxing import Contribution, DifferenceMap, Moved, ValueMap
from encoders.rounding.norms import norm_moved

_TINY = 2.0**-960
_OPEN = 0.1  # of what functionals cost, in ranges of slopes: less is not worth slopes of their own
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


@dataclass(frozen=True)
class Departing:
    """Rows c (rows, n), of which `now` are forms, on the way to c + d: `apart` are forms of d, and
    `way` of all that lies between; σ is in `sigma` (rows, 1) all along."""

    now: RowForms
    apart: RowForms
    way: RowForms
    sigma: Interval
    epsilon: float


@dataclass(frozen=True)
class _Line:
    """ẑ − z as a line in d: g·(d − z₀·(u·d)), u = g·c₀/n and z₀ = g·c₀ of the middle c₀ of the way;
    what functionals of it are off by hangs on how they move d and c, not on elements alone."""

    rows: Departing
    g: FloatArray  # (rows,), about 1/σ
    u: FloatArray  # (rows, n)
    over: FloatArray  # (rows,): how far 1/σ is from g
    depth: Radius  # (rows,): of (σ̂ − σ)/σ̂ less g·(u·d)
    along: Radius  # (rows,): of g·(u·d)


def _line_of(rows: Departing, given: Radius) -> _Line:
    """`given` (rows, n) bounds d before means are taken away."""
    c, n = rows.way.middle, rows.way.middle.shape[1]
    low, high = rows.sigma.lo[:, 0], rows.sigma.hi[:, 0]
    lost = gamma(4 * n + 64)
    with np.errstate(all="ignore"):
        size = norms_up(c, axis=1)
        centre = np.sqrt(size * size / n + rows.epsilon)
        g = np.where((centre > 0.0) & np.isfinite(centre), 1.0 / centre, 0.0)
        over = np.maximum(np.abs(1.0 / low - g), np.abs(1.0 / high - g))
        over = np.where(low > 0.0, over + 8.0 * UNIT * (1.0 / low + g), np.inf)
        u = c * (g / n)[:, None]
        # z on the way is this far from z₀, and σ̂ − σ is z·d/n of one of them
        off = rows.way.reach / np.minimum(low, centre) * (1.0 + lost)
        off = (off + size * g * lost) / n * (1.0 + lost)
    over, off = (np.where(np.isnan(v), np.inf, v) for v in (over, off))
    reach = add_up(rows.apart.reach, norms_up(rows.apart.middle, axis=1))
    length = norm_moved(given).moved(lambda v: v[:, 0]).and_also(_at_most(reach))
    line = apply(ALONG_ROW, C=off, e=length)
    straight = _at_most(_functionals(rows.apart, u[None])[0])
    deep = (straight + line).and_also(length.times(1.0 / np.sqrt(n) * (1.0 + 4.0 * UNIT)))
    depth = apply(RELATIVE_DEPTH, rho=over, D=deep, g=g, E=line)
    return _Line(rows, g, u, over, depth, straight.times(g))


def _at_most(size: FloatArray) -> Radius:
    return apply(REAL_GAP, lo=-size, hi=size)


def _functionals(forms: RowForms, v: FloatArray) -> FloatArray:
    """(k, rows): how large functionals v (k, rows, n) of these rows are at most."""
    middle = np.sum(v * forms.middle, axis=2)
    lost = gamma(v.shape[2] + 4) * np.sum(np.abs(v * forms.middle), axis=2) + _TINY
    return add_up(add_up(np.abs(middle), lost), forms.along(v))


def _on_line(line: _Line, v: FloatArray, given: Radius, centred: bool) -> tuple[FloatArray, Radius]:
    """Coefficients (k, rows, n) on d before means are taken away, and what functionals v of ẑ − z
    are off by, (k, rows)."""
    rows, g, n = line.rows, line.g, v.shape[2]
    middle, near = rows.way.middle, rows.now.middle - rows.way.middle
    lost = gamma(n + 16)
    size, beside = np.sum(np.abs(v * middle), axis=2), np.sum(np.abs(v * near), axis=2)
    along = np.sum(v * middle, axis=2)
    w = g * along
    # v·z less w: v·(c − c₀)/σ, and v·c₀ times what 1/σ is off by
    with np.errstate(all="ignore"):
        moved = np.abs(np.sum(v * near, axis=2)) + rows.now.along(v) + lost * (size + beside)
        on = moved / rows.sigma.lo[:, 0] + (np.abs(along) + lost * size) * line.over
        on = (on + lost * g * size) * (1.0 + lost) + _TINY
    on = np.where(np.isnan(on), np.inf, on)
    off = apply(
        FUNCTIONAL_OF_ROW,
        S=_at_most(_functionals(rows.apart, v)),
        rho=np.broadcast_to(line.over, w.shape),
        w=w,
        W=np.abs(w),
        Y=on,
        Q=line.depth.on(w.shape),
        V=line.along.on(w.shape),
        g=np.broadcast_to(g, w.shape),
    )
    straight, turned = g[:, None] * v, (w * g)[:, :, None] * line.u
    coefficients = straight - turned
    missed = lost * (np.abs(straight) + np.abs(turned)) + _TINY
    if centred:  # a mean, which coefficients whose sum is not quite 0 do not take away
        tilt = np.abs(np.sum(coefficients, axis=2)) + np.sum(missed, axis=2)
        missed = missed + (tilt / n)[:, :, None]
    return coefficients, off + given.weighed(missed * (1.0 + lost), 1)


def normalized_differences(
    rows: Rows,
    given: Radius,
    *,
    limit: Radius,
    centred: bool,
    mapped: DifferenceMap,
    charge: FloatArray,
    way: Way,
    departing: Departing | None = None,
) -> DifferenceMap:
    """Differences of normalised rows that are at most `limit` (rows, 1) long; `mapped` is what a
    Jacobian says of them, which costs about |c|·`charge`, and `way` where rows are meanwhile."""
    length = limit.moved(lambda v: v[:, 0])
    line = None if departing is None else _line_of(departing, given)

    def backward(c: FloatArray) -> Moved:
        w = rows.split(c)
        v = _less_mean(w) if centred else w
        norm = multiply_up(norms_up(v, axis=2), 1.0 + 4.0 * UNIT)
        ball = apply(ALONG_ROW, C=norm, e=length.on(norm.shape))
        on_rows = rows.split(_taken(mapped.backward(rows.merge(v)), c))
        open_ = dot_up(v, charge, 1)
        cost = add_up(open_, _TOGETHER * dot_up(on_rows, given.bound, 1))
        by_own, straight, rest = np.full(cost.shape, np.inf), np.zeros(v.shape), np.zeros(v.shape)
        some = np.any(open_ > _OPEN * np.minimum(cost, ball.bound), axis=1)
        if np.any(some):
            straight[some], rest[some] = own_slopes(way, v[some])
            moved = _TOGETHER * dot_up(straight[some], given.bound, 1)
            by_own[some] = add_up(dot_up(rest[some], given.bound, 1), moved)
        better = np.zeros(cost.shape, np.bool_)
        if line is not None:
            lined, off = _on_line(line, v, given, centred)
            sizes = [_functionals(line.rows.apart, x) for x in (on_rows, lined)]
            cost = np.minimum(cost, add_up(open_, sizes[0]))
            better = add_up(off.bound, sizes[1]) < np.fmin(np.minimum(cost, ball.bound), by_own)
        ours = (by_own < np.minimum(cost, ball.bound)) & ~better
        followed = (cost <= ball.bound) & ~better & ~ours
        # what w less its mean is rounded by is at most UNIT of it
        left = ball.times(np.where(followed | ours, 2.0 * UNIT, 1.0))
        left = left + given.weighed(_where(ours, rest), 1)
        straight = _where(ours, straight)
        if line is not None:
            other = off + ball.times(2.0 * UNIT)
            left = apply(FOLLOWED, m=better.astype(np.float64), r=left, q=other)
            straight = straight + _where(better, lined)
        pulled = mapped.backward(rows.merge(_where(followed, v)))
        through = _taken(pulled, c) + rows.merge(straight)
        return Moved((through,), carried_back((pulled.cost, left.summed(axis=1))))

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
