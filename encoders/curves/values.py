"""What formulas are at float64 numbers, enclosed: in balls, and where there are many numbers by
polynomials.

Numbers that share their first digits share a Taylor polynomial around a number c of few digits:
with w ≥ |x − c| and t = (x − c)/w, which is exact in float64,

    f(x) = Σ_{k<n} a_k·t^k + a_n(ξ)·t^n,   a_k = f^(k)(c)·w^k/k!,   ξ between c and x.

Series over balls enclose the a_k at c, and a_n over all of [c − w, c + w]. What the a_k lose when
they are rounded to float64 and |a_n| are charged as they are, and Horner's rule in float64 with
γ(2n + 2)·Σ_{0<k<n} |a_k| and the rounding of its last sum (Higham 2002, §5.1, where |t| ≤ 1).
"""

from __future__ import annotations

import flint
import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import Balls, ObjectArray, object_array
from encoders.arithmetic.series_field import SeriesField
from encoders.functions.accuracy import Transcendental
from encoders.functions.curve import Formula
from encoders.numbers.enclosure import UNIT, FloatArray, Interval, gamma

BALLS = Balls(bits=96)
MANY = 2**11
"""Numbers from which on polynomials are made."""

_SHARED = 6  # numbers for which a polynomial is made
_TERMS = 14  # of a polynomial
_DIGITS = (8, 11, 14)
"""Digits of the numbers that polynomials are around; more, where fewer lose too much."""
_LEAST, _MOST = 2.0**-900, 2.0**900
_UNDERFLOWS = 2.0**-1060  # more than those of all steps of a polynomial
_LOST = 2.0**-46  # of the size of a polynomial that is used at most
_TINY = 2.0**-90  # that it may lose whatever its size, as balls of so many bits do


def enclosed(formula: Formula, at: FloatArray) -> Interval:
    """Ends around a formula at each of these numbers; infinite ones where it has no value."""
    flat = np.ravel(np.asarray(at, np.float64))
    lo, hi = np.full(flat.shape, -np.inf), np.full(flat.shape, np.inf)
    left = np.ones(flat.shape, np.bool_)
    for digits in _DIGITS if flat.size >= MANY else ():
        there = np.flatnonzero(left)
        if there.size < MANY // 4:
            break
        with np.errstate(all="ignore"):
            served, low, high = _by_polynomials(formula, flat[there], digits)
        where = there[served]
        lo[where], hi[where], left[where] = low, high, False
    if np.any(left):
        distinct, place = np.unique(flat[left], return_inverse=True)
        with BALLS.working():
            found = np.broadcast_to(formula(BALLS, ball_array(distinct)), distinct.shape)
            lo[left], hi[left] = lower(found)[place], upper(found)[place]
    return Interval(lo.reshape(at.shape), hi.reshape(at.shape))


def _by_polynomials(
    formula: Formula, x: FloatArray, digits: int
) -> tuple[npt.NDArray[np.intp], FloatArray, FloatArray]:
    """Where polynomials around numbers of so many digits serve, and ends there."""
    size = np.abs(x)
    where = np.flatnonzero((size >= _LEAST) & (size <= _MOST))
    half = np.uint64(1 << (52 - digits))
    near = ((x[where].view(np.uint64) + half) & ~(2 * half - 1)).view(np.float64)
    centres, cell, counts = np.unique(near, return_inverse=True, return_counts=True)
    widths = np.ldexp(1.0, np.frexp(centres)[1] - 1 - digits)
    shared = np.flatnonzero(counts >= _SHARED)
    coefficients = np.zeros((_TERMS, centres.size))
    lost = np.full(centres.shape, np.inf)
    coefficients[:, shared], lost[shared] = _polynomials(formula, centres[shared], widths[shared])
    t = (x[where] - centres[cell]) / widths[cell]
    served = np.isfinite(lost)[cell] & (np.abs(t) <= 1.0)
    where, cell, t = where[served], cell[served], t[served]
    value = coefficients[-1][cell]
    for terms in coefficients[-2::-1]:
        value *= t
        value += terms[cell]
    radius = (2.0 * UNIT * np.abs(value) + lost[cell]) * (1.0 + 2.0**-40)
    return where, np.nextafter(value - radius, -np.inf), np.nextafter(value + radius, np.inf)


def _polynomials(
    formula: Formula, centres: FloatArray, widths: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Coefficients (terms, centres) around each centre, and all that they lose but the rounding of
    the last sum; infinite where that is much, and where the formula has no power series."""
    made, lost = np.zeros((_TERMS, centres.size)), np.full(centres.shape, np.inf)
    field = SeriesField(_TERMS + 1)
    pairs = list(zip(centres.tolist(), widths.tolist(), strict=True))
    try:
        with field.working():
            points = (field.around(flint.arb(c), w) for c, w in pairs)
            cells = (field.around(flint.arb(c, w), w) for c, w in pairs)
            at, over = (
                np.broadcast_to(formula(field, object_array(s, (len(pairs),))), len(pairs))
                for s in (points, cells)
            )
            for i, (point, whole) in enumerate(zip(at.tolist(), over.tolist(), strict=True)):
                point, whole = flint.arb_series(point), flint.arb_series(whole)
                made[:, i] = [float(point[k].mid()) for k in range(_TERMS)]
                rest = abs(whole[_TERMS])
                for k, near in enumerate(made[:, i].tolist()):
                    rest += abs(point[k] - near)
                lost[i] = _up_number(rest)
    except (Transcendental, ArithmeticError, TypeError, ValueError):
        return made, np.full(centres.shape, np.inf)
    moving = np.sum(np.abs(made[1:]), axis=0)
    lost = (lost + gamma(2 * _TERMS + 2) * moving + _UNDERFLOWS) * (1.0 + 2.0**-40)
    whole = moving + np.abs(made[0])
    used = (lost <= _LOST * whole + _TINY) & (whole <= _MOST)
    return made, np.where(used, lost, np.inf)


_ball = np.frompyfunc(flint.arb, 1, 1)


def ball_array(x: FloatArray) -> ObjectArray:
    """Exact balls (radius 0) of float64 numbers, in an object array of the same shape."""
    return np.asarray(_ball(x.astype(object)), dtype=object)


def _up_number(v: flint.arb) -> float:
    if not v.is_finite():
        return float("inf")
    top = v.upper()
    near = float(top)
    return near if top <= flint.arb(near) else float(np.nextafter(near, np.inf))


def _down_number(v: flint.arb) -> float:
    return -_up_number(-v)


_ups, _downs = np.frompyfunc(_up_number, 1, 1), np.frompyfunc(_down_number, 1, 1)


def upper(balls: ObjectArray) -> FloatArray:
    """Float64 numbers at least as large as every point of the balls."""
    return np.asarray(_ups(balls), np.float64)


def lower(balls: ObjectArray) -> FloatArray:
    """Float64 numbers that are at most the lower ends of the balls."""
    return np.asarray(_downs(balls), np.float64)
