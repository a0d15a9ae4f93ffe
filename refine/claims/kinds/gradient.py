"""The gradient of a model, as it runs, against that over the reals: |∇_rt − ∇_R| ≤ ε, and finite.

The gradient is a graph of its own (`refine.gradients`), with one rule per operator; the claim is
accuracy of that graph over the domain of the model.
"""

from __future__ import annotations

import time
from dataclasses import replace

from refine.claims.claim import Claim, Words, require_semantics
from refine.claims.kind import Asked, ClaimKind
from refine.claims.kinds.accuracy import accuracy
from refine.claims.outputs.gradients import KINKS, OPTIONS, about, assumed, derived, of_model
from refine.claims.settle import settle
from refine.common.clock import Clock
from refine.results.verdict import Result, Side, Verdict
from refine.witness.replay import run_again

_WORDS = Words(
    holds="every derivative is finite and within eps of its real value, in every allowed execution",
    broken="at an input of the domain a derivative has an error above eps, evaluated exactly",
    open="the proved bound is above eps, and no error found is",
)


_JUMPS = (
    "where what a kink reads (Relu at 0) is within rounding of it, the slope that runs may be that "
    "of the other side, and a derivative is off by the whole jump, however precise the arithmetic: "
    "a domain that crosses a kink may have no smaller bound; one around a single input (--center "
    "x.npy --radius R) may cross none"
)


def gradient_accuracy(asked: Asked) -> Claim:
    """That the gradient that is asked about, run under the contract, is near its real semantics.
    No certificate has it.

    Raises UnsupportedModel, naming the node, for what has no gradient or no meaning.
    """
    model, contract = asked.side.graph, asked.side.contract
    side = Side(derived(asked), contract)
    require_semantics(side)
    return replace(
        accuracy(side),
        certified=None,
        assumptions=lambda domain: assumed(side.graph, model, domain, contract, asked.given),
    )


def _settled(asked: Asked) -> Result:
    clock = Clock(time.monotonic(), asked.options.timeout, asked.tell)
    clock.tell("differentiating")
    claim = replace(
        gradient_accuracy(asked),
        statement="every derivative is finite and within eps of its real value",
        words=_WORDS,
    )
    result = settle(claim, asked.domain, asked.tolerance, asked.options, clock)
    return of_model(_at_kinks(result), asked.side.graph)


def _at_kinks(result: Result) -> Result:
    """The result, with why it stays above ε where the slope of a kink may be the other one."""
    kinked = any(a.name == KINKS for a in result.assumptions)
    if not kinked or result.verdict not in (Verdict.VIOLATED, Verdict.UNKNOWN):
        return result
    return replace(result, notes=(*result.notes, _JUMPS))


CLAIMS = (
    ClaimKind(
        name="gradient",
        summary="every derivative is finite and within E of its real value",
        settle=_settled,
        options=OPTIONS,
        about=about,
        again=lambda saved: run_again(saved.graph, saved.candidate),
        draws=True,
    ),
)
