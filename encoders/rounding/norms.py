"""Roots of sums of squares: how far a norm is off that moves with its coordinates and is rounded.

Absolutely, a square says little of a root near 0: √ε for ε. A norm is 1-Lipschitz, and its
roundings are relative, so that what matters is how far coordinates are off, wherever they are.
"""

from __future__ import annotations

import numpy as np

from encoders.lemmas.kernel import Radius, apply
from encoders.lemmas.normalizing import OVER_SIGMA, ROOTS_APART
from encoders.lemmas.rows import NORM, ROOT_OF_SQUARES
from encoders.numbers.enclosure import FloatArray, add_down
from encoders.rounding.rounding_bounds import Rounder, below_normal


def norm_moved(given: Radius) -> Radius:
    """What norms move by, (rows, 1), whose coordinates move by `given` (rows, n)."""
    squares = given.times(given.bound).summed(axis=1)
    root = np.sqrt(squares.bound) * (1.0 + 2.0**-50)
    root = np.where(root > 0.0, np.maximum(root, 2.0**-510), root)
    return apply(NORM, q=squares, R=root).moved(lambda v: v[:, None])


def relative_sum(r: Rounder, times: int) -> float:
    """What a sum is off by, relative to the sum of its magnitudes, whose terms are rounded `times`
    times; +∞ where that is half of it or more."""
    steps = times * r.unit
    return steps / (1.0 - steps) * (1.0 + 2.0**-50) if steps < 0.5 else float(np.inf)


def lost_of_sum(r: Rounder, times: int, *, operations: int | None = None) -> float:
    """What underflows and flushed numbers cost such a sum beside: τ of `root_of_squares`."""
    return 2.0 * times * _lost(r, operations) * (1.0 + relative_sum(r, times))


def root_of_squares(
    r: Rounder, times: int, norm: FloatArray, *, operations: int | None = None
) -> Radius:
    """What the root of a computed sum of squares is off by, before it is rounded itself: the sum is
    off by the relative B = ku/(1 − ku), k = `times`, which costs B/(2 − B) in its root, and by
    underflows τ, which cost √τ (lemma `root-of-squares`). `norm` is the most that it is.

    With `operations` there are so many of them, which may lose what is below the normal numbers.
    """
    return _root_of(r, times, norm, np.asarray(_lost(r, operations)))


def relative_root(r: Rounder, times: int, low: FloatArray) -> Radius:
    """What the root of a computed sum of squares is off by, relative to the root, which is at least
    `low`: `root_of_squares` of the squares over its own."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        tiny = _lost(r, None) / (low * low) * (1.0 + 2.0**-48)
    return _root_of(r, times, 1.0, np.where(low * low > 0.0, tiny, np.inf))


def _root_of(r: Rounder, times: int, norm: FloatArray | float, tiny: FloatArray) -> Radius:
    """By `root-of-squares`, where an operation may lose `tiny` below the normal numbers."""
    relative = relative_sum(r, times)
    with np.errstate(over="ignore"):
        tau = 2.0 * times * tiny * (1.0 + relative)
    return apply(
        ROOT_OF_SQUARES,
        k=float(times),
        u=r.unit,
        B=relative,
        C=relative / (2.0 - min(relative, 1.0)) * (1.0 + 2.0**-49),
        tiny=tiny,
        T=np.maximum(np.sqrt(tau) * (1.0 + 2.0**-49), 2.0**-510),
        N=norm,
    )


def _lost(r: Rounder, operations: int | None) -> float:
    """What an operation loses below the normal numbers, or so many of them."""
    return r.lost if operations is None else float(operations) * (r.lost + 2.0 * r.smallest_normal)


def root_off(variance: Radius, low: FloatArray) -> Radius:
    """Of √x for x ≥ `low`, off by `variance`; infinite where x̂ may be 0."""
    with np.errstate(invalid="ignore"):
        room = add_down(low, -variance.bound) - 2.0**-49 * np.abs(low)
        least = np.sqrt(np.maximum(room, 0.0)) * (1.0 - 2.0**-50)
    return apply(ROOTS_APART, e=variance, low=low, rho=least)


def underflown(r: Rounder, low: FloatArray) -> Radius:
    """What a root of at least `low` loses by underflow, relative to it."""
    return apply(OVER_SIGMA, e=below_normal(r.underflow + r.flushed), low=low)
