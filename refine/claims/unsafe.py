"""That what runs stays out of an unsafe set: what claims about labels, inequalities and VNN-LIB
properties have in common.

Every allowed execution is finite and reaches none of the unsafe conjunctions, on every input of the
domain. The proof bounds rows on values and differences at once (`refine.bounds.margins`) and halves
boxes where that does not do; the search descends on the rows' slack.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial

from onnx_import.errors import ModelError
from refine.bounds.margins import DEFICIT, Margins
from refine.claims.assumptions import assumptions_of
from refine.claims.claim import Claim, Words, require_meaning
from refine.claims.kind import Asked
from refine.claims.quarry import Late, Quarry, evaluations
from refine.claims.settle import settle
from refine.common.clock import Clock
from refine.domain.properties import Property
from refine.options.applicable import nameless_rules
from refine.proof.proof import Proof
from refine.results.verdict import ProvedMargin, Result, Side, Tolerance, Witness
from refine.search.evaluation import Candidate, Hunt
from refine.search.unsafe_inputs import reaching
from refine.witness.reach import reached_at
from refine.witness.replay import replays

_WORDS = Words(
    holds="no allowed execution reaches the unsafe set, and every value is finite",
    broken="an input of the domain leads an allowed execution into the unsafe set, decided exactly",
    open="it is not shown that the unsafe set is out of reach",
)
_EVALUATED = 3
_NONE = Tolerance(by_output={DEFICIT: Fraction(0)})


def kept_out(asked: Asked, unsafe: Property, statement: str) -> Result:
    """Settle that no allowed execution reaches the unsafe set.

    Raises ModelError where inputs are rounded and rows speak of them, UnsupportedModel, naming the
    node, for what has no meaning.
    """
    side, clock = asked.side, Clock(time.monotonic(), asked.options.timeout, asked.tell)
    require_meaning(side)
    if side.graph.drawn:
        raise ModelError("a property of a network that draws random numbers is not read")
    of_inputs = any(row.inputs for part in unsafe.unsafe for row in part.rows)
    if asked.domain.round_inputs and (of_inputs or any(part.limits for part in unsafe.unsafe)):
        raise ModelError("--round-inputs leaves open which inputs the property speaks of")
    claim = out_of_reach(side, unsafe, statement)
    return settle(claim, asked.domain, _NONE, asked.options, clock)


def out_of_reach(side: Side, unsafe: Property, statement: str) -> Claim:
    """That the graph, run under the contract, stays out of an unsafe set."""
    graph, contract = side.graph, side.contract
    return Claim(
        side,
        Margins(graph, contract, unsafe),
        _quarry(side, unsafe),
        assumptions=lambda domain: assumptions_of(graph, domain, contract),
        shown=lambda domain, witness, seed: None,
        notes=lambda proof: nameless_rules(contract, graph),
        margins=partial(_margins, unsafe),
        statement=statement,
        words=_WORDS,
    )


def _margins(unsafe: Property, proof: Proof) -> tuple[ProvedMargin, ...]:
    return tuple(
        ProvedMargin(str(unsafe.unsafe[i]), run, real)
        for i, (run, real) in sorted(proof.margins().items())
    )


def _quarry(side: Side, unsafe: Property) -> Quarry:
    graph, contract = side.graph, side.contract

    def replayed(witness: Witness) -> Witness:
        return replace(witness, replays=replays(witness, graph, contract))

    def searched(hunt: Hunt, seed: int, late: Late, effort: float) -> Sequence[Candidate]:
        found = reaching(graph, contract, unsafe, hunt.box, seed, late, effort)
        return [
            Candidate(
                r.point, hunt.box.real_point(r.point), r.execution, graph.outputs[0], (), -r.slack
            )
            for r in found[:_EVALUATED]
        ]

    return Quarry(
        graph,
        contract,
        decide=partial(reached_at, graph, unsafe),
        replayed=replayed,
        most=evaluations(graph),
        searched=searched,
    )
