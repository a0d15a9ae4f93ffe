"""The witness of a backward error, of what onnxruntime computes on a user's inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from gpu_check.runtimes.runtimes import RuntimeUnavailable
from gpu_check.runtimes.tensors import OnnxMachine
from onnx_import.errors import ModelError, UnsupportedModel
from onnx_import.graph import Array
from refine.claims.many.points import Points, points_of
from refine.common.arrays import Stored
from refine.perturbed.bound import NORMAL, BackwardBound
from refine.perturbed.document import witness_document
from refine.perturbed.files import checked_constants, exact_beside, write_perturbed
from refine.perturbed.witness import OutsideBound, witness_of


def built_witness(
    found: BackwardBound,
    arrays: Stored | Mapping[str, Stored],
    source: str,
    *,
    model: Path,
    output: Path | None,
) -> dict[str, Any]:
    """Runs the model with every tensor shown, builds the witness of each input, checks that of the
    first on explicit weights, and writes it to `output` if that is given. What is said of it.

    Raises ModelError where the run or the inputs allow none.
    """
    graph = found.graph
    points = points_of(_with_points(arrays, found), source, graph, found.contract.format_of)
    if points.rounded:
        raise ModelError(f"{source} holds numbers that are none of the input's type; round them")
    if output is not None and len(points) > 1:
        raise ModelError(
            f"{source} holds {len(points)} inputs, each of which has weights of its own: -o writes "
            "those of one"
        )
    samples = [_sample(points, found, k) for k in range(len(points))]
    machine = OnnxMachine(graph, onnx.load(str(graph.source or model)))
    try:
        ran = dict(machine.tensors(samples))
        runtime = machine.describe()
    except RuntimeUnavailable as error:
        raise ModelError(str(error)) from error
    ran.update({t: np.stack([s[t] for s in samples]) for t in graph.inputs})
    try:
        witness = witness_of(found, ran)
        if output is None:
            checked_constants(found, witness, ran, 0)
        else:
            write_perturbed(found, witness, ran, output, runtime=runtime)
    except OutsideBound as error:
        if NORMAL in found.assumed and may_underflow(found, ran):
            raise UnsupportedModel(
                f"{error}; the bound is of executions in which no number but 0 is below the normal "
                "range, and in this one some may be: ask about inputs or weights farther from 0"
            ) from error
        raise
    return witness_document(
        witness,
        runtime=runtime,
        output=None if output is None else str(output),
        exact=None if output is None else str(exact_beside(output)),
    )


def may_underflow(found: BackwardBound, ran: Mapping[str, Array]) -> bool:
    """Can a number, product or partial sum of a run have been below the normal range? Surely not,
    where every factor is so large that what is left of a cancelled sum of products is normal."""
    graph, contract = found.graph, found.contract
    small = [_least(graph.constants[m.tensor]) for m in found.moved if m.tensor in graph.constants]
    factor = min([1.0, *small])
    for tensor, values in ran.items():
        dtype = graph.types[tensor].dtype
        if not dtype.is_float:
            continue
        own = contract.format_of(dtype)
        inner = contract.wider_than(dtype) or own
        least = _least(values)
        if least < float(own.smallest_normal) or (
            tensor not in graph.inputs and not np.all(values)
        ):
            return True
        if least * factor < float(inner.smallest_normal) * 2.0**inner.precision:
            return True
    return False


def _least(values: Array) -> float:
    """The smallest magnitude of what is not 0; 1 where all is 0."""
    sizes = np.abs(np.asarray(values, np.float64))
    return float(np.min(sizes[sizes > 0], initial=1.0))


def _with_points(
    arrays: Stored | Mapping[str, Stored], found: BackwardBound
) -> Stored | Mapping[str, Stored]:
    """A single array of as many numbers as the input has is one point."""
    if not isinstance(arrays, Stored) or len(found.graph.inputs) != 1:
        return arrays
    kind, held = found.graph.types[found.graph.inputs[0]], arrays.values
    if math.prod(arrays.shape) != kind.size:
        return arrays
    shape = (1, *kind.shape)
    return replace(arrays, shape=shape, values=lambda: held().reshape(shape))


def _sample(points: Points, found: BackwardBound, number: int) -> dict[str, Array]:
    kinds = found.graph.types
    return {
        t: np.asarray(rows).reshape(kinds[t].shape).astype(kinds[t].dtype.numpy)
        for t, rows in points.at(number).items()
    }
