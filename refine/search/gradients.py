"""The derivative of a network at one point, in float64: where a small change would go.

Unproved, for guiding a search only: slopes are those of the operators' `differences` on ranges
that are a single point. Where an operator has no slope, nothing is passed on.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from encoders.numbers.enclosure import FloatArray, point
from encoders.operator import DifferenceMap, site_of
from encoders.registry import lookup
from onnx_import.graph import Graph, Node
from refine.bounds.backward import variable_inputs

_NEARBY = 2.0**-40  # a secant over no distance at all could have any slope


def adjoint(
    graph: Graph, values: Mapping[str, FloatArray], start: Mapping[str, FloatArray]
) -> Mapping[str, FloatArray]:
    """What functionals become on every tensor before them.

    `values` holds every tensor's value at the point, of the tensor's shape; `start` coefficients
    (k, *shape) on some tensors. The result has coefficients (k, *shape) for each tensor that they
    reach, those in `start` included; what is not finite becomes 0.
    """
    reached = {tensor: np.asarray(c, np.float64) for tensor, c in start.items()}
    for node in reversed(graph.order):
        c = reached.get(node.outputs[0])
        if c is None:
            continue
        pulled = slopes_at(graph, node, values).backward(c)
        for tensor, more in zip(variable_inputs(graph, node), pulled.coefficients, strict=True):
            if more is not None:
                finite = np.nan_to_num(more, nan=0.0, posinf=0.0, neginf=0.0)
                reached[tensor] = reached[tensor] + finite if tensor in reached else finite
    return reached


def slopes_at(graph: Graph, node: Node, values: Mapping[str, FloatArray]) -> DifferenceMap:
    """The node's own derivative at the point."""
    inputs = variable_inputs(graph, node)
    ranges = [point(values[t]) for t in inputs]
    nearly = [_NEARBY * (1.0 + np.abs(values[t])) for t in inputs]
    with np.errstate(all="ignore"):
        return lookup(node).differences(site_of(graph, node), ranges, nearly)


def values_at(every: Mapping[str, FloatArray], sample: int) -> dict[str, FloatArray]:
    """One sample of a batch of tensors of shape (samples, *shape)."""
    return {t: np.asarray(v[min(sample, v.shape[0] - 1)], np.float64) for t, v in every.items()}
