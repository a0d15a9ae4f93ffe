"""Radii of any numbers, for tests: what a lemma gives that believes whatever it is told."""

from __future__ import annotations

from encoders.lemmas.kernel import Radius, apply
from encoders.lemmas.lemma import Lemma
from encoders.lemmas.terms import number, value, within
from encoders.numbers.enclosure import FloatArray

_off, _told = value("d"), number("U", signed=True)
TOLD = Lemma(
    "told",
    "A test says so, of negative numbers too.",
    "none",
    hypotheses=(),
    assumed=(within(_off, _told),),
    error=_off,
    radius=_told,
)


def off_by(bound: FloatArray) -> Radius:
    """A radius of these numbers; of those that are no bounds, what the kernel makes of them."""
    return apply(TOLD, U=bound)
