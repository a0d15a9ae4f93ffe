"""An error found above the bound proved: one of the two is wrong, and nothing may be claimed.

The search evaluates an execution exactly, and the proof bounds every execution: that they disagree
is a bug of this program, never a property of the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction

import numpy as np

from encoders.numbers.enclosure import FloatArray
from refine.bounds.properties.deficits import DEFICIT
from refine.common.rounding import float_down
from refine.results.numerals import down, up
from refine.results.verdict import Tolerance, Witness
from refine.witness.witness import is_violation, violates


def contradiction(bounds: Mapping[str, FloatArray], witnesses: Iterable[Witness]) -> Witness | None:
    """The witness furthest above the proved bound of its own output element, if one is above it.

    A value that is not finite, where a finite bound is proved, is further than any other.
    """
    every = tuple(witnesses)
    within = [w for w in every if w.reached is not None and is_violation(w, Tolerance())]
    if within and DEFICIT in bounds and not np.any(bounds[DEFICIT]):
        return within[0]
    plain = [w for w in every if w.reached is None]
    found = [(w, Fraction(bound)) for w in plain if np.isfinite(bound := _bound(bounds, w))]
    above = [(w, bound) for w, bound in found if violates(w.error, bound)]
    return max(above, key=lambda pair: _excess(*pair), default=(None, None))[0]


def opposition(bounds: Mapping[str, FloatArray], witness: Witness) -> str:
    """In words: what is above what, and where."""
    if witness.reached is not None:
        return (
            "internal contradiction: an execution was found in the unsafe set, which is proved to "
            "be out of reach; one of the two is wrong, and nothing is claimed"
        )
    bound = float(bounds[witness.output][witness.index])
    if witness.error.finite:
        found = f"the error {down(float_down(witness.error.lo), 6)}"
    else:
        found = f"the value {witness.value}"
    return (
        f"internal contradiction: {found} found at {witness.output}{list(witness.index)} exceeds "
        f"the bound {up(bound, 6)} proved there; one of the two is wrong, and nothing is claimed"
    )


def _bound(bounds: Mapping[str, FloatArray], witness: Witness) -> float:
    return float(bounds[witness.output][witness.index])


def _excess(witness: Witness, bound: Fraction) -> tuple[bool, Fraction]:
    return not witness.error.finite, witness.error.lo - bound
