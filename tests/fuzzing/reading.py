"""One node with its arguments, as the semantics of the fuzzer's interpreter read it.

Data movement is taken from onnx's reference implementation, run on the places of elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from machine import Place
from onnx import helper
from onnx.reference import ReferenceEvaluator

Array = Any
DECOMPOSED = "decomposed"  # the doc string of a node that is not in the file
SUMS_OF = {"FusedGemm": "Gemm", "FusedMatMul": "MatMul", "TreeEnsembleRegressor": "ReduceSum"}
"""Of what reading decomposes, the operator that adds up there."""
Meaning = Callable[["Reading"], Any]


def runs_alike(node: onnx.NodeProto) -> bool:
    """Does a kernel that fuses an operator with others compute it as its own kernel does?"""
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    turned = any(given.get(n, 0) for n in ("transA", "transB", "transBatchA", "transBatchB"))
    plain = not turned and np.float32(given.get("alpha", 1.0)) == 1
    return node.op_type == "FusedGemm" or (node.op_type == "FusedMatMul" and plain)


class Unread(Exception):
    """An operator without a meaning here."""


class Reading:
    """One node with its arguments: arrays with a sample axis, or plain stored values.

    `a` is what it computes in; `kinds` are the element types of its inputs, then `made` those of
    its outputs, and `of` gives what computes in an element type.
    """

    def __init__(self, algebra: Any, node: onnx.NodeProto, arguments: list[Any], stored: list[Any],
                 opset: int, of: Callable[[int], Any], kinds: Sequence[int],
                 made: Sequence[int]) -> None:  # fmt: skip
        self.a, self.node, self.x, self.stored, self.opset = (
            algebra, node, arguments, stored, opset)  # fmt: skip
        self.of, self.kinds, self.made = of, kinds, made
        self.attributes = {t.name: helper.get_attribute_value(t) for t in node.attribute}

    def within(self, algebra: Any, arguments: list[Any]) -> Reading:
        """The node with other arguments, computed in something else."""
        stored = [self.stored[i] if i < len(self.stored) else None for i in range(len(arguments))]
        return Reading(algebra, self.node, arguments, stored, self.opset, self.of, self.kinds,
                       self.made)  # fmt: skip

    def optional(self, position: int) -> Any:
        return self.x[position] if position < len(self.x) else None

    def get(self, name: str, default: Any = None) -> Any:
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def real(self, name: str, default: float) -> Array:
        """A float attribute as the runtime holds it, broadcasting to everything."""
        return self.a.constant(np.float32(self.get(name, default)))

    def number(self, value: float) -> Array:
        return self.a.constant(np.float64(value))

    def ints(self, position: int, name: str) -> list[int] | None:
        if name in self.attributes:
            return [int(v) for v in self.attributes[name]]
        if position < len(self.stored) and self.stored[position] is not None:
            return [int(v) for v in np.ravel(self.stored[position])]
        return None

    def place(self, **sizes: Any) -> Place:
        op = self.node.op_type
        written = self.node.doc_string != DECOMPOSED and (
            op not in SUMS_OF or runs_alike(self.node)
        )
        return Place(
            SUMS_OF.get(op, op), self.node.name, kind=self.made[0], written=written, **sizes
        )

    @property
    def rank(self) -> int:
        return int(self.x[0].ndim) - 1


def moved(r: Reading) -> list[Array]:
    """Movement, by onnx's reference on the places of elements; −1 is a padded place."""
    if r.node.op_type == "Gather" and r.stored[1] is None:
        return [_looked_up(r)]
    floats = [k for k, v in enumerate(r.x) if v is not None and k in _data_of(r)]
    feeds, names, start, flat = {}, [], 1, []
    samples = max(r.x[k].shape[0] for k in floats)
    for k, name in enumerate(r.node.input):
        if not name:
            names.append("")
            continue
        names.append(f"i{k}")
        if k in floats:
            v = np.broadcast_to(r.x[k], (samples, *r.x[k].shape[1:]))
            size = prod(v.shape[1:])
            feeds[f"i{k}"] = np.arange(start, start + size, dtype=np.int64).reshape(v.shape[1:])
            flat.append(v.reshape(samples, size))
            start += size
        else:
            feeds[f"i{k}"] = np.asarray(r.stored[k])
    node = onnx.NodeProto()
    node.CopyFrom(r.node)
    del node.input[:]
    node.input.extend(names)
    if node.op_type in ("Resize", "Upsample"):
        feeds["i0"] = feeds["i0"].astype(np.float64)
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in feeds.items()
    ]
    outputs = [onnx.ValueInfoProto(name=t) for t in node.output]
    graph = helper.make_graph([node], "moving", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", r.opset)])
    try:
        found = ReferenceEvaluator(model).run(None, feeds)
    except ValueError as error:  # its GatherElements chooses among at most 64 rows
        raise Unread(f"{r.node.op_type}: {error}") from error
    zero = r.a.constant(np.zeros(1)).reshape(1, 1).repeat(samples, 0)
    if r.node.op_type == "Pad" and len(r.x) > 2 and r.x[2] is not None:
        zero = np.broadcast_to(r.x[2].reshape(-1, 1), (samples, 1))
    every = np.concatenate([zero, *flat], axis=1)
    return [every[:, np.asarray(f).astype(np.int64).ravel()].reshape(samples, *np.shape(f))
            for f in found]  # fmt: skip


def _looked_up(r: Reading) -> Array:
    """Gather from stored data by computed indices, which are whole numbers or balls of one."""
    data, at = r.x
    axis = r.get("axis", 0) % (data.ndim - 1)
    whole = np.frompyfunc(lambda v: int(v.unique_fmpz() if hasattr(v, "unique_fmpz") else v), 1, 1)
    places = whole(at).astype(np.int64)
    if np.any((places < -data.shape[axis + 1]) | (places >= data.shape[axis + 1])):
        raise Unread("an index out of range")
    rows = np.broadcast_to(data, (len(places), *data.shape[1:]))
    return np.stack([np.take(v, p, axis=axis) for v, p in zip(rows, places, strict=True)])


def _data_of(r: Reading) -> Sequence[int]:
    match r.node.op_type:
        case "Concat":
            return range(len(r.x))
        case "ScatterND" | "ScatterElements":
            return (0, 2)
        case _:
            return (0,)


MOVING = (
    "Concat", "Transpose", "Reshape", "Flatten", "Identity", "Squeeze", "Unsqueeze", "Slice",
    "Gather", "GatherElements", "GatherND", "Pad", "Expand", "Tile", "Trilu", "DepthToSpace",
    "SpaceToDepth", "Split", "ScatterND", "ScatterElements", "CenterCropPad", "Dropout",
    "ReverseSequence",
)  # fmt: skip


def aligned(r: Reading) -> list[Array]:
    """Arguments broadcast from the right, samples apart."""
    rank = max(v.ndim for v in r.x)
    return [v.reshape(v.shape[0], *(1,) * (rank - v.ndim), *v.shape[1:]) for v in r.x]


def chosen(condition: Array, a: Array, b: Array) -> Array:
    condition, a, b = np.broadcast_arrays(condition, a, b)
    return np.where(condition.astype(bool), a, b)
