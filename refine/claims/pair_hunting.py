"""An input on which two graphs are far apart: found in float64, decided exactly, replayed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import numpy as np

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.contract import EXACT, RuntimeContract, contrasting, members
from encoders.numbers.enclosure import FloatArray
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_real
from onnx_import.graph import Array, Graph
from refine.bounds.backward import unit_functionals
from refine.claims.hunting import Catch, error_found, evaluations, over, simplest
from refine.common.clock import Clock
from refine.domain.box import Box
from refine.domain.domain import Domain
from refine.pair.pair import Pair, pair_of
from refine.pair.product import product
from refine.results.verdict import ErrorEnclosure, RealValue, Side, Tolerance, Witness
from refine.search.evaluation import Candidate, Hunt, Points, candidate, real_outputs, score
from refine.search.gradients import adjoint, values_at
from refine.search.search import search
from refine.witness.file import Saved
from refine.witness.replay import replays, specified
from refine.witness.witness import computed_value, distance, is_violation, real_value, typed_inputs

_STARTS, _STEPS = 8, 4


@dataclass(frozen=True)
class _Specified:
    """The specification's outputs under the implementation's names, as one execution gives
    them."""

    pair: Pair
    execution: RuntimeContract

    def __call__(self, hunt: Hunt, points: Points) -> Mapping[str, FloatArray]:
        graph, inputs = self.pair.spec.graph, self.pair.inputs
        if self.execution.exact:
            real = {inputs[n]: v for n, v in hunt.real(points).items()}
            outputs: Mapping[str, Array] = real_outputs(graph, real, hunt.reals)
        else:
            wide = self.execution.compute_format is not None
            types = {n: graph.types[inputs[n]].dtype.numpy for n in points}
            given = {inputs[n]: v if wide else v.astype(types[n]) for n, v in points.items()}
            outputs = emulate(graph, given, self.execution)
        return {t: np.asarray(outputs[theirs]) for t, theirs in self.pair.outputs.items()}


def hunt_pair(
    pair: Pair,
    domain: Domain,
    tolerance: Tolerance,
    seed: int,
    clock: Clock,
    seconds: float,
    effort: float = 1.0,
) -> Catch:
    """Search every box, against each execution of the specification that is tried, for so many
    seconds in all; decide the best inputs exactly; replay violations. An infinite effort uses all
    of that time."""
    most = min(evaluations(pair.spec.graph), evaluations(pair.impl.graph))
    if not most:
        return Catch(None, (), clock.late)
    clock.tell("searching for a counterexample")
    witnesses: list[Witness] = []
    executions = contrasting(pair.spec.contract)
    begin = time.monotonic()
    turns = [(box, e) for box in domain.boxes for e in executions]
    for i, (box, execution) in enumerate(turns):
        enough = partial(over, clock, begin + seconds * (i + 1) / len(turns))
        meant = _Specified(pair, execution)
        hunt = Hunt(pair.impl.graph, box, pair.impl.contract, tolerance, meant)
        found = [
            *_driven_apart(pair, hunt, seed + i, enough),
            *search(hunt, seed + i, enough, effort),
        ]
        found = sorted(found, key=lambda c: -c.excess)[:most]
        witnesses += [confirmed(pair, c, execution) for c in found]
    violations = [w for w in witnesses if is_violation(w, tolerance)]
    best = max(violations, key=error_found, default=None)
    if best is not None:
        best = _replayed(best, pair)
        if not clock.late:
            clock.tell("simplifying the counterexample")
            decide = partial(confirmed, pair, spec_execution=best.spec_execution or EXACT)
            best = simplest(best, domain, tolerance, decide, partial(_replayed, pair=pair), clock)
    return Catch(best, tuple(witnesses), clock.late)


def run_pair_again(saved: Saved) -> Witness:
    """A saved counterexample of a comparison evaluated anew. Raises ModelError if the graphs
    cannot be compared."""
    assert saved.spec is not None
    pair = pair_of(saved.spec, Side(saved.graph, saved.candidate.execution), saved.match)
    return _replayed(confirmed(pair, saved.candidate, saved.spec.contract), pair)


def _replayed(witness: Witness, pair: Pair) -> Witness:
    """With what both files give on real runtimes."""
    shown = replays(witness, pair.impl.graph, pair.impl.contract)
    return replace(witness, replays=(*shown, *specified(witness, pair)))


def _driven_apart(
    pair: Pair, hunt: Hunt, seed: int, late: Callable[[], bool]
) -> Iterator[Candidate]:
    """Corners of the box towards which the real gap of an output grows, from several points."""
    both = product(pair.spec.graph, pair.impl.graph, pair.inputs, pair.outputs, pair.equal)
    if both.identical:
        return
    rng = np.random.default_rng(seed)
    points = hunt.box.sample(rng, _STARTS)
    execution = members(hunt.contract)[0]
    for _ in range(_STEPS):
        if late():
            return
        best = score(hunt, points, execution)
        for sample in np.argsort(-best.excess)[:2]:
            yield candidate(hunt, points, int(sample), best, execution)
        points = _uphill(both.graph, both.gaps, hunt.box, points)


def _uphill(
    graph: Graph, gaps: Mapping[str, str | None], box: Box, points: Points
) -> dict[str, FloatArray]:
    """Each sample's corner in the direction in which its largest gap grows (Goodfellow et al.
    2015, the fast gradient sign)."""
    inside = evaluate_real(graph, points, ApproximateReals(), every_tensor=True)
    moved = {n: v.copy() for n, v in points.items()}
    for i in range(len(next(iter(points.values())))):
        values = values_at(inside, i)
        wanted = [g for g in gaps.values() if g is not None]
        gap = max(wanted, key=lambda g: float(np.max(np.abs(values[g]), initial=0.0)))
        flat = values[gap].reshape(-1)
        place = int(np.argmax(np.abs(np.nan_to_num(flat))))
        start = unit_functionals(values[gap].shape, np.array([place])) * np.sign(flat[place] or 1)
        slopes = adjoint(graph, values, {gap: start})
        for name in moved:
            slope = slopes.get(name)
            if slope is not None:
                towards = np.where(slope[0] > 0, box.hi[name], box.lo[name])
                moved[name][i] = np.where(slope[0] == 0, moved[name][i], towards)
    return moved


def confirmed(pair: Pair, found: Candidate, spec_execution: RuntimeContract) -> Witness:
    """Decide a candidate exactly: what each side gives, as bits or as a ball around a real."""
    index, output = found.index, found.output
    mine = given_by(
        pair.impl.graph, found.inputs, found.real_inputs, found.execution, output, index
    )
    theirs = given_by(
        pair.spec.graph,
        {pair.inputs[n]: v for n, v in found.inputs.items()},
        {pair.inputs[n]: v for n, v in found.real_inputs.items()},
        spec_execution,
        pair.outputs[output],
        index,
    )
    finite = mine.finite and theirs.finite
    zero = Fraction(0)
    return Witness(
        typed_inputs(pair.impl.graph, found.inputs),
        found.real_inputs,
        found.execution,
        output,
        index,
        mine.shown,
        theirs.value,
        distance(mine.value, theirs.value) if finite else ErrorEnclosure(zero, zero, False),
        spec_execution=spec_execution,
    )


@dataclass(frozen=True)
class Given:
    """What one side gives at one output element: `value` None is no finite number; only a
    runtime's that is none is a violation (`finite` False)."""

    value: RealValue | None
    shown: float
    finite: bool = True


def given_by(
    graph: Graph,
    inputs: Mapping[str, Array],
    real_inputs: Mapping[str, Array],
    execution: RuntimeContract,
    output: str,
    index: tuple[int, ...],
) -> Given:
    if execution.exact:
        real = real_value(graph, real_inputs, output, index)
        return Given(real, float("nan") if real is None else _nearest(real.lo))
    value = computed_value(graph, inputs, execution, output, index)
    if not np.isfinite(value):
        return Given(None, value, finite=False)
    return Given(RealValue(Fraction(value), Fraction(value)), value)


def _nearest(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
