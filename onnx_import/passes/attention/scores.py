"""Scores of attention that runtimes scale behind the sum, and ONNX before it.

ONNX defines a score as the sum of products of queries and keys each of which is multiplied by the
root of the scale. Kernels multiply what they sum by the scale: they round less, but sums of numbers
that are not scaled may overflow, and what their products lose by underflow is scaled, too. Beside
such a product stands that of the unscaled numbers, of which a MaskedWhere takes nothing: it asks
that they be finite, and is off by what underflows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Array, Node, TensorType
from onnx_import.passes.normalize import free
from onnx_import.tensors import type_of

_SCORE = "QKAttnWeight"  # how names begin that ONNX's function gives them
_STEPS: Mapping[str, Callable[..., float]] = {
    "Cast": float,
    "Div": lambda x, y: x / y,
    "Identity": float,
    "Sqrt": math.sqrt,
}
_ROUGHLY = 1.0 + 2.0**-8  # more than a few roundings in any format


@dataclass(frozen=True)
class _Scaled:
    """A score's queries and keys before they are multiplied by the root of the scale."""

    query: str
    key: str
    root: str


def with_unscaled_sums(
    nodes: Sequence[Node],
    protos: Mapping[str, onnx.NodeProto],
    types: Mapping[str, TensorType],
    constants: Mapping[str, Array],
) -> tuple[tuple[Node, ...], Mapping[str, TensorType], Mapping[str, Array]]:
    """The nodes, with sums of unscaled products beside those of scaled ones, and types and
    constants. `protos` are what the nodes were read from."""
    writers = {t: proto for proto in protos.values() for t in proto.output if t}
    made: list[Node] = []
    kinds, stored = dict(types), dict(constants)
    for node in nodes:
        scaled = _scaled(node, writers)
        scale = 1.0 if scaled is None else _scale(node, scaled.root, writers, constants)
        if scaled is None or scale == 1.0:
            made.append(node)
        else:
            made += _beside(node, scaled, scale, kinds, stored)
    return tuple(made), kinds, stored


def _scaled(node: Node, writers: Mapping[str, onnx.NodeProto]) -> _Scaled | None:
    if node.op != "MatMul" or not node.outputs[0].startswith(_SCORE):
        return None
    sides = [writers.get(tensor) for tensor in node.inputs]
    if any(side is None or side.op_type != "Mul" for side in sides):
        return None
    (query, root), (key, other) = (side.input for side in sides if side is not None)
    return _Scaled(query, key, root) if root == other else None


def _scale(
    node: Node,
    root: str,
    writers: Mapping[str, onnx.NodeProto],
    constants: Mapping[str, Array],
) -> float:
    """The square of the root that is stored or, in ONNX's function, computed at run time; roughly,
    where it is not computed exactly."""

    def value(tensor: str) -> float:
        if tensor in constants:
            return float(constants[tensor].reshape(()))
        proto = writers.get(tensor)
        operation = None if proto is None else _STEPS.get(proto.op_type)
        if proto is None or operation is None:
            raise UnsupportedModel(f"{node.describe()}: its scale is not stored")
        return operation(*(value(t) for t in proto.input))

    return value(root) ** 2


def _beside(
    node: Node,
    scaled: _Scaled,
    scale: float,
    types: dict[str, TensorType],
    constants: dict[str, Array],
) -> list[Node]:
    kind = types[node.outputs[0]]
    taken, output = {*types, *constants}, node.outputs[0]
    every, sums, own = (free(f"{output}@{w}", taken) for w in ("every", "unscaled", "scaled"))
    constants[every] = np.ones(kind.shape, bool)
    types.update({every: type_of(constants[every]), sums: kind, own: kind})
    terms = types[scaled.query].shape[-1]
    return [
        replace(node, outputs=(own,)),
        replace(
            node,
            name=f"{node.name}@unscaled",
            inputs=(scaled.query, scaled.key),
            outputs=(sums,),
            stored=frozenset(),
        ),
        Node(
            f"{node.name}@either",
            "MaskedWhere",
            inputs=(every, own, sums),
            outputs=(output,),
            attributes={"underflows": _ROUGHLY * scale * terms + 1.0},
            opset=node.opset,
        ),
    ]
