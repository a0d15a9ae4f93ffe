"""Obligations: what has to be true, who showed it, and how. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from encoders.lemmas.application import Application


class Kind(Enum):
    """The four kinds of obligation, and the joints between them."""

    FORMAT = "format"
    SCHEMA = "schema"
    INSTANCE = "instance"
    FLOATING_POINT = "floating-point"
    COMPOSITION = "composition"


class Discharger(Enum):
    """Who decided an obligation."""

    Z3 = "z3"
    CACHE = "z3 (cached)"
    ENCLOSURE = "outward-rounded evaluation"
    NONE = "nobody"


class Outcome(Enum):
    """What came of it. Only DISCHARGED supports a `verified`."""

    DISCHARGED = "discharged"
    REFUTED = "refuted"
    VACUOUS = "vacuous"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Obligation:
    """One thing that has to hold, after somebody tried to show it.

    `node` is the node it belongs to, empty for lemmas. `hypotheses` and `goal` are text for
    people; `smt2` is the query put to Z3 (expecting unsat), `smt2_hypotheses` the question whether
    the hypotheses can hold at all (expecting sat); both empty where Z3 was not asked. `point` has
    what Z3's counterexample says of tensor elements, by tensor and flat position. `application` is
    that of a lemma, whose numbers and premises were checked where the bound was made.
    """

    name: str
    kind: Kind
    goal: str
    outcome: Outcome
    discharger: Discharger
    seconds: float
    node: str = ""
    hypotheses: tuple[str, ...] = ()
    detail: str = ""
    smt2: str = ""
    smt2_hypotheses: str = ""
    point: Mapping[tuple[str, int], float] = field(default_factory=dict)
    application: Application | None = None

    @property
    def discharged(self) -> bool:
        """Was it shown?"""
        return self.outcome is Outcome.DISCHARGED
