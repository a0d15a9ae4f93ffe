"""Where the limits of an unsafe set's conjunctions meet boxes, decided by a lemma's hypotheses.

A conjunction asks for inputs between its limits; a box has inputs between its ends. No input meets
both where the least that one of them asks for is beyond the most that one of them allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import numpy.typing as npt

from encoders.lemmas.claims import UNMET
from encoders.lemmas.kernel import Radius, apply, exactly, known_at
from encoders.numbers.enclosure import BoolArray, FloatArray
from onnx_import.graph import Graph
from refine.bounds.network import InputBox
from refine.domain.properties import Conjunction
from refine.domain.vnnlib import Half


@dataclass(frozen=True)
class Limits:
    """`unmet`, of shape (conjunctions, boxes), is 0 where no input of the box meets the limits of
    the conjunction; nothing is known elsewhere."""

    unmet: Radius

    @cached_property
    def met(self) -> BoolArray:
        """Where an input may meet them."""
        return self.unmet.bound > 0.0

    def why_not(self, box: int) -> list[Radius]:
        """What conjunctions lack whose limits no input of the box meets; nothing where all may be
        met."""
        places = np.flatnonzero(~self.met[:, box]) * self.unmet.shape[1] + box
        return [self.unmet.taken(places)] if len(places) else []


def limits_of(unsafe: Sequence[Conjunction], boxes: Sequence[InputBox], graph: Graph) -> Limits:
    """Which boxes have an input within the limits of which conjunctions."""

    def ends(box: InputBox, side: str) -> FloatArray:
        sides = [getattr(box.values[name], side).reshape(-1) for name in graph.inputs]
        return np.concatenate([*sides, np.zeros(0)])

    lo, hi = (np.stack([ends(box, side) for box in boxes]) for side in ("lo", "hi"))
    shape = len(unsafe), len(boxes)
    least, most, opened = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    found, parts = np.zeros(shape, np.bool_), list[tuple[npt.NDArray[np.intp], Radius]]()
    every = np.arange(len(boxes))
    for k, part in enumerate(unsafe):
        none, sides = part.emptied, part.sides
        if none is not None:
            parts.append((every + k * len(boxes), _empty(none).on((len(boxes),))))
        elif len(sides.at):
            from_ = np.where(sides.least, sides.end, lo[:, sides.at])
            upto = np.where(sides.least, hi[:, sides.at], sides.end)
            beyond = np.where(sides.apart, upto <= from_, upto < from_)
            one = len(sides.at) - 1 - np.argmax(beyond[:, ::-1], axis=1)
            found[k] = beyond[every, one]
            least[k], most[k] = from_[every, one], upto[every, one]
            opened[k] = sides.apart[one]
    places = np.flatnonzero(found)
    if len(places):
        low, high, apart = (a.reshape(-1)[places] for a in (least, most, opened))
        parts.append((places, apply(UNMET, least=low, upto=high, open=apart)))
    return Limits(known_at(shape, parts))


def _empty(half: Half) -> Radius:
    """That nothing lies between the sides of a limit."""
    assert half.lo is not None
    assert half.hi is not None
    apart = Fraction(int(half.lo_open or half.hi_open))
    return exactly(UNMET, least=half.lo, upto=half.hi, open=apart)
