"""Margins over the reals that somebody else found, carried over to what runs.

Where at each real input of a box some row of a conjunction has c·y − d above a margin, and no
execution is more than m below the real network in any of these rows, no execution reaches the
conjunction if the margin is above m. The margins themselves are not proved here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.lemmas.claims import STRICTLY_OUT_OF_REACH, TRUSTED_MARGIN
from encoders.lemmas.kernel import Radius, apply, exactly
from onnx_import.graph import Graph
from refine.bounds.alpha import Branching
from refine.bounds.network import InputBox, Known, Margin, NetworkBounds
from refine.bounds.properties.deficits import DEFICIT, LEAST, deficit_of
from refine.bounds.properties.limits import limits_of
from refine.bounds.properties.margins import Margins
from refine.bounds.properties.row_errors import ROWS, RowErrors
from refine.domain.leaves import TrustedMargin


@dataclass(frozen=True)
class TrustedBox:
    """What is trusted over a box."""

    box: InputBox
    margins: tuple[TrustedMargin, ...]

    def holds(self, other: InputBox) -> bool:
        """Does the other box lie within it?"""
        return all(
            bool(np.all(x.lo <= other.values[name].lo) and np.all(other.values[name].hi <= x.hi))
            for name, x in self.box.values.items()
        )


@dataclass(frozen=True)
class Trusting:
    """The problem of a property where margins over the reals are trusted in some boxes."""

    margins: Margins
    trusted: tuple[TrustedBox, ...]
    single: bool = False

    @property
    def graph(self) -> Graph:
        """That of the property."""
        return self.margins.graph

    @property
    def contract(self) -> RuntimeContract:
        """That of the property."""
        return self.margins.contract

    @cached_property
    def _rows(self) -> RowErrors:
        return RowErrors(self.graph, self.contract, self.margins.unsafe)

    def bounds(
        self,
        box: InputBox,
        backward: bool = True,
        tick: Callable[[], None] = lambda: None,
        known: Known | None = None,
        branching: Branching | None = None,
    ) -> NetworkBounds:
        """As of the property, but that a conjunction is out of reach where a trusted margin is
        above what executions take of its rows."""
        found = self.margins.bounds(box, backward, tick, known, branching)
        opened = [m for m in found.margins if not m.safe]
        trusted = [t for one in self.trusted if one.holds(box) for t in one.margins]
        if not opened or not trusted:
            return found
        moved = self._rows.bounds(box, backward, tick, known, branching).radii[ROWS]
        unsafe = self.margins.unsafe.unsafe
        lacking = [
            *(self._lacks(m, trusted, moved) for m in opened),
            *(m.lacks for m in found.margins if m.safe and m.lacks is not None),
            *limits_of(unsafe, [box], self.graph).why_not(0),
        ]
        return replace(found, radii={DEFICIT: deficit_of(lacking)})

    def _lacks(self, margin: Margin, trusted: Sequence[TrustedMargin], moved: Radius) -> Radius:
        """What a conjunction lacks: nothing where a trusted margin of it is above the errors of the
        rows it speaks of."""
        parts = self.margins.unsafe.unsafe
        first = sum(len(part.rows) for part in parts[: margin.conjunction])
        of_rows = first + np.arange(len(parts[margin.conjunction].rows))
        for given in (t for t in trusted if t.conjunction == margin.conjunction):
            needed = of_rows if given.row is None else of_rows[[given.row]]
            if len(needed):
                taken = moved.taken(needed)
                lacks = exactly(TRUSTED_MARGIN, margin=Fraction(given.margin), e=taken)
                if lacks.largest == 0.0:
                    return lacks
        lack = max(-margin.run, LEAST)
        return apply(STRICTLY_OUT_OF_REACH, floor=-np.inf, most=0.0, lack=lack)
