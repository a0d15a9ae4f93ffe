"""Better real ranges through smooth curves: lines optimised per functional.

Where a relaxation leaves several lines, any mean of two neighbouring ones is a bound; which is best
depends on the functional. As for the slopes of Relu (refine/bounds/alpha.py) a few steps of
projected gradient descent look for them: with c the coefficient that arrives at an element and v
the value it takes at the corner of the input box where the relaxed bound is attained, moving from a
line to the next moves the bound by c times how far these lines are apart at v. The descent is plain
float64 and proves nothing; the bound of every step is rigorous by itself, and the smallest is kept.
Deterministic: fixed numbers of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from encoders.numbers.enclosure import FloatArray
from encoders.operator import FreeLines
from encoders.program import Step
from refine.bounds.alpha import adam, corners_of, evaluated
from refine.bounds.backward import Lines, Maps, Pulled, pull_back

_RATE, _DECAY = 1.6, 0.95  # of lines, per step


def leave_lines(maps: Maps, target: str) -> tuple[Step, ...]:
    """Steps before the target whose relaxation leaves lines to choose from."""
    found: list[Step] = []
    for step in maps.program.steps:
        if target in step.writes:
            break
        x = maps.values[step.reads[0]] if step.reads else None
        if maps.value_maps[step.name].lines is not None and x is not None and np.any(x.lo < x.hi):
            found.append(step)
    return tuple(found)


def through_best_lines(
    maps: Maps,
    target: str,
    functionals: FloatArray,
    *,
    steps: int,
    late: Callable[[], bool],
    tick: Callable[[], None],
) -> FloatArray:
    """Rigorous upper bounds (k,) of functionals (k, *shape) of a tensor's values; +∞ where no step
    before it leaves lines to choose from."""
    k, chosen, known = len(functionals), dict[str, Lines](), dict[str, FreeLines]()
    upper = np.full(k, np.inf)
    for step in leave_lines(maps, target):
        lines = maps.value_maps[step.name].lines
        assert lines is not None
        known[step.name] = lines()
        middle = (len(known[step.name].bounds) - 1) / 2
        chosen[step.name] = np.full((k, *maps.values[step.output].shape), middle)
    memory: dict[tuple[str, str], tuple[FloatArray, FloatArray]] = {}
    for turn in range(1, steps + 1) if chosen else ():
        seen: dict[str, FloatArray] = {}
        pulled = pull_back(maps, {target: functionals}, {}, tick, lines=chosen, seen=seen)
        upper = np.minimum(upper, pulled.upper)
        if turn == steps or late():
            break
        higher = _at_corner(maps, target, pulled, seen=seen, chosen=chosen, known=known)
        rate = _RATE * _DECAY**turn
        for name, apart in higher.items():
            downhill = np.nan_to_num(seen[name] * apart)
            at = chosen[name] - rate * adam(memory, (name, "at"), downhill, turn)
            chosen[name] = np.clip(at, 0.0, len(known[name].bounds) - 1)
    return upper


def _at_corner(
    maps: Maps,
    target: str,
    pulled: Pulled,
    *,
    seen: Mapping[str, FloatArray],
    chosen: Mapping[str, Lines],
    known: Mapping[str, FreeLines],
) -> dict[str, Any]:
    """At every step with lines, how far the next line is above the chosen one before it, at each
    functional's worst corner of the relaxed network. Approximate."""
    relaxed = corners_of(maps, pulled)
    found: dict[str, Any] = {}
    for step in maps.program.steps:
        if target == step.output:
            break
        if step.name not in seen or step.name not in known:
            relaxed[step.output] = evaluated(step, relaxed)
            continue
        met = known[step.name].met(seen[step.name], chosen[step.name], relaxed[step.reads[0]])
        relaxed[step.output], found[step.name] = met
    return found
