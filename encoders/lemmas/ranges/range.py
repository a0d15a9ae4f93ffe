"""The real range of a tensor: an interval that only the kernel makes, with the application it is
from."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import numpy as np

from encoders.lemmas.application import Application
from encoders.numbers.enclosure import FloatArray, Interval, highest, lowest


class _Key:
    """What a range asks to see of whoever makes it; there is one, which the kernel shows."""


_RANGE_KEY = _Key()


@final
class Range(Interval):
    """Real values lie in [lo, hi], element by element; infinite where nothing is known, never NaN.

    A lower end of +∞, or an upper one of −∞, is what an overflow leaves: nothing is known there.

    Raises TypeError when made by anything but `encoders/lemmas/kernel.py`.
    """

    __slots__ = ("_record",)
    _record: Application

    def __init__(self, key: object, lo: FloatArray, hi: FloatArray, record: Application) -> None:
        if key is not _RANGE_KEY:
            raise TypeError("a range is made by applying a lemma (encoders/lemmas)")
        super().__init__(*map(only_read, known_ends(lo, hi)))
        object.__setattr__(self, "_record", record)

    def __init_subclass__(cls) -> None:
        raise TypeError("a range is made by applying a lemma (encoders/lemmas)")

    @property
    def record(self) -> Application:
        return self._record

    def __copy__(self) -> Range:
        return self

    def __deepcopy__(self, memo: object) -> Range:
        return self

    def __reduce__(self) -> tuple[Callable[..., Interval], tuple[FloatArray, FloatArray]]:
        """Another process knows the numbers."""
        return Interval, (self.lo, self.hi)


def known_ends(lo: FloatArray, hi: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Infinite ends where one is no number, or says what an overflow leaves."""
    lo = lo if highest(lo) < np.inf else np.where(lo < np.inf, lo, -np.inf)
    hi = hi if lowest(hi) > -np.inf else np.where(hi > -np.inf, hi, np.inf)
    return lo, hi


def only_read(numbers: FloatArray) -> FloatArray:
    """These very numbers, which nobody who sees them can change: a view of them can be written to
    again where what it is of can."""
    held = np.asarray(numbers)
    owner = held
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    owner.setflags(write=False)
    held.setflags(write=False)
    return held.view()
