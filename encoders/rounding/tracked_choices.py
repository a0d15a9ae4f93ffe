"""Steps, comparisons and choices on `Tracked` values: operations that jump.

Where the computed argument may lie on the other side of a jump than the ideal one, the whole jump
is charged as an error. `moved` is how far an operand may be from its ideal value as it is read.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from encoders.arithmetic.runtime import Relation
from encoders.numbers.enclosure import FloatArray, Interval, add_up
from encoders.rounding.tracked import Tracked, largest_of


def negated(a: Tracked) -> Tracked:
    return Tracked(Interval(-a.ideal.hi, -a.ideal.lo), a.error, a.largest)


def absolute(a: Tracked) -> Tracked:
    low = np.maximum(np.maximum(a.ideal.lo, -a.ideal.hi), 0.0)
    return Tracked(Interval(low, a.ideal.magnitude), a.error, a.largest)


def stepped(a: Tracked, moved: FloatArray, whole: Callable[[FloatArray], FloatArray]) -> Tracked:
    """A monotone step function: no error where computed and ideal argument are the same."""
    reach = a.ideal.inflate(moved)
    jump = np.where(moved == 0, 0.0, whole(reach.hi) - whole(reach.lo))
    return Tracked(a.ideal.move(whole), jump, max(a.largest, largest_of(reach.magnitude + 1)))


def decided(
    relation: Relation, x: Interval, y: Interval
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.bool_]], ...]:
    """Where x stands in this relation to y whatever they are in their ranges, and where never."""
    match relation:
        case Relation.LESS:
            return x.hi < y.lo, x.lo >= y.hi
        case Relation.AT_MOST:
            return x.hi <= y.lo, x.lo > y.hi
        case Relation.EQUAL:
            same = (x.lo == x.hi) & (x.hi == y.lo) & (y.lo == y.hi)
            return same, (x.hi < y.lo) | (y.hi < x.lo)


def compared(
    relation: Relation, a: Tracked, b: Tracked, moved: tuple[FloatArray, FloatArray]
) -> Tracked:
    holds, fails = decided(relation, a.ideal.inflate(moved[0]), b.ideal.inflate(moved[1]))
    ideal = Interval(holds.astype(np.float64), 1.0 - fails.astype(np.float64))
    same = (moved[0] == 0) & (moved[1] == 0)
    error = np.where(same | holds | fails, 0.0, 1.0)
    return Tracked(ideal, error, max(a.largest, b.largest))


def selected(condition: Tracked, a: Tracked, b: Tracked) -> Tracked:
    """a or b; where the choice may differ from the ideal one, their distance counts."""
    yes = (condition.ideal.lo > 0) | (condition.ideal.hi < 0)
    no = (condition.ideal.lo == 0) & (condition.ideal.hi == 0)
    lo = np.where(yes, a.ideal.lo, np.where(no, b.ideal.lo, np.minimum(a.ideal.lo, b.ideal.lo)))
    hi = np.where(yes, a.ideal.hi, np.where(no, b.ideal.hi, np.maximum(a.ideal.hi, b.ideal.hi)))
    error = np.where(yes, a.error, np.where(no, b.error, np.maximum(a.error, b.error)))
    apart = np.maximum(add_up(a.ideal.hi, -b.ideal.lo), add_up(b.ideal.hi, -a.ideal.lo))
    flipped = add_up(np.maximum(a.error, b.error), np.maximum(apart, 0.0))
    error = np.where(condition.error == 0, error, flipped)
    return Tracked(Interval(lo, hi), error, max(condition.largest, a.largest, b.largest))
