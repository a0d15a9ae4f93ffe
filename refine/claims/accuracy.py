"""The main job: a model, a domain, a contract and an ε become a verdict.

Order of work: first bounds of every box; a search where they do not settle the claim; better
bounds while the budget lasts; another search in the parts where they are still too large; the
lemmas and obligations the bounds rest on; cross-checks by Z3.
Whenever time runs out, what was shown so far is reported.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.numbers.enclosure import FloatArray
from encoders.numbers.radius import largest_radius
from encoders.operator import site_of
from encoders.program import program_of
from encoders.registry import lookup
from onnx_import.graph import Graph
from refine.bounds.network import NetworkBounds
from refine.bounds.problem import Network
from refine.claims.assumptions import assumptions_of
from refine.claims.conduct import conduct_of
from refine.claims.contradiction import contradiction, opposition
from refine.claims.hunting import Catch, evaluations, hunt, hunt_at
from refine.claims.shown import ABOVE, shown, with_shown
from refine.common.clock import Clock
from refine.domain.domain import Domain
from refine.lemmas.library import prove_lemmas
from refine.options.applicable import require_applicable
from refine.proof.compose import lemmas_used, merged
from refine.proof.cross_check import Effort, cross_checks
from refine.proof.proof import Proof, failure_of, first_proof, improved, within
from refine.proof.unproved_boxes import remains
from refine.results.obligation import Obligation
from refine.results.verdict import Conduct, NodeReport, Result, Side, Tolerance, Verdict, Witness

_SEARCHING = 0.25  # of the budget is what a search may take
_SHORTEST_SEARCH = 3.0  # seconds, whatever the budget
_SEARCHING_AGAIN = 0.1  # of the budget, in what the proof leaves
_LONGEST_AGAIN = 4.0  # seconds
_KEPT_FOR_THE_REST = 0.4  # of the budget: lemmas, cross-checks, reports
_LONGEST_REST = 8.0  # seconds


@dataclass(frozen=True)
class Options:
    """How hard to try. `timeout` in seconds for everything; None means no limit.

    `cross_check` is what Z3 is asked beside the lemmas; `cache` is the directory of proved
    lemmas, None to prove them anew. `budget` in seconds, counted from the start, is how long
    bounds are improved; `workers` processes share that work. `search_seconds` is how long errors
    are searched for, all of it; None: as much as the model's size suggests, in little time.
    `conform` has a runtime of this machine compared with the contract, briefly. `so_far` hears of
    results on the way: bounds of which no obligation has been looked at, and errors found.
    """

    cross_check: Effort | None
    cache: Path | None
    seed: int = 0
    timeout: float | None = None
    search: bool = True
    backward: bool = True
    budget: float = 0.0
    workers: int = 1
    search_seconds: float | None = None
    conform: bool = False
    so_far: Callable[[Result], None] | None = None


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
    if graph.drawn:  # no runtime can be told which masks to draw
        options = replace(options, search=False)
    for node in graph.order:
        lookup(node).check(site_of(graph, node))
    require_applicable(contract, graph)
    problem = Network(graph, contract)
    proof = first_proof(problem, domain, options.backward, clock)
    catch = Catch(None, (), late=False)
    tell_so_far(proof, catch, tolerance, graph, domain, contract, options, clock)
    if options.search and not contract.exact and not settled(proof, tolerance):
        share, effort = searching(options)
        catch = hunt(graph, domain, contract, tolerance, options.seed, clock, share, effort)
        tell_so_far(proof, catch, tolerance, graph, domain, contract, options, clock)
    if catch.violation is None and not settled(proof, tolerance) and options.backward:
        deadline = improving_until(options, clock)
        proof = improved(proof, problem, tolerance, deadline, options.workers, clock)
        left = remains(proof, domain, tolerance)
        if options.search and left is not None and not settled(proof, tolerance):
            seconds = min(_SEARCHING_AGAIN * options.budget, _LONGEST_AGAIN)
            again = hunt(graph, left, contract, tolerance, options.seed + 1, clock, seconds)
            catch = catch.joined(again)
    tell_so_far(proof, catch, tolerance, graph, domain, contract, options, clock)
    groups, lemmas, late = _obligations(proof, contract, options, clock)
    every = (*lemmas, *(o for group in groups.values() for o in group))
    given = [o.point for o in every if o.point and all(t in graph.inputs for t, _ in o.point)]
    if options.search and catch.violation is None and given and not late:
        catch = catch.joined(hunt_at(given, graph, domain, contract, tolerance, clock))
    timed_out = proof.late or catch.late or late
    conduct = seen(Side(graph, contract), domain, options, clock)
    by_runtime = None
    if options.conform and catch.worst is not None and not clock.late:
        by_runtime = shown(graph, domain, catch.worst, options.seed)
    unproved = failure_of(proof, every)
    answer = decide(proof, tolerance, unproved, catch, timed_out)
    result = Result(
        answer.verdict,
        answer.reason,
        tolerance,
        proved_bounds(proof, unproved),
        catch.largest,
        domain,
        contract,
        assumptions_of(graph, domain, contract),
        node_reports(proof.wholes, groups),
        lemmas,
        graph,
        options.seed,
        clock.seconds,
        (
            *graph.notes,
            *domain.notes,
            *program_of(graph).notes,
            *_split_notes(proof),
            *conditional(proof, unproved),
            *unsearched(graph, options),
        ),
        answer.witness,
        timed_out=timed_out,
        conduct=conduct,
    )
    return with_shown(result, by_runtime)


def proved_bounds(proof: Proof, unproved: Obligation | None) -> Mapping[str, FloatArray]:
    """The bounds, which are proved of nothing while an obligation is open."""
    if unproved is None:
        return proof.bounds
    return {t: np.full(b.shape, np.inf) for t, b in proof.bounds.items()}


def conditional(proof: Proof, unproved: Obligation | None) -> tuple[str, ...]:
    """What would hold if the open obligation did."""
    largest = max((float(np.max(b, initial=0.0)) for b in proof.bounds.values()), default=math.inf)
    if unproved is None or not math.isfinite(largest):
        return ()
    return (
        f"no bound is proved: obligation {unproved.name} is open; the bound would be about "
        f"{largest:.6g} if it held",
    )


def tell_so_far(
    proof: Proof,
    catch: Catch,
    tolerance: Tolerance,
    graph: Graph,
    domain: Domain,
    contract: RuntimeContract,
    options: Options,
    clock: Clock,
) -> None:
    """What would be answered if time were up now: nothing is verified yet, for no obligation has
    been looked at."""
    if options.so_far is None:
        return
    answer = decide(proof, tolerance, None, catch, timed_out=True)
    if answer.verdict is not Verdict.VIOLATED:
        answer = replace(answer, verdict=Verdict.UNKNOWN, reason="the time limit was reached")
    options.so_far(
        Result(
            answer.verdict,
            answer.reason,
            tolerance,
            proof.bounds,
            catch.largest,
            domain,
            contract,
            assumptions_of(graph, domain, contract),
            (),
            (),
            graph,
            options.seed,
            clock.seconds,
            (*graph.notes, *domain.notes),
            answer.witness,
            timed_out=True,
        )
    )


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
    if not options.conform or side.graph.drawn or clock.late:
        return None
    clock.tell("running the model")
    return conduct_of(side.graph, domain, side.contract, options.seed, names)


def searching(options: Options) -> tuple[float, float]:
    """How long a search may take, in seconds, and its effort (1: what is usual)."""
    if options.search_seconds is not None:
        return options.search_seconds, math.inf
    return max(_SEARCHING * options.budget, _SHORTEST_SEARCH), 1.0


def improving_until(options: Options, clock: Clock) -> float:
    """When bounds are no more improved, on the monotonic clock."""
    kept = min(_KEPT_FOR_THE_REST * options.budget, _LONGEST_REST)
    return clock.deadline(options.budget + (options.search_seconds or 0.0) - kept)


def settled(proof: Proof, tolerance: Tolerance) -> bool:
    """Is nothing left to improve or to find?"""
    reached = within(proof.bounds, tolerance) or within(proof.bounds, Tolerance(Fraction(0)))
    return failure_of(proof, ()) is None and reached


def unsearched(graph: Graph, options: Options) -> tuple[str, ...]:
    """Said where errors should have been searched for and were not."""
    if graph.drawn:
        return ("no errors were searched for: the runtime draws its masks itself",)
    if not options.search or evaluations(graph):
        return ()
    return ("no errors were searched for: evaluating a network of this size exactly takes minutes",)


def _split_notes(proof: Proof) -> tuple[str, ...]:
    if proof.parts == len(proof.boxes):
        return ()
    return (f"the domain was split into {proof.parts} boxes; the layers are shown for the whole",)


def _obligations(
    proof: Proof, contract: RuntimeContract, options: Options, clock: Clock
) -> tuple[Mapping[str, tuple[Obligation, ...]], tuple[Obligation, ...], bool]:
    clock.tell("proving lemmas")
    lemmas = prove_lemmas(lemmas_used(proof.wholes, proof.lemmas), options.cache)
    groups = merged(proof.obligations())
    if options.cross_check is None:
        return groups, lemmas, False
    clock.tell("cross-checking with Z3")
    crossed, late = cross_checks(proof.wholes[0], contract, options.cross_check, clock)
    for name, more in crossed.items():
        groups[name] = (*groups[name], *more)
    return groups, lemmas, late


@dataclass(frozen=True)
class Decision:
    """The verdict, why, and the input that shows it, where one does."""

    verdict: Verdict
    reason: str
    witness: Witness | None = None


def decide(
    proof: Proof,
    tolerance: Tolerance,
    unproved: Obligation | None,
    catch: Catch,
    timed_out: bool,
) -> Decision:
    """What the proof and the search show together; first of all, whether they can both be right.

    `unproved` is an obligation of the proof that is open: its bounds are then proved of nothing.
    """
    examined = (*catch.witnesses, *((catch.violation,) if catch.violation else ()))
    opposing = None if unproved is not None else contradiction(proof.bounds, examined)
    if opposing is not None:
        return Decision(Verdict.CONTRADICTION, opposition(proof.bounds, opposing), opposing)
    witness = catch.violation
    if witness is not None:
        return Decision(Verdict.VIOLATED, _violation(witness), witness)
    return Decision(*_without_witness(proof, tolerance, unproved, timed_out))


def _violation(witness: Witness) -> str:
    if witness.error.finite:
        return "an input of the domain has an error above eps, evaluated exactly"
    return f"an allowed execution gives {witness.value} at {witness.output}{list(witness.index)}"


def _without_witness(
    proof: Proof, tolerance: Tolerance, unproved: Obligation | None, timed_out: bool
) -> tuple[Verdict, str]:
    if unproved is not None:
        where = f" at node '{unproved.node}'" if unproved.node else ""
        why = f": {unproved.detail}" if unproved.detail else ""
        return Verdict.UNKNOWN, (
            f"{unproved.outcome.value} obligation {unproved.name}{where}: {unproved.goal}{why}"
        )
    if tolerance.given and within(proof.bounds, tolerance):
        return Verdict.VERIFIED, "every obligation is discharged and the bound is at most eps"
    if not tolerance.given and proof.finite and not timed_out:
        return Verdict.VERIFIED, "every obligation is discharged; the bound is proved"
    if timed_out:
        return Verdict.UNKNOWN, "the time limit was reached"
    if not proof.finite:
        return Verdict.UNKNOWN, "no finite bound was found"
    return Verdict.UNKNOWN, ABOVE


def node_reports(
    bounds: Sequence[NetworkBounds], obligations: Mapping[str, tuple[Obligation, ...]]
) -> tuple[NodeReport, ...]:
    worst = max(bounds, key=lambda b: b.largest)
    shares = _shares(worst.costs)
    return tuple(
        NodeReport(
            n.node.name,
            n.node.op,
            min(float(np.min(b.nodes[i].values.lo, initial=np.inf)) for b in bounds),
            max(float(np.max(b.nodes[i].values.hi, initial=-np.inf)) for b in bounds),
            max(largest_radius(b.nodes[i].errors) for b in bounds),
            max(largest_radius(b.nodes[i].rounding.radius) for b in bounds),
            shares.get(n.node.name, 0.0),
            obligations.get(n.node.name, ()),
        )
        for i, n in enumerate(bounds[0].nodes)
    )


def _shares(costs: Mapping[str, float]) -> Mapping[str, float]:
    """Each node's part of the sum of all; infinite costs share it among themselves."""
    infinite = {name for name, cost in costs.items() if not np.isfinite(cost)}
    if infinite:
        return {name: (name in infinite) / len(infinite) for name in costs}
    total = sum(costs.values()) or 1.0
    return {name: cost / total for name, cost in costs.items()}
