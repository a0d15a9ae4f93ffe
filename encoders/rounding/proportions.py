"""A value with its relative precision: the numbers of `RelativeArithmetic`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, apply, exactly_zero, known_at
from encoders.lemmas.ways.relative import ABSORBED, OFF
from encoders.numbers.enclosure import BoolArray, FloatArray, Interval, add_up, multiply_up
from encoders.rounding.tracked import Tracked

_WORTH = 16.0  # times an absolute error, a precision is worth keeping for what is added to it


@dataclass(frozen=True)
class Proportion:
    """A real value and what is computed for it; arrays of one shape with a leading sample axis.

    `tracked` says where it lies and how far it is off. There is a number x′ that has the sign of
    the real value x, with |ln(x′/x)| ≤ `precision` (x′ = 0 where x = 0), and the computed value is
    within `lost` of x′. What is only known absolutely has precision 0, and all of its error is
    `lost`. `additions` counts the additions in a sum whose order is open, `leaves` are then the
    precisions of its worst term and `parts` what its terms lost in all.
    """

    tracked: Tracked
    precision: Radius
    lost: Radius
    leaves: Radius
    parts: Radius
    additions: int = 0

    @classmethod
    def of(cls, tracked: Tracked, precision: Radius, lost: Radius) -> Proportion:
        """A value that is no sum, or one whose order is known: relatively, as far as that is known
        at all."""
        if precision.largest < np.inf:
            return cls.alone(tracked, precision, lost)
        return cls._better(tracked, precision, lost)

    @classmethod
    def alone(cls, tracked: Tracked, precision: Radius, lost: Radius) -> Proportion:
        """The same, as it stands."""
        return cls(tracked, precision, lost, leaves=precision, parts=lost)

    @classmethod
    def _better(cls, tracked: Tracked, precision: Radius, lost: Radius) -> Proportion:
        """Whatever is less of what is known relatively and absolutely."""
        absolute = tracked.error
        if not np.any(absolute.bound):
            precision, lost = absolute, absolute
        elif absolute.largest < np.inf or not (precision.largest < np.inf):
            flows = _flows(tracked, precision, lost)
            known = cls.absolutely(tracked)
            precision = _either(flows, precision, known.precision)
            lost = _either(flows, lost, known.lost)
        return cls.alone(tracked, precision, lost)

    @classmethod
    def absolutely(cls, tracked: Tracked) -> Proportion:
        """A value of which no more is known than what it is off by: a precision, where real values
        are all of about one size."""
        nothing = exactly_zero(EXACT, tracked.shape)
        precision = absorbed(nothing, tracked.error, tracked.ideal)
        with np.errstate(invalid="ignore", over="ignore"):
            whole = multiply_up(precision.bound, tracked.ideal.magnitude)
            even = np.isfinite(precision.bound) & (whole <= _WORTH * tracked.error.bound)
        precision, lost = _either(even, precision, nothing), _either(even, nothing, tracked.error)
        return cls.alone(tracked, precision, lost)

    @property
    def ideal(self) -> Interval:
        """The real value."""
        return self.tracked.ideal

    @property
    def absorbed(self) -> Radius:
        """The precision of the computed value itself; infinite where that is not known."""
        return absorbed(self.precision, self.lost, self.ideal)

    @property
    def least(self) -> FloatArray:
        """At most what is computed for a value that is at least 0; −∞ of others."""
        with np.errstate(invalid="ignore"):
            g, low = self.precision.bound, self.ideal.lo
            kept = np.where(g < 1.0, low * (1.0 - g) * (1.0 - 2.0**-50), 0.0)
            kept = np.where(low < 2.0**-1000, 0.0, kept)
            least = -add_up(-kept, self.lost.bound)
        return np.where((low >= 0.0) & np.isfinite(g), least, -np.inf)

    @property
    def off(self) -> Radius:
        """How far the computed value is off, absolutely, by its precision and by its error."""
        size = self.ideal.magnitude
        by_precision = apply(OFF, g=self.precision, h=self.lost, size=size)
        return by_precision.and_also(self.tracked.error)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tracked.shape

    def beside(self, real: Interval, error: Radius) -> Proportion:
        """The same value, of which the range and the error are known besides; no sum any more."""
        both = Tracked(self.ideal.intersect(real), error, self.tracked.largest)
        return self._better(both, self.precision, self.lost)

    def or_else(self, other: Proportion) -> Proportion:
        """A value that is computed in the one way or in the other, it is not known in which."""
        tracked = Tracked(
            self.ideal.intersect(other.ideal),
            self.tracked.error.or_else(other.tracked.error),
            max(self.tracked.largest, other.tracked.largest),
        )
        precision = self.precision.or_else(other.precision)
        return self.alone(tracked, precision, self.lost.or_else(other.lost))

    def moved(self, f: Callable[[FloatArray], FloatArray]) -> Proportion:
        return Proportion(
            self.tracked.moved(f),
            self.precision.moved(f),
            self.lost.moved(f),
            self.leaves.moved(f),
            self.parts.moved(f),
            self.additions,
        )

    def joined(self, others: Sequence[Proportion], axis: int) -> Proportion:
        """Of several sums in one array, the longest counts for each."""
        return Proportion(
            self.tracked.joined([o.tracked for o in others], axis),
            self.precision.joined([o.precision for o in others], axis),
            self.lost.joined([o.lost for o in others], axis),
            self.leaves.joined([o.leaves for o in others], axis),
            self.parts.joined([o.parts for o in others], axis),
            max(value.additions for value in (self, *others)),
        )


def absorbed(precision: Radius, lost: Radius, real: Interval) -> Radius:
    """The precision of what is off by `lost` from numbers of a precision, of real values in a
    range."""
    return apply(ABSORBED, g=precision, h=lost, low=least_magnitude(real))


def least_magnitude(x: Interval) -> FloatArray:
    """At most the magnitude of every number of a range: 0 where it holds 0."""
    return np.maximum(np.maximum(x.lo, -x.hi), 0.0)


def _flows(tracked: Tracked, precision: Radius, lost: Radius) -> BoolArray:
    """Where it is better to know a precision than an absolute error: where that is the better
    precision in the end or, where neither is any, not much more of an error on large values."""
    known = absorbed(precision, lost, tracked.ideal).bound
    other = absorbed(exactly_zero(EXACT, tracked.shape), tracked.error, tracked.ideal).bound
    with np.errstate(invalid="ignore", over="ignore"):
        size = tracked.ideal.magnitude
        whole = add_up(multiply_up(precision.bound, size), lost.bound)
        worth = np.isfinite(precision.bound) & (whole <= _WORTH * tracked.error.bound)
    return np.where(np.isfinite(known) | np.isfinite(other), known <= other, worth)


def _either(first: BoolArray, one: Radius, other: Radius) -> Radius:
    """One radius where `first` holds, and the other elsewhere."""
    if first.all():
        return one
    if not first.any():
        return other
    places, rest = np.flatnonzero(first), np.flatnonzero(~first)
    shape = first.shape
    return known_at(
        shape, [(places, one.on(shape).taken(places)), (rest, other.on(shape).taken(rest))]
    )
