"""What is claimed of a domain: which errors are bounded, and what a counterexample is.

`refine.claims.settle` settles any claim; a new one is a file that fills in this record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from encoders.program import program_of
from refine.bounds.problem import Problem
from refine.claims.quarry import Quarry
from refine.claims.shown import ABOVE
from refine.domain.domain import Domain
from refine.options.applicable import require_applicable
from refine.proof.proof import Proof
from refine.results.certification import Certification
from refine.results.compared import Compared
from refine.results.obligation import Obligation
from refine.results.verdict import (
    Assumption,
    Pairing,
    ProvedMargin,
    Shown,
    Side,
    Tolerance,
    Witness,
)

Certifying: TypeAlias = Callable[
    [Domain, Tolerance, Proof, bool, Callable[[], None]], Certification | None
]


@dataclass(frozen=True)
class Words:
    """How an answer is put: why a claim holds, what a counterexample shows, and what is left where
    neither is known."""

    holds: str
    broken: str
    open: str


OF_ERRORS = Words(
    "every obligation is discharged and the bound is at most eps",
    "an input of the domain has an error above eps, evaluated exactly",
    ABOVE,
)


@dataclass(frozen=True)
class Claim:
    """Of every input of a domain: what `problem` bounds is at most ε, and every value is finite.

    `side` is the graph whose inputs the domain speaks of and whose outputs ε does; `spec` is what
    it is compared with where that is another graph, and `pairing` says which tensors correspond.
    `quarry` is a counterexample of the claim; None where no input can be one. `assumptions` are
    what an answer rests on; `undefined` gives obligations beside those of the nodes, `notes` what
    is to be said of the bounds, `compared` how two graphs are related, `shown` the errors of a real
    runtime on a witness and a few inputs
    of the domain (seeded). `statement` says what is claimed, where it is not that errors are at
    most ε, and `words` are those of its answers. `certified` says whether a certificate of a
    verified result can be checked, and makes one if it is wanted; None where certificates have no
    such claims.
    A claim with `margins`, of what a proof leaves between what runs and an unsafe set, has no
    bounds and no ε.
    """

    side: Side
    problem: Problem
    quarry: Quarry | None
    assumptions: Callable[[Domain], tuple[Assumption, ...]]
    shown: Callable[[Domain, Witness, int], Shown | None]
    spec: Side | None = None
    pairing: Pairing | None = None
    undefined: Callable[[Proof], tuple[Obligation, ...]] = lambda proof: ()
    notes: Callable[[Proof], tuple[str, ...]] = lambda proof: ()
    compared: Callable[[Proof], Compared] | None = None
    margins: Callable[[Proof], tuple[ProvedMargin, ...]] | None = None
    statement: str | None = None
    words: Words = OF_ERRORS
    certified: Certifying | None = None

    @property
    def sides(self) -> tuple[Side, ...]:
        """The specification, where it is another graph, before the implementation."""
        return (self.side,) if self.spec is None else (self.spec, self.side)

    @property
    def inputs(self) -> Mapping[str, str] | None:
        """The specification's name of each input, where they differ."""
        return None if self.pairing is None else self.pairing.inputs


def require_semantics(side: Side) -> None:
    """Raises UnsupportedModel, naming the node, for what has no meaning in the graph, ModelError
    for a contract that says something which has none there."""
    _ = program_of(side.graph).checked
    require_applicable(side.contract, side.graph)
