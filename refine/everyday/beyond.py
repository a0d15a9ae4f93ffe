"""Numbers held against where exact values lie and how far from these is allowed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.numbers.enclosure import FloatArray, Interval, add_up


@dataclass(frozen=True)
class Beyond:
    """Of `count` numbers that are further from their exact values than allowed, the one that is so
    by the largest factor, `times`: `off` is at most its distance from [`low`, `high`]."""

    count: int
    index: tuple[int, ...]
    given: float
    low: float
    high: float
    off: float
    allowed: float
    times: float


def furthest_beyond(exact: Interval, allowed: FloatArray, given: FloatArray) -> Beyond | None:
    """The number that is furthest beyond what is allowed; None where none is. All arrays have the
    shape of `given`. Nothing is beyond an infinite `allowed`; elsewhere what is not finite is."""
    with np.errstate(all="ignore"):
        off = np.maximum(-add_up(exact.hi, -given), -add_up(-exact.lo, given))
        outside = np.isfinite(allowed) & ((off > allowed) | ~np.isfinite(given))
        times = np.where(outside, np.where(np.isnan(off), np.inf, off / allowed), 0.0)
    if not np.any(outside):
        return None
    at = tuple(int(i) for i in np.unravel_index(int(np.argmax(times)), times.shape))
    return Beyond(
        count=int(np.sum(outside)),
        index=at,
        given=float(given[at]),
        low=float(exact.lo[at]),
        high=float(exact.hi[at]),
        off=float(off[at]),
        allowed=float(allowed[at]),
        times=float(times[at]),
    )
