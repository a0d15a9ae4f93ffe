"""All lemmas that are applied to numbers."""

from __future__ import annotations

from encoders.lemmas import combining, differences, operations, products, rounding, sums
from encoders.lemmas.lemma import Lemma

LEMMAS: tuple[Lemma, ...] = (
    *combining.LEMMAS,
    *rounding.LEMMAS,
    *operations.LEMMAS,
    *differences.LEMMAS,
    *products.LEMMAS,
    *sums.LEMMAS,
)
