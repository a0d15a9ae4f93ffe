"""A network and its quantised copy side by side, layer by layer.

Both are lifted (`refine.pair.quantised.lifting`), so that a copy's layers are those of the original
and identities whose result the runtime puts on a grid. What the original computes over the reals is
then the real value of every tensor of the copy, and the copy's run is off from it by d: through a
layer d moves as differences do, changed weights add a functional of the real values, and each
rounding to a grid a bounded noise (`refine.pair.quantised.noise`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from encoders.program import Step, program_of
from encoders.quantizing import Grid
from onnx_import.graph import Graph, Node, Remembering, TensorType, build_graph
from refine.pair.alignment import SPEC
from refine.pair.quantised.lifting import Lifted, lifted
from refine.pair.sameness import is_copy, key_of


@dataclass(frozen=True)
class Beside(Remembering):
    """An original and a copy, whose inputs and outputs are said in pairs; what relates them is
    found anew in each process."""

    spec: Graph
    impl: Graph
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def lockstep(self) -> Lockstep | None:
        """The correspondence, layer by layer, if there is one."""
        return self.once(_of_both)


def _of_both(sides: Beside) -> Lockstep | None:
    return lockstep(sides.spec, sides.impl, sides.inputs, sides.outputs)


@dataclass(frozen=True)
class Lockstep:
    """The original's layers under the names of the copy's nodes and tensors.

    `meant` has a node for each of the copy's, an Identity where the original has none; `changed`
    names those whose constants or operator are not the copy's.
    """

    meant: Graph
    copy: Lifted
    changed: frozenset[str]


def lockstep(
    spec: Graph, impl: Graph, inputs: Mapping[str, str], outputs: Mapping[str, str]
) -> Lockstep | None:
    """The correspondence, None where there is none or nothing is quantised in the copy alone."""
    copy, original = lifted(impl), lifted(spec)
    if copy is None or original is None or original.quantized or not copy.quantized:
        return None
    return _Matching(original.graph, copy, dict(inputs)).of(outputs)


@dataclass
class _Matching:
    """Tensors of the copy that correspond to those of the original, found from the outputs on."""

    spec: Graph
    copy: Lifted
    matched: dict[str, str]

    def of(self, outputs: Mapping[str, str]) -> Lockstep | None:
        graph = self.copy.graph
        nodes: dict[str, Node] = {}
        changed: set[str] = set()
        todo = list(outputs.items())
        while todo:
            a, b = todo.pop()
            b = self._behind(b)
            if a in self.matched:
                if self._behind(self.matched[a]) != b:
                    return None
                continue
            if a not in graph.writers:
                return None
            self.matched[a] = b
            mine, other = graph.writers[a], self.spec.writers.get(b)
            if graph.types[a].shape != self.spec.types[b].shape:
                return None
            if self._copies(mine) and not (other is not None and self._clamps(mine, other)):
                nodes[mine.name] = mine
                todo.append((mine.inputs[0], b))
                continue
            if other is None:
                return None
            pairs = self._operands(mine, other)
            if pairs is None:
                return None
            nodes[mine.name] = other
            if self._differ(mine, other):
                changed.add(mine.name)
            todo += pairs
        return self._built(nodes, frozenset(changed))

    def _behind(self, tensor: str) -> str:
        while tensor in self.spec.writers:
            step = program_of(self.spec).step(self.spec.writers[tensor])
            if not is_copy(step):
                return tensor
            tensor = step.node.inputs[0]
        return tensor

    def _copies(self, mine: Node) -> bool:
        return is_copy(program_of(self.copy.graph).step(mine))

    def _clamps(self, mine: Node, other: Node) -> bool:
        """Is the original's node a clamp that the grid which follows the copy's does as well?"""
        grid = self.copy.roles[mine.name].clamps
        return grid is not None and does_clamp(program_of(self.spec).step(other), grid)

    def _operands(self, mine: Node, other: Node) -> list[tuple[str, str]] | None:
        """Pairs of computed inputs; a sum's or a product's in whichever order they correspond."""
        if self._copies(mine):
            return [(mine.inputs[0], other.inputs[0])]
        if mine.op != other.op or len(mine.inputs) != len(other.inputs):
            return None
        ours = [(not s or self.copy.graph.is_constant(s)) for s in mine.inputs]
        theirs = [(not t or self.spec.is_constant(t)) for t in other.inputs]
        if ours != theirs:
            return None
        pairs = [
            (s, t) for s, t, held in zip(mine.inputs, other.inputs, ours, strict=True) if not held
        ]
        like = program_of(self.spec).step(other).operator.likeness
        if like.commuting is not None and len(pairs) == 2:
            (a, b), (c, d) = pairs
            if (self._maker(a), self._maker(c)) != (self._theirs(b), self._theirs(d)) and (
                self._maker(a),
                self._maker(c),
            ) == (self._theirs(d), self._theirs(b)):
                return None  # the original's node would need its operands exchanged
        return pairs

    def _maker(self, tensor: str) -> str:
        graph = self.copy.graph
        while tensor in graph.writers and self._copies(graph.writers[tensor]):
            tensor = graph.writers[tensor].inputs[0]
        return graph.writers[tensor].op if tensor in graph.writers else tensor

    def _theirs(self, tensor: str) -> str:
        tensor = self._behind(tensor)
        return self.spec.writers[tensor].op if tensor in self.spec.writers else tensor

    def _differ(self, mine: Node, other: Node) -> bool:
        if self._copies(mine):
            return False
        nothing = dict.fromkeys((*mine.inputs, *other.inputs), "")
        ours = program_of(self.copy.graph).step(mine)
        theirs = program_of(self.spec).step(other)
        a, b = key_of(self.copy.graph, ours, nothing), key_of(self.spec, theirs, nothing)
        return bool(a != b)

    def _built(self, nodes: Mapping[str, Node], changed: frozenset[str]) -> Lockstep | None:
        graph = self.copy.graph
        types: dict[str, TensorType] = {
            t: replace(graph.types[t], dtype=self.spec.types[b].dtype)
            for t, b in self.matched.items()
        }
        types |= {SPEC + t: self.spec.types[t] for t in self.spec.constants}
        constants = {SPEC + t: v for t, v in self.spec.constants.items()}
        made = []
        for node in graph.order:
            if node.name not in nodes:
                continue  # nothing that an output depends on
            other = nodes[node.name]
            if other is node:
                made.append(node)
                continue
            given = tuple(
                "" if not t else SPEC + t if self.spec.is_constant(t) else node.inputs[i]
                for i, t in enumerate(other.inputs)
            )
            made.append(replace(other, name=node.name, inputs=given, outputs=node.outputs))
        meant = build_graph(
            tuple(made), types, constants, inputs=graph.inputs, outputs=graph.outputs
        )
        return Lockstep(meant, self.copy, changed)


def does_clamp(step: Step, grid: Grid) -> bool:
    """Does every number that the step would clamp become the same end of the grid, clamped or not?

    So it is where the ends of the clamp are within a quarter of a step of those of the grid, or
    beyond them: what is farther out is then taken to the grid's end, rounded as a runtime does.
    """
    limits = step.operator.likeness.limits(step.site)
    if limits is None:
        return False
    low, high = limits
    down = np.all(low / grid.scale + grid.zero <= grid.lowest + 0.25)
    up = np.all(high / grid.scale + grid.zero >= grid.highest - 0.25)
    return bool(down and up)
