"""Parts of a range of inputs in which a quantised graph stores the same integers.

A number x that is put on a grid first is stored as one integer over an interval of x. Over the
reals an interval ends at half a step, and so it does as a runtime divides, up to the numbers beside
that end whose rounded quotient is a half: these are cells of their own. All that soundness needs of
cells is that every number of the format lies in one; how they are cut decides how much is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from encoders.numbers.enclosure import FloatArray, Interval
from encoders.program import program_of
from encoders.quantizing import Grid
from onnx_import.graph import Graph

_BESIDE = 4  # numbers on either side of half a step, at which integers are asked one by one


@dataclass(frozen=True)
class Cell:
    """Numbers of float32 from `lo` to `hi`, and what they are stored as: by a runtime in `run`, by
    exact quotients in `real`; each may be any label that changes where the integer does."""

    lo: float
    hi: float
    run: tuple[int, ...]
    real: tuple[int, ...]


def input_grids(graph: Graph) -> Mapping[str, Grid]:
    """The grid that each input is put on first, of those that are put on one."""
    found: dict[str, Grid] = {}
    for step in program_of(graph).steps:
        meaning = step.operator.meant(step.site)
        if meaning is None or meaning.op or meaning.written is None:
            continue
        if step.reads and step.reads[0] in graph.inputs:
            found.setdefault(step.reads[0], meaning.written)
    return found


def scales_of(grid: Grid, shape: tuple[int, ...]) -> FloatArray:
    """The scale at each element of a tensor, flat."""
    return np.broadcast_to(np.asarray(grid.scale, np.float64), shape).reshape(-1)


def cells(
    lo: float, hi: float, run: Sequence[float], real: Sequence[float], most: int
) -> list[Cell] | None:
    """Cells that hold every float32 from `lo` to `hi`, which are numbers of it, from the least on:
    of scales by which a runtime divides, and of those by which exact quotients are taken; None
    where these are more than so many."""
    whole = [*run, *real]
    if sum((hi - lo) / s for s in whole) > 2.0 * most:
        return None
    near = sorted({x for s in whole for x in _beside(lo, hi, s)} | {lo})
    found: list[Cell] = []
    for x in near:
        label = (
            tuple(_rounded(x, s) for s in run),
            tuple(round(Fraction(x) / Fraction(s)) for s in real),
        )
        if found and (found[-1].run, found[-1].real) == label:
            continue
        if found:
            last = found.pop()
            found.append(Cell(last.lo, _before(x), last.run, last.real))
        found.append(Cell(x, hi, *label))
    return found if len(found) <= most else None


def classes(found: Sequence[Cell], labels: Sequence[tuple[int, ...]]) -> tuple[Interval, list[int]]:
    """Hulls of neighbouring cells of one label, (classes,), and the class of each cell."""
    ends: list[tuple[float, float]] = []
    places: list[int] = []
    for i, cell in enumerate(found):
        if i and labels[i] == labels[i - 1]:
            ends[-1] = ends[-1][0], cell.hi
        else:
            ends.append((cell.lo, cell.hi))
        places.append(len(ends) - 1)
    low, high = (np.array([e[k] for e in ends]) for k in range(2))
    return Interval(low, high), places


def read_as(graph: Graph, tensor: str) -> Grid | None:
    """The grid that every reader of an input puts it on, and does nothing else with it."""
    grids = []
    for step in program_of(graph).readers(tensor):
        meaning = step.operator.meant(step.site)
        if meaning is None or meaning.op or meaning.written is None:
            return None
        grids.append(meaning.written)
    alike = all(g.like(grids[0]) and g.scale.shape == grids[0].scale.shape for g in grids[1:])
    return grids[0] if grids and alike else None


def stored_alike(ends: Interval, scale: float) -> Interval:
    """One number of each range in place of all of it, where exact quotients of both ends have one
    nearest integer: quotients rise, so that those between have it, too."""
    low, high = ends.lo.copy(), ends.hi.copy()
    for i, (a, b) in enumerate(zip(ends.lo.tolist(), ends.hi.tolist(), strict=True)):
        if round(Fraction(a) / Fraction(scale)) == round(Fraction(b) / Fraction(scale)):
            low[i] = high[i] = 0.5 * a + 0.5 * b
    return Interval(low, high)


def _beside(lo: float, hi: float, scale: float) -> Iterator[float]:
    """The numbers in the range beside those whose quotient is a half."""
    first, last = int(np.ceil(lo / scale - 1.0)), int(np.floor(hi / scale + 0.5))
    for k in range(first, last + 1):
        x = np.float32((k + 0.5) * scale)
        for _ in range(_BESIDE):
            x = np.nextafter(x, np.float32(-np.inf))
        for _ in range(2 * _BESIDE + 1):
            if lo <= x <= hi:
                yield float(x)
            x = np.nextafter(x, np.float32(np.inf))


def _rounded(x: float, scale: float) -> int:
    with np.errstate(over="ignore"):
        quotient = float(np.float32(x) / np.float32(scale))
    return int(np.clip(np.rint(quotient), -(2.0**31), 2.0**31))


def _before(x: float) -> float:
    return float(np.nextafter(np.float32(x), np.float32(-np.inf)))
