"""How far what one node computes can be from what another does, over the ranges of its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from onnx import TensorProto

from encoders.arithmetic.numpy_arithmetic import two_sum_error
from encoders.contract.presets import EXACT
from encoders.numbers.enclosure import FloatArray, Interval, add_up
from encoders.program import Step
from onnx_import.graph import DType, Graph, Node, TensorType, build_graph
from refine.bounds.network import InputBox, network_bounds
from refine.pair.sameness import attributes_of

PAIR = "pair//"
_OPSET = 17  # of the nodes that are added


def gap_nodes(
    name: str, a: tuple[str, TensorType], b: tuple[str, TensorType]
) -> Iterator[tuple[Node, TensorType]]:
    """Nodes, and the types of what they write, that put a − b into a tensor of this name; what is
    no floating-point number, a truth value say, is read as the number that it stands for."""
    kind = b[1] if a[1].dtype.is_float and b[1].dtype.is_float else None
    real = kind or replace(b[1], dtype=DType.FLOAT64)
    read: list[str] = []
    for side, (tensor, _) in zip("ab", (a, b), strict=True):
        read.append(tensor if kind is not None else f"{name}//{side}")
        if kind is None:
            to = {"to": TensorProto.DOUBLE}
            yield (
                Node(
                    read[-1],
                    "Cast",
                    inputs=(tensor,),
                    outputs=(read[-1],),
                    attributes=to,
                    opset=_OPSET,
                ),
                real,
            )
    yield Node(name, "Sub", inputs=tuple(read), outputs=(name,), attributes={}, opset=_OPSET), real


def change_between(
    spec: Graph, step: Step, impl: Graph, executed: Step, held: Sequence[Interval]
) -> FloatArray:
    """|f_executed − f_step| over the ranges of their shared inputs: one subtraction, pulled back,
    or the node itself with the difference of the constants where it is linear in them."""
    node, other = step.node, executed.node
    ranges = dict(zip(step.reads, held, strict=True))
    apart = _constants_apart(spec, step, impl, executed)
    if apart is not None:
        return linear_change(spec, node, *apart, ranges)
    types = {t: spec.types[t] for t in ranges}
    constants = {t: spec.constants[t] for t in node.inputs if spec.is_constant(t)}
    types |= {t: spec.types[t] for t in constants}
    for t in other.inputs:
        if impl.is_constant(t):
            constants[t], types[t] = impl.constants[t], impl.types[t]
    a, b, difference = (PAIR + t for t in ("a", "b", "difference"))
    kind, its = spec.types[node.outputs[0]], impl.types[other.outputs[0]]
    types |= {a: kind if its.dtype.is_float else its, b: kind}
    pair = [replace(other, name="a", outputs=(a,)), replace(node, name="b", outputs=(b,))]
    for made, written in gap_nodes(difference, (a, types[a]), (b, kind)):
        pair.append(made)
        types[made.outputs[0]] = written
    small = build_graph(tuple(pair), types, constants, inputs=tuple(ranges), outputs=(difference,))
    return _real_range(small, ranges).magnitude


def linear_change(
    graph: Graph,
    node: Node,
    middle: Mapping[str, FloatArray],
    radius: Mapping[str, FloatArray],
    ranges: Mapping[str, Interval],
) -> FloatArray:
    """The largest |y| of a node, linear in its constants, over ranges of its inputs: every constant
    is anywhere within `radius` of `middle`."""
    total = _real_range(_alone(graph, node, middle, ranges), ranges, False).magnitude
    if not any(np.any(r) for r in radius.values()):
        return total
    wide = {t: Interval(-x.magnitude, x.magnitude) for t, x in ranges.items()}
    return add_up(total, _real_range(_alone(graph, node, radius, wide), wide, False).magnitude)


def _alone(
    graph: Graph, node: Node, constants: Mapping[str, FloatArray], ranges: Mapping[str, Interval]
) -> Graph:
    wide = {
        t: replace(graph.types[t], dtype=DType.FLOAT64)
        for t in (*ranges, *constants, *node.outputs)
    }
    return build_graph((node,), wide, constants, inputs=tuple(ranges), outputs=node.outputs)


def _real_range(graph: Graph, ranges: Mapping[str, Interval], backward: bool = True) -> Interval:
    """The output's real range; of a single affine node no more than forward is needed."""
    box = InputBox(ranges, {t: np.zeros(x.shape) for t, x in ranges.items()})
    return network_bounds(graph, box, EXACT, backward=backward).maps.values[graph.outputs[0]]


def _constants_apart(
    spec: Graph, step: Step, impl: Graph, executed: Step
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]] | None:
    """Per constant of the specification's node, the implementation's less its own in float64, and
    what that misses; None where the node is not linear in all of them together."""
    node, other = step.node, executed.node
    places = [i for i, t in enumerate(node.inputs) if t and not spec.is_constant(t)]
    one_factor = len(places) == 1 and places[0] < 2
    if not one_factor or not step.operator.likeness.linear_in_constants or node.op != other.op:
        return None
    if attributes_of(step, False) != attributes_of(executed, False):
        return None
    apart: dict[str, FloatArray] = {}
    missed: dict[str, FloatArray] = {}
    for s, t in zip(other.inputs, node.inputs, strict=True):
        if not t or not spec.is_constant(t):
            continue
        a, b = np.asarray(impl.constants[s], np.float64), np.asarray(spec.constants[t], np.float64)
        if a.shape != b.shape:
            return None
        apart[t] = a - b
        missed[t] = np.abs(np.asarray(two_sum_error(a, -b, apart[t]), np.float64))
    return apart, missed
