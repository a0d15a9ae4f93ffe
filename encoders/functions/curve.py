"""Functions of one real variable, piece by piece convex or concave, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import flint
import numpy as np

from encoders.numbers.enclosure import Interval
from onnx_import.graph import Array

if TYPE_CHECKING:
    from encoders.functions.function import Function

Number: TypeAlias = Any
"""A number of a field, or an array of them: rationals, balls, forms, floats, series. Any because
what they compute with each other carries no types."""


class Reals(Protocol):
    """What a formula is written over: a field of numbers."""

    def number(self, value: Fraction) -> Number: ...

    def constant(self, values: Array) -> Number: ...

    def pi(self) -> Number: ...

    def sqrt(self, a: Number) -> Number: ...

    def maximum(self, a: Number, b: Number) -> Number: ...

    def function(self, f: Function, a: Number) -> Number: ...


Formula = Callable[[Reals, Number], Number]  # (field, x) -> f(x)


class Shape(Enum):
    """What is known of a piece: f' ascends (convex), descends (concave), or neither."""

    CONVEX = "convex"
    CONCAVE = "concave"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Piece:
    """f on [start, end]: its value and derivative there as formulas over a field.

    A piece of unknown shape should be tiny: it is evaluated on one ball.
    """

    start: float
    end: float
    shape: Shape
    value: Formula
    slope: Formula


@dataclass(frozen=True)
class Curve:
    """A continuous function given by adjacent pieces in ascending order.

    Outside the pieces, and where an argument is unbounded, only `range` (of an interval, for
    arguments on which the function is defined) and `slopes` are known.
    """

    pieces: tuple[Piece, ...]
    range: Callable[[Interval], Interval]
    slopes: tuple[float, float]

    @property
    def start(self) -> float:
        return self.pieces[0].start

    @property
    def end(self) -> float:
        return self.pieces[-1].end


def bends(value: Formula, slope: Formula, places: list[tuple[float, float]], *, first: Shape,
          start: float = -np.inf, end: float = np.inf) -> tuple[Piece, ...]:  # fmt: skip
    """Pieces of one formula whose f'' changes sign once in each of the closed `places`, and
    nowhere else between start and end."""
    other = Shape.CONCAVE if first is Shape.CONVEX else Shape.CONVEX
    made: list[Piece] = []
    at, shape = start, first
    for low, high in places:
        made.append(Piece(at, low, shape, value, slope))
        if low < high:
            made.append(Piece(low, high, Shape.UNKNOWN, value, slope))
        at, shape = high, other if shape is first else first
    return (*made, Piece(at, end, shape, value, slope))


def within(low: float, high: float) -> Callable[[Interval], Interval]:
    """A range for the whole line."""
    return lambda x: Interval(np.full(x.shape, low), np.full(x.shape, high))


def positive_part(below: float, above: float) -> Callable[[Interval], Interval]:
    """For max(x, 0) + below ≤ f(x) ≤ max(x, 0) + above; 1.01 pays for the float64 sum."""

    def range_(x: Interval) -> Interval:
        return Interval(
            np.maximum(x.lo, 0.0) * 0.99 + 1.01 * below, np.maximum(x.hi, 0.0) * 1.01 + 1.01 * above
        )

    return range_


def multiples_of_pi(shift: Fraction, most: int) -> list[tuple[float, float]]:
    """Neighbouring floats around (k + shift)·π, for |k| ≤ most; 0 stands alone."""
    places: list[tuple[float, float]] = []
    for k in range(-most, most + 1):
        factor = k + shift
        with flint.ctx.workprec(120):
            exact = flint.arb.pi() * flint.fmpq(factor.numerator, factor.denominator)
            near = float(exact)
            if exact > near:
                places.append((near, float(np.nextafter(near, np.inf))))
            elif exact < near:
                places.append((float(np.nextafter(near, -np.inf)), near))
            else:
                places.append((0.0, 0.0))
    return places
