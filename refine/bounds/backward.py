"""Backward substitution: linear functionals of a tensor carried back to the network's input.

A functional lives on real values x and on differences d = x̂ − x of tensors at once. Walking the
DAG from the target to the inputs, every node replaces its output's coefficients by its inputs'
and adds what that costs (CROWN, Zhang et al. 2018; DeepPoly, Singh et al. 2019; here applied to
differences too). Branches meet by adding coefficients, so that what they share cancels.

Rounding: each map charges its own float64 error (`encoders.numbers.enclosure`); adding two
coefficient arrays errs by at most U per element, charged here at the largest |x| or |d|; sums of
costs are rounded up exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from encoders.numbers.enclosure import (
    UNIT,
    FloatArray,
    Interval,
    add_up,
    dot_up,
    inner_up,
    midpoint_radius,
)
from encoders.operator import DifferenceMap, SlopeChoice, ValueMap
from onnx_import.graph import Graph, Node


@dataclass(frozen=True)
class Maps:
    """What is known of every tensor and node so far: the facts a pull-back rests on.

    `flaws` names the nodes of which a bound was negative before it passed the gate.
    """

    graph: Graph
    values: dict[str, Interval] = field(default_factory=dict)
    errors: dict[str, FloatArray] = field(default_factory=dict)
    value_maps: dict[str, ValueMap] = field(default_factory=dict)
    difference_maps: dict[str, DifferenceMap] = field(default_factory=dict)
    local: dict[str, FloatArray] = field(default_factory=dict)
    flaws: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class FixedSlopes:
    """Secant slopes (0 or 1) of a node's differences, per functional, where `at`; (k, *shape)."""

    slope: FloatArray
    at: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Pulled:
    """Upper bounds (k,) of k functionals, and what each node's differences cost in them.

    `on_inputs` holds the coefficients (k, *shape) that reached the network's inputs.
    """

    upper: FloatArray
    costs: Mapping[str, FloatArray]
    on_inputs: Mapping[str, FloatArray] = field(default_factory=dict)

    def joined(self, other: Pulled) -> Pulled:
        """These functionals and others; a node that only some reach costs the others nothing."""
        none, nothing = np.zeros(len(self.upper)), np.zeros(len(other.upper))
        costs = {
            name: np.concatenate([self.costs.get(name, none), other.costs.get(name, nothing)])
            for name in {**self.costs, **other.costs}
        }
        return Pulled(np.concatenate([self.upper, other.upper]), costs)


@dataclass
class _Pending:
    """Coefficients still to be pulled back, per tensor, on values or on differences."""

    magnitude: Callable[[str], FloatArray]
    coefficients: dict[str, FloatArray] = field(default_factory=dict)

    def put(self, tensor: str, c: FloatArray | None) -> FloatArray | float:
        """Add coefficients on a tensor; returns what float64 rounding of the sum may cost."""
        if c is None:
            return 0.0
        if tensor not in self.coefficients:
            self.coefficients[tensor] = c
            return 0.0
        total = self.coefficients[tensor] + c
        self.coefficients[tensor] = total
        return dot_up(total, self.magnitude(tensor)) * (2 * UNIT)


def pull_back(
    maps: Maps,
    on_values: Mapping[str, FloatArray],
    on_differences: Mapping[str, FloatArray],
    tick: Callable[[], None] = lambda: None,
    choices: Mapping[str, SlopeChoice] | None = None,
    seen: dict[str, FloatArray] | None = None,
    fixed: Mapping[str, FixedSlopes] | None = None,
) -> Pulled:
    """Upper bounds of functionals given by coefficients (k, *shape) on some tensors.

    `tick` is called once per node and may raise to stop the work. `choices` says, per node whose
    relaxation leaves one, what to do there; `seen`, if given, is
    filled with the coefficients on values that arrived at such nodes. `fixed` gives, per node,
    secant slopes of differences to be taken as exact; with it, `seen` collects the coefficients on
    differences at nodes where such slopes are open.
    """
    k = next(iter((*on_values.values(), *on_differences.values()))).shape[0]
    total = np.zeros(k)
    costs: dict[str, FloatArray] = {}
    values = _Pending(lambda t: _finite(maps.values[t].magnitude), dict(on_values))
    differences = _Pending(lambda t: _finite(maps.errors[t]), dict(on_differences))
    for node in reversed(maps.graph.order):
        output = node.outputs[0]
        c = values.coefficients.pop(output, None)
        d = differences.coefficients.pop(output, None)
        if c is None and d is None:
            continue
        tick()
        inputs = variable_inputs(maps.graph, node)
        if d is not None:
            cost = dot_up(d, maps.local[node.name])
            between = maps.difference_maps[node.name]
            if fixed is not None and between.fixed is not None:
                if seen is not None:
                    seen[node.name] = d
                chosen = fixed[node.name]
                pulled = between.fixed(d, chosen.slope, chosen.at)
            else:
                pulled = between.backward(d)
            cost = add_up(cost, pulled.constant)
            for tensor, coefficients in zip(inputs, pulled.coefficients, strict=True):
                cost = add_up(cost, differences.put(tensor, coefficients))
            for tensor, coefficients in zip(inputs, pulled.on_values, strict=False):
                cost = add_up(cost, values.put(tensor, coefficients))
            costs[node.name] = cost
            total = add_up(total, cost)
        if c is not None:
            mapped = maps.value_maps[node.name]
            if seen is not None and mapped.choice is not None:
                seen[node.name] = c
            if choices is not None and mapped.choice is not None and node.name in choices:
                pulled = mapped.choice.backward(c, choices[node.name])
            else:
                pulled = mapped.backward(c)
            total = add_up(total, pulled.constant)
            for tensor, coefficients in zip(inputs, pulled.coefficients, strict=True):
                total = add_up(total, values.put(tensor, coefficients))
    for tensor, c in values.coefficients.items():
        mid, radius = midpoint_radius(maps.values[tensor])
        total = add_up(total, add_up(inner_up(c, mid), dot_up(c, radius)))
    for tensor, d in differences.coefficients.items():
        cost = dot_up(d, maps.errors[tensor])
        costs[tensor] = cost
        total = add_up(total, cost)
    return Pulled(np.where(np.isnan(total), np.inf, total), costs, dict(values.coefficients))


def variable_inputs(graph: Graph, node: Node) -> list[str]:
    """The tensors a node reads that depend on the network's input, by input position."""
    return [t for t in node.inputs if t and not graph.is_constant(t)]


def unit_functionals(shape: tuple[int, ...], rows: npt.NDArray[np.intp]) -> FloatArray:
    """(k, *shape) coefficients that pick the flat elements `rows`."""
    size = int(np.prod(shape, dtype=np.int64))
    c = np.zeros((len(rows), size))
    c[np.arange(len(rows)), rows] = 1.0
    return c.reshape(len(rows), *shape)


def _finite(x: FloatArray) -> FloatArray:
    return np.where(np.isfinite(x), x, np.finfo(np.float64).max)
