"""What a node computes of the real numbers that its quantised tensors, if it has any, stand for.

An integer q of a grid stands for (q − zero)·scale. Seen so, a quantised layer is a plain operator
on real numbers whose result is moved to the nearest point of a grid: a bounded noise, however the
runtime writes it down. Comparisons of a quantised copy with its original read it like that
(`refine.pair.quantised.lifting`); every operator that stores integers says so of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.lemmas.grids import OFF_GRID, ON_GRID
from encoders.lemmas.kernel import Radius, apply
from encoders.numbers.enclosure import (
    BoolArray,
    FloatArray,
    Interval,
    add_down,
    add_up,
    multiply_up,
)
from encoders.site import Site
from onnx_import.graph import AttributeValue


@dataclass(frozen=True)
class Grid:
    """Where integers stand for numbers: scale and zero point, exact, broadcasting to the tensor,
    and the least and the greatest integer of their type."""

    scale: FloatArray
    zero: FloatArray
    lowest: float
    highest: float

    def numbers(self, q: Interval) -> Interval:
        """What integers in these ranges stand for, rounded outward."""
        return _scaled(q, -self.zero, self.scale)

    def steps(self, x: Interval) -> Interval:
        """t + zero for numbers t·scale in these ranges, rounded outward."""
        size = np.maximum(np.abs(x.lo), np.abs(x.hi)) / self.scale
        slack = multiply_up(size + np.abs(self.zero), 2.0**-50)
        return Interval(x.lo / self.scale + self.zero, x.hi / self.scale + self.zero).inflate(slack)

    def integers(self, x: Interval) -> Interval:
        """The integers that numbers of the grid in these ranges are stored as."""
        u = self.steps(x)
        return Interval(
            np.clip(np.floor(u.lo + 0.5), self.lowest, self.highest),
            np.clip(np.ceil(u.hi - 0.5), self.lowest, self.highest),
        )

    def clamped(self, x: Interval, steep: bool) -> tuple[FloatArray, Interval]:
        """A slope λ per element, and what clamping numbers x in these ranges to the ends of the
        grid leaves beside λ·x: nothing beside x itself within them. Where it does more λ is 1 if
        `steep`, and that of the chord if not; nothing is known of x where λ is 0."""
        every = (np.full(x.shape, v) for v in (self.lowest, self.highest))
        first, last = (self.numbers(Interval(v, v)) for v in every)
        low, high = first.lo, last.hi
        inside = (x.lo >= first.hi) & (x.hi <= last.lo)
        known = np.isfinite(x.lo) & np.isfinite(x.hi)
        a, b = (np.where(known, v, 0.0) for v in (x.lo, x.hi))
        slope = np.ones(x.shape)
        if not steep:
            chord = (np.clip(b, low, high) - np.clip(a, low, high)) / np.where(b > a, b - a, 1.0)
            slope = np.where(b > a, chord, slope)
        # the rest bends at the ends alone, which are known up to their own rounding
        places = np.array([a, b, np.clip(low, a, b), np.clip(high, a, b)])
        rest = np.clip(places, low, high) - slope * places
        size = np.max(np.abs([a, b, low, high]), axis=0)
        least, most = rest.min(axis=0) - 2.0**-45 * size, rest.max(axis=0) + 2.0**-45 * size
        slope = np.where(inside, 1.0, np.where(known, slope, 0.0))
        lo = np.where(inside, 0.0, np.where(known, least, low))
        return slope, Interval(lo, np.where(inside, 0.0, np.where(known, most, high)))

    def cuts(self, x: Interval) -> BoolArray:
        """Where numbers in these ranges may lie on an end of the grid and beyond."""
        ends = (np.full(x.shape, v) for v in (self.lowest, self.highest))
        first, last = (self.numbers(Interval(v, v)) for v in ends)
        return np.asarray(((x.lo < first.lo) | (x.hi > last.hi)) & (x.lo < x.hi))

    def like(self, other: Grid) -> bool:
        """Does every integer stand for the same number on both?"""
        return bool(np.all(self.scale == other.scale) and np.all(self.zero == other.zero))


def nearest_integers(u: Interval) -> Interval:
    """The integers that numbers in these ranges are rounded to, either way of breaking ties."""
    return Interval(np.ceil(u.lo - 0.5), np.floor(u.hi + 0.5))


def _scaled(q: Interval, shift: FloatArray, scale: FloatArray) -> Interval:
    low, high = (np.asarray((v + shift) * scale) for v in (q.lo, q.hi))
    slack = [multiply_up(np.abs(v), 2.0**-50) for v in (low, high)]
    return Interval(add_down(low, -slack[0]), add_up(high, slack[1]))


@dataclass(frozen=True)
class Stored:
    """What a runtime takes to the nearest integer: `moved` bounds how far its number of steps is
    from the exact one, `largest` is the largest magnitude on the way, to stay below `limit`."""

    moved: Radius
    largest: float
    limit: float

    def noise(self, grid: Grid) -> Radius:
        """How far, in steps, the stored number is from the exact number of steps at run time, zero
        point added and clamped."""
        return apply(
            OFF_GRID,
            off=self.moved,
            M=self.largest,
            limit=self.limit,
            lo=grid.lowest,
            hi=grid.highest,
        )

    def again(self, grid: Grid, off: Radius) -> Radius:
        """The same of numbers that are within `off` of numbers of this very grid."""
        return apply(
            ON_GRID,
            a=off.times(multiply_up(1.0 / grid.scale, 1.0 + 2.0**-50)),
            off=self.moved,
            M=self.largest,
            limit=self.limit,
            lo=grid.lowest,
            hi=grid.highest,
        )

    def reached(self, grid: Grid, x: Interval) -> Interval:
        """The integers that may be stored for numbers x; all of the type where something may have
        overflowed."""
        off = self.moved.bound
        u = grid.steps(x).inflate(np.broadcast_to(off, x.shape))
        known = np.isfinite(u.lo) & np.isfinite(u.hi) & (self.largest <= self.limit)
        q = nearest_integers(u)
        ends = (np.where(known, q.lo, grid.lowest), np.where(known, q.hi, grid.highest))
        return Interval(*(np.clip(v, grid.lowest, grid.highest) for v in ends))


Term: TypeAlias = "tuple[int, Grid | None] | FloatArray"
"""A factor of a layer: a computed input by position, with the grid that its integers are on if it
is quantised, or a constant."""

Storing: TypeAlias = Callable[[Site, Sequence[Interval], RuntimeContract], Stored]


@dataclass(frozen=True)
class OwnGrid:
    """A grid that the range of what is read decides: noise and what may be stored, as numbers, at
    run-time ranges of it; `rounding` is what the layer loses beside them, given what of the
    stored numbers may reach it."""

    noise: Callable[[Site, Interval, RuntimeContract], Radius]
    reached: Callable[[Site, Interval, RuntimeContract], Interval]
    rounding: Callable[[Site, Interval, RuntimeContract], Radius]


@dataclass(frozen=True)
class Meaning:
    """The plain operator `op` on `terms`, with attributes, and a bias, off by at most `bias_error`,
    that broadcasts to the result; no operator at all where `op` is empty.

    The result is put on the grid `written` as `storing` says, if there is one; `own` is said of a
    layer whose computed input is first put on a grid of its own.
    """

    op: str
    terms: tuple[Term, ...]
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    bias: FloatArray | None = None
    bias_error: FloatArray | None = None
    written: Grid | None = None
    storing: Storing | None = None
    own: OwnGrid | None = None

    @property
    def rounds(self) -> bool:
        """Is something put on a grid?"""
        return self.written is not None or self.own is not None
