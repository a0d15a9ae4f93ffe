"""How two graphs are related, and where they differ."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Relation(Enum):
    """How two graphs are related, as far as that was shown."""

    SAME_BITS = "the same bits"
    EQUAL = "equal over the reals"
    CONSTANTS = "equal but for constants"
    PLACES = "equal but for some places"
    GRIDS = "layer by layer, on grids"
    APART = "not related"


class DifferenceKind(Enum):
    """What differs at a place."""

    CONSTANTS = "constants"
    OPERATOR = "operator"
    PART = "part"


@dataclass(frozen=True)
class Difference:
    """A place at which two graphs differ: the nodes of either there, and what it comes to.

    `largest` bounds the difference there, before what follows; `effect` is its share of the largest
    bound of an output, in the output's units. `text` says it with formulas and constants.
    """

    spec: tuple[str, ...]
    impl: tuple[str, ...]
    kind: DifferenceKind
    effect: float
    largest: float
    text: str


@dataclass(frozen=True)
class Compared:
    """How two graphs are related, and where they differ, by the largest effect first."""

    relation: Relation
    differences: tuple[Difference, ...] = ()
