"""A counterexample node by node: what was computed beside the real values of the same graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from encoders.arithmetic.exact_fields import Balls
from encoders.numbers.enclosure import FloatArray
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_exact
from onnx_import.graph import Array, Graph
from refine.results.verdict import LayerValue, Pairing, Witness
from refine.witness.witness import carried, enclosed, error_between, exactly

_BITS = 400


def layer_values(
    graph: Graph,
    witness: Witness,
    spec: Graph | None = None,
    pairing: Pairing | None = None,
    late: Callable[[], bool] = lambda: False,
) -> tuple[LayerValue, ...]:
    """Every node with a floating-point output, in order, at the element that is furthest off.

    With a specification that is read over the reals the values are held against those of its
    tensors of the same name and shape (of an output: the one that it is paired with), as far as
    there are such; else against the graph's own real values. Nothing where the witness is not of
    this graph's inputs, or nothing of it ran.
    """
    of_graph = {t: graph.types[t].shape for t in graph.inputs}
    given = {t: np.shape(v) for t, v in witness.inputs.items()}
    if witness.execution.exact or of_graph != given or late():
        return ()
    batch = {
        name: carried(graph, name, v, witness.execution)[None] for name, v in witness.inputs.items()
    }
    with np.errstate(all="ignore"):
        ran = emulate(graph, batch, witness.execution, every_tensor=True)
    if late():
        return ()
    numbers = exactly(witness.real_inputs)
    if spec is None or pairing is None:
        real = evaluate_exact(graph, numbers, Balls(_BITS), every_tensor=True)
        return tuple(_values(graph, witness, ran, real))
    names = pairing.inputs
    theirs = {names[t]: v.reshape(spec.types[names[t]].shape) for t, v in numbers.items()}
    meant = evaluate_exact(spec, theirs, Balls(_BITS), every_tensor=True)
    shapes = {t: kind.shape for t, kind in graph.types.items()}
    alike = {t: t for t in meant if shapes.get(t) == spec.types[t].shape} | dict(pairing.outputs)
    return tuple(_values(graph, witness, ran, {t: meant[s] for t, s in alike.items()}))


def _values(
    graph: Graph, witness: Witness, ran: Mapping[str, Array], real: Mapping[str, Array]
) -> Iterator[LayerValue]:
    for node in graph.order:
        for tensor in (t for t in node.outputs if t in ran and t in real):
            shape = graph.types[tensor].shape
            if not graph.types[tensor].dtype.is_float or 0 in shape:
                continue
            values = np.asarray(ran[tensor][0], np.float64).reshape(shape)
            index = witness.index
            if tensor != witness.output:
                index = _furthest(values, np.asarray(real[tensor]).reshape(shape))
            exact, value = enclosed(np.asarray(real[tensor]).reshape(shape)[index]), values[index]
            error = error_between(float(value), exact)
            yield LayerValue(node.name, node.op, tensor, index, float(value), exact, error)


def _furthest(values: FloatArray, real: Array) -> tuple[int, ...]:
    """The element where they are furthest apart, to within float64; the first that is not finite
    before all others."""
    near = np.array([float(x) for x in real.reshape(-1)], np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.abs(values.reshape(-1) - near)
    apart = np.where(np.isfinite(values.reshape(-1)), apart, np.inf)
    at = int(np.argmax(np.nan_to_num(apart, nan=0.0, posinf=np.inf)))
    return tuple(int(i) for i in np.unravel_index(at, values.shape))
