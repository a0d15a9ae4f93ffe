"""Which steps are taken to the second order: where the numbers they read go far, and together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from encoders.numbers.forms import Forms
from encoders.program import Step
from encoders.relaxations.bending import affordable
from refine.bounds.backward import Maps
from refine.bounds.local.forms import row_forms

_MANY = 2**10  # numbers of a tensor, from where on forms take longer than they gain
_LITTLE = 0.03  # of how far a step's numbers go: its planes are as good


def forms_of_read(
    maps: Maps, step: Step, tick: Callable[[], None], most: int | None, functionals: int
) -> tuple[Forms | None, ...]:
    """Forms of all that a step reads; none where it hardly bends, or where these need more than so
    many functionals."""
    ranges = [maps.values[t] for t in step.reads]
    if maps.kept or not all(np.all(np.isfinite(x.hi - x.lo)) for x in ranges):
        return ()
    if not step.operator.bends(step.site, ranges) > _LITTLE:
        return ()
    unknowns = sum(maps.values[t].lo.size for t in maps.graph.inputs)
    sizes = [x.lo.size for x in ranges]
    if 2 * sum(sizes) > functionals or max(sizes) > _MANY:
        return ()
    if not affordable(maps.graph.types[step.output].size, unknowns):
        return ()
    found = {t: _forms_of(maps, t, tick, most) for t in dict.fromkeys(step.reads)}
    return tuple(found[t] for t in step.reads)


def _forms_of(maps: Maps, tensor: str, tick: Callable[[], None], most: int | None) -> Forms | None:
    shape = maps.values[tensor].shape
    index = np.arange(maps.values[tensor].lo.size)[:, None]
    found = row_forms(maps, tensor, index, tick, most, centred=False)
    if found is None:
        return None
    middle, rest = found.middle.reshape(shape), found.rest.reshape(shape)
    return Forms(middle, found.moves.reshape(*shape, -1), rest)
