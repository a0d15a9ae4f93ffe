"""Elementary functions of a value that rounding has moved: what their results may be off by."""

from __future__ import annotations

import numpy as np

from encoders.curves.curves import moved_by, range_of, slopes_of
from encoders.functions.accuracy import Evidence, FunctionAccuracy
from encoders.functions.function import Function
from encoders.functions.log import LOG
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, exactly_zero, unchecked
from encoders.numbers.enclosure import FloatArray, Interval, add_up, multiply_up
from encoders.rounding.rounding_bounds import Rounder
from encoders.rounding.tracked import Tracked

FUNCTION_ERROR = "function-error"


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
        reached = a.ideal.inflate(change.bound)
        slopes = slopes_of(curve, reached)
        moved = unchecked(moved_by(curve, reached, change.bound, slopes), FUNCTION_ERROR)
        on_computed = range_of(curve, reached)
    known = np.isfinite(reached.lo) & np.isfinite(reached.hi)
    if f is LOG:
        known &= reached.lo > 0
    fresh = np.where(known, function_error(r, accuracy, on_computed), np.inf)
    error = moved + unchecked(fresh, FUNCTION_ERROR)
    magnitude = add_up(ideal.magnitude, error.bound)
    largest = float(np.max(magnitude, initial=a.largest))
    return Tracked(ideal, error, np.inf if np.isnan(largest) else largest)


def function_error(r: Rounder, accuracy: FunctionAccuracy, y: Interval) -> FloatArray:
    """|computed − y| for results y = f(x̂) in a range, flushing included."""
    magnitude = y.magnitude
    if r.exact:
        return np.zeros_like(magnitude)
    bound = np.full_like(magnitude, np.inf)
    if accuracy.ulps is not None:
        bound = multiply_up(r.spacing(magnitude), accuracy.ulps)
        if accuracy.evidence is Evidence.DEFINITION and accuracy.ulps == 0.5:
            bound = np.minimum(bound, r.of_product(magnitude).bound)
    if accuracy.units is not None:
        bound = np.minimum(bound, accuracy.units * r.unit)
    if r.flush_results or accuracy.flushes:
        # a computed result below the smallest normal number, itself off by the bound, becomes 0
        tiny = r.smallest_normal
        reached = y.inflate(bound)
        lost = (reached.lo < tiny) & (reached.hi > -tiny)
        bound = add_up(bound, np.where(lost, tiny, 0.0))
    return np.where(np.isfinite(magnitude), bound, np.inf)
