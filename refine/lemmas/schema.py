"""All schema lemmas: the steps over the reals that bounds are made of."""

from __future__ import annotations

from refine.lemmas import activations, algebra, any_order, functions, nodes, reading, sums
from refine.lemmas.lemma import Lemma

LEMMAS: tuple[Lemma, ...] = (
    reading.LEMMAS
    + sums.LEMMAS
    + any_order.LEMMAS
    + nodes.LEMMAS
    + activations.LEMMAS
    + functions.LEMMAS
    + algebra.LEMMAS
)
