"""Tensors whose numbers move together: ranges that know affine forms in shared unknowns."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from encoders.numbers.enclosure import FloatArray, Interval, add_up, sum_up


@dataclass(frozen=True)
class Forms:
    """A tensor lies in `middle` + `moves`·t ± `rest` for one t with |t| ≤ 1: arrays of its shape,
    of `moves` (*shape, m). Exact: no rounding is left out of `rest`."""

    middle: FloatArray
    moves: FloatArray
    rest: FloatArray

    @cached_property
    def moved(self) -> FloatArray:
        """How far t alone takes each number."""
        return sum_up(np.abs(self.moves), axis=-1)

    @property
    def wide(self) -> FloatArray:
        """How far numbers are from the middle."""
        return add_up(self.moved, self.rest)

    def around(self, middle: FloatArray) -> Forms:
        """The same, told from other middles."""
        off = np.abs(self.middle - middle) * (1.0 + 2.0**-50)
        return Forms(middle, self.moves, add_up(self.rest, off))


@dataclass(frozen=True)
class Formed(Interval):
    """Ranges of a tensor that these forms enclose, too, where there are any."""

    forms: Forms | None = field(default=None, kw_only=True)


def forms_in(x: Interval) -> Forms | None:
    """Those that come with ranges, if any."""
    return x.forms if isinstance(x, Formed) else None
