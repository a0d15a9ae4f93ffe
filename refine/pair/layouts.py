"""Tensors but for the order of their axes: what a node does to each element of transposed tensors,
or along axes of one, is that of the tensors themselves, transposed. Optimisers move transpositions
through nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from encoders.program import Step
from encoders.relaxations.elements import broadcast_element
from onnx_import.graph import Array, Graph

Order = tuple[int, ...]


@dataclass
class Layouts:
    """`numbers` has the class of what is known by a key; `turned` what a class of transposed
    tensors is the transposition of, and the order in which that puts its axes."""

    numbers: dict[Any, int]
    turned: dict[int, tuple[int, Order]] = field(default_factory=dict)

    def of(self, tensors: int, rank: int) -> tuple[int, Order]:
        """The class of the tensors themselves, and the order of its axes in these."""
        return self.turned.get(tensors, (tensors, tuple(range(rank))))

    def turn(self, tensors: int, order: Order) -> int:
        """The class of tensors, of a class that is no transposition, with axes in this order."""
        if order == tuple(range(len(order))):
            return tensors
        found = self.numbers.setdefault(("turned", tensors, order), len(self.numbers))
        self.turned[found] = tensors, order
        return found

    def transposed(self, tensors: int, order: Order) -> int:
        """The class of tensors of any class with their axes in this order."""
        base, before = self.of(tensors, len(order))
        return self.turn(base, tuple(before[axis] for axis in order))

    def reduced(self, tensors: int, key: Any, axes: Sequence[int], rank: int, kept: bool) -> int:
        """The class of what a node known by `key` makes along axes, which stay with length 1 where
        they are `kept`."""
        base, order = self.of(tensors, rank)
        along = tuple(sorted(order[axis] for axis in axes))
        made = self.numbers.setdefault(("reduced", key, base, along, kept), len(self.numbers))
        if kept:
            return self.turn(made, order)
        left = [order[axis] for axis in range(rank) if axis not in axes]
        places = {axis: place for place, axis in enumerate(sorted(left))}
        return self.turn(made, tuple(places[axis] for axis in left))


@dataclass(frozen=True)
class Elementwise:
    """A node on single elements, all of whose operands that vary have the result's shape: as it is
    on tensors of which all of these, and its result, are the transpositions."""

    order: Order
    shape: tuple[int, ...]
    operands: dict[str, int]

    def turned_back(self, stored: Array) -> Array:
        """A stored operand with its axes as these tensors have them."""
        if not self.order or stored.size == 1:
            return stored
        rank = len(self.order)
        full = stored.reshape((1,) * (rank - stored.ndim) + stored.shape)
        return np.transpose(full, np.argsort(self.order))


def elementwise(
    graph: Graph, step: Step, layouts: Layouts, of: Callable[[str], int]
) -> Elementwise | None:
    """None for other nodes, and where operands have their axes in several orders."""
    shape = graph.types[step.output].shape
    operator = step.operator
    if not (operator.per_element or operator.element is broadcast_element):
        return None
    if len(step.writes) != 1 or not step.reads:
        return None
    if any(graph.types[t].shape != shape for t in step.reads):
        return None
    if any(len(v.shape) > len(shape) for v in step.constants.values()):
        return None
    bases = {t: layouts.of(of(t), len(shape)) for t in step.reads}
    orders = {order for _, order in bases.values()}
    if len(orders) != 1:
        return None
    (order,) = orders
    turned = dict(zip(order, shape, strict=True))
    own = tuple(turned[axis] for axis in range(len(shape)))
    return Elementwise(order, own, {t: base for t, (base, _) in bases.items()})
