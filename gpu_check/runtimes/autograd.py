"""Gradients as a library takes them itself: it differentiates a graph written in its calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from encoders.contract.presets import SEQUENTIAL
from encoders.numbers.formats import BINARY64
from encoders.program import Step, program_of
from gpu_check.emulator.emulator import emulate_step
from gpu_check.runtimes.library_kernels import Library
from gpu_check.runtimes.runtimes import RuntimeUnavailable
from onnx_import.graph import Array, Graph
from onnx_import.onnx.reader import MADE

Tensors = Mapping[str, Any]
_COUNTING = replace(SEQUENTIAL, compute_format=BINARY64)


def own_gradient(
    library: Library, graph: Graph, given: Mapping[str, Array], upstream: Array, wrt: Sequence[str]
) -> tuple[Array, Mapping[str, Array]]:
    """The one output of a graph, and of its inner product with `upstream` the derivatives by some
    of the inputs, as the library differentiates what it ran; by what it does not depend on 0.

    Raises RuntimeUnavailable for an operator without a call, and for a library that does not
    differentiate.
    """
    if library.differentiate is None or library.join is None:
        raise RuntimeUnavailable(f"{library.title} does not differentiate")
    library.prepare()
    still = {t: library.takes(v) for t, v in given.items() if t not in wrt}
    moving = {t: library.takes(given[t]) for t in wrt}
    (output,) = graph.outputs

    def run(varied: Tensors) -> Any:
        values = {**still, **varied}
        for step in program_of(graph).steps:
            found = _step(library, step, values)
            values[step.output] = found.reshape(step.site.outputs[0].shape)
        return values[output]

    value, slopes = library.differentiate(run, moving, library.takes(upstream))
    found = {t: np.asarray(library.gives(slopes[t])) for t in wrt}
    return np.asarray(library.gives(value)), found


def _step(library: Library, step: Step, values: Tensors) -> Any:
    if step.operator.movement:
        return _moved(library, step, values)
    call = library.calls.get(step.node.op)
    if call is None:
        raise RuntimeUnavailable(
            f"{library.title} has no {MADE.get(step.node.op, step.node.op)} here"
        )
    constants = step.constants
    arguments = [
        None if not t else values[t] if t in values else library.takes(constants[t])
        for t in step.node.inputs
    ]
    return call(step.site, arguments)


def _moved(library: Library, step: Step, values: Tensors) -> Any:
    """A movement of data by the places that elements come from, which the emulator says of numbers
    that count them, twice, so that constants are told from what is copied."""
    read = list(dict.fromkeys(step.reads))
    parts = [values[t].reshape(-1) for t in read]
    counted, size = dict[str, Array](), 0
    for t, part in zip(read, parts, strict=True):
        shape, count = tuple(values[t].shape), int(part.shape[0])
        counted[t] = (size + np.arange(count, dtype=np.float64)).reshape(1, *shape)
        size += count
    (first,) = emulate_step(step, counted, _COUNTING)
    (second,) = emulate_step(step, {t: v + size for t, v in counted.items()}, _COUNTING)
    places = first[0].astype(np.int64).reshape(-1)
    held = (first[0] == second[0]).reshape(-1)
    stored = first[0].reshape(-1)[held].astype(step.site.outputs[0].dtype.numpy)
    places[held] = size + np.arange(len(stored))
    assert library.join is not None
    return library.join([*parts, library.takes(stored)])[library.takes(places)]
