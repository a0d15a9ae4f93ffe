"""Relative precision: every output element is within a relative error of its real value."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from encoders.lemmas.kernel import apply
from encoders.lemmas.ways.relative import TO_ERROR
from encoders.rounding.proportions import Proportion
from encoders.rounding.rounding_bounds import rounder_of
from refine.bounds.network import NetworkBounds
from refine.bounds.relative import RelativeErrors, output_precisions, while_normal
from refine.claims.assumptions import assumptions_of
from refine.claims.claim import Claim, Words, require_semantics
from refine.claims.decision import UNBOUNDED
from refine.claims.kind import Asked, ClaimKind
from refine.claims.quarry import Late, Quarry, evaluations
from refine.claims.settle import settle
from refine.common.clock import Clock
from refine.domain.domain import Domain
from refine.options.applicable import nameless_rules
from refine.proof.proof import first_proof, input_box
from refine.results.obligation import Discharger, Kind, Obligation, Outcome
from refine.results.relative import RelativeFigures
from refine.results.verdict import (
    ErrorEnclosure,
    Execution,
    RealValue,
    Refusal,
    Result,
    Side,
    Witness,
)
from refine.search.evaluation import Candidate, Hunt
from refine.search.search import search
from refine.witness.replay import replays, run_again
from refine.witness.witness import confirm

_NAME = "relative"
_BEYOND = Fraction(10) ** 300  # of a real value that is 0
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
    side, options = asked.side, asked.options
    require_semantics(side)
    clock = Clock(time.monotonic(), options.timeout, asked.tell)
    claim = _relative(side)
    begun = first_proof(claim.problem, asked.domain, options.backward, clock)
    known = [_known(side, whole) for whole in begun.wholes]
    if all(_needs_no_box(p) for box in known for p in box.values()):
        options = replace(options, budget=0.0)
    found = settle(claim, asked.domain, asked.tolerance, options, clock, begun)
    holds = all(o.discharged for o in found.every_obligation)
    figures = tuple(_figures(found, side, known, t, holds) for t in known[0])
    found = replace(found, relative=figures)
    if clock.late or all(np.isfinite(f.error) for f in figures):
        return found
    return _while_normal(_around_zero(found, begun.wholes), side, asked.domain)


def _around_zero(found: Result, wholes: Sequence[NetworkBounds]) -> Result:
    """The result, its reason being a real value that may be 0 where one is why nothing is known."""
    if found.reason != UNBOUNDED:
        return found
    for output, bound in found.bounds.items():
        for real in (bounds.maps.values[output] for bounds in wholes):
            crossing = ~np.isfinite(bound) & (real.lo <= 0.0) & (real.hi >= 0.0)
            if np.any(crossing):
                first = tuple(int(i) for i in np.argwhere(crossing)[0])
                at = f"{output}[{', '.join(map(str, first))}]" if first else f"'{output}'"
                lo, hi = float(real.lo[first]), float(real.hi[first])
                reason = (
                    f"no relative error is bounded where the real value may be 0: {at} lies "
                    f"between {lo:.6g} and {hi:.6g}"
                )
                return replace(found, reason=reason)
    return found


def _while_normal(found: Result, side: Side, domain: Domain) -> Result:
    """The result, with what would be known if nothing overflowed or were subnormal: an obligation
    that is listed and open."""
    worst: dict[str, float] = {}
    for box in domain.boxes:
        given = input_box(box, domain, side.contract)
        known = while_normal(side.graph, given, side.contract)
        for t, precision in known.items():
            worst[t] = max(worst.get(t, 0.0), precision.largest)
    if not any(np.isfinite(v) for v in worst.values()):
        return found
    figures = tuple(
        replace(f, while_normal=worst[f.output]) if np.isfinite(worst.get(f.output, np.inf)) else f
        for f in found.relative
    )
    owed = Obligation(
        "normal-range",
        Kind.FLOATING_POINT,
        goal="every operation has a value and a finite result, and operands and results are 0 or "
        "normal numbers",
        outcome=Outcome.UNDECIDED,
        discharger=Discharger.NONE,
        seconds=0.0,
        detail="the ranges of the domain do not show it",
    )
    return replace(found, relative=figures, obligations=(*found.obligations, owed))


def _relative(side: Side) -> Claim:
    graph, contract = side.graph, side.contract
    searchable = not graph.random_masks and not contract.exact
    return Claim(
        side,
        RelativeErrors(graph, contract),
        quarry=_quarry(side) if searchable else None,
        assumptions=lambda domain: assumptions_of(graph, domain, contract),
        shown=lambda domain, witness, seed: None,
        notes=lambda proof: nameless_rules(contract, graph),
        statement=_STATEMENT,
        words=_WORDS,
    )


def _quarry(side: Side) -> Quarry:
    def searched(hunt: Hunt, seed: int, late: Late, effort: float) -> Sequence[Candidate]:
        return search(replace(hunt, relative=True), seed, late, effort)

    def replayed(witness: Witness) -> Witness:
        found = replays(witness, side.graph, side.contract)
        return replace(witness, replays=_replays_in_parts(found, witness.real))

    return Quarry(
        side.graph,
        side.contract,
        lambda candidate: _in_parts(confirm(side.graph, candidate)),
        replayed,
        evaluations(side.graph),
        searched=searched,
    )


def _in_parts(witness: Witness) -> Witness:
    """The witness, whose errors are relative."""
    found = _replays_in_parts(witness.replays, witness.real)
    error = in_parts(witness.error, witness.real)
    return replace(witness, error=error, replays=found, relative=True)


def _replays_in_parts(
    found: Sequence[Execution | Refusal], real: RealValue | None
) -> tuple[Execution | Refusal, ...]:
    return tuple(
        replace(r, error=in_parts(r.error, real)) if isinstance(r, Execution) else r for r in found
    )


def in_parts(error: ErrorEnclosure, real: RealValue | None) -> ErrorEnclosure:
    """An error in parts of the magnitude of the real value; beyond all bounds where that is 0."""
    if not error.finite or real is None:
        return error
    far = max(abs(real.lo), abs(real.hi))
    near = Fraction(0) if real.lo <= 0 <= real.hi else min(abs(real.lo), abs(real.hi))
    return replace(error, lo=_ratio(error.lo, far), hi=_ratio(error.hi, near))


def _ratio(error: Fraction, size: Fraction) -> Fraction:
    if not error:
        return error
    return error / size if size else _BEYOND


def _known(side: Side, bounds: NetworkBounds) -> dict[str, Proportion]:
    with np.errstate(all="ignore"):  # infinities and NaN mean that nothing is known
        return output_precisions(side.graph, bounds, side.contract)


def _needs_no_box(value: Proportion) -> bool:
    """Does a precision hold whatever the inputs are, so that parts of the domain have it too?"""
    return value.precision.largest < np.inf and not np.any(value.lost.bound)


def _figures(
    found: Result, side: Side, known: Sequence[dict[str, Proportion]], output: str, holds: bool
) -> RelativeFigures:
    """Of one output; `holds` says that every obligation is discharged."""
    rtol = [apply(TO_ERROR, g=box[output].precision).largest for box in known]
    atol = [box[output].lost.largest for box in known]
    return RelativeFigures(
        output,
        error=float(np.max(found.bounds[output], initial=0.0)),
        rtol=max(rtol, default=0.0) if holds else np.inf,
        atol=max(atol, default=0.0) if holds else np.inf,
        unit=rounder_of(side.graph.types[output].dtype, side.contract).unit,
    )


CLAIMS = (
    ClaimKind(
        name=_NAME,
        summary="every output element is within E of its real value, relatively",
        settle=_settled,
        again=lambda saved: _in_parts(run_again(saved.graph, saved.candidate)),
    ),
)
