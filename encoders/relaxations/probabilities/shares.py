"""Functionals of probabilities p = softmax(s): each is a mean Σp·w of its own coefficients w.

Σp = 1, so that only how far the w of a row are apart counts, and no mean leaves their range. With R
half that range, m the middles of the scores' ranges, r their radii, and w' = w less its middle,
Σp·w is within R·Σq·r² of its tangent at m, for probabilities q somewhere between: half of the
second derivative along s − m is half the mean of (δ − E δ)²·(w − E w), of which no factor w − E w
exceeds 2·R. Differences Σp̂·w − Σp·w are covariances of w and what the scores are off by, so at most
R·e (lemma `mixture-moves`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from encoders.lemmas.kernel import Radius, apply, carried_back
from encoders.lemmas.rows import MIXTURE_MOVES
from encoders.numbers.enclosure import (
    UNIT,
    FloatArray,
    Interval,
    add_down,
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
from encoders.relaxations.probabilities.planes import (
    SharePlanes,
    Weighed,
    differences,
    differences_of,
    has_planes,
    share_planes,
)
from encoders.relaxations.probabilities.slopes import largest_means, own_slopes
from encoders.relaxations.rows import Rows
from encoders.relaxing import Contribution, DifferenceMap, Moved, ValueMap

Mask = npt.NDArray[np.bool_]
_TINY = 2.0**-1000
_TOGETHER = 0.5  # of what coefficients on scores cost, if these are off as they are by chance
_FAR = 0.1  # scores, from where on planes of their own may be better than tangents


@dataclass(frozen=True)
class Apart:
    """Coefficients of each functional and row (k, rows, 1): `middle` of those of scores that are
    kept, `least` and `most`, `reach` ≥ |w − middle|; and `rest` (k, rows, n), about w − middle, of
    their `own`."""

    middle: FloatArray
    least: FloatArray
    most: FloatArray
    reach: FloatArray
    rest: FloatArray
    own: FloatArray


def apart(w: FloatArray, kept: Mask) -> Apart:
    """Of coefficients (k, rows, n)."""
    least = np.min(np.where(kept, w, np.inf), axis=2, keepdims=True)
    most = np.max(np.where(kept, w, -np.inf), axis=2, keepdims=True)
    middle, reach = midpoint_radius(Interval(least, most))
    rest = np.where(kept, w - middle, 0.0)
    return Apart(middle, least, most, reach, rest, w)


def share_values(
    rows: Rows,
    kept: Mask,
    x: Interval,
    *,
    range_: Interval,
    at_middle: Interval,
    jacobian: ValueMap,
    charge: FloatArray,
    forms: Forms | None,
) -> ValueMap:
    """Probabilities of scores x (rows, n), `range_`, and `at_middle` of x: of each functional and
    row what is least of its range, its tangent and what the `jacobian` says, which costs about
    |c|·`charge`. `forms` are those of the scores' tensor. In no row are all scores left out of
    those `kept`."""
    middle, radius = midpoint_radius(x)
    p, half = midpoint_radius(at_middle)
    n = x.shape[1]
    squares = multiply_up(radius, radius)
    spent = sum_up(multiply_up(range_.hi, squares), axis=1)
    curved = np.minimum(spent, np.max(np.where(kept, squares, 0.0), axis=1, initial=0.0))
    off = add_up(sum_up(half, axis=1), gamma(n + 16))
    slopes = add_up(multiply_up(half, 2.0), multiply_up(at_middle.hi, off[:, None]))
    rounded = add_up(sum_up(multiply_up(slopes, radius), axis=1), off)
    planes = _planes(rows, x, kept, range_, at_middle, forms)
    above, below = curvatures(range_, np.where(kept, radius, 0.0))
    lost = multiply_up(rounded, 1.0 + 2.0**-20)[None]
    lost = np.where(np.isfinite(lost), lost, np.inf)
    tangents = np.where(np.isfinite(middle), p, 0.0)

    def backward(c: FloatArray) -> Contribution:
        w = apart(rows.split(c), kept)
        reach, low = w.reach[:, :, 0], w.middle[:, :, 0]
        by_jacobian = dot_up(w.rest, charge, 1)
        least = np.where(kept, add_up(w.rest, w.reach), 0.0)
        most = np.where(kept, add_up(w.reach, -w.rest), 0.0)
        bent = np.fmin(dot_up(least, above, 1), dot_up(most, below, 1))
        bent = np.fmin(bent, multiply_up(reach, curved[None]))
        by_tangent = add_up(bent, multiply_up(reach, lost))
        plain = by_jacobian <= np.minimum(by_tangent, reach)
        curve = ~plain & (by_tangent < reach)
        at = np.sum(w.rest * tangents, axis=2, keepdims=True)
        slope = np.where(curve[:, :, None], tangents * (w.rest - at), 0.0)
        # what w − middle is rounded by is at most UNIT of it
        along = add_up(low, multiply_up(reach, UNIT))
        tangent = add_up(add_up(low, at[:, :, 0]), inner_up(-slope, _finite(middle), 1))
        tangent = add_up(add_up(tangent, by_tangent), _TINY)
        constant = np.where(plain, along, np.where(curve, tangent, w.most[:, :, 0]))
        if planes is not None:
            spent = np.fmin(np.fmin(by_jacobian, by_tangent), reach)
            better, slopes, at_most = by_planes(planes, w, kept, spent)
            slope = np.where(better[:, :, None], slopes, slope)
            constant = np.where(better, at_most, constant)
            plain &= ~better
        pulled = jacobian.backward(rows.merge(np.where(plain[:, :, None], w.rest, 0.0)))
        total = add_up(pulled.constant, signed_sums_up(constant))
        (on_x,) = pulled.coefficients
        on_tangents = rows.merge(slope)
        if on_x is None:
            return Contribution((on_tangents,), total)
        # rows of the one are zero where those of the other are not
        return Contribution((on_x + on_tangents,), total)

    return ValueMap(jacobian.range, backward)


def _planes(
    rows: Rows,
    x: Interval,
    kept: Mask,
    range_: Interval,
    at_middle: Interval,
    forms: Forms | None,
) -> SharePlanes | None:
    """Planes of their own, where scores go far."""
    radius = np.where(kept, 0.5 * (x.hi - x.lo), 0.0)
    each_kept = np.broadcast_to(kept, x.shape)
    far = _FAR < np.max(radius, initial=0.0) < np.inf
    if not (far and has_planes(x, each_kept)):
        return None
    apart = differences(x)
    if forms is not None:
        joint = differences_of(rows, forms)
        apart = Interval(np.maximum(apart.lo, joint.lo), np.minimum(apart.hi, joint.hi))
    return share_planes(x, each_kept, range_, at_middle, apart)


def by_planes(
    planes: SharePlanes, w: Apart, kept: Mask, spent: FloatArray
) -> tuple[Mask, FloatArray, FloatArray]:
    """Where (k, rows) planes cost less than what is `spent` else, and what functionals are there:
    slopes (k, rows, n) on the scores, and constants (k, rows). Coefficients are told from the
    least, the largest, or the middle of them, whatever costs least."""
    none, over = np.zeros(w.own.shape), add_up(w.own, -w.middle)
    ways = [
        Weighed(w.least, np.where(kept, add_up(w.own, -w.least), 0.0), none),
        Weighed(w.most, none, np.where(kept, add_down(w.most, -w.own), 0.0)),
        Weighed(
            w.middle,
            np.where(kept, np.maximum(over, 0.0), 0.0),
            np.where(kept, np.maximum(-over, 0.0), 0.0),
        ),
    ]
    costs = np.stack([planes.cost(way) for way in ways])
    best = np.argmin(costs, axis=0)[:, :, None]
    chosen = Weighed(
        np.choose(best, [way.base for way in ways]),
        np.choose(best, [way.more for way in ways]),
        np.choose(best, [way.less for way in ways]),
    )
    return np.min(costs, axis=0) < spent, *planes.backward(chosen)


def curvatures(p: Interval, reach: FloatArray) -> tuple[FloatArray, FloatArray]:
    """How far probabilities in p (rows, n), of scores within `reach` of their middles, are above
    and below their tangents there: ½·p_j·((δ_j − Eδ)² − Var δ) somewhere between."""
    # δ_j − Eδ has 1 − p_j of δ_j, and what is missing of the mean of all
    own = multiply_up(np.maximum(add_up(1.0, -2.0 * p.lo), 0.0), reach)
    far = add_up(own, largest_means(p, reach))
    spread = largest_means(p, multiply_up(reach, reach))
    half = 0.5 * p.hi
    return multiply_up(half, multiply_up(far, far)), multiply_up(half, spread)


def _finite(x: FloatArray) -> FloatArray:
    return np.where(np.isfinite(x), x, 0.0)


def share_differences(
    rows: Rows,
    kept: Mask,
    given: Radius,
    mapped: DifferenceMap,
    charge: FloatArray,
    hull: Interval,
) -> DifferenceMap:
    """Differences of probabilities whose scores are off by `given` (rows, n), `mapped` by slopes,
    which costs about |c|·`charge`: of each functional and row the least of that, of slopes of its
    own while probabilities are in `hull`, and of a covariance's bound."""
    worst = given.worst(axis=1, where=kept)
    moved = rows.of_radius(mapped.radius)
    held = Interval(np.where(kept, hull.lo, 0.0), np.where(kept, hull.hi, 0.0))

    def backward(c: FloatArray) -> Moved:
        w = apart(rows.split(c), kept)
        reach = w.reach[:, :, 0]
        mixed = apply(MIXTURE_MOVES, e=worst.on(reach.shape), R=reach)
        by_slopes = dot_up(w.rest, charge, 1)
        straight, rest = own_slopes(held, w.rest, w.reach)
        by_own = dot_up(rest, given.bound, 1)
        plain = by_slopes <= mixed.bound
        whole = add_up(by_own, _TOGETHER * dot_up(straight, given.bound, 1))
        own = np.where(plain, by_own < by_slopes, whole < mixed.bound)
        plain &= ~own
        followed = np.where(plain[:, :, None], w.rest, 0.0)
        pulled = mapped.backward(rows.merge(followed))
        # what w − middle is rounded by is at most UNIT of it
        lost = moved.times(UNIT).weighed(np.where((plain | own)[:, :, None], w.rest, 0.0))
        left = mixed.times((~plain & ~own).astype(np.float64)).summed(axis=1)
        aside = given.weighed(np.where(own[:, :, None], rest, 0.0))
        (on_scores,) = pulled.coefficients
        ours = rows.merge(np.where(own[:, :, None], straight, 0.0))
        # rows of the one are zero where those of the other are not
        through = ours if on_scores is None else on_scores + ours
        return Moved((through,), carried_back((pulled.cost, lost, left, aside)))

    return DifferenceMap(mapped.radius, backward)
