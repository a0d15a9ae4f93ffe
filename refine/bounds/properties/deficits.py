"""What the margin of a property lacks: decided on rational numbers, by lemmas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from encoders.lemmas.claims import (
    NOTHING_UNSAFE,
    OUT_OF_REACH,
    STRICTLY_OUT_OF_REACH,
    SUM_OUT_OF_REACH,
)
from encoders.lemmas.kernel import Radius, exactly, exactly_zero, nothing_known, worst_of
from refine.bounds.network import Margin
from refine.domain.properties import Row

DEFICIT = "property"
"""What stands for the outputs in the bounds of a property: how much its margin lacks."""
LEAST = 2.0**-900  # of a deficit that is there


def beyond(floor: Fraction, row: Row) -> bool:
    """Lies every value of the row's left side beyond what it allows, exactly?"""
    return floor >= row.at_most if row.strict else floor > row.at_most


@dataclass(frozen=True)
class Option:
    """A row of a conjunction, or a sum of its rows, and what its left side is at least; None where
    nothing is known."""

    place: int
    row: Row
    floor: Fraction | None
    run: float
    real: float
    summed: bool = False

    @property
    def out_of_reach(self) -> bool:
        """Is it so, by these numbers?"""
        return self.floor is not None and beyond(self.floor, self.row)

    @property
    def lacks(self) -> Radius:
        """By how much it may be reached, at most."""
        lack = max(-self.run, LEAST)
        if self.floor is None or not (self.out_of_reach or np.isfinite(lack)):
            return nothing_known(())
        lemma = STRICTLY_OUT_OF_REACH if self.row.strict else OUT_OF_REACH
        if self.summed:
            lemma = SUM_OUT_OF_REACH
        lack = lack if np.isfinite(lack) else LEAST
        return exactly(lemma, floor=self.floor, most=self.row.at_most, lack=Fraction(lack))


def best_of(conjunction: int, options: Sequence[Option]) -> tuple[Margin, Radius]:
    """The row that stays out of reach by most, and what it lacks."""
    best = max(options, key=lambda o: (o.out_of_reach, o.run), default=None)
    if best is None:
        return Margin(conjunction, -1, -np.inf, -np.inf, False), nothing_known(())
    lacks = best.lacks
    safe = lacks.largest == 0.0
    return Margin(conjunction, best.place, best.run, best.real, safe, lacks), lacks


def deficit_of(lacking: Sequence[Radius]) -> Radius:
    """What a property's margin lacks where its conjunctions lack so much; of one element."""
    lacks = worst_of(lacking) if lacking else exactly_zero(NOTHING_UNSAFE, ())
    return lacks.on((1,))


def deficit_in(margin: Margin) -> float:
    """What one conjunction lacks, as a number to compare."""
    return 0.0 if margin.safe else max(-margin.run, LEAST)
