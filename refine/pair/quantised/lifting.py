"""A graph whose quantised layers are read as plain layers on the numbers that integers stand for.

QuantizeLinear and DequantizeLinear, the layers that onnxruntime's tool writes with integers inside
(QLinearConv, QLinearMatMul, QGemm…) and products of a tensor quantised by its own range all become
an operator on real numbers and the identity, where the runtime puts its result on a grid: three
ways to write one network, and the float network it was made of, have one structure. Products with
a bias are a product and a sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from encoders.numbers.enclosure import FloatArray
from encoders.program import Step, program_of
from encoders.quantizing import Grid, Meaning, OwnGrid
from onnx_import.graph import Array, DType, Graph, Node, TensorType, build_graph

_OPSET = 17  # of the nodes that are made


@dataclass(frozen=True)
class Role:
    """What a node of a lifted graph stands for.

    `step` is the step whose result it is, with all that this loses. `stored` says that the step
    puts it on the grid `written`, `own` that it is put on a grid of its own range, `regrid` that
    integers of one grid are read on another, its first, as numbers of the second. `clamps` says
    that the node does nothing that the grid it precedes does not do too, so that it may be left
    out. `loose` is how far off its constants are.
    """

    step: Step | None = None
    stored: Meaning | None = None
    own: OwnGrid | None = None
    product: OwnGrid | None = None
    regrid: tuple[Grid, Grid] | None = None
    clamps: Grid | None = None
    loose: FloatArray | None = None

    @property
    def plain(self) -> Step | None:
        """The step, where nothing is put on a grid and nothing was changed."""
        rests = (self.stored, self.own, self.product, self.regrid, self.clamps, self.loose)
        return self.step if all(rest is None for rest in rests) else None

    @property
    def grid(self) -> Grid | None:
        """The grid that the node puts its result on, or that it precedes, if there is one."""
        return self.clamps if self.stored is None else self.stored.written


@dataclass(frozen=True)
class Lifted:
    """The graph, what its nodes stand for, by name, and the grids of tensors of integers."""

    graph: Graph
    source: Graph
    roles: Mapping[str, Role]
    grids: Mapping[str, Grid]

    @property
    def quantized(self) -> bool:
        """Is anything put on a grid?"""
        return any(r.stored is not None or r.own is not None for r in self.roles.values())


def lifted(graph: Graph) -> Lifted | None:
    """The graph in this form; None where integers are computed that stand for no numbers."""
    made = _Lifting(graph)
    for step in program_of(graph).steps:
        if not made.take(step):
            return None
    return made.finished()


@dataclass
class _Lifting:
    graph: Graph
    nodes: list[Node] = field(default_factory=list)
    types: dict[str, TensorType] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    roles: dict[str, Role] = field(default_factory=dict)
    grids: dict[str, Grid] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.types.update(self.graph.types)
        self.constants.update(self.graph.constants)

    def take(self, step: Step) -> bool:
        """Adds what stands for a step; False where it has no reading."""
        if len(step.writes) != 1:
            return False
        meaning = step.operator.meant(step.site)
        if meaning is not None:
            return self._meant(step, meaning)
        floats = all(self.graph.types[t].dtype.is_float for t in step.reads)
        if floats and self.graph.types[step.output].dtype.is_float:
            self._plain(step)
            return True
        return self._moved(step)

    def _moved(self, step: Step) -> bool:
        """Integers moved about stand for the numbers moved about, where all have one grid."""
        if len(step.reads) != 1 or step.reads[0] not in self.grids:
            return False
        grid, like = self.grids[step.reads[0]], step.operator.likeness
        kept = like.reshapes or like.selects or like.copies(step.site)
        if not kept or grid.scale.size != 1 or grid.zero.size != 1:
            return False
        self._float(step.output)
        self.grids[step.output] = grid
        self._put(step.node, Role(step))
        return True

    def _plain(self, step: Step) -> None:
        """A layer of numbers; a stored operand of a sum or a product comes second."""
        inputs = step.node.inputs
        commutes = step.operator.likeness.commuting is not None
        if commutes and len(inputs) == 2 and self.graph.is_constant(inputs[0]):
            inputs = inputs[::-1]
        self._put(replace(step.node, inputs=inputs), Role(step))

    def _meant(self, step: Step, meaning: Meaning) -> bool:
        node, out = step.node, step.output
        inputs: list[str | Array] = []
        for position, term in enumerate(meaning.terms):
            if isinstance(term, np.ndarray):
                inputs.append(term)
                continue
            at, grid = term
            tensor = node.inputs[at]
            if grid is not None:
                if tensor not in self.grids:
                    return False
                tensor = self._regridded(f"{node.name}//{position}", tensor, grid)
            inputs.append(tensor)
        if not self.graph.types[out].dtype.is_float:
            self._float(out)
        if meaning.own is not None:
            own = f"{out}//own"
            self._identity(f"{node.name}//own", inputs[0], own, Role(step, own=meaning.own))
            inputs[0] = own
        result = out if meaning.written is None else f"{out}//exact"
        last = Role(step, product=meaning.own) if meaning.written is None else Role()
        if meaning.op:
            self._product(step, meaning, inputs, last, result)
        elif meaning.written is None:
            self._identity(node.name, inputs[0], out, Role(step))
            return True
        else:
            assert isinstance(inputs[0], str)
            result = inputs[0]
        if meaning.written is not None:
            self.grids[out] = meaning.written
            clamped = f"{out}//clamped"
            self.types[clamped] = self.types[out]
            clamp = Role(clamps=meaning.written)
            self._identity(f"{node.name}//clamped", result, clamped, clamp)
            self._identity(node.name, clamped, out, Role(step, stored=meaning))
        return True

    def _product(
        self,
        step: Step,
        meaning: Meaning,
        inputs: Sequence[str | Array],
        last: Role,
        result: str,
    ) -> None:
        """A layer, and a sum with its bias where it has one."""
        bias = meaning.bias
        name = step.name if last.step is not None else f"{step.name}//exact"
        product = result if bias is None else f"{result}//product"
        self.types[product] = self.types[result] = self.types[step.output]
        named = tuple(
            t if isinstance(t, str) else self._constant(f"{step.name}//constant{i}", t)
            for i, t in enumerate(inputs)
        )
        first = name if bias is None else f"{name}//product"
        attributes = dict(meaning.attributes)
        whole = Node(first, meaning.op, named, (product,), attributes, _OPSET)
        self._put(whole, last if bias is None else Role())
        if bias is not None:
            held = self._constant(f"{step.name}//bias", np.asarray(bias))
            added = Node(name, "Add", (product, held), (result,), {}, _OPSET)
            self._put(added, replace(last, loose=meaning.bias_error))

    def _regridded(self, name: str, tensor: str, grid: Grid) -> str:
        """The numbers that integers stand for where they are read."""
        if self.grids[tensor].like(grid):
            return tensor
        there = f"{name}//read"
        self.types[there] = self.types[tensor]
        self._identity(name, tensor, there, Role(regrid=(self.grids[tensor], grid)))
        return there

    def _identity(self, name: str, source: str | Array, out: str, role: Role) -> None:
        assert isinstance(source, str)
        self.types.setdefault(out, self.types[source])
        self._put(Node(name, "Identity", (source,), (out,), {}, _OPSET), role)

    def _put(self, node: Node, role: Role) -> None:
        self.nodes.append(node)
        self.roles[node.name] = role

    def _constant(self, name: str, values: Array) -> str:
        self.constants[name] = values
        self.types[name] = TensorType(DType.FLOAT64, values.shape)
        return name

    def _float(self, tensor: str) -> None:
        self.types[tensor] = replace(self.types[tensor], dtype=DType.FLOAT32)

    def finished(self) -> Lifted:
        """The whole graph."""
        source = self.graph
        graph = build_graph(
            tuple(self.nodes),
            self.types,
            self.constants,
            inputs=source.inputs,
            outputs=source.outputs,
        )
        return Lifted(graph, source, self.roles, self.grids)
