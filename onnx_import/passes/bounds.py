"""Parameters of operators that have them as constants: infinite bounds, as exporters write those
that are none, are left out, and nodes that read computed ones are written with other operators,
which compute the same numbers: Clip, PRelu, Pad, LayerNormalization and RMSNormalization."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from onnx_import.graph import Array, DType, Node, TensorType
from onnx_import.passes.body import Body

_BROADCAST_SINCE = 9
_NOTHING = {"Max": -np.inf, "Min": np.inf}  # what an extreme never is, if there is another number


def without_infinite_bounds(
    node: Node, constants: Mapping[str, Array], types: Mapping[str, TensorType]
) -> Node:
    """A Clip without a lower bound of −∞ and an upper one of +∞, a Max without a −∞ that is one
    number, a Min without such a +∞, every other node as it is."""
    if node.domain:
        return node
    if node.op in _NOTHING:
        return _without_nothing(node, constants, types)
    if node.op != "Clip":
        return node
    nothing = (None, -np.inf, np.inf)
    inputs = tuple(
        "" if t in constants and bound is not None and _is(constants[t], bound) else t
        for t, bound in zip(node.inputs, nothing, strict=False)
    )
    return replace(node, inputs=inputs)


def _without_nothing(
    node: Node, constants: Mapping[str, Array], types: Mapping[str, TensorType]
) -> Node:
    rank = len(types[node.outputs[0]].shape)
    kept = tuple(
        t for t in node.inputs if not (t in constants and _is(constants[t], _NOTHING[node.op]))
    )
    shapes = [types[t].shape for t in kept]
    same = bool(kept) and np.broadcast_shapes(*shapes) == types[node.outputs[0]].shape
    return replace(node, inputs=kept) if same and max(map(len, shapes)) == rank else node


def _is(value: Array, bound: float) -> bool:
    return value.size == 1 and bool(value.astype(np.float64).reshape(())[()] == bound)


def clip_by_computed(body: Body) -> None:
    """The smaller one of the upper bound and the larger one of x and the lower bound, which a bound
    above the other is, too."""
    x, bounds = body.node.inputs[0], body.node.inputs[1:3]
    if not any(_is_computed(body, i) for i in (1, 2)) or not body.types[x].dtype.is_float:
        return
    for op, bound in zip(("Max", "Min"), bounds, strict=False):
        if bound:
            x = body.add(op, x, _single(body, bound))


def prelu_by_computed(body: Body) -> None:
    """max(x, 0) + slope·min(x, 0): one of both is 0, to which a runtime adds without rounding."""
    old = body.node.opset < _BROADCAST_SINCE  # where slopes may be those of channels
    if old or not (_is_computed(body, 1) and body.types[body.node.inputs[0]].dtype.is_float):
        return
    x, slope = body.node.inputs
    zero = body.store(np.zeros((), body.types[x].dtype.numpy))
    below = body.add("Mul", body.add("Min", x, zero), slope)
    body.add("Add", body.add("Relu", x), below)


def pad_with_computed(body: Body) -> None:
    """Zeros around it, in whose places the value is put then."""
    if not _is_computed(body, 2) or body.number("mode", "constant") != "constant":
        return
    x, pads, value, *axes = body.node.inputs
    rank = len(body.shape(0))
    given = body.constant(1, "the pads").reshape(-1).tolist()
    among = body.constant(3, "the axes").reshape(-1).tolist() if axes and axes[0] else range(rank)
    inside = np.zeros(body.types[body.node.outputs[0]].shape, np.bool_)
    kept = [slice(None)] * rank
    for i, axis in enumerate(among):
        before, after = (max(given[k], 0) for k in (i, len(among) + i))
        kept[axis] = slice(before, inside.shape[axis] - after)
    inside[tuple(kept)] = True
    zeros = body.add("Pad", x, pads, *(("", *axes) if axes else ()))
    body.add("Where", body.store(inside), zeros, _single(body, value))


def normalized_by_computed(body: Body) -> None:
    """Normalised rows of scale 1, times a scale that is computed, and a sum with the bias; where
    rows are normalised in the type in which they are scaled."""
    node, kind = body.node, body.types[body.node.inputs[0]]
    stash = DType.FLOAT32 if body.number("stash_type", 1) == 1 else None
    alone = not any(node.outputs[1:]) and kind.dtype is stash and node.inputs[0] not in body.known
    if not alone or not any(_is_computed(body, i) for i in (1, 2)):
        return
    x, scale, *rest = node.inputs
    attributes: dict[str, Any] = dict(node.attributes)
    if not _is_computed(body, 1):
        normal = body.add(node.op, x, scale, **attributes)
    else:
        axis = body.axis(-1, len(kind.shape))
        ones = body.store(np.ones(kind.shape[axis:], kind.dtype.numpy))
        normal = body.add("Mul", body.add(node.op, x, ones, **attributes), scale)
    if rest and rest[0]:
        body.add("Add", normal, rest[0])


def _is_computed(body: Body, position: int) -> bool:
    inputs = body.node.inputs
    given = inputs[position] if position < len(inputs) else ""
    return bool(given) and given not in body.known


def _single(body: Body, tensor: str) -> str:
    """A number, which may be written as a tensor of axes of length 1."""
    return tensor if not body.types[tensor].shape else body.reshape(tensor)
