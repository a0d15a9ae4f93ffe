"""That what runs stays out of an unsafe set: what claims about labels, inequalities and VNN-LIB
properties have in common.

Every allowed execution is finite and reaches none of the unsafe conjunctions, on every input of the
domain. The proof bounds rows on values and differences at once (refine/bounds/properties) and
halves boxes where that does not do; the search descends on the rows' slack.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.bounds.properties.deficits import DEFICIT
from refine.bounds.properties.margins import Margins
from refine.certificate.certifying import of_margins
from refine.claims.assumptions import assumptions_of
from refine.claims.claim import Claim, Words, require_semantics
from refine.claims.kind import Asked
from refine.claims.outputs.with_leaves import settled_by_leaves
from refine.claims.quarry import Followed, Late, Quarry, evaluations
from refine.claims.settle import settle
from refine.common.clock import Clock
from refine.domain.properties import Property
from refine.options.applicable import nameless_rules
from refine.proof.proof import Proof
from refine.results.verdict import ProvedMargin, Result, Side, Tolerance, Witness
from refine.search.evaluation import Candidate, Hunt
from refine.search.unsafe_inputs import Following, Reaching, reaching
from refine.witness.file import Saved
from refine.witness.reach import reached_at
from refine.witness.replay import replays, run_again

_WORDS = Words(
    holds="no allowed execution reaches the unsafe set, and every value is finite",
    broken="an input of the domain leads an allowed execution into the unsafe set, decided exactly",
    open="it is not shown that the unsafe set is out of reach",
)
_EVALUATED = 3
_NONE = Tolerance(by_output={DEFICIT: Fraction(0)})


def kept_out(
    asked: Asked,
    unsafe: Property,
    statement: str,
    inside: tuple[Graph, Property] | None = None,
    words: Words = _WORDS,
    leaves: Path | None = None,
    stated: Path | None = None,
) -> Result:
    """Settle that no allowed execution reaches the unsafe set.

    `inside` is the same graph with more outputs, and an unsafe set of those that is reached
    wherever the other one is: what is proved and searched. `words` say what came of it. `leaves` is
    the file of another verifier's, which are checked again one by one, `stated` the file that
    states the unsafe set, if one does.

    Raises ModelError where inputs are rounded and rows speak of them, UnsupportedModel, naming the
    node, for what has no meaning.
    """
    side, clock = asked.side, Clock(time.monotonic(), asked.options.timeout, asked.tell)
    require_semantics(side)
    if side.graph.random_masks:
        raise ModelError("a property of a network that draws random numbers is not read")
    of_inputs = any(row.inputs for part in unsafe.unsafe for row in part.rows)
    if asked.domain.round_inputs and (of_inputs or any(part.limits for part in unsafe.unsafe)):
        raise ModelError("--round-inputs leaves open which inputs the property speaks of")
    claim = out_of_reach(side, unsafe, statement, inside or (side.graph, unsafe), words)
    if inside is None:  # else it is proved of a graph that no file holds
        margins = Margins(side.graph, side.contract, unsafe)
        claim = replace(claim, certified=partial(of_margins, margins, stated))
    if leaves is not None:
        return settled_by_leaves(asked, claim, unsafe, leaves)
    return settle(claim, asked.domain, _NONE, asked.options, clock)


def reached_again(saved: Saved) -> Witness:
    """A saved counterexample, decided and run anew. Raises ModelError for one without the unsafe
    set that it reaches."""
    if saved.unsafe is None:
        raise ModelError("the counterexample does not say which unsafe set it reaches")
    return run_again(saved.graph, saved.candidate, saved.unsafe)


def out_of_reach(
    side: Side, unsafe: Property, statement: str, inside: tuple[Graph, Property], words: Words
) -> Claim:
    """That the graph, run under the contract, stays out of an unsafe set; `inside` as above."""
    graph, contract = side.graph, side.contract
    return Claim(
        side,
        Margins(inside[0], contract, inside[1]),
        _quarry(side, unsafe, inside),
        assumptions=lambda domain: assumptions_of(graph, domain, contract),
        shown=lambda domain, witness, seed: None,
        notes=lambda proof: nameless_rules(contract, graph),
        margins=partial(_margins, inside[1]),
        statement=statement,
        words=words,
    )


def _margins(unsafe: Property, proof: Proof) -> tuple[ProvedMargin, ...]:
    return tuple(
        ProvedMargin(str(unsafe.unsafe[i]), run, real)
        for i, (run, real) in sorted(proof.margins().items())
    )


def _quarry(side: Side, unsafe: Property, inside: tuple[Graph, Property]) -> Quarry:
    graph, contract = side.graph, side.contract

    def replayed(witness: Witness) -> Witness:
        return replace(witness, replays=replays(witness, graph, contract, unsafe))

    def candidates(hunt: Hunt, found: Sequence[Reaching]) -> list[Candidate]:
        return [
            Candidate(
                r.point, hunt.box.real_point(r.point), r.execution, graph.outputs[0], (), -r.slack
            )
            for r in found[:_EVALUATED]
        ]

    def following(hunt: Hunt, seed: int) -> Followed:
        follower = Following(replace(hunt, graph=inside[0]), inside[1], seed)
        return lambda boxes: candidates(hunt, follower.seen(boxes))

    def searched(hunt: Hunt, seed: int, late: Late, effort: float) -> Sequence[Candidate]:
        found = reaching(inside[0], contract, inside[1], hunt.box, seed, late, effort)
        return candidates(hunt, found)

    return Quarry(
        graph,
        contract,
        decide=partial(reached_at, graph, unsafe),
        replayed=replayed,
        most=evaluations(graph),
        searched=searched,
        following=following,
    )
