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
    add_up,
    dot_up,
    gamma,
    inner_up,
    midpoint_radius,
    multiply_up,
    signed_sums_up,
    sum_up,
)
from encoders.relaxations.rows import Rows
from encoders.relaxing import Contribution, DifferenceMap, Moved, ValueMap

Mask = npt.NDArray[np.bool_]
_TINY = 2.0**-1000


@dataclass(frozen=True)
class _Apart:
    """Coefficients of each functional and row (k, rows, 1): `middle` of those of scores that are
    kept, `least` and `most`, `reach` ≥ |w − middle|; and `rest` (k, rows, n), about w − middle."""

    middle: FloatArray
    least: FloatArray
    most: FloatArray
    reach: FloatArray
    rest: FloatArray


def _apart(w: FloatArray, kept: Mask) -> _Apart:
    least = np.min(np.where(kept, w, np.inf), axis=2, keepdims=True)
    most = np.max(np.where(kept, w, -np.inf), axis=2, keepdims=True)
    middle, reach = midpoint_radius(Interval(least, most))
    return _Apart(middle, least, most, reach, np.where(kept, w - middle, 0.0))


def share_values(
    rows: Rows,
    kept: Mask,
    x: Interval,
    *,
    range_: Interval,
    at_middle: Interval,
    jacobian: ValueMap,
    charge: FloatArray,
) -> ValueMap:
    """Probabilities of scores x (rows, n), `range_`, and `at_middle` of x: of each functional and
    row what is least of its range, its tangent and what the `jacobian` says, which costs about
    |c|·`charge`. In no row are all scores left out of those `kept`."""
    middle, radius = midpoint_radius(x)
    p, half = midpoint_radius(at_middle)
    n = x.shape[1]
    squares = multiply_up(radius, radius)
    spent = sum_up(multiply_up(range_.hi, squares), axis=1)
    curved = np.minimum(spent, np.max(np.where(kept, squares, 0.0), axis=1, initial=0.0))
    off = add_up(sum_up(half, axis=1), gamma(n + 16))
    slopes = add_up(multiply_up(half, 2.0), multiply_up(at_middle.hi, off[:, None]))
    rounded = add_up(sum_up(multiply_up(slopes, radius), axis=1), off)
    bent = multiply_up(add_up(curved, rounded), 1.0 + 2.0**-20)[None]
    bent = np.where(np.isfinite(bent), bent, np.inf)
    tangents = np.where(np.isfinite(middle), p, 0.0)

    def backward(c: FloatArray) -> Contribution:
        w = _apart(rows.split(c), kept)
        reach, low = w.reach[:, :, 0], w.middle[:, :, 0]
        by_jacobian = dot_up(w.rest, charge, 1)
        by_tangent = multiply_up(reach, bent)
        plain = by_jacobian <= np.minimum(by_tangent, reach)
        curve = ~plain & (by_tangent < reach)
        pulled = jacobian.backward(rows.merge(np.where(plain[:, :, None], w.rest, 0.0)))
        at = np.sum(w.rest * tangents, axis=2, keepdims=True)
        slope = np.where(curve[:, :, None], tangents * (w.rest - at), 0.0)
        # what w − middle is rounded by is at most UNIT of it
        along = add_up(low, multiply_up(reach, UNIT))
        tangent = add_up(add_up(low, at[:, :, 0]), inner_up(-slope, _finite(middle), 1))
        tangent = add_up(add_up(tangent, by_tangent), _TINY)
        constant = np.where(plain, along, np.where(curve, tangent, w.most[:, :, 0]))
        total = add_up(pulled.constant, signed_sums_up(constant))
        (on_x,) = pulled.coefficients
        on_tangents = rows.merge(slope)
        if on_x is None:
            return Contribution((on_tangents,), total)
        # rows of the one are zero where those of the other are not
        return Contribution((on_x + on_tangents,), total)

    return ValueMap(jacobian.range, backward)


def _finite(x: FloatArray) -> FloatArray:
    return np.where(np.isfinite(x), x, 0.0)


def share_differences(
    rows: Rows, kept: Mask, given: Radius, mapped: DifferenceMap, charge: FloatArray
) -> DifferenceMap:
    """Differences of probabilities whose scores are off by `given` (rows, n), `mapped` by slopes,
    which costs about |c|·`charge`: of each functional and row the least of that and a covariance's
    bound."""
    worst = given.worst(axis=1, where=kept)
    moved = rows.of_radius(mapped.radius)

    def backward(c: FloatArray) -> Moved:
        w = _apart(rows.split(c), kept)
        reach = w.reach[:, :, 0]
        mixed = apply(MIXTURE_MOVES, e=worst.on(reach.shape), R=reach)
        plain = dot_up(w.rest, charge, 1) <= mixed.bound
        followed = np.where(plain[:, :, None], w.rest, 0.0)
        pulled = mapped.backward(rows.merge(followed))
        # what w − middle is rounded by is at most UNIT of it
        lost = moved.times(UNIT).weighed(followed)
        left = mixed.times((~plain).astype(np.float64)).summed(axis=1)
        return Moved(pulled.coefficients, carried_back((pulled.cost, lost, left)))

    return DifferenceMap(mapped.radius, backward)
