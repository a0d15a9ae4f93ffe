"""When the errors of a tensor are taken together, and for how long functionals have their own."""

from __future__ import annotations

import time
from collections.abc import Callable

from encoders.program import Step
from refine.bounds.alpha import Branching
from refine.bounds.backward import Maps, pull_back, unit_functionals
from refine.bounds.ellipsoids.errors import Apart, ellipsoid_of, rows_of

_FEW_OUTPUTS = 32  # so few functionals get ellipsoids of their own when it is late, too
_FOR_FEW = 2.0  # seconds


def take_ellipsoid(maps: Maps, step: Step, tick: Callable[[], None], deepest: int | None) -> None:
    """Enters how large the errors of what a node reads can be at once, where it bends there."""
    scaled = maps.difference_maps[step.name].scaled
    if scaled is None or maps.kept or step.affine:
        return
    left = scaled()
    done = [s.output for s in maps.program.steps if s.name in maps.difference_maps]
    rows = rows_of(left, [maps.graph.types[t].size for t in done])
    if rows is None:
        return
    c, sources = unit_functionals(left.share.shape, rows), list[Apart]()
    pulled = pull_back(maps, {}, {step.reads[0]: c}, tick, most=deepest, apart=sources)
    assert pulled.moved is not None
    found = ellipsoid_of(left, rows, sources, pulled.moved.bound)
    if found is not None:
        maps.ellipsoids[step.name] = found


def when_late(branching: Branching | None, outputs: int | None) -> Callable[[], bool] | None:
    """When it is too late for ellipsoids of single functionals: a little later for those of so few
    outputs. None where nothing is branched on."""
    if branching is None:
        return None
    few = outputs is not None and outputs <= _FEW_OUTPUTS
    until = max(branching.until, time.monotonic() + _FOR_FEW if few else 0.0)
    return lambda: time.monotonic() > until
