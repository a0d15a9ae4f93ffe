"""No derivative is NaN where the outputs themselves are finite.

It is proved by what every element of the gradient graph may be (`refine.gradients.nan_free`), or
by bounds on it: where all its values are finite none is NaN. An input breaks it at which an allowed
execution gives finite outputs and a derivative that is NaN, as a mask does that is put on a
quotient by 0 too late.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.contract.members import members
from encoders.lemmas.domains import NEVER_NAN
from encoders.lemmas.kernel import Radius, apply
from encoders.program import program_of
from gpu_check.emulator.emulator import emulate
from onnx_import.graph import Array, Graph
from refine.claims.claim import Claim, Words
from refine.claims.kind import Asked, ClaimKind, EpsilonUse
from refine.claims.kinds.gradient import gradient_accuracy
from refine.claims.outputs.gradients import OPTIONS, about, of_model
from refine.claims.quarry import Late
from refine.claims.settle import seen, settle
from refine.common.clock import Clock
from refine.gradients.nan_free import never_nan, uniform
from refine.proof.applications import claimed
from refine.results.theorem import theorem
from refine.results.verdict import (
    Assumption,
    Claimed,
    ErrorEnclosure,
    Result,
    Tolerance,
    Verdict,
    Witness,
)
from refine.search.evaluation import Candidate, Hunt, received
from refine.witness.replay import run_again
from refine.witness.witness import computed_outputs, confirm

_FINITE = Tolerance(Fraction(10) ** 300)  # errors of finite numbers are of no interest
_SAMPLED, _MOST_LEADS = 128, 64
_WORK = 20_000_000  # multiply-adds
_STATEMENT = "no derivative is NaN where the outputs are finite"
_NEVER = (
    "no element of a derivative may be NaN: of each operation every number that it may give was "
    "followed, zeros and infinities apart"
)
_ALIKE = (
    "a run is in one mode throughout, as a processor is: numbers below the normal ones are kept or "
    "taken for 0, results and operands each, by all of its operations; every such mode is proved"
)
_WORDS = Words(
    holds="every derivative is finite in every allowed execution",
    broken="at an input of the domain an allowed execution gives finite outputs and a derivative "
    "that is NaN",
    open="it is not shown that every derivative is finite",
)


def _settled(asked: Asked) -> Result:
    clock = Clock(time.monotonic(), asked.options.timeout, asked.tell)
    clock.tell("differentiating")
    of_errors = gradient_accuracy(asked)
    shown = _shown(of_errors, asked, clock)
    if shown is not None:
        return of_model(shown, asked.side.graph)
    quarry = of_errors.quarry
    if quarry is not None:
        decide = partial(_decided, asked.side.graph, of_errors.side.graph)
        leads = partial(_leads, asked.side.graph)
        quarry = replace(quarry, decide=decide, leads=leads)
    claim = replace(
        of_errors,
        quarry=quarry,
        shown=lambda domain, witness, seed: None,
        statement=_STATEMENT,
        words=_WORDS,
    )
    result = settle(claim, asked.domain, _FINITE, asked.options, clock)
    return of_model(replace(result, tolerance=Tolerance()), asked.side.graph)


def _shown(claim: Claim, asked: Asked, clock: Clock) -> Result | None:
    """That no derivative may be NaN, from what every element may be; None where that says less."""
    clock.tell("asking which numbers derivatives may be")
    graph, contract = claim.side.graph, asked.side.contract
    boxes = asked.domain.boxes
    given = [{t: (box.lo[t], box.hi[t]) for t in graph.inputs} for box in boxes]
    ways: tuple[RuntimeContract, ...] = (contract,)
    assumed = claim.assumptions(asked.domain)
    radii = _radii(graph, given, ways)
    if radii is None:
        ways = uniform(contract)
        radii = _radii(graph, given, ways) if len(ways) > 1 else None
        assumed = (*assumed, Assumption("subnormals", _ALIKE))
    if radii is None or clock.late:
        return None
    proved = theorem(radii, None)
    assert proved is not None
    conduct = seen(claim.side, asked.domain, asked.options, clock)
    return Result(
        verdict=Verdict.VERIFIED,
        reason=_NEVER,
        tolerance=Tolerance(),
        bounds={},
        worst_found=None,
        domain=asked.domain,
        contract=contract,
        assumptions=assumed,
        nodes=(),
        obligations=claimed(proved, ""),
        graph=graph,
        seed=asked.options.seed,
        seconds=clock.seconds,
        notes=(*graph.notes, *asked.domain.notes),
        claimed=Claimed(_STATEMENT),
        theorem=proved,
        conduct=conduct,
    )


def _radii(
    graph: Graph,
    given: Sequence[Mapping[str, tuple[Array, Array]]],
    contracts: Sequence[RuntimeContract],
) -> Mapping[str, Radius] | None:
    """By output, that it is never NaN, in every box under every contract."""
    found: dict[str, Radius] = {}
    for contract in contracts:
        for ends in given:
            may = never_nan(graph, ends, contract)
            if may is None:
                return None
            for t in graph.outputs:
                kind = graph.types[t]
                nan = may[t].nan[0] if t in may else np.zeros(kind.shape)
                shown = apply(NEVER_NAN, possible=nan.astype(np.float64))
                found[t] = found[t].or_else(shown) if t in found else shown
    return found


def _decided(model: Graph, gradient: Graph, candidate: Candidate) -> Witness:
    """The candidate, whose error counts only where it breaks the claim."""
    witness = confirm(gradient, candidate)
    if np.isnan(witness.value) and _is_finite(model, candidate.inputs, candidate.execution):
        return witness
    return replace(witness, error=ErrorEnclosure(Fraction(0), Fraction(0)))


def _leads(model: Graph, hunt: Hunt, seed: int, late: Late) -> Iterator[Candidate]:
    """Inputs with many zeros, where the range has them, that give finite outputs and a NaN."""
    rng = np.random.default_rng(seed)
    count = int(np.clip(_WORK // max(program_of(hunt.graph).work, 1), 4, _SAMPLED))
    points = hunt.box.sample(rng, count)
    for name, values in points.items():
        share = np.linspace(0.0, 1.0, count).reshape(-1, *(1,) * (values.ndim - 1))
        zeroed = np.where(rng.random(values.shape) < share, 0.0, values)
        points[name] = hunt.box.nearest(name, zeroed)
    for execution in members(hunt.contract):
        if late():
            return
        given = received(hunt, points, execution)
        with np.errstate(all="ignore"):
            outputs, gradients = (emulate(g, given, execution) for g in (model, hunt.graph))
        finite = np.ones(count, bool)
        for value in outputs.values():
            finite &= np.all(np.isfinite(np.asarray(value, np.float64).reshape(count, -1)), 1)
        for output, value in gradients.items():
            broken = np.isnan(np.asarray(value, np.float64))
            for sample, *index in np.argwhere(broken)[:_MOST_LEADS].tolist():
                if finite[sample]:
                    point = {n: np.asarray(v[sample]) for n, v in points.items()}
                    real = hunt.box.real_point(point)
                    yield Candidate(point, real, execution, output, tuple(index), np.inf)
                    return


def _is_finite(model: Graph, inputs: Mapping[str, Array], execution: RuntimeContract) -> bool:
    outputs = computed_outputs(model, inputs, execution)
    return all(bool(np.all(np.isfinite(np.asarray(v, np.float64)))) for v in outputs.values())


CLAIMS = (
    ClaimKind(
        name="gradient-safe",
        summary="no derivative is NaN where the outputs are finite",
        settle=_settled,
        options=OPTIONS,
        about=about,
        again=lambda saved: run_again(saved.graph, saved.candidate),
        epsilon=EpsilonUse.NONE,
    ),
)
