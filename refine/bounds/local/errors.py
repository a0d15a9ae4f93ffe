"""What one node adds to errors: its differences, its rounding, and what executes in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.lemmas.differences import BETWEEN_ENDS, GIVEN_ERROR, TRUTH_VALUES
from encoders.lemmas.kernel import Radius, apply
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.operator import DifferenceMap, RoundingBound, executed_range
from encoders.program import Step
from encoders.scheduling import contract_at
from onnx_import.graph import DType
from refine.bounds.backward import Maps
from refine.bounds.local.held import outgrown, reached, run_ranges, tells_more
from refine.bounds.local.roots import with_norm


@dataclass(frozen=True)
class Run:
    """What executes in place of a node: a step, a bound on |f_run(x̂) − f_node(x̂)|, per output
    element, over the run-time ranges of its inputs, and the contract it keeps to. `held` are the
    ranges of what it reads, where that is not what the node reads."""

    step: Step
    change: FloatArray
    contract: RuntimeContract
    held: tuple[Interval, ...] | None = None


Runs: TypeAlias = Callable[[Step, Sequence[Interval]], Run]


def bound_errors(
    maps: Maps, step: Step, contract: RuntimeContract, runs: Runs | None
) -> tuple[RoundingBound, Mapping[str, Interval], Run]:
    """Enter a step's map of differences and error; its rounding, what that assumes, what runs.

    Where there is no bound, it is asked once more with what is known of run-time numbers alone.
    """
    ranges = maps.ranges(step)
    found = _local_errors(maps, step, contract, runs=runs, ranges=ranges)
    if runs is None and not np.all(np.isfinite(found.error.bound)) and _all_finite(maps, step):
        ranges = reached(maps, step, contract)
        if tells_more(ranges, maps, step):
            found = _local_errors(maps, step, contract, runs=runs, ranges=ranges)
    error = _between_ends(maps, step, found, contract if runs is None else None)
    maps.difference_maps[step.name] = found.mapped
    maps.local[step.name] = found.local
    maps.err_by(step.output, error)
    if found.error.record.flawed:
        maps.flaws.add(step.name)
    return found.rounding, dict(zip(step.reads, found.held, strict=True)), found.run


def _between_ends(
    maps: Maps, step: Step, found: _Local, contract: RuntimeContract | None
) -> Radius:
    """A node's error, which is no larger than what its function leaves between its ends: asked for
    where errors have outgrown the numbers, as through a Clip that is one and not the other, and of
    what jumps, which may do so twice. Under a `contract` it is asked of what run-time numbers keep
    to, of a gate's, say."""
    real, error = maps.values[step.output], found.error
    asked = outgrown(real, error) or step.operator.jump is not None
    if not asked or error.largest == np.inf:
        return error
    held = found.held if contract is None else run_ranges(maps, step, contract)
    with np.errstate(all="ignore"):
        run = executed_range(step.operator, step.site, held).inflate(found.local.bound)
        kept = found.kept()
        run = run if kept is None else run.intersect(kept)
    ends = (real.lo, real.hi, run.lo, run.hi)
    if not all(np.all(np.isfinite(end)) for end in ends):
        return error
    return error.and_also(apply(BETWEEN_ENDS, lo=real.lo, hi=real.hi, low=run.lo, high=run.hi))


def _all_finite(maps: Maps, step: Step) -> bool:
    return all(bool(np.all(np.isfinite(maps.errors[t]))) for t in step.reads)


@dataclass(frozen=True)
class _Local:
    """One node's difference map, its rounding, what executes and reads, its own error and all; what
    its computed numbers keep to."""

    mapped: DifferenceMap
    rounding: RoundingBound
    held: Sequence[Interval]
    run: Run
    local: Radius
    error: Radius
    kept: Callable[[], Interval | None]


def _local_errors(
    maps: Maps,
    step: Step,
    contract: RuntimeContract,
    *,
    runs: Runs | None,
    ranges: Sequence[Interval],
) -> _Local:
    errors = [maps.radii[t] for t in step.reads]
    mapped = step.operator.differences(step.site, ranges, errors)
    if runs is None:
        mapped = with_norm(maps, step, mapped, contract)
    held = [x.inflate(e.bound) for x, e in zip(ranges, errors, strict=True)]
    run = Run(step, np.zeros(()), contract) if runs is None else runs(step, held)
    changed = bool(np.any(run.change))
    moved = mapped.radius + apply(GIVEN_ERROR, U=run.change) if changed else mapped.radius
    result = maps.values[step.output].inflate(moved.bound)
    here = contract_at(run.step.running, run.contract)
    reads = held if run.held is None else run.held
    rounding = run.step.operator.rounding(run.step.site, reads, result, here)
    own = rounding.radius
    local = own + apply(GIVEN_ERROR, U=run.change) if changed else own
    error = mapped.radius + local
    if maps.graph.types[step.output].dtype is DType.BOOL:
        truth = apply(TRUTH_VALUES)
        local, error = local.and_also(truth), error.and_also(truth)

    def kept() -> Interval | None:
        keeps = None if changed else run.step.operator.keeps
        return None if keeps is None else keeps(run.step.site, reads, here)

    return _Local(mapped, rounding, held, run, local, error, kept)
