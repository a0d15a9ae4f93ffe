"""Two graphs side by side: which tensors correspond, node by node.

Identities, and casts between floating-point types, which are that over the reals, are looked
through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import EXACT
from encoders.numbers.enclosure import Interval
from encoders.program import Step, program_of
from onnx_import.errors import ModelError
from onnx_import.graph import Graph, Node, TensorType, build_graph
from refine.bounds.local.errors import Run
from refine.pair.batchnorm_folding import folded_change, is_folded
from refine.pair.node_change import PAIR, change_between
from refine.pair.sameness import is_copy, key_of

SPEC, GAP, COPY, FOLDED = "spec//", "difference//", "spec-run//", "folded//"
EXECUTED, CHANGED = "executed//", "change//"


@dataclass(frozen=True)
class Aligned:
    """The specification in the implementation's shape, node by node.

    `spec` has the implementation's nodes and variable tensors by name; `changed` names the nodes,
    in order, whose operator, attributes or constants are not the implementation's. `folded` are
    layers of the specification, by the node that executes each and its normalisation in one: the
    layer comes before it, and what it gives is an exact number that no runtime ever holds.
    `originals` are the names that the specification has for the nodes in place of each.
    """

    spec: Graph
    impl: Graph
    changed: tuple[str, ...]
    folded: Mapping[str, Node] = field(default_factory=dict)
    originals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def linear(self) -> bool:
        """Do all changed nodes differ in constants alone, in which they are linear, or in a
        normalisation that is folded?"""
        for name in self.changed:
            mine, other = self.impl.named[name], self.spec.named[name]
            like = program_of(self.impl).step(mine).operator.likeness
            if name not in self.folded and not (like.linear_in_constants and mine.op == other.op):
                return False
        return True

    def run(
        self,
        step: Step,
        held: Sequence[Interval],
        contract: RuntimeContract,
        read: Mapping[str, Interval],
    ) -> Run:
        """What the implementation executes in place of a node of the specification. `read` has
        the run-time ranges of all tensors that nodes before this one read."""
        change = np.zeros(step.site.outputs[0].shape)
        if step.name not in self.impl.named:
            return Run(step, change, EXACT)
        other = program_of(self.impl).step(step.node)
        if step.name in self.folded:
            layer = program_of(self.spec).step(self.folded[step.name])
            x = read[other.node.inputs[0]]
            change = folded_change(layer, step, self.impl, other, x)
            return Run(other, change, contract, (x,))
        if step.name in self.changed:
            change = change_between(self.spec, step, self.impl, other, held)
        return Run(other, change, contract)


def align(
    spec: Graph, impl: Graph, inputs: Mapping[str, str], outputs: Mapping[str, str]
) -> Aligned | None:
    """The correspondence node by node, or None where the graphs have different structures."""
    makers = ({n.outputs[0]: n for n in spec.order}, {n.outputs[0]: n for n in impl.order})
    matched: dict[str, str] = dict(inputs)
    folded: dict[str, Node] = {}
    todo = list(outputs.items())
    while todo:
        a, b = todo.pop()
        a, b = _behind_copies(impl, makers[1], a), _behind_copies(spec, makers[0], b)
        if a in matched:
            if matched[a] != b:
                return None
            continue
        if a not in makers[1] or b not in makers[0]:
            return None
        mine, other = makers[1][a], makers[0][b]
        layer = makers[0].get(_behind_copies(spec, makers[0], other.inputs[0]))
        if layer is not None and _is_folded(spec, layer, other, impl, mine):
            matched[a], folded[mine.name] = b, layer
            todo.append((mine.inputs[0], layer.inputs[0]))
            continue
        if not _same_shape(impl, mine, spec, other):
            return None
        matched[a] = b
        todo += [
            (s, t)
            for s, t in zip(mine.inputs, other.inputs, strict=True)
            if s and not impl.is_constant(s)
        ]
    return _in_the_shape_of(impl, spec, matched, folded, makers[0])


def _in_the_shape_of(
    impl: Graph,
    spec: Graph,
    matched: Mapping[str, str],
    folded: Mapping[str, Node],
    makers: Mapping[str, Node],
) -> Aligned | None:
    types: dict[str, TensorType] = {t: spec.types[b] for t, b in matched.items()}
    constants = {SPEC + t: v for t, v in spec.constants.items()}
    types |= {SPEC + t: spec.types[t] for t in spec.constants}
    nodes: list[Node] = []
    changed: list[str] = []
    layers: dict[str, Node] = {}
    originals: dict[str, tuple[str, ...]] = {}
    for node in impl.order:
        out = node.outputs[0]
        if out not in matched:
            step = program_of(impl).step(node)
            if not is_copy(step):
                return None
            nodes.append(plain_copy(step))
            types[out] = impl.types[out]
            continue
        other = makers[matched[out]]
        originals[node.name] = (other.name,)
        if node.name in folded:
            before, between = folded[node.name], FOLDED + out
            originals[node.name] = (before.name, other.name)
            inputs = _renamed(spec, before, node.inputs)
            layers[node.name] = replace(before, name=between, inputs=inputs, outputs=(between,))
            types[between] = spec.types[before.outputs[0]]
            inputs = _renamed(spec, other, (between,))
            nodes += [
                layers[node.name],
                replace(other, name=node.name, inputs=inputs, outputs=node.outputs),
            ]
            changed.append(node.name)
            continue
        inputs = _renamed(spec, other, node.inputs)
        nodes.append(replace(other, name=node.name, inputs=inputs, outputs=node.outputs))
        if not _same_semantics(impl, node, spec, other):
            changed.append(node.name)
    whole = build_graph(tuple(nodes), types, constants, inputs=impl.inputs, outputs=impl.outputs)
    return Aligned(whole, impl, tuple(changed), layers, originals)


def _is_folded(spec: Graph, layer: Node, norm: Node, impl: Graph, other: Node) -> bool:
    ours, theirs = program_of(impl), program_of(spec)
    return is_folded(spec, theirs.step(layer), theirs.step(norm), impl, ours.step(other))


def plain_copy(step: Step) -> Node:
    """What copies, conversions aside, as an Identity: the pads of a Pad by nothing, say, would be
    constants of the other graph."""
    node = step.node
    if step.operator.converts:
        return node
    return replace(node, op="Identity", inputs=node.inputs[:1], attributes={})


def _renamed(spec: Graph, node: Node, computed: Sequence[str]) -> tuple[str, ...]:
    """Its inputs: its own constants under new names, and computed tensors by position."""
    return tuple(
        "" if not t else SPEC + t if spec.is_constant(t) else computed[i]
        for i, t in enumerate(node.inputs)
    )


def _behind_copies(graph: Graph, makers: Mapping[str, Node], tensor: str) -> str:
    while tensor in makers and is_copy(program_of(graph).step(makers[tensor])):
        tensor = makers[tensor].inputs[0]
    return tensor


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


def _same_semantics(impl: Graph, mine: Node, spec: Graph, other: Node) -> bool:
    nothing = dict.fromkeys((*mine.inputs, *other.inputs), "")
    ours, theirs = program_of(impl).step(mine), program_of(spec).step(other)
    return bool(key_of(impl, ours, nothing) == key_of(spec, theirs, nothing))


def checked(graph: Graph) -> None:
    """Raises ModelError, naming the node, for what has no meaning or cannot be compared."""
    for step in program_of(graph).checked.steps:
        if len(step.node.outputs) != 1:
            raise ModelError(
                f"{step.node.describe()} has several outputs, which diff cannot compare"
            )
    for tensor in graph.types:
        if tensor.startswith((SPEC, GAP, COPY, FOLDED, PAIR, EXECUTED, CHANGED)):
            raise ModelError(f"tensor '{tensor}' has a name that diff needs itself: rename it")
