"""Z3 on a sample of what the outward-rounded evaluation decided: a second opinion.

What Z3 refutes stops a proof. What it leaves undecided was shown by enclosure anyway and is not
listed; after a few such, no more are asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from refine.bounds.network import NetworkBounds, NodeBounds
from refine.common.clock import Clock
from refine.proof.fp_queries import finiteness_queries
from refine.proof.real_queries import Ask, node_queries
from refine.proof.z3_solver import Query, discharge
from refine.results.obligation import Obligation, Outcome


@dataclass(frozen=True)
class Effort:
    """How much is put to Z3: output elements per node, the largest node in multiply-adds, the
    number of queries in all and of those left undecided, after which no more are asked, and limits
    on each (seconds; Z3's own count of steps, 0 for none)."""

    rows: int
    largest: int
    queries: int
    undecided: int
    timeout: float
    rlimit: int


SAMPLE = Effort(rows=1, largest=400, queries=24, undecided=2, timeout=2.0, rlimit=4_000_000)
EVERYTHING = Effort(10**9, 10**9, 10**9, 10**9, timeout=10.0, rlimit=0)


def cross_checks(
    bounds: NetworkBounds, effort: Effort, clock: Clock
) -> tuple[dict[str, list[Obligation]], bool]:
    """Answers by node, and whether the time limit cut the asking short."""
    answered: dict[str, list[Obligation]] = {}
    undecided = 0
    for asked, query in enumerate(_chosen(bounds, effort)):
        if asked >= effort.queries or undecided >= effort.undecided:
            break
        if clock.late:
            return answered, True
        obligation = discharge(query)
        if obligation.outcome is Outcome.UNDECIDED:
            undecided += 1
        else:
            answered.setdefault(obligation.node, []).append(obligation)
    return answered, False


def _chosen(bounds: NetworkBounds, effort: Effort) -> Iterator[Query]:
    """All queries of all nodes, one kind per node in turn, so that the first few are a sample."""
    every = [_asks(bounds, node, effort) for node in bounds.nodes]
    for turn in range(max(map(len, every), default=0)):
        for place, asks in enumerate(every):
            if turn < len(asks):
                yield from asks[(place + turn) % len(asks)]()


def _asks(bounds: NetworkBounds, node: NodeBounds, effort: Effort) -> list[Ask]:
    asks = node_queries(
        bounds,
        node,
        rows=effort.rows,
        largest=effort.largest,
        timeout=effort.timeout,
        rlimit=effort.rlimit,
    )
    for row in range(min(effort.rows, node.errors.size)):
        asks.append(partial(finiteness_queries, node, row, effort.timeout, effort.rlimit))
    return asks
