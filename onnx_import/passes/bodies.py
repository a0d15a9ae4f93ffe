"""What a node reads by way of the graphs that it holds: branches, and bodies of loops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx


def read_by(proto: onnx.NodeProto) -> Iterator[str]:
    """The tensors that a node reads, those among them that only its bodies name."""
    yield from (t for t in proto.input if t)
    for body in bodies_of(proto):
        yield from _outer(body)


def bodies_of(proto: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs among a node's attributes."""
    return [g for a in proto.attribute for g in ((a.g, *a.graphs) if _holds_graph(a) else ())]


def rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Other names for tensors, in the node and where bodies within it read them."""
    inputs, outputs = ([names.get(t, t) for t in ts] for ts in (node.input, node.output))
    del node.input[:], node.output[:]
    node.input.extend(inputs)
    node.output.extend(outputs)
    for body in bodies_of(node):
        own = {v.name for v in body.input} | {t.name for t in body.initializer}
        own |= {t for inner in body.node for t in inner.output}
        seen = {old: new for old, new in names.items() if old not in own}
        for inner in body.node:
            rename(inner, seen)
        for value in body.output:
            value.name = seen.get(value.name, value.name)


def _holds_graph(attribute: onnx.AttributeProto) -> bool:
    kinds = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    return attribute.type in kinds


def _outer(body: onnx.GraphProto) -> Iterator[str]:
    """What a body reads and does not hold itself."""
    own = {v.name for v in body.input} | {t.name for t in body.initializer}
    own |= {t for node in body.node for t in node.output}
    for node in body.node:
        yield from (t for t in read_by(node) if t not in own)
    yield from (v.name for v in body.output if v.name not in own)
