"""Which combinations of secant slopes some input makes possible.

A Relu (or a hinge of slopes b and 1) whose secant slope is not b has x̂ > 0 or x > 0, hence x ≥ −e
with e its error budget; one whose slope is not 1 has x ≤ e. A case of slopes thus confines the
real network. If the relaxed network, the confinement entering with multipliers β ≥ 0 (β-CROWN,
Wang et al. 2021; lemma `phase-multiplier`), shows 0 ≤ B with a B < 0, no input of the box is left
and the case is void. Multipliers and lower slopes are looked for by a few steps of descent, which
prove nothing; B is rigorous for any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from encoders.numbers.enclosure import FloatArray
from encoders.operator import SlopeChoice
from encoders.program import Step
from refine.bounds.alpha import adam, at_corner
from refine.bounds.backward import FixedSlopes, Maps, pull_back

_STEPS = 16
_RATE, _DECAY = 0.3, 0.9


def impossible(
    maps: Maps, fixed: Mapping[str, FixedSlopes], tick: Callable[[], None] = lambda: None
) -> npt.NDArray[np.bool_]:
    """Of k cases of slopes, those shown to be met by no input of the box; (k,)."""
    steps = [
        step
        for step in maps.program.steps
        if step.name in fixed
        and maps.value_maps[step.name].choice is not None
        and np.any(fixed[step.name].at)
    ]
    k = next(iter(fixed.values())).at.shape[0]
    void = np.zeros(k, dtype=bool)
    if not steps:
        return void
    nothing = {step.output: np.zeros(fixed[step.name].at.shape) for step in steps}
    choices = {step.name: confinement(maps, step, fixed[step.name]) for step in steps}
    units = {step.name: unit_of(maps, step) for step in steps}
    memory: dict[tuple[str, str], tuple[FloatArray, FloatArray]] = {}
    for step in range(1, _STEPS + 1):
        seen: dict[str, FloatArray] = {}
        pulled = pull_back(maps, nothing, on_differences={}, tick=tick, choices=choices, seen=seen)
        void |= pulled.upper < 0
        if step == _STEPS or np.all(void):
            break
        arriving, _ = at_corner(maps, steps[-1].output, pulled, seen, choices)
        rate = _RATE * _DECAY**step
        for name, choice in choices.items():
            v, unit = arriving[name], units[name]
            push = choice.phase * v + choice.slack
            move = rate * unit * adam(memory, (name, "multiplier"), push * unit, step)
            bound = np.where(choice.phase != 0, np.maximum(choice.multiplier - move, 0.0), 0.0)
            downhill = np.where(choice.phase == 0, np.minimum(seen[name], 0.0) * v, 0.0)
            slope = choice.low_slope - rate * adam(memory, (name, "slope"), downhill, step)
            choices[name] = SlopeChoice(slope, choice.phase, bound, choice.slack)
    return void


def confinement(maps: Maps, step: Step, fixed: FixedSlopes) -> SlopeChoice:
    """How cases confine what a step reads, with multipliers to begin with."""
    choice = maps.value_maps[step.name].choice
    assert choice is not None
    (tensor,) = step.reads
    phase = np.where(fixed.at, np.where(fixed.slope > 0, 1, -1), 0).astype(np.int8)
    slope = np.broadcast_to(choice.bounds().low_slope, phase.shape).copy()
    multiplier = np.where(phase != 0, unit_of(maps, step), 0.0)
    return SlopeChoice(slope, phase, multiplier, maps.errors[tensor])


def unit_of(maps: Maps, step: Step) -> FloatArray:
    """One over the width of what the node reads: the scale of a multiplier there."""
    (tensor,) = step.reads
    x = maps.values[tensor]
    with np.errstate(all="ignore"):
        unit = 1.0 / (x.hi - x.lo)
    return np.where(np.isfinite(unit), unit, 0.0)
