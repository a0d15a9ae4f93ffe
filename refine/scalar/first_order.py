"""The error of a small network of scalars over many boxes at once, through true derivatives.

With x the real and x̂ the run-time values, every node has d = Σ s_i·d_i + η: s_i a difference
quotient of the node over what lies between x and x̂, |η| its own rounding error there. So
d_out = Σ_nodes A·η with A the sum over all paths of products of such quotients, and
|d_out| ≤ max_x Σ|A(x)|·η(x). This is the symbolic Taylor expansion of Solovyev, Jacobsen,
Rakamarić & Gopalakrishnan (2015) without its second-order term: the quotients are enclosed over
the hull of real and run-time ranges, which makes the expansion exact. A(x) is enclosed by
first-order forms, pulled back from the output once per box for all nodes.

A repeated subexpression is one node of the graph, and both its uses read the same result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from encoders.arithmetic.exact_fields import Balls, enclosure, object_array
from encoders.contract.contract import RuntimeContract
from encoders.contract.functions import CORRECTLY_ROUNDED
from encoders.numbers.enclosure import FloatArray, Interval, add_up, multiply_up
from encoders.numbers.formats import BINARY64, round_down, round_up
from encoders.operator import Site
from encoders.program import Backward, Step, backward, program_of
from encoders.relaxations.affine_forms import Form, exactly, flat, variable
from encoders.relaxations.form_fields import Dual, Duals, Forms, Slope, plus, times
from encoders.rounding.rounding_bounds import rounder_of
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_exact
from onnx_import.graph import Graph, TensorType
from refine.bounds.network import InputBox

_MOST_INPUTS = 12
_MOST_NODES = 2000
_BITS = 400


def applies(graph: Graph) -> bool:
    """Is it a network of few scalars, every operator of which acts on them alone?"""
    return (
        len(graph.outputs) == 1
        and not graph.is_constant(graph.outputs[0])
        and 0 < len(graph.inputs) <= _MOST_INPUTS
        and len(graph.order) <= _MOST_NODES
        and all(kind.shape == () for kind in graph.types.values())
        and all(step.operator.per_element for step in program_of(graph).steps)
    )


@dataclass(frozen=True)
class Analysed:
    """For N boxes: `upper` bounds the error on each; `total` is the form it comes from.

    `lemmas` are those that the rounding errors rest on.
    """

    upper: FloatArray
    total: Form
    lemmas: frozenset[str]


@dataclass(frozen=True)
class Scalars:
    """A network of few scalars with a box of inputs. `fixed` has the real value and the error x̂ − x
    of every tensor that depends on no input, where the contract leaves no choice about it."""

    graph: Graph
    contract: RuntimeContract
    whole: InputBox
    fixed: Mapping[str, tuple[Interval, Interval]]


def scalars(graph: Graph, contract: RuntimeContract, whole: InputBox) -> Scalars:
    """What does not depend on the inputs is computed once, exactly and as the runtime does."""
    reached = _reached(graph)
    still = [step.output for step in program_of(graph).steps if step.output not in reached]
    exact_functions = contract.functions == CORRECTLY_ROUNDED
    if not still or contract.exact or not (contract.pinned and exact_functions):
        return Scalars(graph, contract, whole, {})
    zeros = {name: np.zeros((), graph.types[name].dtype.numpy) for name in graph.inputs}
    with np.errstate(all="ignore"):
        batch = {
            name: v[None] if contract.compute_format is None else np.zeros(1)
            for name, v in zeros.items()
        }
        computed = emulate(graph, batch, contract, every_tensor=True)
        exact = evaluate_exact(graph, zeros, Balls(_BITS), every_tensor=True)
    fixed: dict[str, tuple[Interval, Interval]] = {}
    for tensor in still:
        value = float(np.asarray(computed[tensor], np.float64)[0])
        if np.isfinite(value) and exact[tensor].item().is_finite():
            lo, hi = enclosure(exact[tensor].item())
            fixed[tensor] = (
                _outward(lo, hi),
                _outward(Fraction(value) - hi, Fraction(value) - lo),
            )
    return Scalars(graph, contract, whole, fixed)


def _reached(graph: Graph) -> set[str]:
    """The tensors that depend on an input."""
    reached = set(graph.inputs)
    for step in program_of(graph).steps:
        if not reached.isdisjoint(step.reads):
            reached.update(step.writes)
    return reached


def _outward(lo: Fraction, hi: Fraction) -> Interval:
    return Interval(np.array([round_down(lo, BINARY64)]), np.array([round_up(hi, BINARY64)]))


def analyse(task: Scalars, lo: FloatArray, hi: FloatArray) -> Analysed:
    """Bounds over boxes with sides lo and hi, (inputs, N), all inside the whole.

    Infinite where nothing is known. Raises Transcendental for an operator without such forms.
    """
    with np.errstate(all="ignore"):
        forward = _Forward.over(task, lo, hi)
        total = _pulled_back(task, forward)
    upper = np.broadcast_to(total.hi, lo.shape[1:])
    return Analysed(np.where(np.isnan(upper), np.inf, upper), total, frozenset(forward.lemmas))


@dataclass
class _Forward:
    """What is known of every tensor: real value, how far the runtime is, own rounding error."""

    values: dict[str, Form]
    held: dict[str, Form]
    own: dict[str, FloatArray]
    slopes: dict[str, tuple[Slope, ...]]
    lemmas: set[str]

    @staticmethod
    def over(task: Scalars, lo: FloatArray, hi: FloatArray) -> _Forward:
        graph = task.graph
        known = _Forward({}, {}, {}, {}, set())
        errors: dict[str, FloatArray] = {}
        for i, name in enumerate(graph.inputs):
            x = variable(i, lo, hi)
            own = np.broadcast_to(task.whole.errors[name], x.lo.shape)
            if np.any(own):
                r = rounder_of(graph.types[name].dtype, task.contract)
                plain = replace(r, flush_results=False)  # a number that is read is not flushed
                own = np.minimum(own, plain.of_product(x.size).bound)
            known.values[name], known.own[name], errors[name] = x, own, own
            known.held[name] = x.inflate(own)
        for step in program_of(graph).steps:
            output = step.output
            if output not in task.fixed:
                known._add(step, task.contract, errors, lo)
                continue
            value, error = task.fixed[output]
            known.values[output] = flat(value, len(lo))
            errors[output] = np.broadcast_to(error.magnitude, lo.shape[1:])
            known.held[output] = known.values[output].inflate(error.magnitude)
        return known

    def _add(
        self,
        step: Step,
        contract: RuntimeContract,
        errors: dict[str, FloatArray],
        lo: FloatArray,
    ) -> None:
        output, read = step.output, step.reads
        value = _real(step, Forms(len(lo)), [self.values[t] for t in read])
        duals = Duals(len(lo), len(read))
        arguments = [duals.argument(i, self.held[t]) for i, t in enumerate(read)]
        dual: Dual = _real(step, duals, arguments)
        moved = np.zeros(lo.shape[1:])
        for tensor, slope in zip(read, dual.slopes, strict=True):
            steepest = abs(slope) if isinstance(slope, int) else slope.size
            moved = add_up(moved, multiply_up(errors[tensor], steepest))
        moved = np.where(np.isnan(moved), np.inf, moved)
        ranges = [_spread(self.held[t], lo) for t in read]
        own, lemmas = _rounding(step, ranges, _spread(value.inflate(moved), lo), contract)
        error = add_up(moved, own)
        errors[output] = np.where(np.isnan(error), np.inf, error)
        self.values[output], self.own[output] = value, own
        self.held[output] = value.inflate(errors[output])
        self.slopes[step.name] = dual.slopes
        self.lemmas |= lemmas


def _real(step: Step, field: Forms, read: Sequence[Form | Dual]) -> Any:
    """The operator's real semantics on scalars of a field."""
    variables = (object_array([x], (1,)) for x in read)
    given = step.site.arguments(variables, lambda held, _: field.constant(held))
    (result,) = step.operator.real(step.site, given, field)
    return result[0]


def _spread(form: Form, lo: FloatArray) -> Interval:
    return form.range.move(lambda v: np.broadcast_to(v, lo.shape[1:]))


def _rounding(
    step: Step,
    ranges: Sequence[Interval],
    result: Interval,
    contract: RuntimeContract,
) -> tuple[FloatArray, frozenset[str]]:
    """The node's own error per box; boxes are judged apart where one spoils all."""
    known = np.isfinite(result.lo) & np.isfinite(result.hi)
    for x in ranges:
        known &= np.isfinite(x.lo) & np.isfinite(x.hi)
    radius = np.full(known.shape, np.inf)
    lemmas: frozenset[str] = frozenset()
    pending = [np.flatnonzero(known)]
    while pending:
        rows = pending.pop()
        if not len(rows):
            continue
        bound = step.operator.rounding(
            _stacked(step.site, len(rows)),
            [Interval(x.lo[rows], x.hi[rows]) for x in ranges],
            Interval(result.lo[rows], result.hi[rows]),
            contract,
        )
        if len(rows) > 1 and np.all(np.isinf(bound.radius.bound)):
            pending += [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
            continue
        radius[rows] = bound.radius.bound
        lemmas |= frozenset(bound.lemmas)
    return radius, lemmas


def _stacked(site: Site, boxes: int) -> Site:
    """The same operator on one element per box."""

    def row(kind: TensorType) -> TensorType:
        return TensorType(kind.dtype, (boxes,))

    inputs = tuple(
        row(kind) if kind is not None and constant is None else kind
        for kind, constant in zip(site.inputs, site.constants, strict=True)
    )
    return replace(site, inputs=inputs, outputs=tuple(map(row, site.outputs)))


def _pulled_back(task: Scalars, forward: _Forward) -> Form:
    """Σ|A|·η over nodes and inputs, and |Σ A·d| over what is fixed, as one form."""
    graph, inputs = task.graph, len(task.graph.inputs)
    nothing = exactly(np.zeros(1), inputs)
    weights = _Weights(task, forward, nothing, nothing, {graph.outputs[0]: 1})
    semantics: Backward[Slope] = weights
    backward(program_of(graph), semantics)
    total = weights.total
    for name in graph.inputs:
        total = total + _charge(weights.pulled.get(name, 0), forward.own[name], inputs)
    return total + weights.shift.magnitude()


@dataclass
class _Weights:
    """How much the output moves with each tensor, on the way back; what the rounding of tensors
    behind has cost, and how far those that are fixed move it."""

    task: Scalars
    forward: _Forward
    total: Form
    shift: Form
    pulled: dict[str, Slope]

    def arrived(self, step: Step) -> Slope | None:
        return self.pulled.get(step.output, 0)

    def carry(self, step: Step, arrived: Slope) -> None:
        inputs, output = len(self.task.graph.inputs), step.output
        if output in self.task.fixed:
            error = flat(self.task.fixed[output][1], inputs)
            self.shift = self.shift + times(arrived, error)
            return
        self.total = self.total + _charge(arrived, self.forward.own[output], inputs)
        for tensor, slope in zip(step.reads, self.forward.slopes[step.name], strict=True):
            self.pulled[tensor] = plus(self.pulled.get(tensor, 0), times(arrived, slope))


def _charge(weight: Slope, own: FloatArray, inputs: int) -> Form:
    if isinstance(weight, int):
        return exactly(own * abs(weight), inputs) if weight else exactly(np.zeros(1), inputs)
    return weight.magnitude().scaled(own, np.zeros(1), np.zeros(1))
