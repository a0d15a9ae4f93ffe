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
from itertools import pairwise
from typing import Any

import numpy as np

from encoders.numbers.enclosure import FloatArray
from encoders.operator import FreeLines
from encoders.program import Step
from refine.bounds.alpha import adam, corners_of, evaluated
from refine.bounds.backward import Lines, Maps, Pulled, pull_back

_RATE, _DECAY = 0.8, 0.92  # of lines, per step


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
        start = np.full((k, *maps.values[step.output].shape), middle)
        chosen[step.name] = (start, start)
    memory: dict[tuple[str, str], tuple[FloatArray, FloatArray]] = {}
    for turn in range(1, steps + 1) if chosen else ():
        seen: dict[str, FloatArray] = {}
        pulled = pull_back(maps, {target: functionals}, {}, tick, lines=chosen, seen=seen)
        upper = np.minimum(upper, pulled.upper)
        if turn == steps or late():
            break
        values = _at_corner(maps, target, pulled, seen=seen, chosen=chosen, known=known)
        rate = _RATE * _DECAY**turn
        for name, v in values.items():
            c, (over, under), bounds = seen[name], chosen[name], known[name].bounds
            last = len(bounds) - 1
            up = np.maximum(c, 0.0) * _apart(over, v, [(b.high_slope, b.high) for b in bounds])
            down = np.minimum(c, 0.0) * _apart(under, v, [(b.low_slope, b.low) for b in bounds])
            over = over - rate * adam(memory, (name, "over"), np.nan_to_num(up), turn)
            under = under - rate * adam(memory, (name, "under"), np.nan_to_num(down), turn)
            chosen[name] = (np.clip(over, 0.0, last), np.clip(under, 0.0, last))
    return upper


def _apart(at: FloatArray, v: Any, lines: list[tuple[FloatArray, FloatArray]]) -> FloatArray:
    """How far the next line is above the one before it at v, where the mean lies between them."""
    found = np.zeros_like(at)
    for place, ((slope, offset), (after, next_)) in enumerate(pairwise(lines)):
        here = (at >= place) & ((at < place + 1) | (place == len(lines) - 2))
        found = np.where(here, (after - slope) * v + (next_ - offset), found)
    return found


def _mean(at: FloatArray, v: Any, lines: list[tuple[FloatArray, FloatArray]]) -> FloatArray:
    found = np.zeros_like(at)
    for place, (slope, offset) in enumerate(lines):
        weight = np.maximum(1.0 - np.abs(at - place), 0.0)
        found += np.where(weight > 0, weight * (slope * v + offset), 0.0)
    return found


def _at_corner(
    maps: Maps,
    target: str,
    pulled: Pulled,
    *,
    seen: Mapping[str, FloatArray],
    chosen: Mapping[str, Lines],
    known: Mapping[str, FreeLines],
) -> dict[str, Any]:
    """What arrives at every step with lines, at each functional's worst corner of the relaxed
    network. Approximate."""
    relaxed = corners_of(maps, pulled)
    arriving: dict[str, Any] = {}
    for step in maps.program.steps:
        if target == step.output:
            break
        if step.name not in seen or step.name not in known:
            relaxed[step.output] = evaluated(step, relaxed)
            continue
        v = arriving[step.name] = relaxed[step.reads[0]]
        (over, under), bounds = chosen[step.name], known[step.name].bounds
        above = _mean(over, v, [(b.high_slope, b.high) for b in bounds])
        below = _mean(under, v, [(b.low_slope, b.low) for b in bounds])
        relaxed[step.output] = np.where(seen[step.name] > 0, above, below)
    return arriving
