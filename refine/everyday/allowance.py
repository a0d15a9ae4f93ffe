"""By how much a run may differ from what it is compared with, per element, as tests ask it.

Tests accept |a − b| ≤ atol + rtol·|b|. Where every allowed a lies within B of b, the least atol
that accepts all of them is max(0, B − rtol·inf|b|).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from encoders.numbers.enclosure import UNIT, FloatArray, Interval, add_up, multiply_up
from refine.common.rounding import float_down

_DIGITS = 3
_OF_TESTS = 8 * UNIT  # of |b|: what float64 loses in b itself, in a − b and in atol + rtol·|b|


@dataclass(frozen=True)
class Allowance:
    """Of every element of `output`: |a − b| ≤ `bound`, b within `real` where it is the real value,
    and |a − b| ≤ `atol` + rtol·|b| as float64 computes that; `least` is at most |b|."""

    output: str
    bound: FloatArray
    real: Interval
    least: FloatArray
    atol: FloatArray

    @property
    def largest(self) -> float:
        """The atol that does for every element; 0 where there is none."""
        return float(np.max(self.atol, initial=0.0))

    @property
    def place(self) -> tuple[int, ...]:
        """The element that needs it."""
        at = int(np.argmax(self.atol)) if self.atol.size else 0
        return tuple(int(i) for i in np.unravel_index(at, self.atol.shape))


def allowance(
    output: str,
    bound: FloatArray,
    real: Interval,
    reference: FloatArray | None,
    rtol: Fraction,
    pair: Pair | None = None,
) -> Allowance:
    """`bound` is of |a − f_R|, and `reference` of |b − f_R| where b is another run; without it b is
    the real value. What else is known of |a − f_R| says a `pair`."""
    nearest = np.maximum(np.maximum(real.lo, -real.hi), 0.0)
    farthest = real.magnitude
    if reference is not None:
        bound = add_up(bound, reference)
        nearest = np.maximum(-add_up(-nearest, reference), 0.0)
        farthest = add_up(farthest, reference)
    nearest = np.where(np.isfinite(nearest), nearest, 0.0)
    whole = add_up(bound, multiply_up(np.full((), _OF_TESTS), farthest))
    relative = multiply_up(np.full((), -float_down(rtol)), nearest)
    with np.errstate(invalid="ignore"):
        needed = np.maximum(add_up(whole, relative), 0.0)
        if pair is not None and reference is None:
            beyond = np.maximum(add_up(pair.needs, -float_down(rtol)), 0.0)
            beyond = np.where(beyond > 0.0, multiply_up(beyond, farthest), 0.0)
            needed = np.fmin(needed, add_up(pair.absolute, beyond))
    atol = rounded_up(np.where(np.isnan(needed), np.inf, needed))
    return Allowance(output, bound, real, nearest, atol)


@dataclass(frozen=True)
class Pair:
    """Of every element of an output: |a − f_R| ≤ `relative`·|f_R| + `absolute`."""

    relative: FloatArray
    absolute: FloatArray

    @property
    def needs(self) -> FloatArray:
        """The rtol of a test with `absolute` for its atol, with what the test itself loses."""
        return add_up(self.relative, _OF_TESTS)

    def or_else(self, other: Pair) -> Pair:
        """In the one part of a domain or in the other."""
        return Pair(
            np.maximum(self.relative, other.relative), np.maximum(self.absolute, other.absolute)
        )


def rounded_up(values: FloatArray) -> FloatArray:
    """Numbers of three digits that are not below these."""
    distinct, where = np.unique(values, return_inverse=True)
    raised = np.array([_three_digits(v) for v in distinct.tolist()], np.float64)
    return raised[where].reshape(values.shape)


def _three_digits(value: float) -> float:
    if value == 0.0 or not np.isfinite(value):
        return value
    mantissa, _, exponent = f"{value:.{_DIGITS - 1}e}".partition("e")
    near = float(f"{mantissa}e{exponent}")
    if near >= value:
        return near
    shift = 10 ** (_DIGITS - 1)
    steps = round(float(mantissa) * shift) + 1
    return float(f"{steps}e{int(exponent) - _DIGITS + 1}")
