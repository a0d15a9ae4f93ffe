"""Where a layer that bends does one exact thing: signs that are known, and numbers that are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from encoders.numbers.enclosure import Interval
from encoders.program import Step
from refine.pair.quantised.through import Through, minus

_KNOWN = 2.0**-6  # of a difference's bound: a range this narrow is as good as a number


def phases(step: Step, through: Through, x: Interval, held: Interval) -> Through | None:
    """Where the signs of x and x̂ are known, a Relu does one of four exact things."""
    if step.operator.likeness.limits(step.site) != (0.0, np.inf):
        return None
    up, down = x.lo >= 0, x.hi <= 0
    run_up, run_down = held.lo >= 0, held.hi <= 0
    known = (up | down) & (run_up | run_down)
    on_d = np.where(known & run_up, 1.0, 0.0)
    on_x = np.where(known, np.where(run_up, 1.0, 0.0) - np.where(up, 1.0, 0.0), 0.0)
    return replace(through, kept=~known, on_d=on_d, on_x=on_x)


def cut(step: Step, through: Through, after: Interval, meant: Interval) -> Through:
    """Where x and x̂ are known so well that d is, through a layer that bends, take it as it is:
    what depends on nothing but its range is lost nowhere else."""
    if step.affine or through.moved is None:
        return through
    apart = minus(after, meant)
    size = through.moved.radius.bound
    cut = (apart.hi - apart.lo) <= _KNOWN * size
    # what other constants give through `shift` is part of d: it is left to all elements or to none
    if not np.any(cut) or (through.shift is not None and not np.all(cut)):
        return through
    kept = ~cut if through.kept is None else through.kept & ~cut
    range_ = Interval(np.where(cut, apart.lo, 0.0), np.where(cut, apart.hi, 0.0))
    if through.range is not None:
        rest = through.range
        range_ = Interval(np.where(cut, range_.lo, rest.lo), np.where(cut, range_.hi, rest.hi))
    noise = through.noise
    if noise is not None:
        noise = noise.on(cut.shape).times(np.where(cut, 0.0, 1.0))
    on_d, on_x = (
        None if v is None else np.where(cut, 0.0, v) for v in (through.on_d, through.on_x)
    )
    return replace(through, kept=kept, range=range_, noise=noise, on_d=on_d, on_x=on_x, shift=None)
