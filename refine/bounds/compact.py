"""The same facts without dead neurons: pull-backs get cheaper by what they leave out.

A neuron that is shown to be zero over the reals and in every execution adds nothing to any
functional, whatever its weights. What is left is a smaller network: the columns of live neurons,
with the ranges, errors and local errors shown of them in the whole one. Its differences are those
of the whole one, since a dead neuron's difference is zero; nothing is claimed of how a smaller
network would round.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from encoders.numbers.enclosure import FloatArray, Interval
from encoders.operator import Site, site_of
from encoders.registry import lookup
from encoders.relaxations.narrowing import Columns, Constants
from onnx_import.graph import Array, Graph, Node, TensorType, build_graph
from refine.bounds.backward import Maps, variable_inputs


def compacted(maps: Maps, target: str) -> Maps:
    """Facts about the network up to `target` without its dead neurons; the target stays whole."""
    last = next((i for i, n in enumerate(maps.graph.order) if target in n.outputs), -1)
    nodes = maps.graph.order[: last + 1]
    kept = _possible(maps.graph, nodes, _needed(maps, nodes, target))
    if not kept:
        return maps
    types = dict(maps.graph.types)
    for tensor, columns in kept.items():
        shape = types[tensor].shape
        types[tensor] = TensorType(types[tensor].dtype, (*shape[:-1], len(columns)))
    constants = dict(maps.graph.constants)
    cut = tuple(_cut_node(maps.graph, node, kept, types, constants) for node in nodes)
    graph = build_graph(cut, types, constants, maps.graph.inputs, (target,))
    small = Maps(
        graph,
        {t: Interval(_cut(kept, t, x.lo), _cut(kept, t, x.hi)) for t, x in maps.values.items()},
        {t: _cut(kept, t, e) for t, e in maps.errors.items()},
        dict(maps.value_maps),
        dict(maps.difference_maps),
        dict(maps.local),
    )
    for old, new in zip(nodes, cut, strict=True):
        if old is not new:
            _translate(small, new, kept)
    return small


def _translate(small: Maps, node: Node, kept: Mapping[str, Columns]) -> None:
    """The maps of a node that was cut down, from the ranges and errors of what it reads."""
    site, operator = site_of(small.graph, node), lookup(node)
    inputs = variable_inputs(small.graph, node)
    ranges = [small.values[t] for t in inputs]
    if node.name in small.value_maps:
        small.value_maps[node.name] = operator.values(site, ranges)
    if node.name in small.difference_maps:
        errors = [small.errors[t] for t in inputs]
        small.difference_maps[node.name] = operator.differences(site, ranges, errors)
        small.local[node.name] = _cut(kept, node.outputs[0], small.local[node.name])


def _needed(maps: Maps, nodes: tuple[Node, ...], target: str) -> dict[str, Columns]:
    """The columns of every tensor that some node needs; a tensor that is not named needs all."""
    graph = maps.graph
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        for tensor in variable_inputs(graph, node):
            readers.setdefault(tensor, []).append(node)
    needed: dict[str, Columns] = {}
    for node in reversed(nodes):
        output = node.outputs[0]
        every = readers.get(output, [])
        if not graph.types[output].shape:
            continue
        if output == target or not every or not all(_narrows(graph, n) for n in every):
            continue
        alive = np.zeros(graph.types[output].shape[-1], dtype=np.bool_)
        for reader in every:
            if not _in_place(reader):
                alive |= _alive(maps, output)
            elif reader.outputs[0] in needed:
                alive[needed[reader.outputs[0]]] = True
            else:
                alive[:] = True
        alive[0] |= not np.any(alive)  # no tensor becomes empty
        if not np.all(alive):
            needed[output] = np.flatnonzero(alive)
    return needed


def _possible(
    graph: Graph, nodes: tuple[Node, ...], needed: Mapping[str, Columns]
) -> dict[str, Columns]:
    """What can be kept alone: a node that works in place writes the columns that it reads."""
    kept: dict[str, Columns] = {}
    for node in nodes:
        output = node.outputs[0]
        if not _narrows(graph, node):
            continue
        source = kept if _in_place(node) else needed
        tensor = variable_inputs(graph, node)[0] if _in_place(node) else output
        if tensor in source:
            kept[output] = source[tensor]
    return kept


def _alive(maps: Maps, tensor: str) -> npt.NDArray[np.bool_]:
    """Columns in which a real value or a difference may be other than zero."""
    x = maps.values[tensor]
    live = (x.lo != 0) | (x.hi != 0) | (maps.errors[tensor] != 0)
    return np.asarray(np.any(live.reshape(-1, live.shape[-1]), axis=0))


def _narrows(graph: Graph, node: Node) -> bool:
    none = np.zeros(0, np.intp)
    return _constants(site_of(graph, node), node, none, none) is not None


def _constants(site: Site, node: Node, read: Columns, written: Columns) -> Constants | None:
    narrowed = lookup(node).narrowed
    return None if narrowed is None else narrowed(site, read, written)


def _in_place(node: Node) -> bool:
    return lookup(node).element is not None or lookup(node).per_element


def _cut_node(
    graph: Graph,
    node: Node,
    kept: Mapping[str, Columns],
    types: dict[str, TensorType],
    constants: dict[str, Array],
) -> Node:
    """The node with the columns kept; its new constants are entered under names of their own."""
    inputs, output = variable_inputs(graph, node), node.outputs[0]
    if not any(t in kept for t in (*inputs, output)):
        return node
    site = site_of(graph, node)

    def columns(tensor: str) -> Columns:
        return kept.get(tensor, np.arange(graph.types[tensor].shape[-1]))

    found = _constants(site, node, columns(inputs[0]), columns(output))
    assert found is not None
    names = list(node.inputs)
    for i, constant in enumerate(found):
        if constant is not None and constant is not site.constants[i]:
            names[i] = f"{node.inputs[i]}, columns of {node.name}"
            constants[names[i]] = constant
            types[names[i]] = TensorType(types[node.inputs[i]].dtype, constant.shape)
    return Node(
        node.name, node.op, tuple(names), node.outputs, node.attributes, node.opset, node.domain
    )


def _cut(kept: Mapping[str, Columns], tensor: str, x: FloatArray) -> FloatArray:
    return x[..., kept[tensor]] if tensor in kept else x
