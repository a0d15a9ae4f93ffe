"""Better real ranges: relaxation slopes optimised per functional.

Any lower slope in [0, 1] of an unstable Relu (from b for a hinge with slope b below zero) gives a
sound bound; which is best depends on the functional (α-CROWN, Xu et al. 2021). Splitting a
functional's inputs by the sign of a hidden element tightens it further
(refine/bounds/relu_splitting.py); the split enters with a multiplier, any β ≥ 0 of which is sound
(β-CROWN, Wang et al. 2021). Slopes and multipliers are looked for by a few steps of projected
gradient descent: with c the coefficient that arrives at an element and v the value the element
takes at the corner of the input box where the relaxed bound is attained, ∂bound/∂slope = min(c,
0)·v and ∂bound/∂β = ±v. The descent is plain float64 and proves nothing; the bound of every step is
rigorous by itself, and the smallest is kept.
Deterministic: fixed numbers of steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.numbers.enclosure import FloatArray
from encoders.operator import FreeSlopes, SlopeChoice
from encoders.program import Step, real_step
from refine.bounds.backward import Maps, Pulled, pull_back

_RATE, _DECAY = 0.25, 0.92
_BETA1, _BETA2 = 0.9, 0.99
_MULTIPLIER_RATE = 0.3  # relative to the functional's typical coefficient


@dataclass(frozen=True)
class Branching:
    """How hard to try: steps of descent per functional, parts that one functional and that all
    functionals of a tensor may be split into; and how many cases of secant slopes to bound per
    output. No effort begins after `until`, on the monotonic clock."""

    steps: int
    parts: int = 0
    total: int = 0
    cases: int = 0
    until: float = math.inf

    @property
    def late(self) -> bool:
        """Is the time for branching over?"""
        return time.monotonic() > self.until


@dataclass(frozen=True)
class Descended:
    """What a few steps of descent found of k functionals: rigorous bounds (k,), the choices that
    gave them, the coefficients seen at the last step, and the true value of each functional at its
    last worst corner (approximate)."""

    upper: FloatArray
    choices: Mapping[str, SlopeChoice]
    seen: Mapping[str, FloatArray]
    attained: FloatArray


def descended(
    maps: Maps,
    target: str,
    c: FloatArray,
    *,
    start: Mapping[str, SlopeChoice],
    steps: int,
    tick: Callable[[], None] = lambda: None,
) -> Descended:
    """Bound functionals c (k, *shape) of a tensor's values, starting from these choices."""
    choices = dict(start)
    best = {name: (o.low_slope.copy(), o.multiplier.copy()) for name, o in choices.items()}
    lowest = np.full(len(c), np.inf)
    memory: dict[tuple[str, str], tuple[FloatArray, FloatArray]] = {}
    steps = max(steps, 1)
    for step in range(1, steps + 1):
        tick()
        seen: dict[str, FloatArray] = {}
        pulled = pull_back(
            maps, {target: c}, on_differences={}, tick=tick, choices=choices, seen=seen
        )
        better = pulled.upper < lowest
        lowest = np.where(better, pulled.upper, lowest)
        for name, o in choices.items():
            best[name][0][better] = o.low_slope[better]
            best[name][1][better] = o.multiplier[better]
        values, true = at_corner(maps, target, pulled, seen, choices)
        if step < steps:
            rate = _RATE * _DECAY**step
            choices = {
                name: _stepped(
                    maps, name, o, seen=seen, values=values, memory=memory, step=step, rate=rate
                )
                for name, o in choices.items()
            }
    attained = np.sum((c * true).reshape(len(c), -1), axis=1)
    kept = {n: SlopeChoice(best[n][0], o.phase, best[n][1]) for n, o in start.items()}
    return Descended(lowest, kept, seen, attained)


def _stepped(
    maps: Maps,
    name: str,
    choice: SlopeChoice,
    *,
    seen: Mapping[str, FloatArray],
    values: Mapping[str, Any],
    memory: dict[tuple[str, str], tuple[FloatArray, FloatArray]],
    step: int,
    rate: float,
) -> SlopeChoice:
    if name not in seen:
        return choice
    arrived, v = seen[name], values[name]
    known = maps.value_maps[name].choice
    assert known is not None
    downhill = np.where(known.free & (choice.phase == 0), np.minimum(arrived, 0.0) * v, 0.0)
    slope = choice.low_slope - rate * adam(memory, (name, "slope"), downhill, step)
    multiplier = choice.multiplier
    if np.any(choice.phase):
        scale = np.mean(np.abs(arrived), axis=tuple(range(1, arrived.ndim)), keepdims=True)
        push = np.where(choice.phase > 0, v, np.where(choice.phase < 0, -v, 0.0))
        move = _MULTIPLIER_RATE * scale * adam(memory, (name, "multiplier"), push, step)
        multiplier = np.where(choice.phase != 0, np.maximum(multiplier - move, 0.0), 0.0)
    low = np.clip(slope, known.below, 1.0)
    return SlopeChoice(low, choice.phase, multiplier, choice.slack)


def adam(
    memory: dict[tuple[str, str], tuple[FloatArray, FloatArray]],
    key: tuple[str, str],
    gradient: FloatArray,
    step: int,
) -> FloatArray:
    """The direction of Adam (Kingma & Ba 2015)."""
    first, second = memory.get(key, (np.zeros_like(gradient), np.zeros_like(gradient)))
    first = _BETA1 * first + (1 - _BETA1) * gradient
    second = _BETA2 * second + (1 - _BETA2) * gradient**2
    memory[key] = (first, second)
    spread = np.sqrt(second / (1 - _BETA2**step)) + 1e-12
    return np.asarray(first / (1 - _BETA1**step) / spread)


def free_steps(maps: Maps, target: str) -> list[Step]:
    """Steps before the target whose relaxation leaves a choice."""
    found: list[Step] = []
    for step in maps.program.steps:
        if target in step.writes:
            return found
        choice = maps.value_maps[step.name].choice
        if choice is not None and np.any(choice.free):
            found.append(step)
    return found


def choice_of(maps: Maps, step: Step) -> FreeSlopes:
    """The free slopes of a step whose relaxation leaves a choice."""
    choice = maps.value_maps[step.name].choice
    assert choice is not None
    return choice


def start_of(choice: FreeSlopes, k: int) -> SlopeChoice:
    """The choice for k functionals that restricts nothing: slopes as the relaxation has them."""
    start = choice.bounds().low_slope
    shape = (k, *start.shape)
    return SlopeChoice(
        np.broadcast_to(start, shape).copy(),
        np.zeros(shape, dtype=np.int8),
        np.zeros(shape),
    )


def at_corner(
    maps: Maps,
    target: str,
    pulled: Pulled,
    seen: Mapping[str, FloatArray],
    choices: Mapping[str, SlopeChoice],
) -> tuple[dict[str, Any], Any]:
    """At each functional's worst corner: what arrives at every choice node in the relaxed
    network, and the target's value in the true one. Approximate."""
    relaxed = corners_of(maps, pulled)
    true = dict(relaxed)
    arriving: dict[str, Any] = {}
    for step in maps.program.steps:
        output = step.output
        same = all(true[t] is relaxed[t] for t in step.reads)
        true[output] = evaluated(step, true)
        choice = maps.value_maps[step.name].choice
        if choice is None or step.name not in seen:
            if target == output:
                break
            relaxed[output] = true[output] if same else evaluated(step, relaxed)
            continue
        (tensor,) = step.reads
        v = arriving[step.name] = relaxed[tensor]
        if target == output:
            break
        chosen = choices.get(step.name)
        bounds = choice.bounds()
        low = bounds.low_slope if chosen is None else chosen.low_slope
        upper = bounds.high_slope * v + bounds.high
        lower = np.where(choice.free, low, bounds.low_slope) * v
        between = np.where(seen[step.name] > 0, upper, lower)
        if chosen is not None:
            between = np.where(
                chosen.phase > 0, v, np.where(chosen.phase < 0, choice.below * v, between)
            )
        relaxed[output] = between
    return arriving, true[target]


def corners_of(maps: Maps, pulled: Pulled) -> dict[str, Any]:
    """The inputs (k, *shape) at which each functional's relaxed bound is attained."""
    found: dict[str, Any] = {}
    for name in maps.graph.inputs:
        box = maps.values[name]
        c = pulled.on_inputs.get(name)
        corner = 0.5 * (box.lo + box.hi) if c is None else np.where(c > 0, box.hi, box.lo)
        found[name] = np.broadcast_to(corner, (len(pulled.upper), *box.lo.shape))
    return found


def evaluated(step: Step, values: Mapping[str, Any]) -> Any:
    """What a step gives of approximate real values."""
    field = ApproximateReals()
    with field.working():
        return real_step(step, values, field)[0]
