"""Runs a graph in exact numbers: the real function that the network stands for."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.values import Inputs
from encoders.operator import Field, Site
from encoders.program import Step, forward, program_of, real_step
from encoders.relaxations.elements import broadcast_element
from onnx_import.graph import Array, Graph


class ExactField(Field, Protocol):
    """A field that can say what a whole computation in it needs around itself."""

    def working(self) -> AbstractContextManager[None]: ...


def evaluate_exact(
    graph: Graph,
    inputs: Mapping[str, Array],
    field: ExactField,
    every_tensor: bool = False,
) -> Mapping[str, ObjectArray]:
    """The real values of the graph's outputs (or of every tensor not constant) on one input.

    `inputs` has an array of the tensor's shape for every graph input; its numbers are taken as
    they are, rationals in an array of objects too. The results have the tensors' shapes (no sample
    axis) and hold `field`'s numbers.

    Raises ValueError for a missing or misshapen input and for numbers that are not finite,
    UnsupportedModel for an operator without a meaning.
    """
    for name in graph.inputs:
        if name not in inputs:
            raise ValueError(f"no values for the input '{name}'")
        if inputs[name].shape != graph.types[name].shape:
            raise ValueError(
                f"input '{name}' has shape {inputs[name].shape}, not {graph.types[name].shape}"
            )
    with field.working():
        samples = {name: _numbers(inputs[name], field) for name in graph.inputs}
        values = evaluate_real(graph, samples, field, every_tensor)
    return {t: np.asarray(v[0]) for t, v in values.items()}


def evaluate_element(
    graph: Graph,
    inputs: Mapping[str, Array],
    field: ExactField,
    output: str,
    index: tuple[int, ...],
) -> Any:
    """One element of an output, as `evaluate_exact` gives it.

    Where it comes from one element of each tensor, through elementwise operators, no other element
    is evaluated.
    """
    cone = _cone(graph, output, index)
    if cone is None:
        return evaluate_exact(graph, inputs, field)[output][index]
    with field.working():
        values = {
            name: _numbers(np.asarray(inputs[name]).reshape(-1)[at : at + 1], field)
            for name, at in cone.places.items()
            if name in graph.inputs
        }
        for step, site in reversed(cone.steps):
            rank = len(site.outputs[0].shape)
            arguments = Inputs(
                None
                if not t
                else field.constant(np.asarray(constant))
                if constant is not None
                else values[t].reshape((1,) * (rank + 1))
                for t, constant in zip(step.node.inputs, site.constants, strict=True)
            )
            (values[step.output],) = step.operator.real(site, arguments, field)
        return values[output].reshape(-1)[0]


@dataclass(frozen=True)
class _Cone:
    """The elements that one element depends on, by tensor, and the operators between them, each on
    single numbers, the last one first."""

    places: Mapping[str, int]
    steps: tuple[tuple[Step, Site], ...]


def _cone(graph: Graph, output: str, index: tuple[int, ...]) -> _Cone | None:
    """None where that is not one element of each tensor."""
    if graph.is_constant(output):
        return None
    shape = graph.types[output].shape
    places = {output: int(np.ravel_multi_index(index, shape)) if shape else 0}
    steps: list[tuple[Step, Site]] = []
    for step in reversed(program_of(graph).steps):
        if step.output not in places:
            continue
        operator = step.operator
        element = operator.element or (broadcast_element if operator.per_element else None)
        if element is None or len(step.writes) > 1:
            return None
        one = element(step.site, places[step.output])
        for tensor, place in zip(step.reads, one.positions, strict=True):
            if places.setdefault(tensor, place) != place:
                return None
        steps.append((step, one.site))
    return _Cone(places, tuple(steps))


def _numbers(values: Array, field: ExactField) -> ObjectArray:
    if values.dtype.kind != "O":
        return field.constant(values)
    made = np.empty(values.size, dtype=object)
    made[:] = [field.number(Fraction(v)) for v in values.ravel().tolist()]
    return made.reshape(1, *values.shape)


def evaluate_real(
    graph: Graph, inputs: Mapping[str, Any], field: ExactField, every_tensor: bool = False
) -> Mapping[str, Any]:
    """The real semantics in any field, for inputs of shape (samples, *tensor shape)."""
    with field.working():
        values = forward(program_of(graph), inputs, lambda step, v: real_step(step, v, field))
        wanted = dict.fromkeys((*values, *graph.outputs)) if every_tensor else graph.outputs
        return {t: values[t] if t in values else field.constant(graph.constants[t]) for t in wanted}
