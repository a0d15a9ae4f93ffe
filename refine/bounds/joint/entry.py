"""What maps hold of one step and what it writes, so that it can be bounded in two ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from encoders.lemmas.kernel import Radius
from encoders.lemmas.ranges.range import Range
from encoders.program import Step
from refine.bounds.backward import Maps


@dataclass(frozen=True)
class Entry:
    """The range and radius of what a step writes, and its maps, by the name of each of `Maps`."""

    values: Range
    radius: Radius
    maps: Mapping[str, Any]

    @classmethod
    def of(cls, maps: Maps, step: Step) -> Entry:
        """What is held of the step."""
        held = {name: getattr(maps, name).get(step.name) for name in _OF_STEPS}
        return cls(maps.values[step.output], maps.radii[step.output], held)

    def entered(self, maps: Maps, step: Step) -> None:
        """Put back what was held of the step."""
        for name, known in self.maps.items():
            if known is None:
                getattr(maps, name).pop(step.name, None)
            else:
                getattr(maps, name)[step.name] = known

    def left(self, maps: Maps, step: Step) -> None:
        """Hold nothing of the step: what another in its place is not asked for stays unknown."""
        for name in self.maps:
            getattr(maps, name).pop(step.name, None)

    def better_than(self, other: Entry) -> bool:
        """Are errors and widths clearly less? Of two that are about as good here, the first may
        well be the better one for what lies behind."""
        mine, theirs = self._sizes, other._sizes
        if not np.isfinite(theirs[0] * theirs[1]):
            return bool(np.isfinite(mine[0] * mine[1]))
        return mine[0] * mine[1] < _CLEARLY * theirs[0] * theirs[1]

    @property
    def _sizes(self) -> tuple[float, float]:
        """Errors and widths of all elements; of exact runs widths alone."""
        error, wide = np.sum(self.radius.bound), np.sum(self.values.hi - self.values.lo)
        return float(error) or 1.0, float(wide) or 1.0


_CLEARLY = 0.7
_OF_STEPS = (
    "value_maps", "difference_maps", "local", "together", "ellipsoids", "leans", "mixes", "forms",
)  # fmt: skip
