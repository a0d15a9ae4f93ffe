"""How far a runtime may be from the exact values of a graph on one input."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.numbers.enclosure import FloatArray, point
from onnx_import.graph import Array, Graph
from refine.bounds.network import InputBox, network_bounds


def bound_at(
    graph: Graph, inputs: Mapping[str, Array], contract: RuntimeContract
) -> Mapping[str, FloatArray]:
    """Bounds of the outputs. Raises UnsupportedModel for what has no meaning."""
    box = InputBox(
        {t: point(np.asarray(inputs[t], np.float64)) for t in graph.inputs},
        {t: np.zeros(graph.types[t].shape) for t in graph.inputs},
    )
    errors = network_bounds(graph, box, contract, backward=False).maps.errors
    return {t: np.broadcast_to(errors[t], graph.types[t].shape) for t in graph.outputs}
