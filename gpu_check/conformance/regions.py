"""Nodes that a runtime does not show one by one, with the first tensor behind them that it shows.

An operator that the import decomposes is one node to a runtime, and an optimising runtime computes
many at once. What stands between tensors that are shown is a graph of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.numbers.enclosure import FloatArray
from encoders.program import Program, program_of
from onnx_import.graph import Array, Graph, Node, build_graph

Bound = Callable[[Graph, Mapping[str, Array], RuntimeContract], Mapping[str, FloatArray]]
"""How far each output of a graph may be from its exact value, on one input."""


@dataclass(frozen=True)
class Region:
    """A graph from tensors that are shown to `output`, and its work in multiply-adds."""

    graph: Graph
    output: str

    @property
    def program(self) -> Program:
        """The resolved program of the region's graph."""
        return program_of(self.graph)

    @property
    def work(self) -> int:
        """Multiply-adds of one execution of the region."""
        return self.program.work

    @property
    def inner(self) -> frozenset[str]:
        """The names of its nodes but the last."""
        return frozenset(n.name for n in self.graph.order if self.output not in n.outputs)


def region_behind(graph: Graph, node: Node, output: str, shown: Collection[str]) -> Region:
    """What computes one output of a node from what is shown."""
    found: dict[str, Node] = {}
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if one.name not in found:
            found[one.name] = one
            read = (t for t in one.inputs if t in graph.writers and t not in shown)
            waiting += [graph.writers[t] for t in read]
    nodes = tuple(found.values())
    touched = dict.fromkeys(t for n in nodes for t in (*n.inputs, *n.outputs) if t)
    made = {t for n in nodes for t in n.outputs}
    constants = {t: graph.constants[t] for t in touched if graph.is_constant(t)}
    given = tuple(t for t in touched if t not in made and t not in constants)
    types = {t: graph.types[t] for t in touched}
    return Region(build_graph(nodes, types, constants, inputs=given, outputs=(output,)), output)


def finite(values: Mapping[str, Array]) -> bool:
    """Are all numbers of all arrays finite?"""
    return all(bool(np.all(np.isfinite(np.asarray(v, np.float64)))) for v in values.values())
