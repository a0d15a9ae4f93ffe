"""Two graphs side by side: which tensors correspond, and one product graph that holds both.

Casts between floating-point types are identities over the reals, so they are looked through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from encoders.contract import EXACT
from encoders.enclosure import FloatArray, Interval
from encoders.operator import site_of
from encoders.registry import lookup
from onnx_import.errors import ModelError
from onnx_import.graph import Graph, Node, TensorType, build_graph
from refine.bounds import InputBox, Run, network_bounds
from refine.pullback import variable_inputs

_SPEC, _GAP, _PAIR = "spec//", "difference//", "pair//"


@dataclass(frozen=True)
class Aligned:
    """The specification in the implementation's shape, node by node.

    `spec` has the implementation's nodes and variable tensors by name; `changed` names the nodes,
    in order, whose operator, attributes or constants are not the implementation's.
    """

    spec: Graph
    impl: Graph
    changed: tuple[str, ...]

    def run(self, node: Node, held: Sequence[Interval]) -> Run:
        """What the implementation executes in place of a node of the specification."""
        other: Node = self.impl.dag.nodes[node.name]["node"]
        shape = self.spec.types[node.outputs[0]].shape
        change = np.zeros(shape)
        if node.name in self.changed:
            change = _change(self.spec, node, self.impl, other, held)
        return Run(site_of(self.impl, other), change)


def paired(
    kind: str, spec: Graph, impl: Graph, ours: Sequence[str], theirs: Sequence[str]
) -> dict[str, str]:
    """Implementation's tensor to specification's: by name if all names agree, else by order.

    Raises ModelError if their numbers or shapes differ.
    """
    if len(ours) != len(theirs):
        raise ModelError(
            f"the implementation has {len(ours)} {kind}(s), the specification {len(theirs)}"
        )
    by_name = set(ours) == set(theirs)
    pairs = {a: a if by_name else b for a, b in zip(ours, theirs, strict=True)}
    for a, b in pairs.items():
        if impl.types[a].shape != spec.types[b].shape:
            raise ModelError(
                f"{kind} '{a}' of the implementation has shape {list(impl.types[a].shape)}, "
                f"'{b}' of the specification {list(spec.types[b].shape)}"
            )
    return pairs


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
    constants = {_SPEC + t: v for t, v in spec.constants.items()}
    types |= {_SPEC + t: spec.types[t] for t in spec.constants}
    nodes: list[Node] = []
    changed: list[str] = []
    for node in impl.order:
        out = node.outputs[0]
        if out not in matched:
            if not _is_cast(impl, node):
                return None
            nodes.append(node)
            types[out] = impl.types[out]
            continue
        other = makers[matched[out]]
        named = tuple(
            "" if not t else _SPEC + t if spec.is_constant(t) else mine
            for mine, t in zip(node.inputs, other.inputs, strict=True)
        )
        nodes.append(replace(other, name=node.name, inputs=named, outputs=node.outputs))
        if not _same_meaning(impl, node, spec, other):
            changed.append(node.name)
    whole = build_graph(tuple(nodes), types, constants, impl.inputs, impl.outputs)
    return Aligned(whole, impl, tuple(changed))


def product(
    spec: Graph, impl: Graph, inputs: Mapping[str, str], outputs: Mapping[str, str]
) -> tuple[Graph, Mapping[str, str | None]]:
    """Both graphs on the shared inputs, what agrees merged; per output of the implementation,
    the tensor impl − spec, or None where both are the same tensor."""
    nodes = list(impl.order)
    types, constants = dict(impl.types), dict(impl.constants)
    seen: dict[Any, str] = {}
    same: dict[str, str] = {}
    for node in impl.order:
        out = node.outputs[0]
        if _is_cast(impl, node):
            same[out] = same.get(node.inputs[0], node.inputs[0])
        else:
            same[out] = seen.setdefault(_key(impl, node, same), out)
    for t in spec.constants:
        constants[_SPEC + t], types[_SPEC + t] = spec.constants[t], spec.types[t]
    theirs = {b: a for a, b in inputs.items()}
    for node in spec.order:
        out = node.outputs[0]
        if _is_cast(spec, node):
            theirs[out] = theirs[node.inputs[0]]
            continue
        key = _key(spec, node, theirs)
        if key in seen:
            theirs[out] = seen[key]
            continue
        seen[key] = theirs[out] = _SPEC + out
        types[_SPEC + out] = spec.types[out]
        named = tuple(
            "" if not t else _SPEC + t if spec.is_constant(t) else theirs[t] for t in node.inputs
        )
        nodes.append(replace(node, name=_SPEC + node.name, inputs=named, outputs=(_SPEC + out,)))
    gaps: dict[str, str | None] = {}
    for a, b in outputs.items():
        mine = same.get(a, a)
        other = theirs.get(b, _SPEC + b)
        gaps[a] = None if mine == other else _GAP + a
        if mine != other:
            nodes.append(_subtraction(_GAP + a, a, other))
            types[_GAP + a] = spec.types[b]
    wanted = tuple(g for g in gaps.values() if g is not None)
    return build_graph(tuple(nodes), types, constants, impl.inputs, wanted), gaps


def _subtraction(name: str, a: str, b: str) -> Node:
    return Node(name, "Sub", (a, b), (name,), {}, 17)


def _change(
    spec: Graph, node: Node, impl: Graph, other: Node, held: Sequence[Interval]
) -> FloatArray:
    """|f_other − f_node| over the ranges of their shared inputs: one subtraction, pulled back."""
    ranges = dict(zip(variable_inputs(spec, node), held, strict=True))
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
        _subtraction(_PAIR + "difference", _PAIR + "a", _PAIR + "b"),
    )
    small = build_graph(pair, types, constants, tuple(ranges), (_PAIR + "difference",))
    box = InputBox(ranges, {t: np.zeros(x.shape) for t, x in ranges.items()})
    return network_bounds(small, box, EXACT).maps.values[_PAIR + "difference"].magnitude


def _behind_casts(graph: Graph, makers: Mapping[str, Node], tensor: str) -> str:
    while tensor in makers and _is_cast(graph, makers[tensor]):
        tensor = makers[tensor].inputs[0]
    return tensor


def _is_cast(graph: Graph, node: Node) -> bool:
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
    return bool(_key(impl, mine, nothing) == _key(spec, other, nothing))


def _key(graph: Graph, node: Node, names: Mapping[str, str]) -> Any:
    """Equal for nodes with equal operator, attributes, constants and (renamed) inputs."""
    arguments = tuple(
        ""
        if not t
        else _content(graph.constants[t])
        if graph.is_constant(t)
        else (names.get(t, t), graph.types[t].shape)
        for t in node.inputs
    )
    attributes = tuple(
        (k, _content(v) if isinstance(v, np.ndarray) else repr(v))
        for k, v in sorted(node.attributes.items())
        if not (node.op == "Cast" and k == "to")
    )
    dtype = graph.types[node.outputs[0]].dtype
    kind = "float" if dtype.is_float else dtype.value  # floats of all widths are reals
    return node.op, node.domain, node.opset, kind, attributes, arguments


def _content(values: Any) -> tuple[tuple[int, ...], str, bytes]:
    """Shape and exact values, whatever the type they are stored in."""
    array = np.asarray(values)
    wide = array.astype(np.int64) if array.dtype.kind in "iub" else array.astype(np.float64)
    return array.shape, wide.dtype.kind, wide.tobytes()


def checked(graph: Graph) -> None:
    """Raises ModelError, naming the node, for what has no meaning or cannot be compared."""
    for node in graph.order:
        lookup(node).check(site_of(graph, node))
        if len(node.outputs) != 1:
            raise ModelError(f"{node.describe()} has several outputs, which diff cannot compare")
    for tensor in graph.types:
        if tensor.startswith((_SPEC, _GAP, _PAIR)):
            raise ModelError(f"tensor '{tensor}' has a name that diff needs itself: rename it")
