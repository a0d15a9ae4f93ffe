"""Two graphs in one that runs as the implementation does and means what the specification means.

Its nodes are the implementation's. Where both graphs are cut (`refine.pair.cuts`), the
specification's nodes up to there are beside them, and the tensor at the cut has the specified real
value, is computed as the implementation computes it, and is off by what that errs and by the real
gap between both: a change is charged where it stands, and carried on from there as an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from onnx_import.graph import Array, DType, Graph, Node, Remembering, TensorType, build_graph
from onnx_import.passes.normalize import without_dead
from onnx_import.tensors import code_of
from refine.pair.alignment import CHANGED, EXECUTED, GAP, SPEC
from refine.pair.cuts import Cuts
from refine.pair.node_change import gap_nodes

_OPSET = 17  # of the nodes that are added


@dataclass(frozen=True)
class Change:
    """One cut: the tensors of both graphs, the real gap between them, the node where it is charged,
    and the nodes of either graph that lie between it and what is equal before it."""

    impl: str
    spec: str
    gap: str
    node: str
    impl_nodes: tuple[str, ...]
    spec_nodes: tuple[str, ...]


@dataclass(frozen=True)
class Joined(Remembering):
    """The graph; `exact` names its nodes that are read over the reals."""

    graph: Graph
    exact: frozenset[str]
    changes: tuple[Change, ...]


def joined(spec: Graph, impl: Graph, inputs: Mapping[str, str], cuts: Cuts) -> Joined | None:
    """Both graphs in one; None where an output is no result of a node."""
    if not set(impl.outputs) <= set(impl.writers):
        return None
    made = _Joining(spec, impl, cuts, {b: a for a, b in inputs.items()})
    for node in impl.order:
        made.take(node)
    kept = without_dead(made.nodes, impl.outputs)
    graph = build_graph(
        kept,
        made.types,
        made.constants,
        inputs=impl.inputs,
        outputs=impl.outputs,
        random_masks=impl.random_masks,
    )
    names = {n.name for n in kept}
    changes = tuple(c for c in made.changes if c.node in names)
    return Joined(graph, frozenset(made.exact & names), changes)


@dataclass
class _Joining:
    """A graph under way. `realised` has the tensor of it that stands for one of the
    specification."""

    spec: Graph
    impl: Graph
    cuts: Cuts
    realised: dict[str, str]
    nodes: list[Node] = field(default_factory=list)
    exact: set[str] = field(default_factory=set)
    changes: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.types: dict[str, TensorType] = dict(self.impl.types)
        self.constants: dict[str, Array] = dict(self.impl.constants)
        self.equal = {a: b for b, a in self.cuts.same.items() if a not in self.cuts.pairs}
        self.inputs = dict(self.realised)
        for b, a in self.inputs.items():
            self.realised[b] = self._as(a, self.spec.types[b])

    def take(self, node: Node) -> None:
        """A node of the implementation."""
        pairs = self.cuts.pairs
        cut = [t for t in node.outputs if t in pairs]
        raw = {t: EXECUTED + t for t in cut}
        self.nodes.append(replace(node, outputs=tuple(raw.get(t, t) for t in node.outputs)))
        for tensor in cut:
            self._cut(tensor)
        for tensor in node.outputs:
            other = self.equal.get(tensor)
            if other is not None and self._alike(tensor, other):
                self.realised.setdefault(other, self._as(tensor, self.spec.types[other]))

    def _alike(self, tensor: str, other: str) -> bool:
        mine, theirs = self.impl.types[tensor], self.spec.types[other]
        both_float = mine.dtype.is_float and theirs.dtype.is_float
        return mine.size == theirs.size and (both_float or mine.dtype is theirs.dtype)

    def _cut(self, tensor: str) -> None:
        other = self.cuts.pairs[tensor]
        kind, executed = self.impl.types[tensor], EXECUTED + tensor
        self.types[executed] = kind
        specified = self._in_shape(self._specified(other), kind)
        mine = self._between(self.impl, tensor, set(self.cuts.pairs) | set(self.equal))
        theirs = self._between(self.spec, other, set(self.cuts.same))
        gap = GAP + tensor
        for made, written in gap_nodes(gap, (executed, kind), (specified, self.types[specified])):
            self._exact(made, written)
        name = CHANGED + tensor
        inputs = (specified, executed, gap)
        self.nodes.append(Node(name, "RunsInstead", inputs, (tensor,), {}, _OPSET))
        self.realised[other] = self._as(tensor, self.spec.types[other])
        self.changes.append(Change(tensor, other, gap, name, mine, theirs))

    def _between(self, graph: Graph, end: str, known: set[str]) -> tuple[str, ...]:
        """Nodes from what is known to a tensor, in order."""
        wanted, found = {end}, []
        for node in reversed(graph.order):
            if wanted.intersection(node.outputs):
                found.append(node.name)
                wanted.update(t for t in node.inputs if t not in known)
        return tuple(reversed(found))

    def _specified(self, tensor: str) -> str:
        """A tensor with the real value of one of the specification."""
        todo = [tensor]
        while todo:
            at = todo[-1]
            if at in self.realised:
                todo.pop()
                continue
            if self.spec.is_constant(at):
                self._constant(at)
                continue
            node = self.spec.writers[at]
            missing = [t for t in node.inputs if t and t not in self.realised]
            todo += missing
            if not missing:
                self._copy(node)
        return self.realised[tensor]

    def _constant(self, tensor: str) -> None:
        name = self.realised[tensor] = SPEC + tensor
        self.constants[name] = self.spec.constants[tensor]
        self.types[name] = self.spec.types[tensor]

    def _copy(self, node: Node) -> None:
        names = {t: SPEC + t for t in node.outputs if t}
        for t, name in names.items():
            self.types[name] = self.spec.types[t]
            self.realised.setdefault(t, name)
        name = SPEC + node.name
        inputs = tuple(self.realised[t] if t else "" for t in node.inputs)
        outputs = tuple(names.get(t, "") for t in node.outputs)
        self.exact.add(name)
        self.nodes.append(replace(node, name=name, inputs=inputs, outputs=outputs))

    def _exact(self, node: Node, kind: TensorType) -> None:
        self.exact.add(node.name)
        self.nodes.append(node)
        for t in node.outputs:
            self.types[t] = kind

    def _as(self, tensor: str, kind: TensorType) -> str:
        """The tensor in this type and shape; over the reals it is the same."""
        shaped = self._in_shape(tensor, kind)
        dtype = kind.dtype
        if self.types[shaped].dtype is dtype:
            return shaped
        name = f"{SPEC}{shaped}//{dtype.value}"
        if name not in self.types:
            made = Node(name, "Cast", (shaped,), (name,), {"to": code_of(dtype)}, _OPSET)
            self._exact(made, kind)
        return name

    def _in_shape(self, tensor: str, kind: TensorType) -> str:
        """The tensor in another shape of as many elements."""
        if self.types[tensor].shape == kind.shape:
            return tensor
        name = f"{SPEC}{tensor}//{'x'.join(map(str, kind.shape))}"
        if name not in self.types:
            shape = np.array(kind.shape, np.int64)
            self.constants[f"{name}//shape"] = shape
            self.types[f"{name}//shape"] = TensorType(DType.INT64, shape.shape)
            made = Node(name, "Reshape", (tensor, f"{name}//shape"), (name,), {}, _OPSET)
            self._exact(made, replace(self.types[tensor], shape=kind.shape))
        return name
