"""Steps, comparisons and choices on `Tracked` values: operations that jump.

Where the computed argument may lie on the other side of a jump than the ideal one, the whole jump
is charged as an error. `moved` is how far an operand may be from its ideal value as it is read.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from encoders.arithmetic.runtime import Relation
from encoders.lemmas.kernel import Radius, apply
from encoders.lemmas.operations import JUMP, SELECTED
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.rounding.tracked import Tracked, largest_of


def negated(a: Tracked) -> Tracked:
    """−a, exact."""
    return Tracked(Interval(-a.ideal.hi, -a.ideal.lo), a.error, a.largest)


def absolute(a: Tracked) -> Tracked:
    """|a|, exact, with a's error."""
    low = np.maximum(np.maximum(a.ideal.lo, -a.ideal.hi), 0.0)
    return Tracked(Interval(low, a.ideal.magnitude), a.error, a.largest)


def stepped(a: Tracked, moved: Radius, whole: Callable[[FloatArray], FloatArray]) -> Tracked:
    """A monotone step function: no error where computed and ideal argument are the same."""
    reach = a.ideal.inflate(moved.bound)
    jump = apply(JUMP, lo=whole(reach.lo), hi=whole(reach.hi), e=moved)
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


def compared(relation: Relation, a: Tracked, b: Tracked, moved: tuple[Radius, Radius]) -> Tracked:
    """1 where the relation holds, 0 where it fails; anything between where operands moved by
    `moved` decide it either way, with an error of 1."""
    holds, fails = decided(
        relation, a.ideal.inflate(moved[0].bound), b.ideal.inflate(moved[1].bound)
    )
    ideal = Interval(holds.astype(np.float64), 1.0 - fails.astype(np.float64))
    error = apply(JUMP, lo=ideal.lo, hi=ideal.hi, e=moved[0] + moved[1])
    return Tracked(ideal, error, max(a.largest, b.largest))


def selected(condition: Tracked, a: Tracked, b: Tracked) -> Tracked:
    """a or b; where the choice may differ from the ideal one, their distance counts."""
    yes = (condition.ideal.lo > 0) | (condition.ideal.hi < 0)
    no = (condition.ideal.lo == 0) & (condition.ideal.hi == 0)
    lo = np.where(yes, a.ideal.lo, np.where(no, b.ideal.lo, np.minimum(a.ideal.lo, b.ideal.lo)))
    hi = np.where(yes, a.ideal.hi, np.where(no, b.ideal.hi, np.maximum(a.ideal.hi, b.ideal.hi)))
    error = apply(
        SELECTED,
        lo=condition.ideal.lo,
        hi=condition.ideal.hi,
        e=condition.error,
        ea=a.error,
        eb=b.error,
        a_lo=a.ideal.lo,
        a_hi=a.ideal.hi,
        b_lo=b.ideal.lo,
        b_hi=b.ideal.hi,
    )
    return Tracked(Interval(lo, hi), error, max(condition.largest, a.largest, b.largest))
