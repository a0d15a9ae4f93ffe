"""Where a layer that bends does one exact thing: signs that are known, and numbers that are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from encoders.numbers.enclosure import BoolArray, FloatArray, Interval
from encoders.numbers.leaning import Flat, Ordered
from encoders.program import Step
from refine.pair.quantised.through import Through, minus

_TOGETHER = 64
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


def undecided(x: Interval, held: Interval) -> BoolArray:
    """Elements of which it is not known, of the original's or the copy's, on which side of zero
    they are."""
    return np.asarray(np.any([(v.lo < 0.0) & (v.hi > 0.0) for v in (x, held)], axis=0))


def ordered(x: Interval, upper: Callable[[FloatArray], FloatArray], most: int) -> Ordered:
    """Ranges of numbers that a step chooses among, which may be compared; `upper` bounds
    functionals of their real and run-time values, no more than so many at once."""

    def above(first: Flat, second: Flat) -> FloatArray:
        found = np.full(len(first), np.inf)
        if len(first) <= most:
            for start in range(0, len(first), _TOGETHER):
                part = slice(start, start + _TOGETHER)
                c = np.zeros((len(first[part]), x.lo.size))
                rows = np.arange(len(c))
                c[rows, first[part]], c[rows, second[part]] = 1.0, -1.0
                found[part] = upper(c.reshape(len(c), *x.lo.shape))
        return found

    return Ordered(x.lo, x.hi, above)


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
