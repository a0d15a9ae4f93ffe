"""Rows of which more is known than a range of each number: how far they reach in one direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from encoders.numbers.enclosure import FloatArray, Interval, add_down, norms_up
from encoders.numbers.row_forms import RowForms


@dataclass(frozen=True)
class Leaning(Interval):
    """Ranges of a tensor, of which rows, less their mean where a step takes that away, have norms
    of at least `least` (rows,): they lie on one side of a plane, and so does what lies between two
    of them, or between one and the middles of the ranges.

    `index` (rows, n) are the flat positions of each row. `forms` enclose the rows, less their mean
    where a step takes that away, and the middles of the ranges likewise.
    """

    index: npt.NDArray[np.intp]
    least: FloatArray
    forms: RowForms | None = None

    def inflate(self, radius: FloatArray) -> Interval:
        """All points within `radius`, whose rows' norms are less by no more than that of it."""
        wide = Interval(self.lo, self.hi).inflate(radius)
        moved = np.broadcast_to(radius, self.lo.shape).reshape(-1)[self.index]
        with np.errstate(over="ignore", invalid="ignore"):
            norm = norms_up(moved, axis=1)
        least = np.where(np.isfinite(norm), add_down(self.least, -norm), 0.0)
        forms = None if self.forms is None else self.forms.inflated(moved)
        return Leaning(wide.lo, wide.hi, self.index, np.maximum(least, 0.0), forms)


@dataclass(frozen=True)
class Parting(Leaning):
    """The same, of whose run-time values it is known where they may be, `run`, and how rows go
    there: they are off by `apart`, less their mean where a step takes that away.

    What lies between a row and what it is at run time is in the hull of both, and of their forms.
    """

    run: Interval = field(kw_only=True)
    apart: RowForms = field(kw_only=True)

    def inflate(self, radius: FloatArray) -> Interval:
        """The points within `radius` on the way to what the rows are at run time."""
        wide = super().inflate(radius)
        assert isinstance(wide, Leaning)
        ends = np.fmin(self.lo, self.run.lo), np.fmax(self.hi, self.run.hi)
        lo, hi = np.fmax(wide.lo, ends[0]), np.fmin(wide.hi, ends[1])
        forms = None if self.forms is None else self.forms.towards(self.apart)
        return Leaning(lo, hi, self.index, wide.least, forms)


Flat = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Ordered(Interval):
    """Ranges of numbers that are compared: `above(i, j)` is the most that those at flat positions i
    exceed those at j by, of real and of run-time values; it is asked where it may tell which of
    them is the larger one."""

    above: Callable[[Flat, Flat], FloatArray]


@dataclass(frozen=True)
class Lean:
    """Σ_j `direction`[r, j]·x[`index`[r, j]] ≥ `least`[r] of every row r, and `norm` (rows,): what
    that says of the norms of rows, less their means where these are taken away."""

    index: npt.NDArray[np.intp]
    direction: FloatArray
    least: FloatArray
    norm: FloatArray
    forms: RowForms | None = None

    def of(self, x: Interval) -> Leaning:
        """The ranges, with what is known besides."""
        return Leaning(x.lo, x.hi, self.index, self.norm, self.forms)


def least_norms(x: Interval) -> FloatArray | None:
    """(rows, 1), where anything is known."""
    return x.least[:, None] if isinstance(x, Leaning) else None


def row_forms(x: Interval) -> RowForms | None:
    """Of rows that are normalised, where anything is known."""
    return x.forms if isinstance(x, Leaning) else None


def parting(x: Interval) -> RowForms | None:
    """How rows that are normalised are off at run time, where anything is known."""
    return x.apart if isinstance(x, Parting) else None
