"""One graph against another: |impl(x) − spec(x)| ≤ ε for every input of the domain.

The specification is read over the reals. Where the graphs correspond node by node, one backward
substitution bounds the difference of the pair: a weight or an operator that differs is one more
local error, |f_impl − f_spec| over the run-time range of the node's inputs. Elsewhere the bound is
the implementation's own error plus the real range of impl − spec in a graph that holds both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from encoders.approximate_field import ApproximateReals
from encoders.contract import EXACT, IEEE_ANY, RuntimeContract, members
from encoders.enclosure import FloatArray, add_up
from encoders.formats import BINARY64
from gpu_check.emulator import emulate
from gpu_check.exact import evaluate_real
from onnx_import.errors import ModelError
from onnx_import.graph import Array, Graph
from refine.alignment import Aligned, align, checked, paired, product
from refine.assumptions import assumptions_of
from refine.bounds import InputBox, NetworkBounds, network_bounds
from refine.box import Box
from refine.check import Options, decide, node_reports, settled
from refine.clock import Clock, OutOfTime
from refine.compose import lemmas_used, merged
from refine.domain import Domain
from refine.hunting import Catch, error_found
from refine.lemmas.library import prove_lemmas
from refine.proof import Covered, Proof, failure_of, input_box
from refine.replay import replays
from refine.split import part_of
from refine.verdict import Result, Tolerance, Witness
from refine.witness import error_between, is_violation, real_value, typed_inputs

_SAMPLES = 96
_WIDE = replace(IEEE_ANY, compute_format=BINARY64)


@dataclass(frozen=True)
class Pair:
    """Two graphs, and the specification's tensor of each input and output of the other."""

    spec: Graph
    impl: Graph
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    aligned: Aligned | None


def pair_of(spec: Graph, impl: Graph) -> Pair:
    """Match inputs and outputs. Raises ModelError where that is impossible."""
    checked(spec)
    checked(impl)
    inputs = paired("input", spec, impl, spec.inputs, impl.inputs)
    outputs = paired("output", spec, impl, spec.outputs, impl.outputs)
    return Pair(spec, impl, inputs, outputs, align(spec, impl, inputs, outputs))


def diff(
    spec: Graph,
    impl: Graph,
    domain: Domain,
    contract: RuntimeContract,
    tolerance: Tolerance,
    options: Options,
    tell: Callable[[str], None] = lambda stage: None,
) -> Result:
    """Settle |impl_rt − spec_R| ≤ ε; under the contract `exact`, |impl_R − spec_R| ≤ ε.

    `domain` speaks of the implementation's inputs. Raises ModelError for graphs that cannot be
    compared, naming the node for what has no meaning.
    """
    if domain.round_inputs:
        raise ModelError("--round-inputs has no meaning for two graphs: both get the same input")
    clock = Clock(time.monotonic(), options.timeout, tell)
    pair = pair_of(spec, impl)
    proof, note = _proof(pair, domain, contract, clock)
    catch = Catch(None, None, late=False)
    if options.search and not contract.exact and not settled(proof, tolerance):
        catch = _hunt(pair, domain, contract, tolerance, options.seed, clock)
    tell("proving lemmas")
    lemmas = prove_lemmas(lemmas_used(proof.wholes), options.cache)
    groups = merged(proof.obligations())
    every = (*lemmas, *(o for group in groups.values() for o in group))
    timed_out = proof.late or catch.late
    verdict, reason = decide(proof, tolerance, failure_of(proof, every), catch, timed_out)
    return Result(
        verdict,
        reason,
        tolerance,
        proof.bounds,
        catch.largest,
        domain,
        contract,
        assumptions_of(impl, domain, contract),
        node_reports(proof.wholes, groups),
        lemmas,
        impl,
        options.seed,
        clock.seconds,
        (*impl.notes, *domain.notes, f"the specification is {spec.source}", note),
        catch.violation,
        timed_out=timed_out,
    )


def _proof(
    pair: Pair, domain: Domain, contract: RuntimeContract, clock: Clock
) -> tuple[Proof, str]:
    clock.tell("bounding the pair")
    covered: list[Covered] = []
    late = False
    for box in domain.boxes:
        ranges = input_box(box, domain, contract)
        try:
            bounds = _bounds(pair, ranges, contract, True, clock.tick)
        except OutOfTime:
            late = True
            bounds = _bounds(pair, ranges, contract, False)
        covered.append(Covered(ranges, bounds, (part_of(ranges, bounds),)))
    return Proof(tuple(covered), late), _note(pair)


def _bounds(
    pair: Pair,
    box: InputBox,
    contract: RuntimeContract,
    backward: bool,
    tick: Callable[[], None] = lambda: None,
) -> NetworkBounds:
    if pair.aligned is not None:
        runs = pair.aligned.run
        whole = network_bounds(pair.aligned.spec, box, contract, backward, tick, runs=runs)
        return whole if _defined(pair.aligned.spec, box) else _unbounded(whole)
    own = network_bounds(pair.impl, box, contract, backward, tick)
    both, gaps = product(pair.spec, pair.impl, pair.inputs, pair.outputs)
    joint = network_bounds(both, box, EXACT, backward, tick)
    errors: dict[str, FloatArray] = {}
    for output, gap in gaps.items():
        real = 0.0 if gap is None else joint.maps.values[gap].magnitude
        total = add_up(own.errors[output], real)
        errors[output] = np.where(np.isnan(total), np.inf, total)
    whole = replace(own, errors=errors)
    return whole if _defined(both, box) else _unbounded(whole)


def _defined(graph: Graph, box: InputBox) -> bool:
    """No pole and no root or logarithm of a negative number hides behind a later Clip: every
    real range is finite, and in float64 every operator meets its preconditions."""
    return any(_meets_preconditions(network_bounds(graph, box, _WIDE, b)) for b in (False, True))


def _meets_preconditions(bounds: NetworkBounds) -> bool:
    finite = all(
        bool(np.all(np.isfinite(x.lo) & np.isfinite(x.hi))) for x in bounds.maps.values.values()
    )
    return finite and all(
        bool(np.all(np.isfinite(n.rounding.radius)))
        and all(c.holds for c in n.rounding.preconditions)
        for n in bounds.nodes
    )


def _unbounded(bounds: NetworkBounds) -> NetworkBounds:
    nothing = {t: np.full(e.shape, np.inf) for t, e in bounds.errors.items()}
    return replace(bounds, errors=nothing)


def _note(pair: Pair) -> str:
    if pair.aligned is None:
        return "the graphs differ in structure: own error of impl plus real range of impl − spec"
    if not pair.aligned.changed:
        return "the graphs are equal over the reals: operators, attributes and weights agree"
    names = pair.aligned.changed
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"the graphs correspond node by node; they first differ at node '{names[0]}'{more}"


def _hunt(
    pair: Pair,
    domain: Domain,
    contract: RuntimeContract,
    tolerance: Tolerance,
    seed: int,
    clock: Clock,
) -> Catch:
    """Random points, floats and corners; the worst of each execution evaluated exactly."""
    clock.tell("searching for a counterexample")
    rng = np.random.default_rng(seed)
    witnesses = [
        w
        for box in domain.boxes
        for w in _witnesses(pair, box, contract, box.sample(rng, _SAMPLES))
    ]
    violations = [w for w in witnesses if is_violation(w, tolerance)]
    best = max(violations, key=error_found, default=None)
    if best is not None:
        best = replace(best, replays=replays(best, pair.impl, contract))
    return Catch(best, max(witnesses, key=error_found, default=None), clock.late)


def _witnesses(
    pair: Pair, box: Box, contract: RuntimeContract, points: Mapping[str, FloatArray]
) -> list[Witness]:
    found: list[Witness] = []
    mine = {
        n: v if contract.compute_format else v.astype(pair.impl.types[n].dtype.numpy)
        for n, v in points.items()
    }
    real = evaluate_real(
        pair.spec, {pair.inputs[n]: v for n, v in points.items()}, ApproximateReals()
    )
    for execution in members(contract):
        with np.errstate(all="ignore"):
            computed = emulate(pair.impl, mine, execution)
            for output, theirs in pair.outputs.items():
                value = np.asarray(computed[output], np.float64)
                error = np.abs(value - np.asarray(real[theirs], np.float64))
                error = np.where(np.isfinite(value), np.nan_to_num(error, nan=0.0), np.inf)
                if not error.size:
                    continue
                place = np.unravel_index(int(np.argmax(error)), error.shape)
                sample, index = int(place[0]), tuple(int(i) for i in place[1:])
                inputs = {n: v[sample] for n, v in points.items()}
                shown = _confirmed(pair, inputs, execution, output, index, float(value[place]))
                if shown.real is not None:  # else the specification is undefined there
                    found.append(shown)
    return found


def _confirmed(
    pair: Pair,
    inputs: Mapping[str, Array],
    execution: RuntimeContract,
    output: str,
    index: tuple[int, ...],
    value: float,
) -> Witness:
    theirs = {pair.inputs[n]: v for n, v in inputs.items()}
    real = real_value(pair.spec, theirs, pair.outputs[output], index)
    error = error_between(value, real)
    typed = typed_inputs(pair.impl, inputs)
    return Witness(typed, inputs, execution, output, index, value, real, error)
