"""Errors of many boxes at once: the differences of all output elements pulled back together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.lemmas.differences import PULLED_BACK
from encoders.lemmas.kernel import Radius, apply
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.numbers.radius import is_negative, radius_of
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Graph
from refine.bounds.backward import Maps, pull_back
from refine.bounds.batch import Batch, BoxBounds, row_of
from refine.bounds.influence import Shares, on_choices
from refine.bounds.network import InputBox, Known
from refine.bounds.pruning import feeds_nonlinear
from refine.bounds.settled import Settled, settled
from refine.bounds.widened import widened

_BATCH_NUMBERS = 2**22  # of functionals on the widest tensor
_MOST_BOXES, _FEWEST_BOXES = 128, 8


@dataclass(frozen=True)
class ManyErrors:
    """The errors of a network under a contract, in batches of boxes."""

    network: Settled
    contract: RuntimeContract
    size: int

    def bounded(
        self, boxes: Sequence[InputBox], around: Known, ranges: Sequence[Mapping[str, Interval]]
    ) -> Batch | None:
        """As of a single box, of each, by pull-backs of what is open alone."""
        network = self.network
        wide = widened(network.program, len(boxes))
        if wide is None:
            return None
        with np.errstate(all="ignore"):
            try:
                found, shares = network.batch(
                    wide, boxes, self.contract, around=around, ranges=ranges, errors_too=True
                )
                pulled = {t: _pulled(found.maps, t) for t in wide.graph.outputs}
            except UnsupportedModel:
                return None
        if any(is_negative(upper) for upper, _ in pulled.values()):
            return None  # a flaw, which is told where boxes are bounded one by one
        radii = {
            t: found.maps.radii[t].and_also(apply(PULLED_BACK, U=radius_of(upper)))
            for t, (upper, _) in pulled.items()
        }
        nonlinear = [t for t in shares if feeds_nonlinear(wide, t)]
        made = []
        for b in range(len(boxes)):
            mine = {t: _of_box(radius, b) for t, radius in radii.items()}
            worst = max(mine, key=lambda t: mine[t].largest)
            element = int(np.argmax(mine[worst].bound))
            costs = {name: float(c[element, b]) for name, c in pulled[worst][1].items()}
            known = {t: row_of(found.maps.values[t], b) for t in nonlinear}
            blamed = _influence(found.maps, shares, costs, b)
            if not np.isfinite(mine[worst].largest):
                blamed = on_choices(wide, partial(_range_of_box, found.maps, b), blamed)
            made.append(BoxBounds(mine, blamed, known))
        return Batch(replace(found, radii=radii), tuple(made))


def many_errors(graph: Graph, contract: RuntimeContract) -> ManyErrors | None:
    """Errors of batches of boxes, where the network takes them and its outputs are few."""
    if any(graph.is_constant(t) for t in graph.outputs):
        return None
    try:
        network = settled(graph, contract)
        if network is None or widened(network.program, 2) is None:
            return None
    except UnsupportedModel:
        return None
    program = network.program
    largest = max((program.graph.types[t].size for s in program.steps for t in s.reads), default=1)
    elements = max(graph.types[t].size for t in graph.outputs)
    size = min(_MOST_BOXES, _BATCH_NUMBERS // max(elements * largest, 1))
    return None if size < _FEWEST_BOXES else ManyErrors(network, contract, size)


def _pulled(maps: Maps, output: str) -> tuple[FloatArray, Mapping[str, FloatArray]]:
    """Upper bounds of all elements' differences, of the output's shape, and what each node's cost
    in them, (elements, boxes)."""
    boxes, *shape = maps.errors[output].shape
    elements = math.prod(shape)
    units = np.eye(elements).reshape(elements, 1, *shape)
    c = np.broadcast_to(units, (elements, boxes, *shape))
    found = pull_back(maps, {}, {output: np.ascontiguousarray(c)})
    upper = np.where(np.isnan(found.upper), np.inf, found.upper)
    return upper.T.reshape(boxes, *shape), found.costs


def _range_of_box(maps: Maps, box: int, tensor: str) -> Interval:
    return row_of(maps.values[tensor], box)


def _of_box(radius: Radius, box: int) -> Radius:
    return radius.moved(lambda bound: bound[box : box + 1])


def _influence(
    maps: Maps, shares: Shares, costs: Mapping[str, float], box: int
) -> Mapping[str, FloatArray]:
    """Per input element, how much of the bound its width is to blame for (a guess): what nodes
    cost, by whose width that of what they read is."""
    total = {}
    for name in maps.graph.inputs:
        x = maps.values[name]
        width = (x.hi - x.lo)[box : box + 1]
        found = 1e-3 * sum(costs.values()) * width / max(float(np.sum(width)), 2.0**-900)
        for step in maps.program.steps:
            share = shares.get(step.reads[0], {}).get(name) if step.reads else None
            if step.affine or share is None or not np.isfinite(costs.get(step.name, 0.0)):
                continue
            push = np.sum(share[box], axis=0)
            whole = float(np.sum(push))
            if whole > 0:
                found = found + (costs.get(step.name, 0.0) / whole * push).reshape(width.shape)
        total[name] = np.nan_to_num(found)
    return total
