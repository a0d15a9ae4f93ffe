"""One graph against another: |impl(x) − spec(x)| ≤ ε for every input of the domain.

Each graph is read over the reals or as its runtime computes it; by default the specification is
real and the implementation runs. Bounds come from one problem that holds both graphs
(`refine.pair.comparison`) and are improved as those of a single network are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from encoders.contract.presets import IEEE_ANY
from encoders.numbers.enclosure import FloatArray
from encoders.numbers.formats import BINARY64
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.bounds.network import InputBox, NetworkBounds, network_bounds
from refine.claims.assumptions import assumptions_of
from refine.claims.claim import Claim, require_semantics
from refine.claims.kind import Asked, ClaimKind, EpsilonUse
from refine.claims.options import Options
from refine.claims.pair_quarry import pair_quarry, run_pair_again
from refine.claims.settle import settle
from refine.claims.shown import shown_apart
from refine.common.clock import Clock
from refine.domain.domain import Domain
from refine.pair.blame import compared
from refine.pair.comparison import Comparison, comparison
from refine.pair.equality import equal_outputs
from refine.pair.explain import parting
from refine.pair.pair import Pair, pair_of
from refine.proof.proof import Proof
from refine.results.obligation import Discharger, Kind, Obligation, Outcome
from refine.results.verdict import Assumption, Pairing, Result, Side, Tolerance

_SHOWING, _CUTTING = 1 / 8, 1 / 4  # of the time, until which graphs are shown equal, and cut
_POINTS = 6  # of the domain, at which tensors of both graphs are compared
_WIDE = replace(IEEE_ANY, compute_format=BINARY64)


def _settled(asked: Asked) -> Result:
    assert asked.spec is not None
    return diff(
        asked.spec,
        asked.side,
        asked.domain,
        asked.tolerance,
        asked.options,
        asked.tell,
        asked.match,
    )


def diff(
    spec: Side,
    impl: Side,
    domain: Domain,
    tolerance: Tolerance,
    options: Options,
    tell: Callable[[str], None] = lambda stage: None,
    match: Mapping[str, str] | None = None,
) -> Result:
    """Settle |impl − spec| ≤ ε, each side read under its contract (`exact`: over the reals).

    `domain` and `tolerance` speak of the implementation's inputs and outputs; `match` says which of
    the specification's these are, where names do not. Raises ModelError
    for graphs that cannot be compared, naming the node for what has no meaning.
    """
    if domain.round_inputs and impl.contract.exact and not spec.contract.exact:
        raise ModelError("--round-inputs needs an implementation that runs")
    clock = Clock(time.monotonic(), options.timeout, tell)
    pair = pair_of(spec, impl, match)
    _require_held(pair)
    for side in (pair.spec, impl):
        require_semantics(side)
    tell("comparing the graphs")
    points = domain.boxes[0].sample(np.random.default_rng(options.seed), _POINTS)
    return settle(difference(pair, clock, points), domain, tolerance, options, clock)


def difference(pair: Pair, clock: Clock, points: Mapping[str, FloatArray] | None = None) -> Claim:
    """That two graphs give nearly the same outputs on the same inputs, of which `points` are
    some."""
    pair = replace(pair, equal=equal_outputs(pair, _within(clock, _SHOWING)))
    problem = comparison(pair, points, _within(clock, _CUTTING))
    return Claim(
        pair.impl,
        problem,
        pair_quarry(pair),
        assumptions=lambda domain: (
            *assumptions_of(pair.impl.graph, domain, pair.impl.contract),
            *_of_spec(pair.spec, domain),
        ),
        shown=partial(shown_apart, pair),
        spec=pair.spec,
        pairing=Pairing(pair.inputs, pair.outputs, pair.said),
        undefined=partial(_undefined, problem, pair),
        notes=lambda proof: (parting(pair, problem, proof.wholes[0]),),
        compared=lambda proof: compared(pair, problem, proof.wholes[0]),
    )


def _within(clock: Clock, share: float) -> Callable[[], None]:
    """A tick that raises OutOfTime once such a share of the time is over: bounds take the rest."""
    if clock.timeout is None:
        return clock.tick
    return clock.until(clock.start + share * clock.timeout)


def _require_held(pair: Pair) -> None:
    """The domain consists of numbers of the implementation's inputs; a specification that runs
    must be able to read them all. Raises ModelError, naming an input that it cannot hold."""
    if pair.spec.contract.exact:
        return
    for mine, theirs in pair.inputs.items():
        given, taken = pair.impl.graph.types[mine].dtype, pair.spec.graph.types[theirs].dtype
        if not (given.is_float and taken.is_float):
            continue
        source = pair.impl.contract.format_of(given)
        target = pair.spec.contract.format_of(taken)
        if not target.holds(source):
            raise ModelError(
                f"input '{mine}' takes {source.name} numbers, not all of which the specification's "
                f"'{theirs}' holds in {target.name} (contract '{pair.spec.contract.name}'); run "
                "both in one format, or read the specification over the reals"
            )


def _of_spec(spec: Side, domain: Domain) -> tuple[Assumption, ...]:
    """What is assumed of the specification alone."""
    said = [Assumption("specification", f"read over the reals: {spec.graph.source}")]
    if not spec.contract.exact:
        every = assumptions_of(spec.graph, domain, spec.contract)
        said = [
            Assumption("specification", f"runs: {spec.graph.source}"),
            *(replace(a, name=f"specification's {a.name}") for a in every if a.name == "contract"),
            *(a for a in every if a.name in ("evidence", "function")),
        ]
    return (*said, *(Assumption("specification", note) for note in spec.graph.notes))


def _undefined(problem: Comparison, pair: Pair, proof: Proof) -> tuple[Obligation, ...]:
    """Undischarged where a real value that the bounds speak of might not exist.

    No pole and no root or logarithm of a negative number may hide behind a later Clip.
    """
    for covered in proof.boxes:
        mine = covered.box
        theirs = InputBox(
            {pair.inputs[n]: v for n, v in mine.values.items()},
            {pair.inputs[n]: e for n, e in mine.errors.items()},
        )
        read = [(problem.graph, mine), (pair.spec.graph, theirs)]
        if pair.impl.contract.exact:
            read.append((pair.impl.graph, mine))
        for graph, box in read:
            node = _without_value(graph, box)
            if node is not None:
                goal = "every operator has a real value on the whole domain"
                return (
                    Obligation(
                        "defined",
                        Kind.INSTANCE,
                        goal=goal,
                        outcome=Outcome.UNDECIDED,
                        discharger=Discharger.ENCLOSURE,
                        seconds=0.0,
                        node=node,
                    ),
                )
    return ()


def _without_value(graph: Graph, box: InputBox) -> str | None:
    """The first node that may have no finite real value, as a float64 evaluation shows it."""
    found: str | None = None
    for backward in (False, True):
        bounds = network_bounds(graph, box, _WIDE, backward=backward)
        found = _first_failing(bounds)
        if found is None:
            return None
    return found


def _first_failing(bounds: NetworkBounds) -> str | None:
    for n in bounds.nodes:
        x = n.values
        finite = bool(np.all(np.isfinite(x.lo) & np.isfinite(x.hi)))
        if not finite or not np.all(np.isfinite(n.rounding.radius.bound)):
            return n.node.name
        if not all(c.holds for c in n.rounding.preconditions):
            return n.node.name
    return None


CLAIMS = (
    ClaimKind(
        name="difference",
        summary="every output is within E of the other model's",
        settle=_settled,
        again=run_pair_again,
        epsilon=EpsilonUse.OPTIONAL,
        zero=True,
        compares=True,
    ),
)
