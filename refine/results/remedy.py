"""What would make a bound smaller, node by node. Data only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class RemedyKind(Enum):
    """What is changed of a node: how precisely it computes, in which order it adds, or how far its
    inputs range."""

    PRECISION = "precision"
    ORDER = "order"
    RANGE = "range"


@dataclass(frozen=True)
class Remedy:
    """One change to one node, in words, and the bound it would give.

    `bound` is what the account of the shares comes to where this node costs that much less. Over a
    domain that was not split the same proof gives it; over one that was it is an estimate.
    """

    node: str
    op: str
    kind: RemedyKind
    change: str
    bound: float
