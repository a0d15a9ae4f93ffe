"""All schema lemmas: the steps over the reals that bounds are made of."""

from __future__ import annotations

from refine.lemmas import activations, algebra, functions, nodes, sums
from refine.lemmas.lemma import Lemma

LEMMAS: tuple[Lemma, ...] = (
    sums.LEMMAS + nodes.LEMMAS + activations.LEMMAS + functions.LEMMAS + algebra.LEMMAS
)
