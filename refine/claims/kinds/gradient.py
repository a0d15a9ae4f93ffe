"""The gradient of a model, as it runs, against that over the reals: |∇_rt − ∇_R| ≤ ε, and finite.

The gradient is a graph of its own (`refine.gradients`), with one rule per operator; the claim is
accuracy of that graph over the domain of the model.
"""

from __future__ import annotations

import time
from dataclasses import replace

from refine.claims.claim import Words, require_semantics
from refine.claims.kind import Asked, ClaimKind
from refine.claims.kinds.accuracy import accuracy
from refine.claims.outputs.gradients import OPTIONS, about, assumed, derived, of_model
from refine.claims.settle import settle
from refine.common.clock import Clock
from refine.results.verdict import Result, Side
from refine.witness.replay import run_again

_WORDS = Words(
    holds="every derivative is finite and within eps of its real value, in every allowed execution",
    broken="at an input of the domain a derivative has an error above eps, evaluated exactly",
    open="the proved bound is above eps, and no error found is",
)


def _settled(asked: Asked) -> Result:
    clock = Clock(time.monotonic(), asked.options.timeout, asked.tell)
    clock.tell("differentiating")
    side = Side(derived(asked), asked.side.contract)
    require_semantics(side)
    claim = replace(
        accuracy(side),
        certified=None,
        assumptions=lambda domain: assumed(side.graph, domain, side.contract, asked.given),
        statement="every derivative is finite and within eps of its real value",
        words=_WORDS,
    )
    result = settle(claim, asked.domain, asked.tolerance, asked.options, clock)
    return of_model(result, asked.side.graph)


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
