"""BatchNormalization by the statistics of its batch, as in training, deviations to which runtimes
add no epsilon, and products of elements."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnx_import.graph import Array, DType, Node, TensorType
from onnx_import.passes.body import Body
from onnx_import.passes.normalize import free
from onnx_import.tensors import type_of

_TRAINING_SINCE = 14
_LONGEST = 512  # running products along an axis


def batch_statistics(body: Body) -> None:
    """Channels become the rows of one sample, of which InstanceNormalization takes mean and
    variance; running mean and variance, where something reads them, are computed beside."""
    node, shape = body.node, body.shape(0)
    if node.opset < _TRAINING_SINCE or not body.number("training_mode", 0):
        return
    if len(shape) < 2:
        raise body.unsupported("its input has no axis of channels")
    channels, count = shape[1], math.prod(shape) // max(shape[1], 1)
    if not math.prod(shape):
        raise body.unsupported("it computes with an empty tensor")
    x, scale, bias = node.inputs[:3]
    order = [1, 0, *range(2, len(shape))]
    first = body.add("Transpose", x, perm=order)
    rows = body.reshape(first, 1, channels, count)
    epsilon = float(body.number("epsilon", float(np.float32(1e-5))))
    normal = body.add("InstanceNormalization", rows, scale, bias, epsilon=epsilon)
    back = body.reshape(normal, *(shape[i] for i in order))
    body.add("Transpose", back, perm=order, output=node.outputs[0])
    for place, name in enumerate(node.outputs[1:3], start=1):
        if name:
            _running(body, rows, place=place, output=name)


def _running(body: Body, rows: str, *, place: int, output: str) -> None:
    """momentum·old + (1 − momentum)·new of mean (place 1) or variance (place 2), which is that of
    the batch itself, not an estimate of a larger one's."""
    kind = body.types[body.node.inputs[0]].dtype.numpy
    momentum = np.float32(body.number("momentum", 0.9)).astype(kind)
    new = body.over("ReduceMean", rows, [2], keepdims=1)
    if place == 2:
        off = body.add("Sub", rows, new)
        new = body.over("ReduceMean", body.add("Mul", off, off), [2], keepdims=1)
    flat = body.reshape(new, -1)
    part = body.add("Mul", flat, body.store(np.asarray(1 - momentum, kind)))
    kept = body.add("Mul", body.node.inputs[2 + place], body.store(np.asarray(momentum, kind)))
    body.add("Add", kept, part, output=output)


_DEVIATION = "Processed_STD"  # how names begin that MeanVarianceNormalization's function gives it
_EPSILON = 1e-9
_ROUGHLY = 1.0 + 2.0**-8  # more than what is stored for it is off by


def with_bare_deviations(
    nodes: Sequence[Node], types: Mapping[str, TensorType], constants: Mapping[str, Array]
) -> tuple[tuple[Node, ...], Mapping[str, TensorType], Mapping[str, Array]]:
    """The nodes, with types and constants, where a MeanVarianceNormalization may divide by its
    deviation or, as in onnxruntime, by that without the epsilon that ONNX adds to it."""
    made: list[Node] = []
    kinds, stored = dict(types), dict(constants)
    for node in nodes:
        made += _either(node, kinds, stored) if _adds_epsilon(node, constants) else [node]
    return tuple(made), kinds, stored


def _adds_epsilon(node: Node, constants: Mapping[str, Array]) -> bool:
    if node.op != "Add" or not node.outputs[0].startswith(_DEVIATION):
        return False
    bare, added = node.inputs
    most = np.abs(constants.get(added, np.ones(1))).max(initial=0.0)
    return bare not in constants and float(most) <= _EPSILON * _ROUGHLY


def _either(node: Node, types: dict[str, TensorType], constants: dict[str, Array]) -> list[Node]:
    output = node.outputs[0]
    kind = types[output]
    every, own = (free(f"{output}@{w}", {*types, *constants}) for w in ("every", "added"))
    constants[every] = np.ones(kind.shape, bool)
    types.update({every: type_of(constants[every]), own: kind})
    choice = Node(
        f"{node.name}@either",
        "MaskedWhere",
        inputs=(every, own, node.inputs[0]),
        outputs=(output,),
        attributes={"apart": _EPSILON * _ROUGHLY},
        opset=node.opset,
    )
    return [replace(node, outputs=(own,)), choice]


def product_of_two(body: Body) -> None:
    """Of two elements the product of both, which no order changes; of one that element."""
    x, *rest = body.node.inputs
    if x in body.known or (rest and rest[0] and rest[0] not in body.known):
        return
    shape = body.types[x].shape
    given = (
        body.known[rest[0]].reshape(-1).tolist() if rest and rest[0] else body.number("axes", ())
    )
    if not len(given) and body.number("noop_with_empty_axes", 0):
        return
    axes = [a % len(shape) for a in given] or range(len(shape))
    long = [a for a in axes if shape[a] != 1]
    if not long:
        body.reshape(x, *body.types[body.node.outputs[0]].shape)
        return
    if len(long) != 1 or shape[long[0]] != 2:
        return
    places = [body.store(np.array(i, np.int64)) for i in (0, 1)]
    halves = [body.add("Gather", x, place, axis=long[0]) for place in places]
    body.reshape(body.add("Mul", *halves), *body.types[body.node.outputs[0]].shape)


def running_products(body: Body) -> None:
    """CumProd: each element times the product before it, from the first one on, or the last."""
    x, types = body.node.inputs[0], body.types
    rank, axis = len(body.shape(0)), int(body.constant(1, "axis").reshape(()))
    if not -rank <= axis < rank:
        raise body.unsupported(f"its axis (input 1) is {axis}, out of range for {rank} axes")
    if types[x].dtype.is_float and types[x].dtype not in (DType.FLOAT32, DType.FLOAT64):
        raise body.unsupported("in 16 bits some runtimes round once, others at every element")
    axis %= rank
    n = body.shape(0)[axis]
    if not 0 < n <= _LONGEST:
        raise body.unsupported(f"it multiplies {n} numbers in a row; supported are 1 to {_LONGEST}")
    ends = [body.store(np.array([i], np.int64)) for i in (*range(n + 1), axis)]
    parts = [body.add("Slice", x, ends[i], ends[i + 1], ends[-1]) for i in range(n)]
    if body.number("reverse", 0):
        parts.reverse()
    running = parts[:1]
    for part in parts[1:]:
        running.append(body.add("Mul", running[-1], part))
    if body.number("exclusive", 0):
        shape = (*body.shape(0)[:axis], 1, *body.shape(0)[axis + 1 :])
        running = [body.store(np.ones(shape, types[x].dtype.numpy)), *running[:-1]]
    if body.number("reverse", 0):
        running.reverse()
    body.add("Concat", *running, axis=axis)
