"""Dynamically quantised products put together: four or five nodes become one.

DynamicQuantizeLinear, then MatMulInteger or ConvInteger by stored numbers, Cast to float32 and a
Mul by the product of both scales: this is how onnxruntime's tool writes them. No bit changes; taken
together they have much better bounds (encoders/quantized/dynamic_products.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import TypeAlias

import onnx

_Shape: TypeAlias = tuple[int, ...]

_TOGETHER: Mapping[str, str] = {
    "MatMulInteger": "DynamicQuantizeMatMul",
    "ConvInteger": "DynamicQuantizeConv",
}


def with_dynamic_products(
    protos: Mapping[str, onnx.NodeProto], initializers: Mapping[str, _Shape]
) -> tuple[Mapping[str, onnx.NodeProto], tuple[str, ...]]:
    """The nodes with such products put together, and a note. `initializers` has their shapes.

    Nodes whose results nothing reads any more are still among them.
    """
    writers = {t: proto for proto in protos.values() for t in proto.output if t}
    nodes = {
        t: tuple(a.t.dims)
        for proto in protos.values()
        if proto.op_type == "Constant"
        for a in proto.attribute
        if a.name == "value"
        for t in proto.output
    }
    stored = {**initializers, **nodes}
    made = {name: _together(proto, writers, stored) for name, proto in protos.items()}
    count = sum(proto is not None for proto in made.values())
    if not count:
        return protos, ()
    note = f"{count} dynamically quantised product(s), of several nodes each, are read as one"
    return {name: made[name] or proto for name, proto in protos.items()}, (note,)


def _together(
    last: onnx.NodeProto,
    writers: Mapping[str, onnx.NodeProto],
    stored: Mapping[str, _Shape],
) -> onnx.NodeProto | None:
    """The product whose last node this is."""
    for total, scales in _factors(last):
        cast, both = writers.get(total), writers.get(scales)
        if cast is None or both is None or cast.op_type != "Cast" or not _to_float(cast):
            continue
        whole = writers.get(cast.input[0])
        if whole is None or whole.op_type not in _TOGETHER or len(whole.input) < 3:
            continue
        start = writers.get(whole.input[0])
        if start is None or start.op_type != "DynamicQuantizeLinear":
            continue
        weights, zero = whole.input[1], list(whole.input[3:])
        for mine, other in _factors(both):
            constant = all(t in stored for t in (weights, other, *zero) if t)
            if constant:
                fits = _per_column if whole.op_type == "MatMulInteger" else _one_number
                constant = fits(stored[other], stored[weights])
            read = list(start.output)
            if [whole.input[0], mine, whole.input[2]] == read and constant:
                made = onnx.helper.make_node(
                    _TOGETHER[whole.op_type],
                    [start.input[0], weights, other, *zero],
                    list(last.output),
                    name=last.name,
                )
                made.attribute.extend(whole.attribute)
                return made
    return None


def _per_column(scale: _Shape, weights: _Shape) -> bool:
    """Does the scale have one number for all, or one per column, and leave the shape alone? One per
    row of the result, say, is none of the weights', and a vector of weights has no columns."""
    if len(weights) < 2:
        return not scale
    wanted = (*weights[:-2], 1, *weights[-1:])
    behind = wanted[len(wanted) - len(scale) :]
    return len(scale) <= len(wanted) and all(
        n in (1, m) for n, m in zip(scale, behind, strict=True)
    )


def _one_number(scale: _Shape, weights: _Shape) -> bool:
    """Is the scale one number, and of no more axes than the result of a convolution? Of several
    numbers the last axis is one of pixels."""
    return len(scale) <= len(weights) and prod(scale) == 1


def _factors(proto: onnx.NodeProto) -> Iterator[tuple[str, str]]:
    """Both orders of what a Mul multiplies."""
    if proto.op_type == "Mul":
        a, b = proto.input
        yield from ((a, b), (b, a))


def _to_float(proto: onnx.NodeProto) -> bool:
    return any(a.name == "to" and a.i == onnx.TensorProto.FLOAT for a in proto.attribute)
