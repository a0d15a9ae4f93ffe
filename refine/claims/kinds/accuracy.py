"""One graph, its runtime against its real semantics: |f_rt(x) − f_R(x)| ≤ ε."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from encoders.contract.contract import RuntimeContract
from onnx_import.graph import Graph
from refine.bounds.problem import Network
from refine.certificate.certifying import of_accuracy
from refine.claims.assumptions import assumptions_of
from refine.claims.claim import Claim, require_semantics
from refine.claims.kind import Asked, ClaimKind
from refine.claims.options import Options
from refine.claims.quarry import Quarry, evaluations
from refine.claims.settle import settle
from refine.claims.shown import shown
from refine.common.clock import Clock
from refine.domain.domain import Domain
from refine.options.applicable import nameless_rules
from refine.results.verdict import Result, Side, Tolerance, Witness
from refine.search.search import glimpse
from refine.witness.replay import replays, run_again
from refine.witness.witness import confirm, confirm_enclosed, is_huge


def _settled(asked: Asked) -> Result:
    side = asked.side
    return check(
        side.graph, asked.domain, side.contract, asked.tolerance, asked.options, asked.tell
    )


def check(
    graph: Graph,
    domain: Domain,
    contract: RuntimeContract,
    tolerance: Tolerance,
    options: Options,
    tell: Callable[[str], None] = lambda stage: None,
) -> Result:
    """Settle |f_rt − f_R| ≤ ε over the domain; without an ε, find the best provable bound.

    `tell` hears what is being done. Raises UnsupportedModel, naming the node, for what has no
    meaning.
    """
    clock = Clock(time.monotonic(), options.timeout, tell)
    side = Side(graph, contract)
    require_semantics(side)
    return settle(accuracy(side), domain, tolerance, options, clock)


def accuracy(side: Side) -> Claim:
    """That the graph, run under the contract, is near its real semantics."""
    graph, contract = side.graph, side.contract
    # Nobody can tell a runtime which masks to sample.
    searchable = not graph.random_masks and not contract.exact
    return Claim(
        side,
        Network(graph, contract),
        _quarry(side) if searchable else None,
        assumptions=lambda domain: assumptions_of(graph, domain, contract),
        shown=partial(shown, graph),
        notes=lambda proof: nameless_rules(contract, graph),
        certified=partial(of_accuracy, graph, contract),
    )


def _quarry(side: Side) -> Quarry:
    def replayed(witness: Witness) -> Witness:
        return replace(witness, replays=replays(witness, side.graph, side.contract))

    graph, contract = side.graph, side.contract
    if is_huge(graph):
        decide = partial(confirm_enclosed, graph)
        return Quarry(graph, contract, decide, replayed, most=1, searched=glimpse)
    return Quarry(graph, contract, partial(confirm, graph), replayed, evaluations(graph))


CLAIMS = (
    ClaimKind(
        name="accuracy",
        summary="every output is within E of its real value",
        settle=_settled,
        again=lambda saved: run_again(saved.graph, saved.candidate),
        draws=True,
    ),
)
