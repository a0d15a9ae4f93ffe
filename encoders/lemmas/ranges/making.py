"""Ranges of inputs, of what two ranges share, of what functionals carried back say."""

from __future__ import annotations

from collections.abc import Mapping

from encoders.lemmas.kernel import Radius, enclosed
from encoders.lemmas.ranges.functions import HULL_RANGE, STATED_RANGE
from encoders.lemmas.ranges.placing import range_of
from encoders.lemmas.ranges.range import Range
from encoders.lemmas.ranges.reals import BOTH_RANGES, GIVEN_RANGE, PULLED_RANGE
from encoders.numbers.enclosure import FloatArray, Interval


def given_ranges(values: Mapping[str, Interval]) -> dict[str, Range]:
    """Where a domain, or a part of it, says that inputs lie."""
    return {t: range_of(x, GIVEN_RANGE) for t, x in values.items()}


def both_ranges(x: Range, other: Interval) -> Range:
    """Of what lies in both."""
    return enclosed(BOTH_RANGES, X=x, Y=range_of(other))


def hull_of(x: Interval, e: Radius) -> Range:
    """Of real numbers in these ranges, of the run-time numbers that are at most `e` from them, and
    of all between both; where more is known of the run-time numbers, within that."""
    hull = enclosed(HULL_RANGE, X=range_of(x), e=e)
    if type(x) in (Interval, Range):
        return hull
    return both_ranges(hull, x.inflate(e.bound))


def kept_range(x: Range, kept: Interval) -> Range:
    """Of what an operator is said to keep to, whatever it computes of."""
    return both_ranges(x, enclosed(STATED_RANGE, X=x, a=kept.lo, b=kept.hi))


def pulled_range(x: Range, lo: FloatArray, hi: FloatArray) -> Range:
    """Of elements in x that functionals carried back say to be in [lo, hi], in any shape of as many
    elements."""
    return enclosed(PULLED_RANGE, X=x, U=hi.reshape(x.shape), V=-lo.reshape(x.shape))
