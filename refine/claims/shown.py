"""Errors of a real runtime on inputs that it is shown: the worst that a search found, and a few.

They count as found, whatever the contract says of that runtime. They decide no verdict: that an
execution is allowed is shown by emulating it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.numbers.enclosure import FloatArray
from encoders.program import program_of
from gpu_check.runtimes.replay import NotReplayed, replay_on_onnxruntime
from onnx_import import is_onnx
from onnx_import.graph import Array, DType, Graph
from refine.common.rounding import float_down
from refine.domain.domain import Domain
from refine.pair.pair import Pair
from refine.results.verdict import ErrorEnclosure, RealValue, Result, Shown, Witness
from refine.search.evaluation import real_outputs as real_values
from refine.witness.witness import error_between, real_outputs, real_value, typed_inputs

_SMALL, _TOO_MUCH = 50_000, 5_000_000  # multiply-adds, each in balls
_SAMPLED = 6
_EACH = 4096  # output elements, beyond which one is evaluated exactly


ABOVE = "the proved bound is above eps, and no error found is"


def with_shown(result: Result, by_runtime: Shown | None) -> Result:
    """The result with what a runtime was seen to do; its reason says so where that is above ε."""
    result = replace(result, shown=by_runtime)
    wanted = [result.tolerance.common, *result.tolerance.by_output.values()]
    epsilon = max((e for e in wanted if e is not None), default=None)
    if by_runtime is None or epsilon is None or result.reason != ABOVE:
        return result
    if math.isfinite(by_runtime.error) and Fraction(by_runtime.error) <= epsilon:
        return result
    reason = (
        f"the proved bound is above eps, and so is an error of {by_runtime.runtime}, though of no "
        "execution that was emulated"
    )
    return replace(result, reason=reason)


Given = Mapping[str, Array]
Errs = Callable[[Given, Given, Given], float | None]
"""The error of what a runtime gives (first) on inputs (second) that are these real ones (third);
None where there is nothing to compare with."""


def shown(graph: Graph, domain: Domain, worst: Witness, seed: int) -> Shown | None:
    """onnxruntime's errors, the file run as it is written; None where it does not run there."""
    return _shown(graph, domain, worst, seed, lambda out, given, real: _error(graph, out, real))


def shown_apart(pair: Pair, domain: Domain, worst: Witness, seed: int) -> Shown | None:
    """How far onnxruntime's outputs of the implementation are from the specification: from its real
    values, or from what onnxruntime gives for it too. None where either does not run there."""
    spec, runs = pair.spec.graph, not pair.impl.contract.exact
    if not runs or spec.random_masks or program_of(spec).work > _TOO_MUCH:
        return None

    def errs(given: Given, inputs: Given, real: Given) -> float | None:
        named = {pair.outputs[t]: v for t, v in given.items()}
        if pair.spec.contract.exact:
            return _error(spec, named, {pair.inputs[n]: v for n, v in real.items()})
        if spec.source is None or not is_onnx(spec.source):
            return None
        read = typed_inputs(spec, {pair.inputs[n]: v for n, v in inputs.items()})
        outcome = replay_on_onnxruntime(spec.source, read)
        if isinstance(outcome, NotReplayed):
            return None
        pairs = ((named[t], outcome.outputs[t]) for t in named if t in outcome.outputs)
        return max((_apart(ours, other) for ours, other in pairs), default=0.0)

    return _shown(pair.impl.graph, domain, worst, seed, errs)


def _apart(ours: Array, theirs: Array) -> float:
    """The largest |a − b|, rounded down; infinite where only `ours` is no number."""
    largest = 0.0
    for a, b in zip(_wide(ours), _wide(theirs), strict=True):
        exact = RealValue(Fraction(float(b)), Fraction(float(b))) if np.isfinite(b) else None
        largest = max(largest, _least(error_between(float(a), exact)))
    return largest


def _of(graph: Graph, given: Given) -> Given:
    return {t: given[t] for t in graph.outputs if t in given}


def _wide(values: Array) -> FloatArray:
    return np.asarray(values).astype(np.float64).reshape(-1)


def _shown(graph: Graph, domain: Domain, worst: Witness, seed: int, errs: Errs) -> Shown | None:
    work, source = program_of(graph).work, graph.source
    if source is None or not is_onnx(source) or work > _TOO_MUCH:
        return None
    found: Shown | None = None
    for inputs, real in _inputs(domain, worst, seed, work <= _SMALL):
        outcome = replay_on_onnxruntime(source, typed_inputs(graph, inputs))
        if isinstance(outcome, NotReplayed):
            return found
        error = errs(_of(graph, outcome.outputs), inputs, real)
        if error is None:
            return found
        if found is None or error > found.error:
            found = Shown(outcome.runtime, error)
    return found


def _inputs(
    domain: Domain, worst: Witness, seed: int, more: bool
) -> Sequence[tuple[Mapping[str, Array], Mapping[str, Array]]]:
    """What the runtime and what the real network receives."""
    some: list[tuple[Mapping[str, Array], Mapping[str, Array]]] = [
        (worst.inputs, worst.real_inputs)
    ]
    box = domain.boxes[0]
    points = box.sample(np.random.default_rng(seed), _SAMPLED if more else 0)
    for k in range(_SAMPLED if more else 0):
        point = {name: v[k] for name, v in points.items()}
        some.append((point, box.real_point(point)))
    return some


def _error(graph: Graph, given: Mapping[str, Array], real: Mapping[str, Array]) -> float:
    """The largest error of an element; of many elements, the one that seems to err most."""
    flat = {t: np.asarray(v).astype(np.float64).reshape(-1) for t, v in given.items()}
    here = [t for t in graph.outputs if t in flat and graph.types[t].size]
    if sum(graph.types[t].size for t in here) > _EACH:
        return _seeming(graph, {t: flat[t] for t in here}, real)
    largest = 0.0
    for tensor, values in real_outputs(graph, real).items():
        for value, exact in zip(flat.get(tensor, ()), values, strict=tensor in flat):
            largest = max(largest, _least(error_between(float(value), exact)))
    return largest


def _seeming(graph: Graph, given: Mapping[str, FloatArray], real: Mapping[str, Array]) -> float:
    """The error of the element that is farthest from an evaluation in floating point."""
    field = ApproximateReals(any(t.dtype is DType.FLOAT64 for t in graph.types.values()))
    points = {name: np.asarray(v).astype(np.float64)[np.newaxis] for name, v in real.items()}
    with np.errstate(all="ignore"):
        near = real_values(graph, points, field)
        errors = {t: np.abs(v - near[t].reshape(-1)).astype(np.float64) for t, v in given.items()}
    errors = {
        t: np.where(np.isfinite(given[t]), np.nan_to_num(e), np.inf) for t, e in errors.items()
    }
    tensor = max(errors, key=lambda t: float(np.max(errors[t])))
    place = int(np.argmax(errors[tensor]))
    index = tuple(int(i) for i in np.unravel_index(place, graph.types[tensor].shape))
    exact = real_value(graph, real, tensor, index)
    return _least(error_between(float(given[tensor][place]), exact))


def _least(error: ErrorEnclosure) -> float:
    return float_down(error.lo) if error.finite else np.inf
