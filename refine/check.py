"""The main job: a model, a domain, a contract and an ε become a verdict.

Order of work: bounds of every box (forward, then backward), the lemmas they rest on, the
obligations of every node, cross-checks by Z3, and, where the bound does not settle it, the search
for a counterexample and its replay. Whatever time runs out, what was shown so far is reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from encoders.contract import RuntimeContract
from encoders.enclosure import FloatArray, Interval
from encoders.formats import round_array
from encoders.operator import site_of
from encoders.registry import lookup
from onnx_import.graph import Graph
from refine.assumptions import assumptions_of
from refine.bounds import InputBox, NetworkBounds, NodeBounds, network_bounds
from refine.box import Box
from refine.compose import first_failure, lemmas_used, merged, node_obligations
from refine.domain import Domain
from refine.fp_obligations import finiteness_queries
from refine.instances import Effort, node_queries
from refine.lemmas.library import prove_lemmas
from refine.obligation import Obligation, Outcome
from refine.replay import replays
from refine.rounding import float_down
from refine.search import Candidate, Hunt, search
from refine.solve import Query, discharge
from refine.verdict import NodeReport, Result, Tolerance, Verdict, Witness
from refine.witness import confirm, is_violation


class OutOfTime(Exception):
    """The time limit was reached."""


@dataclass(frozen=True)
class Options:
    """How hard to try. `timeout` in seconds for everything; None means no limit.

    `cross_check` is what Z3 is asked beside the lemmas, within `share` seconds; `cache` is the
    directory of proved lemmas, None to prove them anew.
    """

    cross_check: Effort | None
    share: float
    cache: Path | None
    seed: int = 0
    timeout: float | None = None
    search: bool = True
    backward: bool = True


@dataclass(frozen=True)
class _Clock:
    start: float
    timeout: float | None
    tell: Callable[[str], None]

    def tick(self) -> None:
        """Raises OutOfTime once the limit is reached."""
        if self.late:
            raise OutOfTime

    @property
    def late(self) -> bool:
        return self.timeout is not None and self.seconds > self.timeout

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start


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
    clock = _Clock(time.monotonic(), options.timeout, tell)
    for node in graph.order:
        lookup(node).check(site_of(graph, node))
    boxes = [_input_box(box, domain, contract) for box in domain.boxes]
    bounds, timed_out = _all_bounds(graph, boxes, contract, options, clock)
    largest = _largest_bounds(graph, bounds)
    obligations, lemmas, late = _obligations(bounds, contract, options, clock)
    timed_out = timed_out or late
    unproved = first_failure((*lemmas, *(o for group in obligations.values() for o in group)))
    proved = unproved is None and all(np.all(np.isfinite(b)) for b in largest.values())
    within = proved and tolerance.given and _within(largest, tolerance)
    witness: Witness | None = None
    worst: float | None = None
    if options.search and not within and not contract.exact:
        witness, worst, late = _hunt(graph, domain, contract, tolerance, options, clock)
        timed_out = timed_out or late
    verdict, reason = _decide(largest, tolerance, unproved, witness, timed_out)
    return Result(
        verdict,
        reason,
        tolerance,
        largest,
        worst,
        domain,
        contract,
        assumptions_of(graph, domain, contract),
        _node_reports(bounds, obligations),
        lemmas,
        graph,
        options.seed,
        clock.seconds,
        (*graph.notes, *domain.notes),
        witness,
        timed_out=timed_out,
    )


def _input_box(box: Box, domain: Domain, contract: RuntimeContract) -> InputBox:
    values = {n: Interval(box.real_lo[n], box.real_hi[n]) for n in box.lo}
    errors = {n: np.zeros(v.shape) for n, v in values.items()}
    if domain.round_inputs and not contract.exact:
        for name, x in values.items():
            errors[name] = _input_rounding(box, name, x)
    return InputBox(values, errors)


def _input_rounding(box: Box, name: str, x: Interval) -> FloatArray:
    """|rnd(x) − x|: half the spacing at the largest magnitude, and never more than it takes to
    reach the nearest representable neighbours of a point."""
    fmt = box.formats[name]
    _, exponent = np.frexp(x.magnitude)
    spacing = np.ldexp(float(fmt.unit_roundoff), np.maximum(exponent - 1, fmt.emin))
    bound = np.where(x.magnitude == 0, 0.0, np.maximum(spacing, 2.0**-1074))
    exact = (x.lo == x.hi) & (round_array(x.lo, fmt) == x.lo)
    return np.where(exact, 0.0, bound)


def _all_bounds(
    graph: Graph,
    boxes: Sequence[InputBox],
    contract: RuntimeContract,
    options: Options,
    clock: _Clock,
) -> tuple[list[NetworkBounds], bool]:
    """Bounds of every box; those that time does not allow stay with forward composition."""
    clock.tell("composing forward")
    bounds = [network_bounds(graph, box, contract, backward=False) for box in boxes]
    if not options.backward:
        return bounds, False
    try:
        for i, box in enumerate(boxes):
            clock.tell(f"backward substitution, box {i + 1} of {len(boxes)}")
            bounds[i] = network_bounds(graph, box, contract, tick=clock.tick)
    except OutOfTime:
        return bounds, True
    return bounds, False


def _largest_bounds(graph: Graph, bounds: Sequence[NetworkBounds]) -> dict[str, FloatArray]:
    """Lemma `domain-split`: over a union of boxes, the largest bound of each element."""
    return {t: np.maximum.reduce([b.errors[t] for b in bounds]) for t in graph.outputs}


def _obligations(
    bounds: Sequence[NetworkBounds],
    contract: RuntimeContract,
    options: Options,
    clock: _Clock,
) -> tuple[Mapping[str, tuple[Obligation, ...]], tuple[Obligation, ...], bool]:
    clock.tell("proving lemmas")
    lemmas = prove_lemmas(lemmas_used(bounds), options.cache)
    groups = merged([node_obligations(b) for b in bounds])
    crossed, late = _cross_checks(bounds, contract, options, clock)
    for name, more in crossed.items():
        groups[name] = (*groups[name], *more)
    return groups, lemmas, late


def _cross_checks(
    bounds: Sequence[NetworkBounds],
    contract: RuntimeContract,
    options: Options,
    clock: _Clock,
) -> tuple[dict[str, list[Obligation]], bool]:
    """Z3 on some rows of the first box: what it refutes stops a proof; what it leaves undecided
    was shown by enclosure anyway and is not listed. Also: did the time limit cut it short?"""
    answered: dict[str, list[Obligation]] = {}
    if options.cross_check is None or not bounds:
        return answered, False
    clock.tell("cross-checking with Z3")
    start = time.monotonic()
    for node in bounds[0].nodes:
        for query in _queries(bounds[0], node, contract, options.cross_check):
            if clock.late:
                return answered, True
            if time.monotonic() - start > options.share:
                return answered, False
            obligation = discharge(query)
            if obligation.outcome is not Outcome.UNDECIDED:
                answered.setdefault(node.node.name, []).append(obligation)
    return answered, False


def _queries(
    bounds: NetworkBounds, node: NodeBounds, contract: RuntimeContract, effort: Effort
) -> Iterator[Query]:
    yield from node_queries(bounds, node, effort)
    for row in range(min(effort.rows, node.errors.size)):
        yield from finiteness_queries(bounds, node, contract, row, effort.timeout)


def _within(bounds: Mapping[str, FloatArray], tolerance: Tolerance) -> bool:
    for output, bound in bounds.items():
        epsilon = tolerance.of(output)
        if epsilon is None or (bound.size and Fraction(float(np.max(bound))) > epsilon):
            return False
    return True


def _hunt(
    graph: Graph,
    domain: Domain,
    contract: RuntimeContract,
    tolerance: Tolerance,
    options: Options,
    clock: _Clock,
) -> tuple[Witness | None, float | None, bool]:
    """The violation found, if any, with replays; the largest exactly confirmed error; late?"""
    clock.tell("searching for a counterexample")
    candidates: list[Candidate] = []
    late = False
    try:
        for i, box in enumerate(domain.boxes):
            hunt = Hunt(graph, box, contract, tolerance)
            candidates += search(hunt, options.seed + i, clock.tick)
    except OutOfTime:
        late = True
    if not candidates:
        return None, None, late
    candidates.sort(key=lambda c: -c.excess)
    clock.tell("evaluating the worst inputs exactly")
    witnesses = [confirm(graph, c) for c in candidates[:4]]
    worst = max(_found(w) for w in witnesses)
    violations = [w for w in witnesses if is_violation(w, tolerance)]
    shown = [replace(w, replays=replays(w, graph, contract)) for w in violations]
    if not shown:
        return None, worst, late
    return max(shown, key=lambda w: _replayed_excess(w, tolerance)), worst, late


def _found(witness: Witness) -> float:
    """The witness's error as a float rounded down; infinite for a value that is not finite."""
    return float("inf") if not witness.error.finite else float_down(witness.error.lo)


def _replayed_excess(witness: Witness, tolerance: Tolerance) -> tuple[int, float]:
    """Prefer witnesses that real runtimes confirm, then the larger error."""
    epsilon = tolerance.of(witness.output)
    confirmed = sum(1 for r in witness.replays if epsilon is not None and r.confirms(epsilon))
    return confirmed, _found(witness)


def _decide(
    bounds: Mapping[str, FloatArray],
    tolerance: Tolerance,
    unproved: Obligation | None,
    witness: Witness | None,
    timed_out: bool,
) -> tuple[Verdict, str]:
    if witness is not None:
        if not witness.error.finite:
            return Verdict.VIOLATED, (
                f"an allowed execution gives {witness.value} at {witness.output}"
                f"{list(witness.index)}"
            )
        return Verdict.VIOLATED, "an input of the domain has an error above eps, evaluated exactly"
    if unproved is not None:
        where = f" at node '{unproved.node}'" if unproved.node else ""
        why = f": {unproved.detail}" if unproved.detail else ""
        return Verdict.UNKNOWN, (
            f"{unproved.outcome.value} obligation {unproved.name}{where}: {unproved.goal}{why}"
        )
    finite = all(np.all(np.isfinite(b)) for b in bounds.values())
    if tolerance.given and finite and _within(bounds, tolerance):
        return Verdict.VERIFIED, "every obligation is discharged and the bound is at most eps"
    if not tolerance.given and finite and not timed_out:
        return Verdict.VERIFIED, "every obligation is discharged; the bound is proved"
    if timed_out:
        return Verdict.UNKNOWN, "the time limit was reached"
    if not finite:
        return Verdict.UNKNOWN, "no finite bound was found"
    return Verdict.UNKNOWN, "the proved bound is above eps, and no error found is"


def _node_reports(
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
            max(float(np.max(b.nodes[i].errors, initial=0.0)) for b in bounds),
            max(float(np.max(b.nodes[i].rounding.radius, initial=0.0)) for b in bounds),
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
