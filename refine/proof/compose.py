"""From bounds to a theorem: the obligations of every node, and the joints between them.

A node owes three things: that its rounding error is within the budget (instance), that every
intermediate value is finite (floating point), and that what it assumed of its inputs is what was
proved of them (composition). The theorem holds iff all are discharged and so are the lemmas used.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from encoders.lemmas.terms import text
from encoders.numbers.enclosure import Interval
from encoders.operator import NOT_NEGATIVE
from encoders.rounding.rounding_bounds import OVERFLOW
from refine.bounds.network import NetworkBounds, NodeBounds
from refine.proof.applications import together, with_application
from refine.results.obligation import Discharger, Kind, Obligation, Outcome

ENGINE_LEMMAS = (
    "composition",
    "affine-difference",
    "stored-coefficients",
    "affine-rounding",
    "phase-multiplier",
    "relu-relaxation",
    "hinge-secant-below",
    "hinge-secant-half",
    "hinge-secant-one",
    "secant-step",
    "slope-vertex",
    "domain-split",
    "violation",
)


def node_obligations(bounds: NetworkBounds) -> dict[str, tuple[Obligation, ...]]:
    """What each node owes, decided by the outward-rounded evaluation that made the bounds."""
    groups = {b.node.name: tuple(_obligations_of(bounds, b)) for b in bounds.nodes}
    if bounds.flawed and bounds.nodes:
        last = bounds.nodes[-1].node.name
        groups[last] = (*groups[last], *(_flaw(t, last) for t in sorted(bounds.flawed)))
    return groups


def _flaw(tensor: str, node: str) -> Obligation:
    """What a bound owes that was negative or no number."""
    goal = f"the bound of '{tensor}' is a number ≥ 0: it was not, an internal error to be reported"
    return _decided(
        f"{NOT_NEGATIVE.name}/{tensor}", Kind.COMPOSITION, node, goal=goal, holds=False, seconds=0.0
    )


def _obligations_of(bounds: NetworkBounds, node: NodeBounds) -> Iterable[Obligation]:
    start = time.perf_counter()
    local = node.rounding.radius.largest
    lemmas = tuple(f"lemma {name}" for name in node.rounding.lemmas)
    yield _decided(
        f"rounding/{node.node.name}",
        Kind.INSTANCE,
        node.node.name,
        goal=f"|computed − f(x̂)| ≤ {local:.6g} for every allowed execution",
        holds=bool(np.isfinite(local)),
        seconds=time.perf_counter() - start,
        hypotheses=lemmas,
        detail="" if np.isfinite(local) else _why(node),
    )
    for condition in node.rounding.preconditions:
        yield _decided(
            f"precondition/{condition.name}/{node.node.name}",
            Kind.FLOATING_POINT,
            node.node.name,
            goal=condition.statement,
            holds=condition.holds,
            seconds=0.0,
            detail="" if condition.failed is None else f"not shown: {text(condition.failed)}",
        )
    for tensor, assumed in node.assumed.items():
        start = time.perf_counter()
        proved = bounds.maps.values[tensor].inflate(bounds.maps.errors[tensor])
        if tensor in bounds.running:
            proved = proved.intersect(bounds.running[tensor])
        if tensor in bounds.maps.held:
            proved = proved.intersect(bounds.maps.held[tensor])
        yield _decided(
            f"joint/{node.node.name}/{tensor}",
            Kind.COMPOSITION,
            node.node.name,
            goal=f"the run-time range proved of '{tensor}' lies in the one assumed here",
            holds=_within(proved, assumed),
            seconds=time.perf_counter() - start,
        )


def _why(node: NodeBounds) -> str:
    """What failed, and on which numbers; an overflow only where there is no other reason."""
    failed = [c for c in node.rounding.preconditions if not c.holds]
    reasons = [c for c in failed if c.name != OVERFLOW] or failed
    said = list(dict.fromkeys(c.statement for c in reasons)) or ["a finite rounding bound"]
    read = [
        f"'{tensor}' between {float(np.min(x.lo)) + 0.0:.6g} and {float(np.max(x.hi)):.6g}"
        for tensor, x in node.assumed.items()
        if x.lo.size
    ]
    return f"not shown: {'; '.join(said)} (it reads {', '.join(read) or 'stored numbers only'})"


def _within(inner: Interval, outer: Interval) -> bool:
    return bool(np.all(outer.lo <= inner.lo) and np.all(inner.hi <= outer.hi))


def _decided(
    name: str,
    kind: Kind,
    node: str,
    *,
    goal: str,
    holds: bool,
    seconds: float,
    hypotheses: tuple[str, ...] = (),
    detail: str = "",
) -> Obligation:
    outcome = Outcome.DISCHARGED if holds else Outcome.UNDECIDED
    return Obligation(
        name,
        kind,
        goal=goal,
        outcome=outcome,
        discharger=Discharger.ENCLOSURE,
        seconds=seconds,
        node=node,
        hypotheses=hypotheses,
        detail=detail,
    )


def lemmas_used(bounds: Sequence[NetworkBounds], others: Collection[str] = ()) -> tuple[str, ...]:
    """Names of the schema lemmas that these bounds, and `others`, rest on."""
    used = {name for b in bounds for node in b.nodes for name in node.rounding.lemmas}
    return tuple(sorted(used | set(ENGINE_LEMMAS) | set(others)))


def first_failure(obligations: Iterable[Obligation]) -> Obligation | None:
    """The obligation that keeps the theorem from holding, if any does."""
    return next((o for o in obligations if not o.discharged), None)


def merged(
    boxes: Sequence[Mapping[str, tuple[Obligation, ...]]],
) -> dict[str, tuple[Obligation, ...]]:
    """One obligation per name over all boxes of a union: discharged only if each one is."""
    joined: dict[str, dict[str, Obligation]] = {}
    for box in boxes:
        for node, obligations in box.items():
            known = joined.setdefault(node, {})
            for o in obligations:
                known[o.name] = _weaker(known[o.name], o) if o.name in known else o
    return {node: tuple(named.values()) for node, named in joined.items()}


def _weaker(a: Obligation, b: Obligation) -> Obligation:
    if a.application is not None and b.application is not None:
        return with_application(a, together(a.application, b.application))
    failed = b if a.discharged and not b.discharged else a
    return replace(failed, seconds=a.seconds + b.seconds)
