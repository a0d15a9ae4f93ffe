"""Relative precision: every output element is within a relative error of its real value."""

from __future__ import annotations

import time

from refine.bounds.relative import RelativeErrors
from refine.claims.assumptions import assumptions_of
from refine.claims.claim import Claim, Words, require_semantics
from refine.claims.kind import Asked, ClaimKind
from refine.claims.settle import settle
from refine.common.clock import Clock
from refine.options.applicable import nameless_rules
from refine.results.verdict import Result, Side

NAME = "relative"
_STATEMENT = (
    "every output element is off by at most eps times the magnitude of its real value, and is 0 "
    "where that is 0"
)
_WORDS = Words(
    holds="every obligation is discharged and the relative error is at most eps",
    broken="an input of the domain has a relative error above eps, evaluated exactly",
    open="the proved bound on the relative error is above eps",
)


def _settled(asked: Asked) -> Result:
    side = asked.side
    require_semantics(side)
    clock = Clock(time.monotonic(), asked.options.timeout, asked.tell)
    return settle(_relative(side), asked.domain, asked.tolerance, asked.options, clock)


def _relative(side: Side) -> Claim:
    graph, contract = side.graph, side.contract
    return Claim(
        side,
        RelativeErrors(graph, contract),
        quarry=None,
        assumptions=lambda domain: assumptions_of(graph, domain, contract),
        shown=lambda domain, witness, seed: None,
        notes=lambda proof: nameless_rules(contract, graph),
        statement=_STATEMENT,
        words=_WORDS,
    )


CLAIMS = (
    ClaimKind(
        name=NAME,
        summary="every output element is within E of its real value, relatively",
        settle=_settled,
    ),
)
