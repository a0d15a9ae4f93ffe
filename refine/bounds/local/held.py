"""Ranges of run-time numbers, where a real range and an error alone say too little of them.

x̂ lies within the error of the real range; it is also what the node computes of the run-time numbers
that it reads: the function over their ranges, up to the node's own rounding, within what rounding
keeps to (`Operator.keeps`). Asked for where a node has no bound otherwise, by then for what leads
there alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.lemmas.kernel import Radius
from encoders.numbers.enclosure import FloatArray, Interval, highest
from encoders.operator import executed_range, is_affine
from encoders.program import Step, on_demand
from encoders.scheduling import contract_at
from refine.bounds.backward import Maps

OUTGROWN = 0.5
_MANY = 2**16  # elements beyond which the ranges of an affine map cost as much as its bounds


@dataclass(frozen=True)
class Reached(Interval):
    """The real range of a tensor, of which it is known what else run-time numbers keep to.

    Inflated by `error`, the very array, it is what holds both; by any other, it is a range.
    """

    error: FloatArray
    run: Interval

    def inflate(self, radius: FloatArray) -> Interval:
        """All points within `radius` of the range; of the error, those of them that lie between
        real and run-time numbers."""
        wide = Interval(self.lo, self.hi).inflate(radius)
        if radius is not self.error:
            return wide
        low, high = np.minimum(self.lo, self.run.lo), np.maximum(self.hi, self.run.hi)
        return wide.intersect(Interval(low, high))


def reached(maps: Maps, step: Step, contract: RuntimeContract) -> list[Interval]:
    """The real ranges of what a step reads, with the ranges of their run-time numbers."""
    every = {tensor: _known(maps, tensor, contract) for tensor in step.reads}
    return [
        Reached(maps.values[t].lo, maps.values[t].hi, maps.errors[t], every[t]) for t in step.reads
    ]


def run_ranges(maps: Maps, step: Step, contract: RuntimeContract) -> list[Interval]:
    """The ranges of the run-time numbers that a step reads."""
    return [_known(maps, tensor, contract) for tensor in step.reads]


def tells_more(ranges: Sequence[Interval], maps: Maps, step: Step) -> bool:
    """Is any of these narrower, inflated, than what is known without them?"""
    for x, tensor in zip(ranges, step.reads, strict=True):
        narrow = x.inflate(maps.errors[tensor])
        wide = maps.values[tensor].inflate(maps.errors[tensor])
        if np.any(narrow.lo > wide.lo) or np.any(narrow.hi < wide.hi):
            return True
    return False


def outgrown(values: Interval, error: Radius) -> bool:
    """Have errors outgrown the numbers of a tensor?"""
    return error.largest > OUTGROWN * highest(values.magnitude)


def _known(maps: Maps, tensor: str, contract: RuntimeContract) -> Interval:
    """What the run-time numbers of a tensor are between. Each is worked out once."""

    def found(name: str, step: Step | None) -> Interval:
        return _found(maps, name, step, contract)

    def parts(step: Step) -> Sequence[str]:
        return () if _says_no_more(maps, step) else step.reads

    return on_demand(maps.program, tensor, maps.held, parts=parts, made=found)


def _says_no_more(maps: Maps, step: Step) -> bool:
    """Is it a large affine map whose errors are well below its numbers? What it makes of ranges is
    then its real range and the error over again, but for what the numbers that it reads keep to."""
    if step.output not in maps.radii or not is_affine(step.operator, step.site):
        return False
    large = maps.values[step.output].lo.size > _MANY
    return large and not outgrown(maps.values[step.output], maps.radii[step.output])


def _found(maps: Maps, name: str, step: Step | None, contract: RuntimeContract) -> Interval:
    near = maps.values[name].inflate(maps.errors[name])
    if step is None or name != step.output or step.name not in maps.local:
        return near
    if _says_no_more(maps, step):
        return near
    running = [maps.held[t] for t in step.reads]
    with np.errstate(all="ignore"):
        run = executed_range(step.operator, step.site, running)
        run = run.inflate(maps.local[step.name].bound)
        if step.operator.keeps is not None:
            kept = step.operator.keeps(step.site, running, contract_at(step.running, contract))
            run = run if kept is None else run.intersect(kept)
    low = np.where(np.isnan(run.lo), -np.inf, run.lo)
    high = np.where(np.isnan(run.hi), np.inf, run.hi)
    return near.intersect(Interval(low, high))
