"""Candidates turned into witnesses: the error evaluated exactly, nothing left to doubt."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import flint
import numpy as np

from encoders.arithmetic.exact_fields import Balls, enclosure
from encoders.contract.contract import RuntimeContract
from encoders.numbers.enclosure import Interval, point
from encoders.numbers.formats import BINARY64, round_down
from encoders.program import program_of
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_element, evaluate_exact
from onnx_import.graph import Array, Graph
from refine.bounds.evaluated import ranges_at
from refine.results.verdict import ErrorEnclosure, RealValue, Tolerance, Witness
from refine.search.evaluation import Candidate

_BITS = (400, 4000)
_TOO_MUCH = 50_000_000  # multiply-adds, each in balls
_BEYOND = flint.arb(2) ** 20000


def typed_inputs(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Inputs in the model's own dtypes; in float64 where these do not hold them, as they may not
    where a contract computes in another format."""
    given = {name: np.asarray(v) for name, v in inputs.items()}
    with np.errstate(all="ignore"):
        typed = {name: v.astype(graph.types[name].dtype.numpy) for name, v in given.items()}
    return {n: t if np.array_equal(t, given[n]) else given[n] for n, t in typed.items()}


def confirm(graph: Graph, candidate: Candidate) -> Witness:
    """Evaluate a candidate exactly: emulated bits against a ball around the real value.

    An execution that is the real network errs by nothing, whether its value is known or not.
    """
    output, index = candidate.output, candidate.index
    value = computed_value(graph, candidate.inputs, candidate.execution, output, index)
    real = real_value(graph, candidate.real_inputs, candidate.output, candidate.index)
    nothing = ErrorEnclosure(Fraction(0), Fraction(0))
    return Witness(
        typed_inputs(graph, candidate.inputs),
        candidate.real_inputs,
        execution=candidate.execution,
        output=candidate.output,
        index=candidate.index,
        value=value,
        real=real,
        error=nothing if candidate.execution.exact else error_between(value, real),
    )


def is_huge(graph: Graph) -> bool:
    """Does one exact evaluation of the network take minutes?"""
    return program_of(graph).work > _TOO_MUCH


def confirm_enclosed(graph: Graph, candidate: Candidate) -> Witness:
    """A candidate of a huge network: emulated bits against ranges of the real values that are
    carried forward in float64, at the element of the candidate's output where both are farthest
    apart. The error's enclosure is wider than that of `confirm`, and holds."""
    output, index = candidate.output, candidate.index
    wide = {n: _around(v) for n, v in exactly(candidate.real_inputs).items()}
    real = ranges_at(graph, wide)[output]
    computed = computed_outputs(graph, candidate.inputs, candidate.execution)[output]
    values = computed.astype(np.float64)
    known = np.isfinite(real.lo) & np.isfinite(real.hi)
    with np.errstate(invalid="ignore"):
        near = np.where(known, np.maximum(values - real.hi, real.lo - values), -np.inf)
    if np.all(np.isfinite(values)) and values.size:
        index = tuple(int(i) for i in np.unravel_index(int(np.argmax(near)), values.shape))
    enclosing = None
    if known[index]:
        enclosing = RealValue(Fraction(float(real.lo[index])), Fraction(float(real.hi[index])))
    value = float(values[index])
    return Witness(
        typed_inputs(graph, candidate.inputs),
        candidate.real_inputs,
        execution=candidate.execution,
        output=output,
        index=index,
        value=value,
        real=enclosing,
        error=error_between(value, enclosing),
    )


def _around(values: Array) -> Interval:
    """Float64 numbers on either side of what may be rational."""
    if values.dtype.kind != "O":
        return point(values.astype(np.float64))
    near = values.astype(np.float64)
    return Interval(np.nextafter(near, -np.inf), np.nextafter(near, np.inf))


def computed_value(
    graph: Graph,
    inputs: Mapping[str, Array],
    execution: RuntimeContract,
    output: str,
    index: tuple[int, ...],
) -> float:
    """One output element as an execution computes it."""
    return float(computed_outputs(graph, inputs, execution)[output][index])


def computed_outputs(
    graph: Graph, inputs: Mapping[str, Array], execution: RuntimeContract
) -> Mapping[str, Array]:
    """All outputs as an execution computes them; of the real network, which has no bits, float64
    numbers near its values, NaN where it has none."""
    if execution.exact:
        real = real_outputs(graph, inputs)
        near = {
            t: [np.nan if v is None else round_down(v.lo, BINARY64) for v in real[t]] for t in real
        }
        return {t: np.array(v).reshape(graph.types[t].shape) for t, v in near.items()}
    batch = {name: carried(graph, name, v, execution)[None] for name, v in inputs.items()}
    with np.errstate(all="ignore"):
        return {t: np.asarray(v[0]) for t, v in emulate(graph, batch, execution).items()}


def carried(graph: Graph, name: str, v: Array, execution: RuntimeContract) -> Array:
    """An input as the emulator takes it."""
    wide = np.asarray(v, np.float64)
    return wide if execution.compute_format else wide.astype(graph.types[name].dtype.numpy)


def exactly(inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Real inputs as they are evaluated: float64 numbers, and rationals that are none."""
    arrays = {name: np.asarray(v) for name, v in inputs.items()}
    return {n: v if v.dtype.kind == "O" else v.astype(np.float64) for n, v in arrays.items()}


def real_value(
    graph: Graph, inputs: Mapping[str, Array], output: str, index: tuple[int, ...]
) -> RealValue | None:
    """An enclosure of one output element of the real network; None where it has no value, or
    none that can be written down (a logarithm of zero, the exponential of a huge number)."""
    wide = exactly(inputs)
    found: RealValue | None = None
    for bits in _BITS:
        number = evaluate_element(graph, wide, Balls(bits), output, index)
        if isinstance(number, flint.arb) and number.is_finite() and not abs(number) < _BEYOND:
            return None
        found = enclosed(number)
        if found is None:
            continue
        lo, hi = found.lo, found.hi
        if hi - lo <= Fraction(1, 2**100) * max(abs(lo), Fraction(1, 2**200)):
            break
    return found


def real_outputs(
    graph: Graph, inputs: Mapping[str, Array]
) -> Mapping[str, tuple[RealValue | None, ...]]:
    """Enclosures of all elements of all outputs, flat; None as in `real_value`."""
    wide = exactly(inputs)
    exact = evaluate_exact(graph, wide, Balls(_BITS[0]))
    return {t: tuple(enclosed(number) for number in v.reshape(-1)) for t, v in exact.items()}


def enclosed(number: flint.arb | flint.fmpq) -> RealValue | None:
    """What a ball holds; None where that is unbounded, or beyond every format."""
    if isinstance(number, flint.arb) and not abs(number) < _BEYOND:
        return None
    try:
        return RealValue(*enclosure(number))
    except ValueError:
        return None


def error_between(value: float, real: RealValue | None) -> ErrorEnclosure:
    """|value − r| for every r in `real`; 0 at least where there is no real value to compare with:
    only a value that is no number shows something there."""
    if not np.isfinite(value):
        return ErrorEnclosure(Fraction(0), Fraction(0), finite=False)
    return distance(RealValue(Fraction(value), Fraction(value)), real)


def distance(a: RealValue | None, b: RealValue | None) -> ErrorEnclosure:
    """|x − y| for every x in `a` and y in `b`; 0 at least where one of them has no value."""
    if a is None or b is None:
        return ErrorEnclosure(Fraction(0), Fraction(0))
    far = max(a.hi - b.lo, b.hi - a.lo)
    near = max(a.lo - b.hi, b.lo - a.hi, Fraction(0))
    return ErrorEnclosure(near, far)


def violates(error: ErrorEnclosure, epsilon: Fraction | None) -> bool:
    """Lemma `violation`: the whole enclosure lies above ε, or the runtime's value is not finite."""
    return not error.finite or (epsilon is not None and error.lo > epsilon)


def is_violation(witness: Witness, tolerance: Tolerance) -> bool:
    """Does the witness break the claim: by its error, or by reaching the unsafe set?"""
    if witness.reached is not None:
        return witness.reached.within or not witness.error.finite
    return violates(witness.error, tolerance.of(witness.output))
