"""Inputs that make the roundings of the first sum all point the same way.

The error that the first layer's sums pass on is, to first order, Σ_j c_j·Σ_k η_jk: η_jk is what
step k of sum j rounds and c_j the derivative of an output by that sum. Step k depends on inputs 1
to k only, so the inputs can be chosen one after the other: each as the best of many values near
where it was. Rounding errors that are random and partly cancel in an ordinary input (growing with
the root of the number of steps) then add up (growing with the number).

This works where the first layer that rounds is affine in the input and sums it from first to last,
whole or in blocks; elsewhere nothing is proposed. What comes out is an input, no claim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from encoders.contract.contract import Blocked, Contraction, RuntimeContract, Sequential
from encoders.numbers.enclosure import FloatArray
from encoders.numbers.formats import BINARY32, FloatFormat, round_array
from encoders.program import program_of
from onnx_import.graph import Graph, Node
from refine.search.evaluation import Hunt, Points
from refine.search.gradients import slopes_at, values_at

_CHOICES = (64, 4096)  # for each input, at least and at most
_LARGEST = 2**24  # coefficients of the first layer


@dataclass(frozen=True)
class FirstSums:
    """The first layer: its node, the coefficients (sums, terms) of its sums in their order, and
    which flat element of the input each term is."""

    node: Node
    input: str
    weights: FloatArray
    elements: npt.NDArray[np.intp]


def first_sums(hunt: Hunt, execution: RuntimeContract, inside: Points) -> FirstSums | None:
    """The network's first layer, if it sums a single input in order; `inside` is any one point."""
    graph = hunt.graph
    if len(graph.inputs) != 1 or not isinstance(execution.order, Sequential | Blocked):
        return None
    name = graph.inputs[0]
    values = values_at(hunt.real_values(inside), 0)
    tensor, through = name, np.arange(graph.types[name].size)
    for step in program_of(graph).steps:
        if tensor not in step.reads:
            continue
        if len(step.reads) != 1:
            return None
        kind = graph.types[step.output]
        if not step.affine or kind.size * len(through) > _LARGEST:
            return None
        unit = np.eye(kind.size).reshape(kind.size, *kind.shape)
        (pulled,) = slopes_at(step, values).backward(unit).coefficients
        if pulled is None:
            return None
        rows = pulled.reshape(kind.size, -1)
        if not step.operator.movement:
            sums = np.max(np.count_nonzero(rows, axis=1)) > 1
            return FirstSums(step.node, name, rows, through) if sums else None
        tensor, through = step.output, through[np.argmax(rows, axis=1)]
    return None


def aligned_inputs(
    sums: FirstSums,
    hunt: Hunt,
    execution: RuntimeContract,
    *,
    near: FloatArray,
    derivative: FloatArray,
    rng: np.random.Generator,
    work: int,
) -> dict[str, FloatArray]:
    """A point near `near` (of the input's shape) whose first sums err along `derivative`, which
    has an entry per sum; `work` multiply-adds say how many values are tried."""
    name = sums.input
    live = np.flatnonzero(derivative)
    weights, derivative = sums.weights[live], derivative[live]
    choices = int(np.clip(work // max(weights.size, 1), *_CHOICES))
    fmt = hunt.box.formats[name]
    lo, hi = hunt.box.lo[name].reshape(-1), hunt.box.hi[name].reshape(-1)
    start = near.reshape(-1)
    reach = (hi - lo) * np.exp2(-rng.uniform(1.0, 9.0))
    block = execution.order.size if isinstance(execution.order, Blocked) else len(start)
    fused = execution.contraction is Contraction.ALWAYS
    format_used = execution.format_of(hunt.graph.types[sums.node.outputs[0]].dtype)
    chosen = start.copy()
    total = np.zeros(len(live))
    for k, at in enumerate(sums.elements):
        if k % block == 0:
            total = np.zeros(len(live))
        tried = round_array(start[at] + reach[at] * rng.uniform(-1.0, 1.0, choices), fmt)
        tried[0] = start[at]
        tried = np.clip(tried, lo[at], hi[at])
        rounded, error = _step(total, np.outer(tried, weights[:, k]), fused, format_used)
        best = int(np.argmax(error @ derivative))
        chosen[at], total = tried[best], rounded[best]
    return {name: chosen.reshape(1, *near.shape)}


def _step(
    total: FloatArray, products: FloatArray, fused: bool, fmt: FloatFormat
) -> tuple[FloatArray, FloatArray]:
    """total + products rounded as the execution does (float64 standing for the reals), and what
    that added to the exact sum."""
    lost: FloatArray | float = 0.0
    if not fused:
        stored = _rounded(products, fmt)
        lost, products = stored - products, stored
    exact = total + products
    rounded = _rounded(exact, fmt)
    return rounded, rounded - exact + lost


def _rounded(values: FloatArray, fmt: FloatFormat) -> FloatArray:
    if fmt == BINARY32:
        return values.astype(np.float32).astype(np.float64)
    return round_array(values, fmt)


def potential(
    graph: Graph, values: Mapping[str, FloatArray], derivative: Mapping[str, FloatArray]
) -> FloatArray:
    """Σ |c|·|value| over all tensors that are computed: how much rounding can matter here, for
    each functional."""
    produced = {t for node in graph.order for t in node.outputs}
    reach: FloatArray = np.sum(
        [
            np.abs(c.reshape(len(c), -1)) @ np.abs(values[t].reshape(-1))
            for t, c in derivative.items()
            if t in produced
        ],
        axis=0,
    )
    return reach
