"""Any claim becomes a verdict: the one place where proof, search and runtime meet.

Order of work: first bounds of every box; where they do not settle the claim and cost little, a
short search and a short while of better bounds, for one of them settles most of what is easy; a
search; better bounds while the budget lasts, and a look into boxes that stay open on the way;
another search in the parts where they are still too large; the lemmas and obligations the bounds
rest on; cross-checks by Z3; a look at a runtime here.
Whenever time runs out, what was shown so far is reported.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from encoders.numbers.enclosure import FloatArray, Interval, point
from encoders.numbers.radius import largest_radius
from encoders.program import program_of
from onnx_import.graph import Graph
from refine.bounds.network import NetworkBounds
from refine.claims.claim import Claim
from refine.claims.conduct import conduct_of
from refine.claims.decision import Decision, conditional, decide, proved_bounds, settled
from refine.claims.hunting import NOTHING, Catch, Trail, hunt, hunt_at
from refine.claims.options import Options, improving_until, searching, searching_again
from refine.claims.quarry import evaluations
from refine.claims.shown import with_shown
from refine.common.clock import Clock
from refine.domain.domain import Domain
from refine.lemmas.library import prove_lemmas
from refine.process.cluster import pool_of
from refine.proof.applications import claimed
from refine.proof.compose import lemmas_used, merged
from refine.proof.cross_check import cross_checks
from refine.proof.proof import Proof, failure_of, first_proof, improved
from refine.proof.remedies import NO_SHARE, remedies_of, shares_of
from refine.proof.unproved_boxes import remains
from refine.results.numerals import up
from refine.results.obligation import Obligation
from refine.results.verdict import (
    Claimed,
    Conduct,
    NodeReport,
    Result,
    Side,
    Tolerance,
    Verdict,
    Witness,
)
from refine.witness.layers import layer_values

_GLANCE = 1 / 8  # of the effort of a search, before anything else
_PASSES = 16  # first bounds of every box that a search's time has to be worth


def settle(
    claim: Claim,
    domain: Domain,
    tolerance: Tolerance,
    options: Options,
    clock: Clock,
    begun: Proof | None = None,
) -> Result:
    """Settle a claim over the domain; without an ε, find the best provable bound. `begun` is what
    is proved of every box by now."""
    account = _Account(claim, domain, tolerance, options, clock)
    proof = begun or first_proof(claim.problem, domain, options.backward, clock)
    owed = claim.undefined(proof)
    account.tell_so_far(proof, NOTHING)
    quarry = claim.quarry if options.search else None
    catch = NOTHING
    trail = Trail(quarry, domain, tolerance, options.seed, clock)
    improve = partial(
        improved,
        problem=claim.problem,
        tolerance=tolerance,
        pool=pool_of(options.workers, options.cluster),
        clock=clock,
        look=trail.look,
    )
    if quarry is not None and not settled(proof, tolerance):
        told = _with_bound(clock, claim, proof)
        search = partial(hunt, quarry, domain, tolerance, options.seed, told)
        seconds, effort = searching(options)
        if _alternates(proof, tolerance, options):
            catch = search(seconds=seconds, effort=_GLANCE)
            if catch.violation is None:
                until = min(time.monotonic() + seconds, improving_until(options, clock))
                proof = improve(proof, deadline=until)
                catch = catch.joined(trail.catch)
        if not catch.convincing and not settled(proof, tolerance):
            catch = catch.joined(search(seconds=seconds, effort=effort))
        account.tell_so_far(proof, catch)
    if catch.violation is None and not settled(proof, tolerance) and options.backward:
        trail.catch = NOTHING
        proof = improve(proof, deadline=improving_until(options, clock))
        catch = catch.joined(trail.catch)
        left = None if catch.violation is not None else remains(proof, domain, tolerance)
        if quarry is not None and left is not None and not settled(proof, tolerance):
            seconds, seed = searching_again(options), options.seed + 1
            told = _with_bound(clock, claim, proof)
            catch = catch.joined(
                hunt(quarry, left, tolerance=tolerance, seed=seed, clock=told, seconds=seconds)
            )
    account.tell_so_far(proof, catch)
    groups, lemmas, late = _obligations(proof, options, clock)
    every = (*owed, *lemmas, *(o for group in groups.values() for o in group))
    inputs = claim.side.graph.inputs
    given = [o.point for o in every if o.point and all(t in inputs for t, _ in o.point)]
    if quarry is not None and catch.violation is None and given and not late:
        catch = catch.joined(hunt_at(given, quarry, domain, tolerance, clock))
    unproved = failure_of(proof, every)
    timed_out = proof.late or catch.late or late
    answer = decide(proof, tolerance, unproved, catch, timed_out, claim.words)
    if answer.theorem is not None:
        nodes = proof.wholes[0].nodes
        last = nodes[-1].node.name if nodes else ""
        of_theorem = claimed(answer.theorem, last)
        groups = {**groups, last: (*groups.get(last, ()), *of_theorem)}
        owed = owed if nodes else (*owed, *of_theorem)
    result = account.result(
        answer,
        proved_bounds(proof, unproved),
        catch,
        timed_out,
        node_reports(proof.wholes, groups),
        (*owed, *lemmas),
        (*_split_notes(proof), *_short_notes(proof), *conditional(proof, unproved)),
        claim.notes(proof),
    )
    if claim.compared is not None:
        result = replace(result, compared=claim.compared(proof))
    result = _with_margins(result, claim, proof, unproved)
    if claim.margins is None:
        result = replace(result, remedies=remedies_of(proof.wholes, result.bound))
    if claim.problem.single:
        result = replace(result, reals=_reals(claim.side.graph, proof.wholes))
    if result.witness is not None and quarry is not None and evaluations(quarry.graph):
        result = replace(result, witness=_by_layers(claim, quarry.graph, result.witness, clock))
    return account.with_runtime(account.with_certification(result, proof), catch)


def _alternates(proof: Proof, tolerance: Tolerance, options: Options) -> bool:
    """Can bounds become much better in the time of one search, so that both begin in short?"""
    seconds, effort = searching(options)
    asked = tolerance.given and options.backward and effort <= 1.0
    return asked and _PASSES * sum(covered.seconds for covered in proof.boxes) <= seconds


def _by_layers(claim: Claim, graph: Graph, witness: Witness, clock: Clock) -> Witness:
    """The counterexample with what it gives after every node."""
    clock.tell("evaluating the counterexample layer by layer")
    spec = claim.spec if claim.spec is not None and claim.spec.contract.exact else None
    meant = None if spec is None else spec.graph
    layers = layer_values(graph, witness, meant, claim.pairing, lambda: clock.late)
    return replace(witness, layers=layers)


def _with_bound(clock: Clock, claim: Claim, proof: Proof) -> Clock:
    """The clock, which says beside a stage the bound so far, where that is one on errors."""
    if not claim.problem.single:
        return clock
    largest = max((largest_radius(b) for b in proof.bounds.values()), default=0.0)
    told = f", bound so far {up(largest, 3)}"
    return replace(clock, tell=lambda stage: clock.tell(f"{stage}{told}"))


def _reals(graph: Graph, bounds: Sequence[NetworkBounds]) -> Mapping[str, Interval]:
    """The real values of the outputs over all boxes of the domain."""
    found = {}
    for t in graph.outputs:
        known: list[Interval] = [b.maps.values[t] for b in bounds if t in b.maps.values]
        if graph.is_constant(t):
            known = [point(np.asarray(graph.constants[t], np.float64))]
        if known:
            lows, highs = [x.lo for x in known], [x.hi for x in known]
            found[t] = Interval(np.min(lows, axis=0), np.max(highs, axis=0))
    return found


def _with_margins(
    result: Result, claim: Claim, proof: Proof, unproved: Obligation | None
) -> Result:
    """Of a claim that speaks of margins: these, in place of bounds and ε; nothing is proved of them
    while an obligation is open."""
    if claim.margins is None:
        return result
    margins = claim.margins(proof)
    if unproved is not None:
        margins = tuple(replace(m, run=-np.inf) for m in margins)
    return replace(result, bounds={}, tolerance=Tolerance(), worst_found=None, margins=margins)


@dataclass(frozen=True)
class _Account:
    """What a result says whatever is found, and the results that are told on the way."""

    claim: Claim
    domain: Domain
    tolerance: Tolerance
    options: Options
    clock: Clock

    def result(
        self,
        answer: Decision,
        bounds: Mapping[str, FloatArray],
        catch: Catch,
        timed_out: bool,
        nodes: tuple[NodeReport, ...] = (),
        obligations: tuple[Obligation, ...] = (),
        of_proof: tuple[str, ...] = (),
        of_claim: tuple[str, ...] = (),
    ) -> Result:
        """The answer with what it rests on; `of_proof` and `of_claim` are notes."""
        claim, side = self.claim, self.claim.side
        about = dict.fromkeys(n for s in claim.sides for n in program_of(s.graph).notes)
        unsearched = _unsearched(claim, self.options) if nodes else ()
        return Result(
            verdict=answer.verdict,
            reason=answer.reason,
            tolerance=self.tolerance,
            bounds=bounds,
            worst_found=catch.largest,
            domain=self.domain,
            contract=side.contract,
            assumptions=claim.assumptions(self.domain),
            nodes=nodes,
            obligations=obligations,
            graph=side.graph,
            seed=self.options.seed,
            seconds=self.clock.seconds,
            notes=(
                *side.graph.notes,
                *self.domain.notes,
                *about,
                *of_proof,
                *unsearched,
                *of_claim,
            ),
            witness=answer.witness,
            timed_out=timed_out,
            spec=claim.spec,
            pairing=claim.pairing,
            claimed=None if claim.statement is None else Claimed(claim.statement),
            theorem=answer.theorem,
        )

    def tell_so_far(self, proof: Proof, catch: Catch) -> None:
        """What would be answered if time were up now: nothing is verified yet, for no obligation
        has been looked at."""
        if self.options.so_far is None:
            return
        words = self.claim.words
        answer = decide(proof, self.tolerance, None, catch, timed_out=True, words=words)
        if answer.verdict is not Verdict.VIOLATED:
            answer = Decision(Verdict.UNKNOWN, "the time limit was reached", answer.witness)
        result = self.result(answer, proof.bounds, catch, timed_out=True)
        self.options.so_far(_with_margins(result, self.claim, proof, None))

    def with_certification(self, result: Result, proof: Proof) -> Result:
        """The result, where it is verified, with whether a certificate of it can be checked."""
        certified, wanted = self.claim.certified, self.options.certificate
        if certified is None or result.verdict is not Verdict.VERIFIED or self.clock.late:
            return result
        self.clock.tell("writing the certificate" if wanted else "asking for a certificate")
        tick = self.clock.tick
        made = certified(self.domain, self.tolerance, proof, wanted, tick)
        return replace(result, certification=made)

    def with_runtime(self, result: Result, catch: Catch) -> Result:
        """The result with what a runtime of this machine does, where somebody is to look."""
        claim = self.claim
        conduct = seen(claim.side, self.domain, self.options, self.clock)
        of_spec = None
        if claim.spec is not None:
            of_spec = seen(claim.spec, self.domain, self.options, self.clock, claim.inputs)
        by_runtime = None
        if self.options.conform and catch.worst is not None and not self.clock.late:
            by_runtime = claim.shown(self.domain, catch.worst, self.options.seed)
        result = replace(result, conduct=conduct, spec_conduct=of_spec, seconds=self.clock.seconds)
        return with_shown(result, by_runtime)


def seen(
    side: Side,
    domain: Domain,
    options: Options,
    clock: Clock,
    names: Mapping[str, str] | None = None,
) -> Conduct | None:
    """What a runtime of this machine does, beside the contract; None where nobody is to look.

    `names` gives the graph's own name of each input of the domain, where they differ.
    """
    if not options.conform or side.graph.random_masks or clock.late:
        return None
    clock.tell("running the model")
    return conduct_of(side.graph, domain, side.contract, options.seed, names)


def _unsearched(claim: Claim, options: Options) -> tuple[str, ...]:
    """Said where errors should have been searched for and were not."""
    graphs = [side.graph for side in reversed(claim.sides)]
    if any(graph.random_masks for graph in graphs):
        return ("no errors were searched for: the runtime draws its masks itself",)
    if not options.search or all(evaluations(graph) for graph in graphs):
        return ()
    takes = "evaluating a network of this size exactly takes minutes"
    if claim.quarry is not None and claim.quarry.most:
        return (f"a few random inputs alone were tried, beside enclosures in float64: {takes}",)
    return (f"no errors were searched for: {takes}",)


def _split_notes(proof: Proof) -> tuple[str, ...]:
    if proof.parts == len(proof.boxes):
        return ()
    return (f"the domain was split into {proof.parts} boxes; the layers are shown for the whole",)


def _short_notes(proof: Proof) -> tuple[str, ...]:
    """That less was pulled back than wanted, where that was so on some box."""
    cut = set[str]().union(*(bounds.cut_short for bounds in proof.wholes))
    hurried = any(bounds.hurried for bounds in proof.wholes)
    notes = []
    if cut:
        notes.append(
            f"the work that one pass may do did not suffice to carry all functionals of {len(cut)} "
            "tensors to the inputs; bounds composed forward stand where they end"
        )
    if hurried:
        notes.append("time was short: the bounds of the later layers are composed forward")
    return tuple(notes)


def _obligations(
    proof: Proof, options: Options, clock: Clock
) -> tuple[Mapping[str, tuple[Obligation, ...]], tuple[Obligation, ...], bool]:
    """Of each node, and of the lemmas; whether the time limit cut the asking short."""
    clock.tell("proving lemmas")
    lemmas = prove_lemmas(lemmas_used(proof.wholes, proof.lemmas), options.cache)
    groups = merged(proof.obligations())
    if options.cross_check is None:
        return groups, lemmas, False
    clock.tell("cross-checking with Z3")
    with np.errstate(all="ignore"):  # infinities and NaN mean that nothing is known
        crossed, late = cross_checks(proof.wholes[0], options.cross_check, clock)
    for name, more in crossed.items():
        groups[name] = (*groups[name], *more)
    return groups, lemmas, late


def node_reports(
    bounds: Sequence[NetworkBounds], obligations: Mapping[str, tuple[Obligation, ...]]
) -> tuple[NodeReport, ...]:
    """A report per node: over the parts of the domain the hull of its ranges, the largest bounds,
    and its share of the largest bound."""
    worst = max(bounds, key=lambda b: b.largest)
    shares = shares_of(worst)
    return tuple(
        NodeReport(
            n.node.name,
            n.node.spelled,
            low=min(float(np.min(b.nodes[i].values.lo, initial=np.inf)) for b in bounds),
            high=max(float(np.max(b.nodes[i].values.hi, initial=-np.inf)) for b in bounds),
            error=max(largest_radius(b.nodes[i].errors) for b in bounds),
            local=max(b.nodes[i].rounding.radius.largest for b in bounds),
            share=shares.get(n.node.name, NO_SHARE).whole,
            obligations=obligations.get(n.node.name, ()),
            rounding_share=shares.get(n.node.name, NO_SHARE).rounding,
            inherited=max(_inherited(b, i) for b in bounds),
            change=max(largest_radius(b.nodes[i].run.change) for b in bounds),
            reads=n.step.reads,
            writes=n.step.writes,
        )
        for i, n in enumerate(bounds[0].nodes)
    )


def _inherited(bounds: NetworkBounds, place: int) -> float:
    """The largest error after a node less what its own arithmetic adds."""
    node = bounds.nodes[place]
    local = bounds.maps.local[node.step.name].bound
    with np.errstate(invalid="ignore"):
        rest = np.where(np.isfinite(local), node.errors - local, 0.0)
    return float(np.max(rest, initial=0.0))
