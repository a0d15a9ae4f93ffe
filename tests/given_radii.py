"""Radii of any numbers, for tests: what `given-error` would give if it did not look at the sign."""

from __future__ import annotations

from encoders.lemmas.differences import GIVEN_ERROR
from encoders.lemmas.kernel import Radius, apply
from encoders.lemmas.lemma import Lemma
from encoders.lemmas.terms import number, value, within
from encoders.numbers.enclosure import FloatArray

_off, _told = value("d"), number("U", signed=True)
TOLD = Lemma(
    GIVEN_ERROR.name,
    GIVEN_ERROR.statement,
    GIVEN_ERROR.source,
    hypotheses=(),
    assumed=(within(_off, _told),),
    error=_off,
    radius=_told,
)


def off_by(bound: FloatArray) -> Radius:
    """A radius of these numbers; of those that are no bounds, what the kernel makes of them."""
    return apply(TOLD, U=bound)
