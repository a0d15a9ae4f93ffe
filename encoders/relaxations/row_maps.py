"""Functions of whole rows, through their Jacobians: the mean value theorem in many variables.

f(x̂) − f(x) = J·d with each row of J taken somewhere between x and x̂, so inside an enclosure of
the Jacobian over a convex set that holds both. The midpoint of the enclosure is the linear part,
the rest a remainder; where a direct bound is better the element keeps that one and no linear part.
Entries of long rows are too many to be stored: their enclosures have a structure
(encoders/relaxations/low_rank.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from encoders.lemmas.carrying import FOLLOWED, UNDERFLOWN
from encoders.lemmas.kernel import Radius, apply
from encoders.lemmas.ranges.range import Range
from encoders.lemmas.rows import MEAN_VALUE
from encoders.numbers.enclosure import (
    SMALLEST,
    FloatArray,
    Interval,
    add_up,
    dot_up,
    gamma,
    inner_up,
    midpoint_radius,
    multiply_up,
    sum_up,
)
from encoders.operator import Contribution, DifferenceCarry, DifferenceMap, ValueMap
from encoders.relaxations.low_rank import LowRank
from encoders.relaxations.rows import Rows

Jacobian: TypeAlias = Interval | LowRank  # (rows, outputs, inputs); the latter has n of both


@dataclass(frozen=True)
class _Linear:
    """`middle` (rows, outputs, inputs) with entries off by at most `spread`."""

    middle: FloatArray
    spread: FloatArray

    def without(self, rows: npt.NDArray[np.bool_]) -> _Linear:
        """No linear part where `rows` (rows, outputs) is true."""
        return _Linear(np.where(rows[:, :, None], 0.0, self.middle), self.spread)

    @property
    def terms(self) -> int:
        """Roundings in an element of M·x or of Mᵀc."""
        return int(self.middle.shape[1]) + 2

    def pulled(self, c: FloatArray) -> FloatArray:
        """Mᵀc for functionals c (k, rows, outputs)."""
        return np.asarray(np.matmul(c.transpose(1, 0, 2), self.middle).transpose(1, 0, 2))

    def times(self, x: FloatArray) -> FloatArray:
        """M·x for x (rows, inputs)."""
        return np.asarray(np.einsum("rij,rj->ri", self.middle, x))

    def reach(self, magnitude: FloatArray) -> FloatArray:
        """Σ_j |middle_ij|·magnitude_j."""
        return sum_up(multiply_up(np.abs(self.middle), magnitude[:, None, :]), axis=2)

    def charge(self, magnitude: FloatArray) -> FloatArray:
        """What float64 rounding of `adjoint` may cost per unit of |c|."""
        return multiply_up(self.reach(magnitude), gamma(self.terms))

    def remainder(self, radius: FloatArray) -> FloatArray:
        return sum_up(multiply_up(self.spread, radius[:, None, :]), axis=2)

    def underflow(self, magnitude: FloatArray) -> float:
        largest = float(np.max(magnitude, initial=0.0))
        return largest * SMALLEST * 4.0 * self.middle.size


def _linear(jacobian: Jacobian) -> _Linear | LowRank:
    if isinstance(jacobian, LowRank):
        return jacobian
    known = np.isfinite(jacobian.lo) & np.isfinite(jacobian.hi)
    safe = Interval(np.where(known, jacobian.lo, 0.0), np.where(known, jacobian.hi, 0.0))
    middle, spread = midpoint_radius(safe)
    return _Linear(middle, np.where(known, spread, np.inf))


@dataclass(frozen=True)
class _Slopes:
    """What the slopes of rows make of magnitudes (rows, inputs)."""

    jacobian: Jacobian

    def magnitude_up(self, values: FloatArray) -> FloatArray:
        """Σ_j max |J_ij|·values_j, (rows, outputs); infinite where nothing is known."""
        if isinstance(self.jacobian, LowRank):
            total = self.jacobian.steepest(values)
            return np.where(np.isnan(total), np.inf, total)
        each = multiply_up(self.jacobian.magnitude, values[:, None, :])
        return sum_up(np.where(np.isnan(each), np.inf, each), axis=2)


@dataclass(frozen=True)
class _Remainder:
    """What the slopes of rows that are not taken for coefficients make of magnitudes."""

    linear: _Linear | LowRank

    def magnitude_up(self, values: FloatArray) -> FloatArray:
        return self.linear.remainder(values)


@dataclass(frozen=True)
class _Charge:
    """By how much coefficients that float64 computes may be off, as a map of magnitudes."""

    linear: _Linear | LowRank

    def magnitude_up(self, values: FloatArray) -> FloatArray:
        return self.linear.charge(values)


def row_differences(
    inside: Rows, outside: Rows, jacobian: Jacobian, given: Radius, limit: Radius
) -> DifferenceMap:
    """Differences of rows: `jacobian` (rows, outputs, inputs) over the hull of real and run-time
    range, |d| ≤ `given` (rows, inputs), and a direct bound `limit` (rows, outputs)."""
    error = given.bound
    moved = apply(MEAN_VALUE, s=given.carried(_Slopes(jacobian)), limit=limit)
    radius = moved.bound
    linear = _linear(jacobian)
    near = given.carried(_Remainder(linear))
    flat = ~(near.bound < radius)
    linear = linear.without(flat)
    near = near + given.carried(_Charge(linear))
    around = apply(FOLLOWED, m=(~flat).astype(np.float64), r=moved, q=near)
    tiny = linear.underflow(error)
    least = apply(UNDERFLOWN, U=tiny) if tiny else None
    carry = DifferenceCarry(
        lambda c: (inside.merge(linear.pulled(outside.split(c))),), outside.to_radius(around), least
    )
    return DifferenceMap(outside.to_radius(moved), carry)


def row_charge(jacobian: Jacobian, magnitude: FloatArray) -> FloatArray:
    """About what a functional's element costs, (rows, outputs), of rows that vary, or are off, by
    so much: what is left beside the linear part."""
    return _linear(jacobian).remainder(magnitude)


def row_values(
    inside: Rows,
    outside: Rows,
    x: Interval,
    *,
    range_: Range,
    at_middle: Interval,
    jacobian: Jacobian,
) -> ValueMap:
    """Real values of rows: `range_` and the values `at_middle` of the ranges x, (rows, outputs)."""
    middle, radius = midpoint_radius(x)
    linear = _linear(jacobian)
    rest = linear.remainder(radius)
    centre, spread = midpoint_radius(range_)
    flat = ~(rest < spread)
    linear = linear.without(flat)
    value, value_radius = midpoint_radius(at_middle)
    value = np.where(np.isfinite(value), value, 0.0)
    start = value - linear.times(middle)
    summed = add_up(np.abs(value), linear.reach(np.abs(middle)))
    slack = add_up(multiply_up(summed, gamma(linear.terms + 2)), value_radius)
    charge = add_up(add_up(rest, slack), linear.charge(x.magnitude))
    bias = np.where(flat, centre, start)
    charge = np.where(flat, spread, charge)
    known = np.isfinite(bias) & np.isfinite(charge)
    full_bias = outside.merge(np.where(known, bias, 0.0)[None])[0]
    full_charge = outside.merge(np.where(known, charge, np.inf)[None])[0]
    tiny = add_up(linear.underflow(x.magnitude), SMALLEST * 8.0 * middle.shape[1])

    def backward(c: FloatArray) -> Contribution:
        constant = add_up(inner_up(c, full_bias), dot_up(c, full_charge))
        reach = add_up(constant, multiply_up(tiny, np.sum(np.abs(c).reshape(len(c), -1), axis=1)))
        pulled = inside.merge(linear.pulled(outside.split(c)))
        return Contribution((pulled,), add_up(reach, tiny))

    return ValueMap(outside.to_range(range_), backward)
