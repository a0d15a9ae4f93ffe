"""Runs a graph in exact numbers: the real function that the network stands for."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from fractions import Fraction
from typing import Any, Protocol

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.operator import Field
from encoders.program import forward, program_of, real_step
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


def _numbers(values: Array, field: ExactField) -> ObjectArray:
    if values.dtype.kind != "O":
        return field.constant(values)
    made = np.empty(values.size, dtype=object)
    made[:] = [field.number(Fraction(v)) for v in values.ravel().tolist()]
    return made.reshape(1, *values.shape)


def evaluate_real(
    graph: Graph, inputs: Mapping[str, Any], field: ExactField, every_tensor: bool = False
) -> Mapping[str, Any]:
    """The real meaning in any field, for inputs of shape (samples, *tensor shape)."""
    with field.working():
        values = forward(program_of(graph), inputs, lambda step, v: real_step(step, v, field))
        wanted = values if every_tensor else graph.outputs
        return {t: values[t] if t in values else field.constant(graph.constants[t]) for t in wanted}
