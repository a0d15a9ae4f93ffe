"""Elements of one tensor bounded again by unit functionals, pulled back in both semantics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from encoders.lemmas.differences import PULLED_BACK
from encoders.lemmas.kernel import Radius, apply, known_at
from encoders.lemmas.ranges.making import pulled_range
from encoders.numbers.enclosure import FloatArray
from encoders.numbers.radius import is_negative, radius_of
from encoders.program import Step
from refine.bounds.alpha import Branching
from refine.bounds.backward import Maps, Pulled, pull_back, unit_functionals
from refine.bounds.cases.secant_branching import Reline, branched_upper
from refine.bounds.influence import add_pushes
from refine.bounds.optimising import chunks
from refine.bounds.pruning import Rows


def refined_values(
    maps: Maps, output: str, rows: Rows, tick: Callable[[], None], most: int | None
) -> Mapping[str, FloatArray]:
    """Better ranges of these elements; returns how their widths hang on the input's elements."""
    pushes: dict[str, FloatArray] = {}
    range_ = maps.values[output]
    lo, hi = range_.lo.reshape(-1).copy(), range_.hi.reshape(-1).copy()
    for chunk in chunks(maps.graph, rows, copies=2):
        c = unit_functionals(range_.shape, chunk)
        pulled = pull_back(maps, {output: np.concatenate([c, -c])}, {}, tick, most=most)
        hi[chunk] = np.minimum(hi[chunk], pulled.upper[: len(chunk)])
        lo[chunk] = np.maximum(lo[chunk], -pulled.upper[len(chunk) :])
        add_pushes(maps, pushes, pulled, lo[chunk], hi[chunk])
    maps.values[output] = pulled_range(range_, lo, hi)
    return pushes


def refined_errors(
    maps: Maps,
    output: str,
    rows: Rows,
    *,
    tick: Callable[[], None],
    most: int | None,
    late: Callable[[], bool] | None,
) -> Pulled:
    """Better errors of these elements; what that was made of."""
    shape = maps.errors[output].shape
    found: list[tuple[Rows, Radius]] = []
    upper = np.zeros(len(rows))
    costs: dict[str, FloatArray] = {}
    roundings: dict[str, FloatArray] = {}
    done = 0
    for chunk in chunks(maps.graph, rows, copies=1):
        c = unit_functionals(shape, chunk)
        pulled = pull_back(maps, {}, {output: c}, tick, most=most, late=late)
        assert pulled.moved is not None
        found.append((chunk, pulled.moved))
        for kept, spent in ((costs, pulled.costs), (roundings, pulled.roundings)):
            for name, cost in spent.items():
                kept.setdefault(name, np.zeros(len(rows)))[done : done + len(chunk)] = cost
        upper[done : done + len(chunk)] = pulled.moved.bound
        done += len(chunk)
    if found:
        maps.err_by(output, maps.radii[output].and_also(known_at(shape, found)))
    if maps.radii[output].record.flawed:
        maps.flaws.add(maps.program.writers[output].name)
    return Pulled(upper, costs, roundings)


def branched_errors(
    maps: Maps,
    output: str,
    rows: Rows,
    *,
    final: bool,
    branching: Branching,
    tick: Callable[[], None],
    reline: Reline | None = None,
) -> None:
    """Better errors by branching on secant slopes: of outputs, and of unstable elements."""
    shape = maps.errors[output].shape
    found = np.full(maps.errors[output].size, np.inf)
    if not final:
        x = maps.values[output]
        rows = np.flatnonzero((x.lo < 0) & (x.hi > 0))
    for chunk in chunks(maps.graph, rows, copies=4):
        if branching.late:
            break
        c = unit_functionals(shape, chunk)
        cases = branching.cases if final else 16 * branching.cases // (16 + len(chunk))
        upper = branched_upper(maps, output, c, replace(branching, cases=cases), tick, reline)
        limit = _radius(maps, maps.program.writers[output], upper)
        found[chunk] = limit
    _pulled(maps, output, found)


def _pulled(maps: Maps, output: str, upper: FloatArray) -> None:
    """The errors of a tensor whose functionals have been carried back; +∞ where none has."""
    limit = apply(PULLED_BACK, U=upper.reshape(maps.errors[output].shape))
    maps.err_by(output, maps.radii[output].and_also(limit))


def _radius(maps: Maps, step: Step, bound: FloatArray) -> FloatArray:
    """Bounds on errors after the gate; NaN, from ∞ − ∞, says that nothing is known."""
    if is_negative(bound):
        maps.flaws.add(step.name)
    return radius_of(bound)
