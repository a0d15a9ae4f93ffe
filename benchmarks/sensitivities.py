"""Every rounding of an execution, how large it may be, and what a change of it does to an output.

The run-time semantics of the operators are run once in float64, on numbers that write down where
they came from. From that record come the derivative of an output in every rounding, and W, the sum
of their sizes times half an ulp each: what the error is, to first order, if all roundings conspire.
Nothing here is part of a bound: no intervals, no relaxations, no lemmas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from recorded import (
    Bends,
    Chain,
    FloatArray,
    Parts,
    Recorded,
    chained,
    elementwise,
    half_spacing,
    half_ulp,
    is_scaling,
    rounded_constant,
)

from encoders.arithmetic.number_path import stored
from encoders.arithmetic.runtime import Relation
from encoders.arithmetic.slices import Slices
from encoders.contract.contract import (
    AnyOrder,
    BiasPlacement,
    Contraction,
    FactorRounding,
    Normalization,
    RuntimeContract,
    Sequential,
)
from encoders.functions.function import Function
from encoders.numbers.formats import FORMAT_OF_DTYPE, FloatFormat
from encoders.program import Step, arguments, forward, program_of
from encoders.scheduling import contract_at
from onnx_import.graph import Array, DType, Graph, TensorType

BEND = 0.1


@dataclass(frozen=True)
class RecordingArithmetic:
    """`Arithmetic[Recorded]`: one runtime's operations in float64, each with its rounding.

    `loudest` adds up sums of products in the order of `Chain` instead of the contract's. `bend` is
    the width of the bends that stand for the kinks of maxima, by the mean distance of the samples
    from these.
    """

    format: FloatFormat
    contract: RuntimeContract
    tape: list[Recorded]
    loudest: bool = False
    bend: float = BEND

    def of_type(self, dtype: DType) -> RecordingArithmetic:
        return self.in_format(self.contract.format_of(dtype))

    def in_format(self, fmt: FloatFormat) -> RecordingArithmetic:
        return replace(self, format=fmt)

    def constant(self, values: Array) -> Recorded:
        exact = np.asarray(values).astype(np.float64)[np.newaxis]
        radius = half_ulp(exact, self.format)
        return rounded_constant(exact, self.format, radius, self.tape)

    def converted(self, a: Recorded) -> Recorded:
        if a.format is not None and self.format.holds(a.format):
            return replace_format(a, self.format)
        return self._each(a.value, (a,), (1.0,), half_ulp(a.value, self.format))

    def read(self, a: Recorded) -> Recorded:
        return a

    def truncated_operands(
        self, a: Recorded, fmt: FloatFormat, rounding: FactorRounding
    ) -> Recorded:
        radius = half_ulp(a.value, fmt) * (2.0 if rounding is FactorRounding.TRUNCATE else 1.0)
        return self._each(a.value, (a,), (1.0,), radius)

    def add(self, a: Recorded, b: Recorded) -> Recorded:
        a, b = _operand(a), _operand(b)
        return self._sum(a.value + b.value, a, b, 1.0)

    def subtract(self, a: Recorded, b: Recorded) -> Recorded:
        a, b = _operand(a), _operand(b)
        return self._sum(a.value - b.value, a, b, -1.0)

    def _sum(self, value: FloatArray, a: Recorded, b: Recorded, sign: float) -> Recorded:
        radius = half_ulp(value, self.format)
        exact = (a.value == 0) | (b.value == 0) | (np.abs(value) < 2.0**self.format.emin)
        return self._each(value, (a, b), (1.0, sign), np.where(exact, 0.0, radius))

    def multiply(self, a: Recorded, b: Recorded) -> Recorded:
        a, b = _operand(a), _operand(b)
        value = a.value * b.value
        exact = is_scaling(a.value) | is_scaling(b.value)
        radius = np.where(exact, 0.0, half_ulp(value, self.format))
        return self._each(
            value, (a, b), (b.value, a.value), radius,
            lambda: ((0, 1, 1.0), (1, 0, 1.0)),
        )  # fmt: skip

    def divide(self, a: Recorded, b: Recorded) -> Recorded:
        a, b = _operand(a), _operand(b)
        value = a.value / b.value
        radius = np.where(is_scaling(b.value), 0.0, half_ulp(value, self.format))
        one = 1.0 / b.value
        return self._each(
            value, (a, b), (one, -value * one), radius,
            lambda: ((0, 1, -one * one), (1, 0, -one * one), (1, 1, 2.0 * value * one * one)),
        )  # fmt: skip

    def sqrt(self, a: Recorded) -> Recorded:
        a = _operand(a)
        value = np.sqrt(a.value)
        slope = np.where(value > 0, 0.5 / np.where(value > 0, value, 1.0), 0.0)
        return self._each(
            value, (a,), (slope,), half_ulp(value, self.format),
            lambda: ((0, 0, -2.0 * slope**3),),
        )  # fmt: skip

    def maximum(self, a: Recorded, b: Recorded) -> Recorded:
        a, b = _operand(a), _operand(b)
        return self._chosen(np.maximum(a.value, b.value), a, b, 1.0)

    def minimum(self, a: Recorded, b: Recorded) -> Recorded:
        a, b = _operand(a), _operand(b)
        return self._chosen(np.minimum(a.value, b.value), a, b, -1.0)

    def _chosen(self, value: FloatArray, a: Recorded, b: Recorded, sign: float) -> Recorded:
        """The larger or the smaller number; its kink counts as a bend of some width, so that
        climbing sees the sensitivities behind it change."""
        first = value == a.value
        slopes = first.astype(np.float64), (~first).astype(np.float64)

        def bends() -> list[tuple[int, int, FloatArray]]:
            apart = np.abs(a.value - b.value)
            width = self.bend * (np.mean(apart, axis=0) + np.finfo(np.float64).tiny)
            second = sign * np.exp(-apart / width) / (2.0 * width)
            return [(0, 0, second), (0, 1, -second), (1, 0, -second), (1, 1, second)]

        return self._each(value, (a, b), slopes, None, bends)

    def negate(self, a: Recorded) -> Recorded:
        a = _operand(a)
        return self._each(-a.value, (a,), (-1.0,))

    def absolute(self, a: Recorded) -> Recorded:
        a = _operand(a)
        return self._each(np.abs(a.value), (a,), (np.sign(a.value),))

    def floor(self, a: Recorded) -> Recorded:
        return Recorded(np.floor(_operand(a).value), self.format)

    def nearest(self, a: Recorded) -> Recorded:
        return Recorded(np.rint(_operand(a).value), self.format)

    def compare(self, relation: Relation, a: Recorded, b: Recorded) -> Recorded:
        tests = {Relation.LESS: np.less, Relation.AT_MOST: np.less_equal, Relation.EQUAL: np.equal}
        found = tests[relation](_operand(a).value, _operand(b).value)
        return Recorded(found.astype(np.float64), self.format)

    def select(self, condition: Recorded, a: Recorded, b: Recorded) -> Recorded:
        condition, a, b = _operand(condition), _operand(a), _operand(b)
        chosen = condition.value != 0
        value = np.where(chosen, a.value, b.value)
        slopes = chosen.astype(np.float64), (~chosen).astype(np.float64)
        return self._each(value, (a, b), slopes)

    def function(self, f: Function, a: Recorded) -> Recorded:
        a = _operand(a)
        value = np.asarray(f.in_floats(a.value), np.float64)
        accuracy = self.contract.functions.accuracy(f)
        spacing = 2.0 * half_spacing(value, self.format)
        bounds = [] if accuracy.ulps is None else [accuracy.ulps * spacing]
        if accuracy.units is not None:
            units = accuracy.units * float(self.format.unit_roundoff)
            bounds.append(np.full(value.shape, units))
        radius = np.minimum.reduce(bounds)
        slope = difference_quotient(f, a.value, 1)
        return self._each(
            value, (a,), (slope,), radius,
            lambda: ((0, 0, difference_quotient(f, a.value, 2)),),
        )  # fmt: skip

    def multiply_add(self, a: Recorded, b: Recorded, c: Recorded) -> Recorded:
        if self.contract.contraction is not Contraction.ALWAYS:
            return self.add(self.multiply(a, b), c)
        a, b, c = _operand(a), _operand(b), _operand(c)
        value = a.value * b.value + c.value
        nothing = (a.value * b.value == 0) | ((c.value == 0) & is_scaling(a.value * b.value))
        radius = np.where(nothing, 0.0, half_ulp(value, self.format))
        return self._each(
            value, (a, b, c), (b.value, a.value, 1.0), radius,
            lambda: ((0, 1, 1.0), (1, 0, 1.0)),
        )  # fmt: skip

    def chain(
        self, pairs: Sequence[tuple[Recorded, Recorded]], start: Recorded | None
    ) -> Recorded | None:
        """start + Σ a_k·b_k with all its roundings at once; None where the terms lie apart."""
        if not isinstance(pairs, Slices):
            return None
        a, b = (_operand(v) for v in pairs.stacked())
        fused = self.contract.contraction is Contraction.ALWAYS
        begin = None if start is None else _operand(start)
        first = None if begin is None else begin.value
        made = Chain(a.value, b.value, first, fused, self.loudest, self.format)
        return chained(a, b, begin, made, self.tape)

    def _each(
        self,
        value: FloatArray,
        parents: Sequence[Recorded],
        slopes: Sequence[FloatArray | float],
        radius: FloatArray | None = None,
        bends: Bends | None = None,
    ) -> Recorded:
        return elementwise(value, parents, slopes, self.format, radius, bends, self.tape)


def replace_format(a: Recorded, fmt: FloatFormat) -> Recorded:
    """The same tensor, held in a format that has all its numbers."""
    return elementwise(a.value, (a,), (1.0,), fmt)


def difference_quotient(f: Function, at: FloatArray, order: int) -> FloatArray:
    """The first or second derivative of a function by central differences in numpy's long floats,
    right to eight digits or so: enough for a sensitivity."""
    x = at.astype(np.longdouble)
    step = (np.longdouble(1e-6) if order == 1 else np.longdouble(1e-4)) * np.maximum(1, abs(x))
    above, below = (np.asarray(f.in_floats(v)) for v in (x + step, x - step))
    if order == 1:
        return np.asarray((above - below) / (2 * step), np.float64)
    return np.asarray((above - 2 * np.asarray(f.in_floats(x)) + below) / step**2, np.float64)


def _operand(a: Any) -> Recorded:
    """Plain arrays (integers that the file stores) as constants."""
    return a if isinstance(a, Recorded) else Recorded(np.asarray(a).astype(np.float64))


@dataclass(frozen=True)
class Execution:
    """One execution of a graph on a batch of points, with the record of all its roundings."""

    inputs: Mapping[str, Recorded]
    outputs: Mapping[str, Recorded]
    tape: Sequence[Recorded]

    def loudness(self, output: str, element: int) -> FloatArray:
        """W of one output element at every point: Σ |sensitivity|·radius over all roundings."""
        return self._weighed(self._derivatives(output, element))

    def ascent(self, output: str, element: int) -> tuple[FloatArray, dict[str, FloatArray]]:
        """The same, and its derivatives in the inputs, half ulps made smooth."""
        derivatives = self._derivatives(output, element)
        changes: list[FloatArray | None] = []
        for node in self.tape:
            change = None
            if node.ahead is not None:
                given = tuple(None if p.place < 0 else changes[p.place] for p in node.parents)
                if any(g is not None for g in given):
                    change = node.ahead(given)
            s = derivatives[node.place]
            if node.radius is not None and s is not None:
                own = np.sign(s) * node.radius
                change = own if change is None else change + own
            changes.append(change)
        rising: list[FloatArray | None] = [None] * len(self.tape)
        for node in reversed(self.tape):
            s, rise = derivatives[node.place], rising[node.place]
            if s is None or node.back is None:
                continue
            parts: list[Parts] = [] if rise is None else [node.back(rise)]
            if node.bend is not None:
                given = tuple(None if p.place < 0 else changes[p.place] for p in node.parents)
                parts.append(node.bend(s, given))
            if node.swell is not None:
                parts.append(node.swell(np.abs(s)))
            for part in parts:
                _collect(rising, node.parents, part)
        found = {
            name: np.zeros(r.shape) if rising[r.place] is None else np.asarray(rising[r.place])
            for name, r in self.inputs.items()
        }
        return self._weighed(derivatives), found

    def _derivatives(self, output: str, element: int) -> list[FloatArray | None]:
        found: list[FloatArray | None] = [None] * len(self.tape)
        top = self.outputs[output]
        if top.place < 0:
            return found
        unit = np.zeros(top.shape)
        unit.reshape(top.shape[0], -1)[:, element] = 1.0
        found[top.place] = unit
        for node in reversed(self.tape):
            s = found[node.place]
            if s is not None and node.back is not None:
                _collect(found, node.parents, node.back(s))
        return found

    def _weighed(self, derivatives: Sequence[FloatArray | None]) -> FloatArray:
        samples = max((r.shape[0] for r in self.inputs.values()), default=1)
        total = np.zeros(samples)
        for node, s in zip(self.tape, derivatives, strict=True):
            if s is not None and node.radius is not None:
                total += (np.abs(s) * node.radius).reshape(samples, -1).sum(axis=1)
        return total


def _collect(found: list[FloatArray | None], parents: Sequence[Recorded], parts: Parts) -> None:
    for parent, part in zip(parents, parts, strict=True):
        if part is not None and parent.place >= 0:
            known = found[parent.place]
            found[parent.place] = part if known is None else known + part


def executed(
    graph: Graph,
    points: Mapping[str, FloatArray],
    contract: RuntimeContract,
    rounded_inputs: bool = False,
    bend: float = BEND,
) -> Execution:
    """The graph run on points (samples, *shape), all roundings of the contract written down.

    Where the contract leaves a choice, the execution is a loud one that it allows: products are
    not contracted, sums of products are added in the louder of two orders. Subnormal numbers are
    kept. `bend` is as in `RecordingArithmetic`. Raises UnsupportedModel for integers that are
    computed at run time.
    """
    tape: list[Recorded] = []
    inputs = {}
    for name in graph.inputs:
        dtype = graph.types[name].dtype
        value = np.asarray(points[name], np.float64)
        fmt = contract.format_of(dtype) if dtype.is_float else None
        radius = half_ulp(value, fmt) if rounded_inputs and fmt is not None else None
        inputs[name] = Recorded(value, fmt, radius, tape)

    def run(step: Step, values: Mapping[str, Recorded]) -> tuple[Recorded, ...]:
        here, loudest = _loud(contract_at(step.site, contract))
        kinds = (*step.site.outputs, *(k for k in step.site.inputs if k is not None))
        dtype = next((k.dtype for k in kinds if k.dtype.is_float), DType.FLOAT32)
        arithmetic = RecordingArithmetic(here.format_of(dtype), here, tape, loudest, bend)

        def constant(held: Array, kind: TensorType) -> Recorded:
            if not kind.dtype.is_float:
                return _operand(held[np.newaxis])
            if (
                here.stored_format is None
                and here.format_of(kind.dtype) == FORMAT_OF_DTYPE[kind.dtype]
            ):
                return Recorded(
                    np.asarray(held, np.float64)[np.newaxis], FORMAT_OF_DTYPE[kind.dtype]
                )
            return stored(arithmetic, held, here, kind.dtype)

        given = arguments(step, values, constant)
        results: tuple[Recorded, ...] = step.operator.runtime(step.site, given, arithmetic, here)
        return tuple(map(_operand, results))

    with np.errstate(all="ignore"):
        values = forward(program_of(graph), inputs, run)
    outputs = {t: values[t] for t in graph.outputs if t in values}
    return Execution(inputs, outputs, tape)


def _loud(contract: RuntimeContract) -> tuple[RuntimeContract, bool]:
    """A contract without choices among those that it allows, and whether sums are to be loud."""
    any_order = isinstance(contract.order, AnyOrder)
    changes: dict[str, Any] = {}
    if any_order:
        changes = {"order": Sequential(), "bias": BiasPlacement.FIRST}
    elif contract.bias is BiasPlacement.ANY:
        changes["bias"] = BiasPlacement.FIRST
    if contract.contraction is Contraction.EITHER:
        changes["contraction"] = Contraction.NEVER
    if contract.normalization is Normalization.EITHER:
        changes["normalization"] = Normalization.RECIPROCAL
    if contract.factor_rounding is FactorRounding.ANY:
        changes["factor_rounding"] = FactorRounding.TRUNCATE
    return replace(contract, **changes) if changes else contract, any_order
