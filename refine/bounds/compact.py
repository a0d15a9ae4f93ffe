"""The same facts without dead neurons: pull-backs get cheaper by what they leave out.

A neuron that is shown to be zero over the reals and in every execution adds nothing to any
functional, whatever its weights. What is left is a smaller network: the columns of live neurons,
with the ranges, errors and local errors shown of them in the whole one. Its differences are those
of the whole one, since a dead neuron's difference is zero; nothing is claimed of how a smaller
network would round.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import numpy.typing as npt

from encoders.lemmas.ranges.placing import range_moved
from encoders.numbers.enclosure import FloatArray
from encoders.program import Step, program_of
from encoders.relaxations.narrowing import Columns, Constants
from onnx_import.graph import Array, Graph, Node, TensorType, build_graph
from refine.bounds.backward import Maps


def compacted(maps: Maps, target: str) -> Maps:
    """Facts about the network up to `target` without its dead neurons; the target stays whole."""
    steps = maps.program.steps
    last = next((i for i, step in enumerate(steps) if target in step.writes), -1)
    steps = steps[: last + 1]
    kept = _possible(steps, _needed(maps, steps, target))
    if not kept:
        return maps
    types = dict(maps.graph.types)
    for tensor, columns in kept.items():
        shape = types[tensor].shape
        types[tensor] = TensorType(types[tensor].dtype, (*shape[:-1], len(columns)))
    constants = dict(maps.graph.constants)
    cut = tuple(_cut_node(maps.graph, step, kept, types, constants) for step in steps)
    graph = build_graph(cut, types, constants, inputs=maps.graph.inputs, outputs=(target,))
    small = Maps(
        program_of(graph),
        {t: range_moved(x, partial(_cut, kept, t)) for t, x in maps.values.items()},
        errors={t: _cut(kept, t, e) for t, e in maps.errors.items()},
        value_maps=dict(maps.value_maps),
        difference_maps=dict(maps.difference_maps),
        local=dict(maps.local),
        radii={t: r.moved(partial(_cut, kept, t)) for t, r in maps.radii.items()},
        ellipsoids={
            step.name: maps.ellipsoids[step.name].moved(partial(_cut, kept, step.reads[0]))
            for step in steps
            if step.name in maps.ellipsoids
        },
        lines={
            step.name: maps.lines[step.name].moved(
                partial(_cut, kept, step.output), partial(_cut, kept, step.reads[0])
            )
            for step in steps
            if step.name in maps.lines
        },
    )
    for old, new in zip(steps, cut, strict=True):
        if old.node is not new:
            _translate(small, small.program.step(new), kept)
    return small


def _translate(small: Maps, step: Step, kept: Mapping[str, Columns]) -> None:
    """The maps of a node that was cut down, from the ranges and errors of what it reads."""
    ranges = [small.values[t] for t in step.reads]
    if step.name in small.value_maps:
        small.value_maps[step.name] = step.operator.values(step.site, ranges)
    if step.name in small.difference_maps:
        errors = [small.radii[t] for t in step.reads]
        small.difference_maps[step.name] = step.operator.differences(step.site, ranges, errors)
        cut = partial(_cut, kept, step.output)
        small.local[step.name] = small.local[step.name].moved(cut)


def _needed(maps: Maps, steps: tuple[Step, ...], target: str) -> dict[str, Columns]:
    """The columns of every tensor that some step needs; a tensor that is not named needs all."""
    graph, among = maps.graph, {step.name for step in steps}
    needed: dict[str, Columns] = {}
    for step in reversed(steps):
        output = step.output
        every = [reader for reader in maps.program.readers(output) if reader.name in among]
        if not graph.types[output].shape:
            continue
        if output == target or not every or not all(map(_narrows, every)):
            continue
        alive = np.zeros(graph.types[output].shape[-1], dtype=np.bool_)
        for reader in every:
            if not _in_place(reader):
                alive |= _alive(maps, output)
            elif reader.output in needed:
                alive[needed[reader.output]] = True
            else:
                alive[:] = True
        alive[0] |= not np.any(alive)  # no tensor becomes empty
        if not np.all(alive):
            needed[output] = np.flatnonzero(alive)
    return needed


def _possible(steps: tuple[Step, ...], needed: Mapping[str, Columns]) -> dict[str, Columns]:
    """What can be kept alone: a node that works in place writes the columns that it reads."""
    kept: dict[str, Columns] = {}
    for step in steps:
        if not _narrows(step):
            continue
        source = kept if _in_place(step) else needed
        tensor = step.reads[0] if _in_place(step) else step.output
        if tensor in source:
            kept[step.output] = source[tensor]
    return kept


def _alive(maps: Maps, tensor: str) -> npt.NDArray[np.bool_]:
    """Columns in which a real value or a difference may be other than zero."""
    x = maps.values[tensor]
    live = (x.lo != 0) | (x.hi != 0) | (maps.errors[tensor] != 0)
    return np.asarray(np.any(live.reshape(-1, live.shape[-1]), axis=0))


def _narrows(step: Step) -> bool:
    none = np.zeros(0, np.intp)
    return _constants(step, none, none) is not None


def _constants(step: Step, read: Columns, written: Columns) -> Constants | None:
    narrowed = step.operator.narrowed
    return None if narrowed is None else narrowed(step.site, read, written)


def _in_place(step: Step) -> bool:
    return step.operator.element is not None or step.operator.per_element


def _cut_node(
    graph: Graph,
    step: Step,
    kept: Mapping[str, Columns],
    types: dict[str, TensorType],
    constants: dict[str, Array],
) -> Node:
    """The node with the columns kept; its new constants are entered under names of their own."""
    node, output = step.node, step.output
    if not any(t in kept for t in (*step.reads, output)):
        return node

    def columns(tensor: str) -> Columns:
        return kept.get(tensor, np.arange(graph.types[tensor].shape[-1]))

    found = _constants(step, columns(step.reads[0]), columns(output))
    assert found is not None
    names = list(node.inputs)
    for i, constant in enumerate(found):
        if constant is not None and constant is not step.site.constants[i]:
            names[i] = f"{node.inputs[i]}, columns of {node.name}"
            constants[names[i]] = constant
            types[names[i]] = TensorType(types[node.inputs[i]].dtype, constant.shape)
    return Node(
        node.name,
        node.op,
        inputs=tuple(names),
        outputs=node.outputs,
        attributes=node.attributes,
        opset=node.opset,
        domain=node.domain,
    )


def _cut(kept: Mapping[str, Columns], tensor: str, x: FloatArray) -> FloatArray:
    return x[..., kept[tensor]] if tensor in kept else x
