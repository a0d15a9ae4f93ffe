"""What a layer adds to its sums from channels that each are read by one weight of 1 alone.

onnxruntime adds a tensor within the sums of a convolution, which is read here as further channels
of its input. Over the reals that is a layer of the other channels and a sum. Where every number of
the input comes from, and what the weights make of those channels, is found by moving numbers that
name places: nothing is assumed of how the channels were put together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.program import Program, Step, program_of, real_step
from onnx_import.graph import Array, Graph

_DEEP = 8  # moves between a tensor and the input of the layer, at most


@dataclass(frozen=True, eq=False)
class Summand:
    """A layer of tensor `read` to which tensor `added` is added, element by element.

    `weights` are those of what is read, which stand at `mine` of all weights; `places` says of each
    number of the layer's input which it is: k > 0 number k − 1 of what is read, k < 0 number −k − 1
    of what is added, and 0 a zero. `passed` are the names of the nodes between.
    """

    read: str
    added: str
    weights: Array
    mine: npt.NDArray[np.bool_]
    places: npt.NDArray[np.int64]
    passed: frozenset[str]

    def spread(self, weights: FloatArray) -> FloatArray:
        """Numbers for the weights of what is read, with zeros for the others."""
        whole = np.zeros(self.mine.shape)
        whole[self.mine] = weights.reshape(-1)
        return whole

    def range(self, read: Interval, added: Interval) -> Interval:
        """That of the layer's input, from those of both tensors."""
        return Interval(self._taken(read.lo, added.lo), self._taken(read.hi, added.hi))

    def _taken(self, read: FloatArray, added: FloatArray) -> FloatArray:
        numbers = np.concatenate((added.reshape(-1)[::-1], np.zeros(1), read.reshape(-1)))
        return numbers[self.places + added.size]


def summand_of(graph: Graph, step: Step) -> Summand | None:
    """What the layer adds so; None where it adds nothing, or is no such layer."""
    feeding = step.operator.likeness.feeding
    weighted = step.node.inputs
    if feeding is None or graph.is_constant(weighted[0]):
        return None
    if not all(graph.is_constant(t) for t in weighted[1:] if t):
        return None
    program = program_of(graph)
    joining = _joining(program, weighted[0])
    if joining is None:
        return None
    read, source = joining.reads
    passed = {joining.name}
    for _ in range(_DEEP):
        found = _summand(program, step, read=read, added=source, passed=passed)
        if found is not None:
            return found
        before = program.writers.get(source)
        if before is None or not _moves(before) or len(before.reads) != 1:
            return None
        passed.add(before.name)
        (source,) = before.reads
    return None


def _joining(program: Program, tensor: str) -> Step | None:
    """The node that puts two tensors together, of which this one is made by moves alone."""
    for _ in range(_DEEP):
        step = program.writers.get(tensor)
        if step is None or not _moves(step):
            return None
        if len(step.reads) == 2:
            numbers = all(program.graph.types[t].dtype.is_float for t in step.reads)
            return step if numbers and step.reads[0] != step.reads[1] else None
        if len(step.reads) != 1:
            return None
        (tensor,) = step.reads
    return None


def _moves(step: Step) -> bool:
    """Is every number that it writes one that it reads, or a zero?"""
    held = step.constants.values()
    return step.operator.movement and not any(np.any(v) for v in held if v.dtype.kind not in "iub")


def _summand(
    program: Program, step: Step, *, read: str, added: str, passed: set[str]
) -> Summand | None:
    """With these two tensors, where the layer does that to them."""
    graph, node = program.graph, step.node
    shape, result = graph.types[added].shape, graph.types[node.outputs[0]].shape
    if shape != result or graph.types[read].shape[:1] != shape[:1]:
        return None
    named: dict[str, Any] = {
        read: 1.0 + np.arange(graph.types[read].size).reshape(1, *graph.types[read].shape),
        added: -1.0 - np.arange(graph.types[added].size).reshape(1, *shape),
    }
    between = _between(program, node.inputs[0], named)
    if between is None:
        return None
    values = dict(named)
    reals = ApproximateReals()
    with reals.working():
        for move in between:
            values |= _floats(move, values, reals)
    places = values[node.inputs[0]][0]
    along = (0, *range(2, places.ndim))
    ours = np.all(places > 0, axis=along)
    if np.any(places > 0, axis=along).tolist() != ours.tolist():
        return None
    if not np.array_equal(places[:, ours], named[read][0]):
        return None
    feeding = step.operator.likeness.feeding
    assert feeding is not None
    weights = graph.constants[node.inputs[1]]
    mine = np.broadcast_to(ours[feeding(step.site)], weights.shape)
    others = np.where(mine, 0.0, weights.astype(np.float64))
    if not np.all((others == 0) | (others == 1)):
        return None
    of_each = tuple(range(1, mine.ndim))
    count = np.count_nonzero(mine, axis=of_each)
    if np.any(count != count[0]) or np.any(np.sum(others, axis=of_each) != 1):
        return None
    held: dict[str, Array] = {node.inputs[1]: others}
    held |= {t: np.zeros(graph.types[t].shape) for t in node.inputs[2:] if t}
    with reals.working():
        made = _floats(step.holding(held), values, reals)[node.outputs[0]]
    if not np.array_equal(made, named[added]):
        return None
    kept = weights[mine].reshape(weights.shape[0], -1, *weights.shape[2:])
    names = frozenset((*passed, *(move.name for move in between)))
    return Summand(read, added, kept, mine, places.astype(np.int64), names)


def _between(program: Program, tensor: str, ends: Collection[str]) -> list[Step] | None:
    """The moves, in order, that make a tensor of others alone; None where something else does."""
    todo, found = [tensor], dict[str, Step]()
    while todo:
        at = todo.pop()
        if at in ends or at in found:
            continue
        step = program.writers.get(at)
        if step is None or not _moves(step) or len(found) > 2 * _DEEP:
            return None
        found[at] = step
        todo += step.reads
    return [s for s in program.steps if s.output in found]


def _floats(
    step: Step, values: Mapping[str, Any], reals: ApproximateReals
) -> dict[str, FloatArray]:
    made = real_step(step, values, reals)
    return {t: np.asarray(v, np.float64) for t, v in zip(step.writes, made, strict=True)}
