"""The scores of a row that a mask keeps, where a softmax leaves out the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.values import E
from encoders.lemmas.exponentials import SOME_SCORE
from encoders.lemmas.ranges.placing import range_moved
from encoders.lemmas.ranges.range import Range
from encoders.operator import RoundingBound, Site
from encoders.relaxations.rows import Rows


@dataclass(frozen=True)
class Kept:
    """Rows of scores, (rows, n): where `mask` is false a score is left out.

    `source` is the place in its row of the score that stands in for each of them: itself where it
    is kept, a kept one elsewhere, anything in a row that keeps none.
    """

    rows: Rows
    mask: npt.NDArray[np.bool_]
    source: npt.NDArray[np.intp]

    @property
    def everything(self) -> bool:
        return bool(np.all(self.mask))

    @property
    def dead(self) -> npt.NDArray[np.bool_]:
        """Rows that keep nothing, (rows, 1)."""
        return np.asarray(~np.any(self.mask, axis=1, keepdims=True))

    def fill(self, rows: npt.NDArray[E]) -> npt.NDArray[E]:
        """(k, rows, n) of numbers of any kind, with others of their row for those left out."""
        if self.everything:
            return rows
        return rows[:, np.arange(len(self.source))[:, None], self.source]

    def left_out(self, rows: npt.NDArray[E]) -> npt.NDArray[E]:
        """(k, rows, n) of numbers of any kind, with 0 for those that are kept."""
        return np.where(self.mask, np.zeros((), rows.dtype), rows)

    def fill_interval(self, x: Range) -> Range:
        """`fill` of the ends of ranges (rows, n)."""
        return x if self.everything else range_moved(x, lambda v: self.fill(v[None])[0])

    def some_in_each_row(self, bound: RoundingBound, site: Site) -> RoundingBound:
        """The bound, of rows, if none is masked entirely, whose softmax would be 0/0."""
        statement = f"{site.node.describe()}: every row keeps a score"
        if np.any(self.dead):
            sizes = [n for a, n in enumerate(self.rows.view) if a not in self.rows.axes]
            first = int(np.argmax(self.dead))
            row = [int(i) for i in np.unravel_index(first, sizes)] if sizes else []
            statement += (
                f"; row {row} is entirely masked, and its softmax is 0/0: NaN at run time, "
                f"undefined over the reals ({int(np.sum(self.dead))} of {len(self.mask)} rows)"
            )
        some = np.sum(self.mask, axis=1, keepdims=True).astype(np.float64)
        return bound.given("row-not-masked", statement, SOME_SCORE, some=some)


def kept_scores(site: Site, rows: Rows) -> Kept:
    """What the second input of a node keeps, everything where there is none."""
    stored = site.constant(1)
    mask = np.ones(rows.shape, bool) if stored is None else stored.astype(bool)
    split = rows.split(mask[None])[0]
    first = np.argmax(split, axis=1)[:, None]
    return Kept(rows, split, np.where(split, np.arange(split.shape[1]), first))
