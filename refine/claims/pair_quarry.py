"""What a counterexample of a comparison is: an input on which two graphs are far apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, partial

import numpy as np

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.contract import RuntimeContract
from encoders.contract.members import contrasting, members
from encoders.contract.presets import EXACT
from encoders.numbers.enclosure import FloatArray
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_real
from onnx_import.graph import Array, Graph
from refine.bounds.backward import unit_functionals
from refine.claims.quarry import Late, Quarry, evaluations
from refine.domain.box import Box
from refine.pair.pair import Pair, pair_of
from refine.pair.product import Product, product
from refine.results.verdict import ErrorEnclosure, RealValue, Side, Witness
from refine.search.evaluation import Candidate, Hunt, Points, candidate, real_outputs, score
from refine.search.gradients import adjoint, values_at
from refine.search.grid_steps import climbed
from refine.witness.file import Saved
from refine.witness.replay import replays, specified
from refine.witness.witness import computed_value, distance, real_value, typed_inputs

_STARTS, _STEPS = 8, 4


def pair_quarry(pair: Pair) -> Quarry | None:
    """Inputs on which the graphs are far apart; None where a runtime draws numbers itself."""
    if pair.spec.graph.random_masks or pair.impl.graph.random_masks:
        return None
    return Quarry(
        pair.impl.graph,
        pair.impl.contract,
        decide=partial(confirmed, pair),
        replayed=partial(_replayed, pair=pair),
        most=min(evaluations(pair.spec.graph), evaluations(pair.impl.graph)),
        references=tuple(_Specified(pair, e) for e in contrasting(pair.spec.contract)),
        leads=_DrivenApart(pair),
    )


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


@dataclass(frozen=True)
class _DrivenApart:
    """Corners of a box towards which the real gap of an output grows, from several points."""

    pair: Pair

    @cached_property
    def both(self) -> Product:
        pair = self.pair
        return product(pair.spec.graph, pair.impl.graph, pair.inputs, pair.outputs, pair.equal)

    def __call__(self, hunt: Hunt, seed: int, late: Late) -> Iterator[Candidate]:
        if self.both.identical:
            return
        yield from climbed(hunt, seed, late)
        rng = np.random.default_rng(seed)
        points = hunt.box.sample(rng, _STARTS)
        execution = members(hunt.contract)[0]
        for _ in range(_STEPS):
            if late():
                return
            best = score(hunt, points, execution)
            for sample in np.argsort(-best.excess)[:2]:
                yield candidate(hunt, points, int(sample), best, execution)
            points = _uphill(self.both.graph, self.both.gaps, hunt.box, points)


def run_pair_again(saved: Saved) -> Witness:
    """A saved counterexample of a comparison evaluated anew. Raises ModelError if the graphs
    cannot be compared."""
    assert saved.spec is not None
    pair = pair_of(saved.spec, Side(saved.graph, saved.candidate.execution), saved.match)
    return _replayed(confirmed(pair, replace(saved.candidate, against=saved.spec.contract)), pair)


def _replayed(witness: Witness, pair: Pair) -> Witness:
    """With what both files give on real runtimes."""
    shown = replays(witness, pair.impl.graph, pair.impl.contract)
    return replace(witness, replays=(*shown, *specified(witness, pair)))


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


def confirmed(pair: Pair, found: Candidate) -> Witness:
    """Decide a candidate exactly: what each side gives, as bits or as a ball around a real."""
    spec_execution = found.against or EXACT
    index, output = found.index, found.output
    mine = given_by(
        pair.impl.graph,
        found.inputs,
        real_inputs=found.real_inputs,
        execution=found.execution,
        output=output,
        index=index,
    )
    theirs = given_by(
        pair.spec.graph,
        {pair.inputs[n]: v for n, v in found.inputs.items()},
        real_inputs={pair.inputs[n]: v for n, v in found.real_inputs.items()},
        execution=spec_execution,
        output=pair.outputs[output],
        index=index,
    )
    finite = mine.finite and theirs.finite
    zero = Fraction(0)
    return Witness(
        typed_inputs(pair.impl.graph, found.inputs),
        found.real_inputs,
        execution=found.execution,
        output=output,
        index=index,
        value=mine.shown,
        real=theirs.value,
        error=distance(mine.value, theirs.value) if finite else ErrorEnclosure(zero, zero, False),
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
    *,
    execution: RuntimeContract,
    output: str,
    index: tuple[int, ...],
) -> Given:
    """One side's output element: a ball over the reals, or the number that an execution
    computes."""
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
