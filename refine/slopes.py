"""Better real ranges: the free slopes of relaxations, optimised per functional.

Any lower slope in [0, 1] of an unstable Relu gives a sound bound; which is best depends on the
functional (α-CROWN, Xu et al. 2021). A few steps of projected gradient descent look for good
ones: with c the coefficient that arrives at an element and v the value it takes at the corner of
the input box where the relaxed bound is attained, ∂bound/∂slope = min(c, 0)·v. The descent is
plain float64 and proves nothing; the slopes it ends with go through the rigorous pull-back.
Deterministic: a fixed number of steps from a fixed start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from encoders.approximate_field import ApproximateReals
from encoders.enclosure import FloatArray
from encoders.operator import site_of
from encoders.registry import lookup
from onnx_import.graph import Graph, Node
from refine.pullback import Maps, Pulled, pull_back, variable_inputs

_RATE, _DECAY = 0.25, 0.92
_BETA1, _BETA2 = 0.9, 0.99


def optimised_upper(
    maps: Maps,
    target: str,
    functionals: FloatArray,
    steps: int,
    tick: Callable[[], None] = lambda: None,
) -> Pulled:
    """Rigorous upper bounds of functionals (k, *shape) of a tensor's values, with slopes chosen
    by `steps` rounds of descent."""
    free = [
        node
        for node in _ancestors(maps, target)
        if (choice := maps.value_maps[node.name].choice) is not None and np.any(choice.free)
    ]
    if not free or steps <= 0:
        return pull_back(maps, {target: functionals}, {}, tick)
    k = functionals.shape[0]
    slopes = {n.name: _start(maps, n, k) for n in free}
    best = {name: s.copy() for name, s in slopes.items()}
    lowest = np.full(k, np.inf)
    first = {name: np.zeros_like(s) for name, s in slopes.items()}
    second = {name: np.zeros_like(s) for name, s in slopes.items()}
    for step in range(1, steps + 1):
        tick()
        seen: dict[str, FloatArray] = {}
        pulled = pull_back(maps, {target: functionals}, {}, tick, slopes, seen)
        better = pulled.upper < lowest
        lowest = np.where(better, pulled.upper, lowest)
        for name, s in slopes.items():
            best[name][better] = s[better]
        values = _values_at_corner(maps, target, pulled, seen, slopes)
        rate = _RATE * _DECAY**step
        for node in free:
            gradient = _gradient(maps, node, seen, values)
            first[node.name] = _BETA1 * first[node.name] + (1 - _BETA1) * gradient
            second[node.name] = _BETA2 * second[node.name] + (1 - _BETA2) * gradient**2
            direction = (first[node.name] / (1 - _BETA1**step)) / (
                np.sqrt(second[node.name] / (1 - _BETA2**step)) + 1e-12
            )
            slopes[node.name] = np.clip(slopes[node.name] - rate * direction, 0.0, 1.0)
    return pull_back(maps, {target: functionals}, {}, tick, best)


def _ancestors(maps: Maps, target: str) -> list[Node]:
    """Nodes bounded before the target, in order."""
    found = []
    for node in maps.graph.order:
        if target in node.outputs:
            return found
        found.append(node)
    return found


def _start(maps: Maps, node: Node, k: int) -> FloatArray:
    choice = maps.value_maps[node.name].choice
    assert choice is not None
    return np.broadcast_to(choice.start, (k, *choice.start.shape)).copy()


def _gradient(
    maps: Maps, node: Node, seen: Mapping[str, FloatArray], values: Mapping[str, Any]
) -> FloatArray:
    choice = maps.value_maps[node.name].choice
    assert choice is not None
    (tensor,) = variable_inputs(maps.graph, node)
    if node.name not in seen:
        return np.zeros((1, *choice.start.shape))
    return np.asarray(np.where(choice.free, np.minimum(seen[node.name], 0.0) * values[tensor], 0.0))


def _values_at_corner(
    maps: Maps,
    target: str,
    pulled: Pulled,
    seen: Mapping[str, FloatArray],
    slopes: Mapping[str, FloatArray],
) -> dict[str, Any]:
    """Every tensor's value at each functional's worst corner, through the relaxed network."""
    graph, field = maps.graph, ApproximateReals()
    k = pulled.upper.shape[0]
    values: dict[str, Any] = {}
    for name in graph.inputs:
        box = maps.values[name]
        c = pulled.on_inputs.get(name)
        middle = 0.5 * (box.lo + box.hi)
        corner = middle if c is None else np.where(c > 0, box.hi, box.lo)
        values[name] = np.broadcast_to(corner, (k, *box.lo.shape))
    for node in graph.order:
        if target in node.outputs:
            break
        choice = maps.value_maps[node.name].choice
        if choice is not None and node.name in seen:
            (tensor,) = variable_inputs(graph, node)
            v = values[tensor]
            low = np.where(choice.free, slopes.get(node.name, choice.start), choice.start)
            upper = choice.high_slope * v + choice.high
            values[node.outputs[0]] = np.where(seen[node.name] > 0, upper, low * v)
            continue
        values[node.outputs[0]] = _evaluated(graph, node, values, field)
    return values


def _evaluated(graph: Graph, node: Node, values: Mapping[str, Any], field: ApproximateReals) -> Any:
    arguments = [
        None if not t else field.constant(graph.constants[t]) if graph.is_constant(t) else values[t]
        for t in node.inputs
    ]
    with field.working():
        return lookup(node).real(site_of(graph, node), arguments, field)[0]
