"""Elements of one tensor bounded again by unit functionals, pulled back in both semantics."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from encoders.lemmas.kernel import Radius, known_at
from encoders.lemmas.ranges.making import pulled_range
from encoders.numbers.enclosure import FloatArray
from refine.bounds.backward import Maps, Pulled, pull_back, unit_functionals
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
