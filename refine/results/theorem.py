"""The theorem that `verified` says: no such answer can be made without one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from encoders.lemmas.application import Application
from encoders.lemmas.claims import WITHIN_TOLERANCE
from encoders.lemmas.kernel import Radius, exactly
from encoders.numbers.enclosure import FloatArray


@dataclass(frozen=True)
class Theorem:
    """Of every input of the domain: no output is off by more than its radius and, where an ε is
    claimed of it, by more than that, which is what the lemma `within-tolerance` gives of it.

    Raises ValueError for a bound that is not finite, or that nothing shows to be within its ε, and
    where there is no bound at all.
    """

    bounds: Mapping[str, Radius]
    within: Mapping[str, Radius]

    def __post_init__(self) -> None:
        if not self.bounds:
            raise ValueError("nothing is proved of any output")
        for output, radius in self.bounds.items():
            if not radius.largest < np.inf:
                raise ValueError(f"nothing is proved of output '{output}'")
        for output, shown in self.within.items():
            here, bound = shown.record, self.bounds[output].record
            if here.lemma is not WITHIN_TOLERANCE or here.failed is not None:
                raise ValueError(f"the bound of output '{output}' is not shown to be at most ε")
            if not any(premise is bound for premise in here.everything()):
                raise ValueError(f"what is at most ε is no bound of output '{output}'")

    @property
    def records(self) -> Mapping[str, Application]:
        """By output, the last application: of the comparison with ε, or of its bound."""
        return {t: self.within.get(t, radius).record for t, radius in self.bounds.items()}

    @property
    def epsilons(self) -> Mapping[str, Fraction]:
        """The ε that each output is within, where there is one."""
        place = [p.name for p in WITHIN_TOLERANCE.read].index("eps")
        return {t: Fraction(shown.record.numbers[place]) for t, shown in self.within.items()}

    def shows(
        self,
        bounds: Mapping[str, FloatArray],
        epsilons: Mapping[str, Fraction | None] | None = None,
    ) -> bool:
        """Are these bounds at least what is proved, and is each output within its ε here?"""
        held = all(
            t in self.bounds and bool(np.all(b >= self.bounds[t].bound)) for t, b in bounds.items()
        )
        return held and (epsilons is None or self.epsilons == epsilons)


def theorem(
    radii: Mapping[str, Radius], epsilons: Mapping[str, Fraction | None] | None
) -> Theorem | None:
    """That each radius is at most the ε of its output, decided on rational numbers, or that it is
    finite where no ε is asked of any; None where that is not so, or an output has no ε."""
    if not all(radius.largest < np.inf for radius in radii.values()):
        return None
    within = dict[str, Radius]()
    for output, radius in radii.items() if epsilons is not None else ():
        epsilon = None if epsilons is None else epsilons.get(output)
        if epsilon is None:
            return None
        within[output] = exactly(WITHIN_TOLERANCE, e=radius, eps=epsilon)
        if within[output].record.failed is not None:
            return None
    return Theorem(radii, within)
