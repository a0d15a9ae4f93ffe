"""The curve of any smooth formula of one number, whose bends are found and proved as it is read.

Nobody states where the formula bends. Around the middle m of each part of an interval it is a power
series over balls whose last coefficient holds over the whole part, so that

    f''(m + t) = Σ_{2≤k<n} k(k − 1)·a_k·t^(k−2) + n(n − 1)·a_n(ξ)·t^(n−2),   a_k = f^(k)(m)/k!.

Parts on which that keeps no sign are halved. What is left around a bend or a kink is a piece of
unknown shape, and so is what is as good as straight, of which the slope's enclosure is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import flint
import numpy as np

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.arithmetic.exact_fields import Balls, ObjectArray, object_array
from encoders.arithmetic.series_field import SeriesField
from encoders.curves.dual import DualField, parts
from encoders.curves.values import BALLS, lower, upper
from encoders.functions.accuracy import Transcendental
from encoders.functions.curve import Curve, Formula, Number, Piece, Reals, Shape
from encoders.numbers.enclosure import Interval

_PARTS = 32  # equal ones, to begin with
_MOST_PARTS = 4096  # that are looked at in all
_MOST_PIECES = 64
_TINY = 2.0**-34  # of the size of a part, beside which it is not halved
_STEADY = 2.0**-30  # by which the slope of a part of no known shape may vary
_TERMS = 12  # of power series
_STEP = 2.0**-17  # of differences that stand for slopes, where they are only proposed


def certified_curve(value: Formula, start: float, end: float) -> Curve | None:
    """The curve of a continuous formula on [start, end]; None where it has no derivative there, but
    at kinks, or too many bends."""
    if not start < end:
        return None

    def slope(field: Reals, x: Number) -> Number:
        return derivative(value, field, x)

    try:
        with BALLS.working(), np.errstate(all="ignore"):
            cells = _cells(value, start, end)
    except (Transcendental, ArithmeticError, TypeError, ValueError):
        return None
    if cells is None:
        return None
    pieces = tuple(
        Piece(c.start, c.end, c.shape, value, slope if c.slope is None else _held(c.slope, slope))
        for c in cells
    )
    return Curve(pieces, _anything, (-np.inf, np.inf))


def derivative(value: Formula, field: Reals, x: Number) -> Number:
    """f' over balls or power series, enclosed; a difference in floats, where it proves nothing.

    Raises Transcendental where the field cannot tell.
    """
    if isinstance(field, ApproximateReals):
        at = np.asarray(x)
        step = _STEP * np.maximum(np.abs(at), 2.0**-6)
        return (value(field, at + step) - value(field, at - step)) / (2.0 * step)
    dual = DualField(field)
    _, slopes = parts(value(dual, dual.variable(np.asarray(x, dtype=object))))
    numbers = (field.number(Fraction(s)) if isinstance(s, int) else s for s in slopes.flat)
    return object_array(numbers, slopes.shape)


def _anything(x: Interval) -> Interval:
    return Interval(np.full(x.shape, -np.inf), np.full(x.shape, np.inf))


def _held(known: tuple[float, float], slope: Formula) -> Formula:
    """The derivative over balls that is known to lie between these numbers, wherever it is asked
    for."""

    def enclosed(field: Reals, x: Number) -> Number:
        if not isinstance(field, Balls):
            return slope(field, x)
        low, high = known
        ball = flint.arb(low).union(flint.arb(high))
        return object_array([ball] * np.size(x), np.shape(x))

    return enclosed


@dataclass(frozen=True)
class _Cell:
    """A part of the interval, what shape the formula has there, and what its slope is between where
    it has none; None where that is not known either."""

    start: float
    end: float
    shape: Shape
    slope: tuple[float, float] | None = None


class _Chosen(SeriesField):
    """Power series where a maximum is one of two numbers, because the other is less on the whole
    part; elsewhere nothing is known."""

    def maximum(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        first, second = np.broadcast_arrays(np.asarray(a, object), np.asarray(b, object))
        pairs = zip(first.flat, second.flat, strict=True)
        return object_array((self._larger(x, y) for x, y in pairs), first.shape)

    def _larger(self, a: flint.arb_series, b: flint.arb_series) -> flint.arb_series:
        above = (a - b)[0]
        if above > 0:
            return a
        nothing = [flint.arb("nan")] * self.order
        return b if above < 0 else flint.arb_series(nothing, prec=self.order)


def _cells(value: Formula, start: float, end: float) -> list[_Cell] | None:
    """Adjacent parts of [start, end] with their shapes; None where there are too many."""
    edges = np.linspace(start, end, _PARTS + 1)
    waiting = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    least = _TINY * max(abs(start), abs(end), end - start)
    known: list[_Cell] = []
    looked = 0
    while waiting:
        looked += len(waiting)
        if looked > _MOST_PARTS:
            return None
        halves: list[tuple[float, float]] = []
        for (a, b), cell in zip(waiting, _looked_at(value, waiting), strict=True):
            tiny = b - a <= max(_TINY * max(abs(a), abs(b)), least * _TINY)
            steady = cell.slope is not None and _is_steady(cell.slope)
            middle = 0.5 * a + 0.5 * b
            if cell.shape is not Shape.UNKNOWN or tiny or steady or not a < middle < b:
                known.append(cell)
            else:
                halves += [(a, middle), (middle, b)]
        waiting = halves
    merged = _merged(sorted(known, key=lambda cell: cell.start))
    return merged if len(merged) <= _MOST_PIECES else None


def _is_steady(slope: tuple[float, float]) -> bool:
    low, high = slope
    return high - low <= _STEADY * max(abs(low), abs(high), _STEADY)


def _looked_at(value: Formula, ends: Sequence[tuple[float, float]]) -> list[_Cell]:
    """These parts, with what is known of the shape of each."""
    field = _Chosen(_TERMS)
    with field.working():
        balls = [flint.arb(a).union(flint.arb(b)) for a, b in ends]
        middles = [flint.arb(0.5 * a + 0.5 * b) for a, b in ends]
        at, over = (
            np.broadcast_to(
                value(field, object_array((field.around(c) for c in points), (len(ends),))),
                len(ends),
            )
            for points in (middles, balls)
        )
        found = []
        for (a, b), middle, point, whole in zip(
            ends, middles, at.tolist(), over.tolist(), strict=True
        ):
            reach = _reach(a, b, middle)
            low, high = _between(flint.arb_series(point), flint.arb_series(whole), reach, 1)
            tilt = (low, high) if np.isfinite(low) and np.isfinite(high) else None
            low, high = _between(flint.arb_series(point), flint.arb_series(whole), reach, 2)
            shape = Shape.CONVEX if low >= 0 else Shape.CONCAVE if high <= 0 else Shape.UNKNOWN
            found.append(_Cell(a, b, shape, tilt if shape is Shape.UNKNOWN else None))
    return found


def _reach(a: float, b: float, middle: flint.arb) -> flint.arb:
    """How far a part reaches from its middle, at least."""
    ahead, behind = flint.arb(b) - middle, middle - flint.arb(a)
    return flint.arb(ahead.upper()).max(flint.arb(behind.upper()))


def _between(
    point: flint.arb_series, whole: flint.arb_series, reach: flint.arb, order: int
) -> tuple[float, float]:
    """What a derivative of this order lies between within `reach`; infinite where nothing is
    known."""
    last = _TERMS - 1
    falling = [float(np.prod([k - i for i in range(order)])) for k in range(_TERMS)]
    rest = abs(whole[last]) * falling[last] * reach ** (last - order)
    for k in range(order + 1, last):
        rest = rest + abs(point[k]) * falling[k] * reach ** (k - order)
    middle = point[order] * falling[order]
    around = object_array([middle - rest, middle + rest], (2,))
    return float(lower(around)[0]), float(upper(around)[1])


def _merged(cells: list[_Cell]) -> list[_Cell]:
    """Neighbours of one known shape together, f' being continuous where they meet: a kink lies
    inside parts of which nothing is known, both sides of it. Of unknown ones, those around one
    place, and those of about one slope."""
    made: list[_Cell] = []
    for cell in cells:
        if made and made[-1].shape is cell.shape:
            before = made[-1]
            slope = _around(before.slope, cell.slope)
            size = max(abs(before.start), abs(cell.end))
            near = cell.end - before.start <= 64 * _TINY * size
            steady = slope is not None and _is_steady(slope)
            if cell.shape is not Shape.UNKNOWN or near or steady:
                made[-1] = _Cell(before.start, cell.end, cell.shape, slope)
                continue
        made.append(cell)
    return made


def _around(
    a: tuple[float, float] | None, b: tuple[float, float] | None
) -> tuple[float, float] | None:
    return None if a is None or b is None else (min(a[0], b[0]), max(a[1], b[1]))
