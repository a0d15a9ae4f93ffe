"""What the proof and the search show together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from encoders.numbers.enclosure import FloatArray
from refine.claims.claim import OF_ERRORS, Words
from refine.claims.contradiction import contradiction, opposition
from refine.claims.hunting import Catch
from refine.proof.proof import Proof, failure_of, within
from refine.results.obligation import Obligation
from refine.results.theorem import Theorem, theorem
from refine.results.verdict import Tolerance, Verdict, Witness

UNBOUNDED = "no finite bound was found"
_ONLY_BOUND = (
    "every obligation is discharged; the bound is proved, and held to no eps, since none was given"
)


@dataclass(frozen=True)
class Decision:
    """The verdict, why, and what shows it: an input, or a theorem."""

    verdict: Verdict
    reason: str
    witness: Witness | None = None
    theorem: Theorem | None = None


def decide(
    proof: Proof,
    tolerance: Tolerance,
    unproved: Obligation | None,
    catch: Catch,
    timed_out: bool,
    words: Words = OF_ERRORS,
) -> Decision:
    """What the proof and the search show together; first of all, whether they can both be right.

    `unproved` is an obligation of the proof that is open: its bounds are then proved of nothing.
    `words` are the claim's.
    """
    examined = (*catch.witnesses, *((catch.violation,) if catch.violation else ()))
    opposing = None if unproved is not None else contradiction(proof.bounds, examined)
    if opposing is not None:
        return Decision(Verdict.CONTRADICTION, opposition(proof.bounds, opposing), opposing)
    witness = catch.violation
    if witness is not None:
        return Decision(Verdict.VIOLATED, _violation(witness, words), witness)
    return _without_witness(proof, tolerance, unproved, timed_out, words)


def _violation(witness: Witness, words: Words) -> str:
    if witness.error.finite:
        return words.broken
    return f"an allowed execution gives {witness.value} at {witness.output}{list(witness.index)}"


def _without_witness(
    proof: Proof,
    tolerance: Tolerance,
    unproved: Obligation | None,
    timed_out: bool,
    words: Words,
) -> Decision:
    if unproved is not None:
        where = f" at node '{unproved.node}'" if unproved.node else ""
        why = f": {unproved.detail}" if unproved.detail else ""
        return Decision(
            Verdict.UNKNOWN,
            f"{unproved.outcome.value} obligation {unproved.name}{where}: {unproved.goal}{why}",
        )
    shown = theorem(proof.radii, tolerance.all_of(proof.radii))
    if shown is not None and (tolerance.given or not timed_out):
        reason = words.holds if tolerance.given else _ONLY_BOUND
        return Decision(Verdict.VERIFIED, reason, theorem=shown)
    if timed_out:
        return Decision(Verdict.UNKNOWN, "the time limit was reached")
    if not proof.finite:
        return Decision(Verdict.UNKNOWN, UNBOUNDED)
    return Decision(Verdict.UNKNOWN, words.open)


def settled(proof: Proof, tolerance: Tolerance) -> bool:
    """Is nothing left to improve or to find?"""
    reached = within(proof.bounds, tolerance) or within(proof.bounds, Tolerance(Fraction(0)))
    return failure_of(proof, ()) is None and reached


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
