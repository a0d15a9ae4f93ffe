"""Errors of a real runtime on inputs that it is shown: the worst that a search found, and a few.

They count as found, whatever the contract says of that runtime. They decide no verdict: that an
execution is allowed is shown by emulating it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from encoders.program import program_of
from gpu_check.runtimes.replay import NotReplayed, replay_on_onnxruntime
from onnx_import import is_onnx
from onnx_import.graph import Array, Graph
from refine.common.rounding import float_down
from refine.domain.domain import Domain
from refine.results.verdict import Result, Shown, Witness
from refine.witness.witness import error_between, real_outputs, typed_inputs

_SMALL, _TOO_MUCH = 50_000, 5_000_000  # multiply-adds, each in balls
_SAMPLED = 6


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


def shown(graph: Graph, domain: Domain, worst: Witness, seed: int) -> Shown | None:
    """onnxruntime's errors, the file run as it is written; None where it does not run there."""
    work, source = program_of(graph).work, graph.source
    if source is None or not is_onnx(source) or work > _TOO_MUCH:
        return None
    found: Shown | None = None
    for inputs, real in _inputs(domain, worst, seed, work <= _SMALL):
        outcome = replay_on_onnxruntime(source, typed_inputs(graph, inputs))
        if isinstance(outcome, NotReplayed):
            return found
        error = _error(graph, outcome.outputs, real)
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
    largest = 0.0
    for tensor, values in real_outputs(graph, real).items():
        if tensor not in given:
            continue
        flat = np.asarray(given[tensor]).astype(np.float64).reshape(-1)
        for value, exact in zip(flat, values, strict=True):
            error = error_between(float(value), exact)
            largest = max(largest, float_down(error.lo) if error.finite else np.inf)
    return largest
