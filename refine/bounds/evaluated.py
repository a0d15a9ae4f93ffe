"""Real values at a point: evaluated in balls, far more precisely than ranges are carried forward;
and the numbers of a run there, where a contract allows one run only.

Where every input is one number nothing has to be relaxed: the exact semantics of the operators
gives every tensor, and pull-backs are left to the errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from encoders.arithmetic.exact_fields import Balls
from encoders.arithmetic.numpy_arithmetic import Carrier
from encoders.contract.contract import RuntimeContract, Subnormals
from encoders.lemmas.differences import BETWEEN_ENDS
from encoders.lemmas.kernel import Radius, apply
from encoders.numbers.enclosure import SMALLEST, UNIT, BoolArray, FloatArray, Interval, point
from encoders.program import Program, Step, forward, program_of
from encoders.scheduling import contract_at
from encoders.traits import Discontinuity
from gpu_check.emulator.emulator import checked_input, emulate_watched
from gpu_check.emulator.exact import evaluate_exact
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Graph

_MOST_WORK = 2**27  # multiply-adds of one evaluation
_MOST_EMULATED = 2**23
_BITS = 128


def values_at(graph: Graph, box: Mapping[str, Interval]) -> Mapping[str, Interval]:
    """The real value of every tensor that varies; nothing where some input is no single number, or
    the graph is too large to be evaluated so."""
    points = all(np.array_equal(x.lo, x.hi) and np.all(np.isfinite(x.lo)) for x in box.values())
    if not points or program_of(graph).work > _MOST_WORK:
        return {}
    given = {t: np.broadcast_to(x.lo, graph.types[t].shape) for t, x in box.items()}
    try:
        exact = evaluate_exact(graph, given, Balls(_BITS), every_tensor=True)
    except ValueError:  # a stored infinity, a logarithm of nothing: ranges say what is known
        return {}
    return {t: enclosed(values) for t, values in exact.items()}


def ranges_at(graph: Graph, box: Mapping[str, Interval]) -> Mapping[str, Interval]:
    """Real ranges of the outputs over a box, carried forward in float64 and nothing else: at a
    point of a network that takes minutes to be evaluated in balls, these are enclosures."""

    def carried(step: Step, values: Mapping[str, Interval]) -> tuple[Interval]:
        return (step.operator.values(step.site, [values[t] for t in step.reads]).range,)

    with np.errstate(all="ignore"):
        found = forward(program_of(graph).checked, box, carried)
    return {
        t: found[t] if t in found else point(np.asarray(graph.constants[t], np.float64))
        for t in graph.outputs
    }


def errors_at(
    graph: Graph,
    box: Mapping[str, Interval],
    contract: RuntimeContract,
    values: Mapping[str, Interval],
) -> Mapping[str, Radius]:
    """How far tensors are off at a point of these real `values` where the contract allows one
    execution only: that one, bit for bit. Tensors that hang on a node of which it allows more are
    left out, as are those behind what overflows."""
    program = program_of(graph).checked
    if not values or graph.random_masks:
        return {}
    given = {t: np.broadcast_to(x.lo, graph.types[t].shape)[None] for t, x in box.items()}
    carried = {t: v.astype(graph.types[t].dtype.numpy) for t, v in given.items()}
    if not all(np.array_equal(carried[t].astype(np.float64), v) for t, v in given.items()):
        return {}
    with np.errstate(all="ignore"):
        computed = _only_execution(graph, program, carried, contract)
    return {
        t: apply(BETWEEN_ENDS, lo=values[t].lo, hi=values[t].hi, low=v, high=v)
        for t, v in computed.items()
        if t in values and t not in box
    }


def _only_execution(
    graph: Graph, program: Program, given: Mapping[str, Carrier], contract: RuntimeContract
) -> Mapping[str, FloatArray]:
    """What is computed at a point, as far as it follows from the contract bit for bit."""
    run: dict[str, Carrier] = {}
    found: dict[str, FloatArray] = {}
    left = _MOST_EMULATED

    def enter(tensors: Sequence[str], computed: Sequence[Carrier]) -> None:
        numbers = [np.asarray(v, np.float64) for v in computed]
        if all(bool(np.all(np.isfinite(v))) for v in numbers):
            run.update(zip(tensors, computed, strict=True))
            shapes = (graph.types[t].shape for t in tensors)
            every = zip(tensors, shapes, numbers, strict=True)
            found.update((t, np.broadcast_to(v[0], shape)) for t, shape, v in every)

    for tensor in given:
        try:
            enter([tensor], [checked_input(graph, tensor, given, contract)])
        except ValueError:  # an input of another format
            continue
    for step in program.steps:
        if not all(t in run for t in step.reads) or not _decided(step, contract):
            continue
        left -= step.work
        if left < 0:
            break
        try:
            computed, truncated = emulate_watched(step, run, contract)
        except (ValueError, UnsupportedModel):  # an order that is left open
            continue
        if truncated:
            continue  # a runtime may have an attribute in float32 too, and both are allowed
        enter(step.writes, computed)
    return found


def _decided(step: Step, contract: RuntimeContract) -> bool:
    """Does the contract leave nothing open here but what an emulation would find open itself?

    Where subnormal numbers are flushed it does: whether those that are only copied are lost too,
    and whether a result is measured before it is rounded or after. Inside an operator that was
    decomposed, one that computes it as a whole need not round what only copies do not change.
    """
    here, operator = contract_at(step.running, contract), step.operator
    kept = here.results is here.operands is Subnormals.KEEP
    compares = operator.jump is Discontinuity.COMPARISON
    plain = operator.movement or operator.affine or operator.element is not None or compares
    one = operator.formulas == 1 and len(operator.followed) <= 1 and not operator.functions
    whole = step.node.written or operator.movement or compares
    return plain and one and whole and kept and here.decided


def enclosed(balls: Any) -> Interval:
    """Float64 ends around an array of balls; infinite ones around what has no value here."""
    shape = np.shape(balls)
    flat = np.reshape(np.asarray(balls, dtype=object), -1).tolist()
    middle = np.array([float(b.mid()) for b in flat], np.float64).reshape(shape)
    radius = np.array([float(b.rad()) for b in flat], np.float64).reshape(shape)
    zero = np.array([b == 0 for b in flat], np.bool_).reshape(shape)
    return _around(middle, radius, zero)


def _around(middle: FloatArray, radius: FloatArray, zero: BoolArray) -> Interval:
    """Conversions of both to float64 err by at most an ulp, and so do the sums below."""
    with np.errstate(all="ignore"):
        wide = radius * (1.0 + 8 * UNIT) + np.abs(middle) * (8 * UNIT) + 8 * SMALLEST
        wide = np.where(zero, 0.0, wide)
        lo, hi = middle - wide, middle + wide
    unknown = ~(np.isfinite(lo) & np.isfinite(hi))
    return Interval(np.where(unknown, -np.inf, lo), np.where(unknown, np.inf, hi))
