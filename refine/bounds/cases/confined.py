"""How large functionals of differences are over the inputs that make a case of slopes possible.

Roundings are what lines over real numbers say (`Maps.lines`), so that functionals of differences
and of values are carried back together; the case confines the real network
(refine/bounds/cases/feasible.py), which enters with multipliers (lemma `phase-multiplier`).
Multipliers and lower slopes are looked for by a few steps of descent, which prove nothing; the
bound of every step is rigorous by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from encoders.numbers.enclosure import FloatArray
from encoders.operator import SlopeChoice
from refine.bounds.alpha import adam, at_corner, corners_of
from refine.bounds.backward import FixedSlopes, Maps, Pulled, pull_back
from refine.bounds.cases.feasible import confinement, unit_of

_STEPS = 32
_RATE, _DECAY = 0.6, 0.95


Tried = Mapping[str, SlopeChoice]
"""Per step, what was chosen of it in each case."""
Corner = Mapping[str, FloatArray]
"""Per input, a number for each of its elements."""


@dataclass(frozen=True)
class Confined:
    """Functionals (k, *shape) of a tensor's differences, each in a case of slopes."""

    maps: Maps
    target: str
    functionals: FloatArray
    fixed: Mapping[str, FixedSlopes]

    def nothing_tried(self) -> dict[str, SlopeChoice]:
        """What the cases confine, with multipliers 0."""
        found = {}
        for step in self.maps.program.steps:
            if step.name in self.fixed and self.maps.value_maps[step.name].choice is not None:
                start = confinement(self.maps, step, self.fixed[step.name])
                none = np.zeros(start.phase.shape)
                found[step.name] = SlopeChoice(start.low_slope, start.phase, none, start.slack)
        return found

    def bounded(
        self, tried: Tried, tick: Callable[[], None] = lambda: None
    ) -> tuple[FloatArray, Tried]:
        """Upper bounds (k,), and what gave them. The descent begins at what was `tried`."""
        steps = [step for step in self.maps.program.steps if step.name in tried]
        units = {step.name: unit_of(self.maps, step) for step in steps}
        memory: dict[tuple[str, str], tuple[FloatArray, FloatArray]] = {}
        best, choices, kept = np.full(len(self.functionals), np.inf), tried, tried
        for number in range(1, _STEPS + 1):
            seen: dict[str, FloatArray] = {}
            pulled = self._pulled(choices, seen, tick)
            kept = _where(pulled.upper < best, choices, kept)
            best = np.minimum(best, pulled.upper)
            if number == _STEPS or not steps:
                break
            arriving, _ = at_corner(self.maps, steps[-1].output, pulled, seen, choices)
            rate, moved = _RATE * _DECAY**number, dict[str, SlopeChoice]()
            for name, choice in choices.items():
                v, c, unit = arriving[name], seen[name], units[name]
                size = np.maximum(best, 0.0).reshape(-1, *(1,) * (c.ndim - 1)) * unit
                push = (choice.phase * v + choice.slack) * unit
                move = rate * size * adam(memory, (name, "multiplier"), push, number)
                held = np.where(choice.phase != 0, np.maximum(choice.multiplier - move, 0.0), 0.0)
                downhill = np.where(choice.phase == 0, np.minimum(c, 0.0) * v, 0.0)
                slope = choice.low_slope - rate * adam(memory, (name, "slope"), downhill, number)
                moved[name] = SlopeChoice(slope, choice.phase, held, choice.slack)
            choices = moved
        return best, kept

    def loudest_input(self, tried: Tried) -> Corner:
        """Where the bound of the only functional is attained."""
        corners = corners_of(self.maps, self._pulled(tried, {}, lambda: None))
        return {name: corner[0] for name, corner in corners.items()}

    def _pulled(
        self, choices: Tried, seen: dict[str, FloatArray], tick: Callable[[], None]
    ) -> Pulled:
        outputs = {s.name: s.output for s in self.maps.program.steps}
        return pull_back(
            self.maps,
            {outputs[name]: np.zeros(choice.phase.shape) for name, choice in choices.items()},
            {self.target: self.functionals},
            tick,
            choices=choices,
            seen=seen,
            fixed=self.fixed,
            lined=True,
        )


def _where(better: npt.NDArray[np.bool_], new: Tried, old: Tried) -> Tried:
    """The new choices in the cases that are better."""
    found = {}
    for name, choice in new.items():
        at = better.reshape(-1, *(1,) * (choice.low_slope.ndim - 1))
        low = np.where(at, choice.low_slope, old[name].low_slope)
        multiplier = np.where(at, choice.multiplier, old[name].multiplier)
        found[name] = SlopeChoice(low, choice.phase, multiplier, choice.slack)
    return found
