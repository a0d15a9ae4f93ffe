"""Elementary functions of a value that rounding has moved: what their results may be off by."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np

from encoders.curves.curves import range_of, slope_range
from encoders.functions.accuracy import FunctionAccuracy
from encoders.functions.function import Function
from encoders.functions.log import LOG
from encoders.lemmas.combining import EXACT
from encoders.lemmas.domains import DEFINED_ABOVE_ZERO, DEFINED_WHERE_FINITE, DEFINED_WITHIN
from encoders.lemmas.functions import BOUNDED_SLOPE
from encoders.lemmas.kernel import Radius, apply, exactly_zero, least_of
from encoders.lemmas.ranges.range import Range
from encoders.numbers.enclosure import Interval, add_up
from encoders.rounding.rounding_bounds import Rounder
from encoders.rounding.signs import as_read
from encoders.rounding.tracked import Tracked


def applied(
    f: Function, a: Tracked, change: Radius, r: Rounder, accuracy: FunctionAccuracy
) -> Tracked:
    """f of a value that the runtime holds at most `change` away from its ideal.

    The mean value theorem moves the error through f; its accuracy is charged at the largest result
    on computed arguments. Outside the domain of f, and on unbounded arguments, nothing is known.
    """
    curve = f.shape
    ideal, reached = range_of(curve, a.ideal), a.ideal
    moved, on_computed = exactly_zero(EXACT, change.shape), ideal
    if np.any(change.bound):
        read = as_read(a.computed, r)
        reached = Interval(np.minimum(a.ideal.lo, read.lo), np.maximum(a.ideal.hi, read.hi))
        on_computed, near = range_of(curve, reached), _moving(a, change, reached, r)
        moved = moved_along(change, slope_range(curve, near), range_of(curve, near))
    error = moved + _where_defined(f, function_error(r, accuracy, on_computed), reached, r)
    magnitude = add_up(ideal.magnitude, error.bound)
    largest = float(np.max(magnitude, initial=a.largest))
    return Tracked(ideal, error, np.inf if np.isnan(largest) else largest)


def _moving(a: Tracked, change: Radius, reached: Interval, r: Rounder) -> Interval:
    """Where arguments are that differ from their ideal values as they are read: near 0, if only
    subnormal ones do, because these may be read as 0."""
    flushed = (a.error.bound == 0.0) & (change.bound > 0.0)
    least = float(r.smallest_normal)
    return Interval(
        np.where(flushed, np.maximum(reached.lo, -least), reached.lo),
        np.where(flushed, np.minimum(reached.hi, least), reached.hi),
    )


def _where_defined(f: Function, error: Radius, x: Interval, r: Rounder) -> Radius:
    """The error on arguments in a range, where the function has a value on all of it."""
    if r.exact:
        return error
    limit = sys.float_info.max
    error = apply(DEFINED_WHERE_FINITE, e=error, M=x.magnitude, limit=limit)
    if f.domain is not None:
        least, most = f.domain
        error = apply(DEFINED_WITHIN, e=error, lo=x.lo, hi=x.hi, least=least, most=most)
    return apply(DEFINED_ABOVE_ZERO, e=error, lo=x.lo) if f is LOG else error


def moved_along(change: Radius, slopes: Range, range_: Range) -> Radius:
    """|f(x̂) − f(x)| for x and x̂ at most `change` apart, f having these slopes between them, and
    its values in this range."""
    return apply(BOUNDED_SLOPE, e=change, S=slopes, F=range_)


def function_error(r: Rounder, accuracy: FunctionAccuracy, y: Interval) -> Radius:
    """|computed − y| for results y = f(x̂) in a range, flushing included."""
    if r.exact:
        return exactly_zero(EXACT, y.shape)
    magnitude = y.magnitude
    r = replace(r, flush_results=r.flush_results or accuracy.flushes)
    found: list[Radius] = []
    if accuracy.ulps is not None:
        rounded = accuracy.is_rounding
        found += [r.of_product(magnitude)] if rounded else []
        if not rounded or r.flush_results:
            found.append(r.of_ulps(accuracy.ulps, magnitude, y))
    if accuracy.units is not None:
        found.append(r.of_units(accuracy.units, magnitude, y))
    return least_of(found)
