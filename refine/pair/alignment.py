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
from encoders.traits import Commuting
from onnx_import.errors import ModelError
from onnx_import.graph import Graph, Node, TensorType, build_graph
from refine.bounds.local.errors import Run
from refine.pair.batchnorm_folding import (
    Folding,
    biased_change,
    folded_change,
    has_bias,
    is_biased,
    is_folded,
    weights_apart,
)
from refine.pair.node_change import PAIR, change_between
from refine.pair.sameness import content_of, is_copy, key_of
from refine.pair.summands import summand_of

SPEC, GAP, COPY, FOLDED = "spec//", "difference//", "spec-run//", "folded//"
EXECUTED, CHANGED = "executed//", "change//"


@dataclass(frozen=True)
class Aligned:
    """The specification in the implementation's shape, node by node.

    `spec` has the implementation's nodes and variable tensors by name; `changed` names the nodes,
    in order, whose operator, attributes or constants are not the implementation's. `folded` are
    nodes of the specification, by the one that executes them together: all but the last come before
    it, and what they give are exact numbers that no runtime ever holds. `originals` are the names
    that the specification has for the nodes in place of each.
    """

    spec: Graph
    impl: Graph
    changed: tuple[str, ...]
    folded: Mapping[str, Folding] = field(default_factory=dict)
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

    def runs_same(self, name: str) -> bool:
        """Does the implementation execute the node of this name as the specification has it?"""
        known = name in self.impl.named and name in self.spec.named
        return known and name not in self.folded and name not in self.changed

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
            parts, program = self.folded[step.name], program_of(self.spec)
            norm = None if parts.norm is None else program.step(parts.norm)
            summand = parts.summand
            if summand is None:
                x = read[other.node.inputs[0]]
            else:
                x = summand.range(read[summand.read], read[summand.added])
            layer = program.step(parts.layer)
            if parts.total is not None and summand is None:
                bias = parts.total.inputs[parts.added]
                change = biased_change(self.spec, layer, bias, self.impl, other, x)
            else:
                change = folded_change(layer, norm, self.impl, other, x, summand)
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
    folded: dict[str, Folding] = {}
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
        found = _folding(spec, makers[0], other, impl, mine)
        if found is not None:
            matched[a], folded[mine.name] = b, found[0]
            todo += found[1]
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
    folded: Mapping[str, Folding],
    makers: Mapping[str, Node],
) -> Aligned | None:
    types: dict[str, TensorType] = {t: spec.types[b] for t, b in matched.items()}
    constants = {SPEC + t: v for t, v in spec.constants.items()}
    types |= {SPEC + t: spec.types[t] for t in spec.constants}
    nodes: list[Node] = []
    changed: list[str] = []
    parts: dict[str, Folding] = {}
    originals: dict[str, tuple[str, ...]] = {}
    passed = {t for f in folded.values() if f.summand is not None for t in f.summand.passed}
    for node in impl.order:
        out = node.outputs[0]
        if out not in matched:
            if node.name in passed:
                continue
            step = program_of(impl).step(node)
            if not is_copy(step):
                return None
            nodes.append(plain_copy(step))
            types[out] = impl.types[out]
            continue
        other = makers[matched[out]]
        originals[node.name] = (other.name,)
        if node.name in folded:
            whole = folded[node.name]
            originals[node.name] = tuple(n.name for n in whole.nodes)
            parts[node.name] = _written(spec, whole, node)
            nodes += parts[node.name].nodes
            for made, part in zip(parts[node.name].nodes[:-1], whole.nodes, strict=False):
                types[made.outputs[0]] = spec.types[part.outputs[0]]
            same = whole.norm is None and _equal_weights(impl, node, spec, whole)
            changed += [] if same else [node.name]
            continue
        inputs = _renamed(spec, other, node.inputs)
        nodes.append(replace(other, name=node.name, inputs=inputs, outputs=node.outputs))
        if not _same_semantics(impl, node, spec, other):
            changed.append(node.name)
    shaped = build_graph(tuple(nodes), types, constants, inputs=impl.inputs, outputs=impl.outputs)
    return Aligned(shaped, impl, tuple(changed), parts, originals)


def _written(spec: Graph, whole: Folding, node: Node) -> Folding:
    """Nodes of the specification in place of one that executes them: all but the last write tensors
    of their own."""
    summand = whole.summand
    read = node.inputs[0] if summand is None else summand.read
    made: list[Node] = []
    for place, part in enumerate(whole.nodes):
        inputs = [read] * len(part.inputs)
        if part is whole.total and summand is not None:
            inputs[whole.added] = summand.added
        name, written = node.name, node.outputs
        if part is not whole.nodes[-1]:
            name = read = FOLDED * (place + 1) + node.outputs[0]
            written = (name,)
        inputs = list(_renamed(spec, part, inputs))
        made.append(replace(part, name=name, inputs=tuple(inputs), outputs=written))
    layer, *others = made
    norm = None if whole.norm is None else others.pop(0)
    return replace(whole, layer=layer, norm=norm, total=others[0] if others else None)


def _equal_weights(impl: Graph, node: Node, spec: Graph, whole: Folding) -> bool:
    """Has a layer that adds something the very weights and bias that it is meant to have?"""
    if whole.summand is None:
        assert whole.total is not None
        steps = program_of(spec).step(whole.layer), program_of(impl).step(node)
        return has_bias(spec, steps[0], whole.total.inputs[whole.added], impl, steps[1])
    ours = [whole.summand.weights, *(impl.constants[t] for t in node.inputs[2:] if t)]
    theirs = [spec.constants[t] for t in whole.layer.inputs[1:] if t]
    return [content_of(v) for v in ours] == [content_of(v) for v in theirs]


def _folding(
    spec: Graph, makers: Mapping[str, Node], other: Node, impl: Graph, mine: Node
) -> tuple[Folding, list[tuple[str, str]]] | None:
    """What ends with a node of the specification and is executed by one node, where that is more
    than a node, and the pairs of tensors that both read."""
    ours, theirs = program_of(impl).step(mine), program_of(spec)

    def before(tensor: str) -> Node | None:
        return makers.get(_behind_copies(spec, makers, tensor))

    layer = before(other.inputs[0]) if other.inputs else None
    if layer is not None and is_folded(spec, theirs.step(layer), theirs.step(other), impl, ours):
        return Folding(layer, other), [(mine.inputs[0], layer.inputs[0])]
    if theirs.step(other).operator.likeness.commuting is not Commuting.SUM:
        return None
    for added, bias in enumerate(other.inputs):
        layer = before(other.inputs[1 - added])
        if layer is not None and is_biased(spec, theirs.step(layer), bias, impl, ours):
            return Folding(layer, None, other, added), [(mine.inputs[0], layer.inputs[0])]
    summand = summand_of(impl, ours)
    if summand is None:
        return None
    found: list[tuple[float, Folding]] = []
    shape = spec.types[other.outputs[0]].shape
    for added, end in enumerate(other.inputs[::-1]):
        last = before(end)
        if last is None or any(spec.types[t].shape != shape for t in other.inputs):
            continue
        way: list[tuple[Node, Node | None]] = [(last, None)]
        first = before(last.inputs[0]) if last.inputs else None
        way += [] if first is None else [(first, last)]
        for layer, norm in way:
            steps = theirs.step(layer), None if norm is None else theirs.step(norm)
            if is_folded(spec, *steps, impl, ours, summand):
                gap = weights_apart(*steps, summand.weights.astype(np.float64))
                found.append((gap, Folding(layer, norm, other, added, summand)))
    if not found:
        return None
    _, whole = min(found, key=lambda f: f[0])
    ends = (summand.read, whole.layer.inputs[0]), (summand.added, other.inputs[whole.added])
    return whole, list(ends)


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
