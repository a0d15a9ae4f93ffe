"""Two graphs side by side: which tensors correspond, node by node.

Casts between floating-point types are identities over the reals, so they are looked through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from encoders.contract import EXACT, RuntimeContract
from encoders.enclosure import FloatArray, Interval
from encoders.numpy_arithmetic import two_sum_error
from encoders.operator import site_of
from encoders.registry import lookup
from onnx_import.errors import ModelError
from onnx_import.graph import DType, Graph, Node, TensorType, build_graph
from refine.bounds import InputBox, Run, network_bounds
from refine.pullback import variable_inputs

SPEC, GAP, COPY = "spec//", "difference//", "spec-run//"
_PAIR = "pair//"
_LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Mul")


@dataclass(frozen=True)
class Aligned:
    """The specification in the implementation's shape, node by node.

    `spec` has the implementation's nodes and variable tensors by name; `changed` names the nodes,
    in order, whose operator, attributes or constants are not the implementation's.
    """

    spec: Graph
    impl: Graph
    changed: tuple[str, ...]

    def run(self, node: Node, held: Sequence[Interval], contract: RuntimeContract) -> Run:
        """What the implementation executes in place of a node of the specification."""
        other: Node = self.impl.dag.nodes[node.name]["node"]
        shape = self.spec.types[node.outputs[0]].shape
        change = np.zeros(shape)
        if node.name in self.changed:
            change = _change(self.spec, node, self.impl, other, held)
        return Run(site_of(self.impl, other), change, contract)


def align(
    spec: Graph, impl: Graph, inputs: Mapping[str, str], outputs: Mapping[str, str]
) -> Aligned | None:
    """The correspondence node by node, or None where the graphs have different structures."""
    makers = ({n.outputs[0]: n for n in spec.order}, {n.outputs[0]: n for n in impl.order})
    matched: dict[str, str] = dict(inputs)
    todo = list(outputs.items())
    while todo:
        a, b = todo.pop()
        a, b = _behind_casts(impl, makers[1], a), _behind_casts(spec, makers[0], b)
        if a in matched:
            if matched[a] != b:
                return None
            continue
        if a not in makers[1] or b not in makers[0]:
            return None
        mine, other = makers[1][a], makers[0][b]
        if not _same_shape(impl, mine, spec, other):
            return None
        matched[a] = b
        todo += [
            (s, t)
            for s, t in zip(mine.inputs, other.inputs, strict=True)
            if s and not impl.is_constant(s)
        ]
    return _in_the_shape_of(impl, spec, matched, makers[0])


def _in_the_shape_of(
    impl: Graph, spec: Graph, matched: Mapping[str, str], makers: Mapping[str, Node]
) -> Aligned | None:
    types: dict[str, TensorType] = {t: spec.types[b] for t, b in matched.items()}
    constants = {SPEC + t: v for t, v in spec.constants.items()}
    types |= {SPEC + t: spec.types[t] for t in spec.constants}
    nodes: list[Node] = []
    changed: list[str] = []
    for node in impl.order:
        out = node.outputs[0]
        if out not in matched:
            if not is_cast(impl, node):
                return None
            nodes.append(node)
            types[out] = impl.types[out]
            continue
        other = makers[matched[out]]
        named = tuple(
            "" if not t else SPEC + t if spec.is_constant(t) else mine
            for mine, t in zip(node.inputs, other.inputs, strict=True)
        )
        nodes.append(replace(other, name=node.name, inputs=named, outputs=node.outputs))
        if not _same_meaning(impl, node, spec, other):
            changed.append(node.name)
    whole = build_graph(tuple(nodes), types, constants, impl.inputs, impl.outputs)
    return Aligned(whole, impl, tuple(changed))


def subtraction(name: str, a: str, b: str) -> Node:
    return Node(name, "Sub", (a, b), (name,), {}, 17)


def _change(
    spec: Graph, node: Node, impl: Graph, other: Node, held: Sequence[Interval]
) -> FloatArray:
    """|f_other − f_node| over the ranges of their shared inputs: one subtraction, pulled back, or
    the node itself with the difference of the constants where it is linear in them."""
    ranges = dict(zip(variable_inputs(spec, node), held, strict=True))
    apart = _constants_apart(spec, node, impl, other)
    if apart is not None:
        wide = replace(spec.types[node.outputs[0]], dtype=DType.FLOAT64)
        types = {t: replace(spec.types[t], dtype=DType.FLOAT64) for t in (*ranges, *apart)}
        types[node.outputs[0]] = wide
        small = build_graph((node,), types, apart, tuple(ranges), node.outputs)
        return _real_range(small, ranges).magnitude
    types = {t: spec.types[t] for t in ranges}
    constants = {t: spec.constants[t] for t in node.inputs if spec.is_constant(t)}
    types |= {t: spec.types[t] for t in constants}
    for t in other.inputs:
        if impl.is_constant(t):
            constants[t], types[t] = impl.constants[t], impl.types[t]
    for t in ("a", "b", "difference"):
        types[_PAIR + t] = spec.types[node.outputs[0]]
    pair = (
        replace(other, name="a", outputs=(_PAIR + "a",)),
        replace(node, name="b", outputs=(_PAIR + "b",)),
        subtraction(_PAIR + "difference", _PAIR + "a", _PAIR + "b"),
    )
    small = build_graph(pair, types, constants, tuple(ranges), (_PAIR + "difference",))
    return _real_range(small, ranges).magnitude


def _real_range(graph: Graph, ranges: Mapping[str, Interval]) -> Interval:
    box = InputBox(ranges, {t: np.zeros(x.shape) for t, x in ranges.items()})
    return network_bounds(graph, box, EXACT).maps.values[graph.outputs[0]]


def _constants_apart(
    spec: Graph, node: Node, impl: Graph, other: Node
) -> dict[str, FloatArray] | None:
    """Per constant of the specification's node, the implementation's less its own, exactly; None
    where the node is not linear in all of them together or float64 does not hold them."""
    places = [i for i, t in enumerate(node.inputs) if t and not spec.is_constant(t)]
    one_factor = len(places) == 1 and places[0] < 2
    if not one_factor or node.op not in _LINEAR or node.op != other.op:
        return None
    if _attributes(node, False) != _attributes(other, False):
        return None
    apart: dict[str, FloatArray] = {}
    for s, t in zip(other.inputs, node.inputs, strict=True):
        if not t or not spec.is_constant(t):
            continue
        a, b = np.asarray(impl.constants[s], np.float64), np.asarray(spec.constants[t], np.float64)
        if a.shape != b.shape:
            return None
        apart[t] = a - b
        if np.any(two_sum_error(a, -b, apart[t])):
            return None
    return apart


def _behind_casts(graph: Graph, makers: Mapping[str, Node], tensor: str) -> str:
    while tensor in makers and is_cast(graph, makers[tensor]):
        tensor = makers[tensor].inputs[0]
    return tensor


def is_cast(graph: Graph, node: Node) -> bool:
    """A cast of a computed float to a float: the identity over the reals."""
    if node.op != "Cast" or graph.is_constant(node.inputs[0]):
        return False
    return (
        graph.types[node.inputs[0]].dtype.is_float and graph.types[node.outputs[0]].dtype.is_float
    )


def _same_shape(impl: Graph, mine: Node, spec: Graph, other: Node) -> bool:
    """Same variable positions, one output each of the same shape."""
    if len(mine.inputs) != len(other.inputs):
        return False
    if impl.types[mine.outputs[0]].shape != spec.types[other.outputs[0]].shape:
        return False
    return all(
        (not s or impl.is_constant(s)) == (not t or spec.is_constant(t))
        for s, t in zip(mine.inputs, other.inputs, strict=True)
    )


def _same_meaning(impl: Graph, mine: Node, spec: Graph, other: Node) -> bool:
    nothing = dict.fromkeys((*mine.inputs, *other.inputs), "")
    return bool(key_of(impl, mine, nothing) == key_of(spec, other, nothing))


def key_of(graph: Graph, node: Node, names: Mapping[str, str], bits: bool = False) -> Any:
    """Equal for nodes with equal operator, attributes, constants and (renamed) inputs.

    `bits` asks for equal types too: equal nodes then compute the same bits, not only the same
    real numbers.
    """
    arguments = tuple(
        ""
        if not t
        else content_of(graph.constants[t], bits)
        if graph.is_constant(t)
        else (names.get(t, t), graph.types[t].shape, bits and graph.types[t].dtype)
        for t in node.inputs
    )
    attributes = _attributes(node, bits)
    dtype = graph.types[node.outputs[0]].dtype
    kind = "float" if dtype.is_float and not bits else dtype.value  # all widths are reals
    return node.op, node.domain, _version(node), kind, attributes, arguments


def _attributes(node: Node, bits: bool) -> tuple[Any, ...]:
    """Those that say something: not what would be so without them."""
    schema = _schema(node)
    return tuple(
        (k, content_of(v, bits) if isinstance(v, np.ndarray) else repr(v))
        for k, v in sorted(node.attributes.items())
        if not _says_nothing(node, k, v, schema) and (bits or not (node.op == "Cast" and k == "to"))
    )


def _says_nothing(node: Node, name: str, value: Any, schema: onnx.defs.OpSchema | None) -> bool:
    """Is this what ONNX assumes where the attribute is left out?"""
    if schema is not None and name in schema.attributes:
        default = schema.attributes[name].default_value
        if default.name and onnx.helper.get_attribute_value(default) == value:
            return True
    plain = {"dilations": 1, "strides": 1, "pads": 0, "output_padding": 0}
    if name in plain:
        return all(v == plain[name] for v in value)
    return name == "kernel_shape" and node.op in ("Conv", "ConvTranspose")  # the weights' own


def _version(node: Node) -> int:
    """The opset since which the operator is what it is in the node's."""
    schema = _schema(node)
    return node.opset if schema is None else schema.since_version


def _schema(node: Node) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(node.op, node.opset, node.domain)
    except onnx.defs.SchemaError:
        return None


def content_of(values: Any, bits: bool = False) -> tuple[tuple[int, ...], str, bytes]:
    """Shape and values: exact, whatever the type they are stored in, or bit for bit."""
    array = np.asarray(values)
    if not bits:
        array = array.astype(np.int64) if array.dtype.kind in "iub" else array.astype(np.float64)
        array = array + 0  # no negative zeros
    return array.shape, array.dtype.str, array.tobytes()


def first_difference(spec: Graph, impl: Graph, aligned: Aligned | None) -> str:
    """In words: where the graphs first part."""
    if aligned is not None:
        if not aligned.changed:
            return "the graphs correspond node by node and agree over the reals"
        name = aligned.changed[0]
        mine: Node = impl.dag.nodes[name]["node"]
        other: Node = aligned.spec.dag.nodes[name]["node"]
        more = f"; and {len(aligned.changed) - 1} nodes more" if len(aligned.changed) > 1 else ""
        own, meant = formula(impl, mine), formula(aligned.spec, other)
        what = _weights(aligned.spec, other, impl, mine) if own == meant else f"not {meant}"
        return (
            f"the graphs correspond node by node; they first differ at '{name}', {own}: "
            f"{what}{more}"
        )
    return "the graphs differ in structure: own error of impl plus real range of impl − spec"


def _weights(spec: Graph, other: Node, impl: Graph, mine: Node) -> str:
    """Which constants of two nodes of one formula differ, and by how much."""
    said: list[str] = []
    for s, t in zip(mine.inputs, other.inputs, strict=True):
        if not t or not spec.is_constant(t):
            continue
        a, b = np.asarray(impl.constants[s], np.float64), np.asarray(spec.constants[t], np.float64)
        if a.shape == b.shape and not np.array_equal(a, b):
            gap = np.abs(a - b)
            place = np.unravel_index(int(np.argmax(gap)), gap.shape)
            said.append(
                f"{np.count_nonzero(a != b)} of {a.size} elements of {s} differ, most at "
                f"{[int(i) for i in place]}: {a[place]:.9g}, specified {b[place]:.9g}"
            )
    return ", ".join(said) or "its constants differ"


def formula(graph: Graph, node: Node) -> str:
    """`y = Gemm(x, w[3×4]; transB=1)`: a node as one reads it."""
    inputs = (
        "-" if not t else f"{t}{list(graph.constants[t].shape)}" if graph.is_constant(t) else t
        for t in node.inputs
    )
    attributes = (f"{k}={_read(v)}" for k, v in sorted(node.attributes.items()))
    inside = "; ".join(p for p in (", ".join(inputs), ", ".join(attributes)) if p)
    return f"{node.outputs[0]} = {node.op}({inside})".replace(SPEC, "")


def _read(attribute: Any) -> str:
    return attribute.decode(errors="replace") if isinstance(attribute, bytes) else str(attribute)


def checked(graph: Graph) -> None:
    """Raises ModelError, naming the node, for what has no meaning or cannot be compared."""
    for node in graph.order:
        lookup(node).check(site_of(graph, node))
        if len(node.outputs) != 1:
            raise ModelError(f"{node.describe()} has several outputs, which diff cannot compare")
    for tensor in graph.types:
        if tensor.startswith((SPEC, GAP, COPY, _PAIR)):
            raise ModelError(f"tensor '{tensor}' has a name that diff needs itself: rename it")
