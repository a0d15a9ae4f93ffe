"""Terms of a graph that is being written: rules of differentiation are expressions of them.

A `Tape` collects nodes, types and constants; a `Term` is one of its tensors. `a * b + 1` writes a
Mul and an Add. Nothing is simplified, since which expression is written decides how it rounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Array, AttributeValue, DType, Graph, Node, TensorType, build_graph
from onnx_import.passes.normalize import without_dead
from onnx_import.tensors import code_of

_AXES_AS_INPUT = 13  # of ReduceSum
_BOUNDS_AS_INPUTS = 10  # of Slice
_OLDEST = 9

Number = int | float
ROUNDED = "numbers of derivatives that are stored as the next one of their type"
"""How a note begins that says which constants of a gradient are not what they stand for."""


@dataclass(frozen=True, eq=False)
class Term:
    """A tensor of the graph that a tape writes, with its type."""

    tape: Tape
    name: str
    kind: TensorType

    @property
    def shape(self) -> tuple[int, ...]:
        """The extents of the tensor."""
        return self.kind.shape

    def __add__(self, other: Term | Number) -> Term:
        return self.tape.elementwise(self, self._like(other), op="Add")

    def __sub__(self, other: Term | Number) -> Term:
        return self.tape.elementwise(self, self._like(other), op="Sub")

    def __rsub__(self, other: Number) -> Term:
        return self.tape.elementwise(self._like(other), self, op="Sub")

    def __mul__(self, other: Term | Number) -> Term:
        return self.tape.elementwise(self, self._like(other), op="Mul")

    def __truediv__(self, other: Term | Number) -> Term:
        return self.tape.elementwise(self, self._like(other), op="Div")

    def __neg__(self) -> Term:
        known = self.tape.constants.get(self.name)
        return self.apply(op="Neg") if known is None else self.tape.stored(np.negative(known))

    def __gt__(self, other: Term | Number) -> Term:
        return self.tape.elementwise(self, self._like(other), dtype=DType.BOOL, op="Greater")

    def __lt__(self, other: Term | Number) -> Term:
        return self.tape.elementwise(self, self._like(other), dtype=DType.BOOL, op="Less")

    def equals(self, other: Term | Number) -> Term:
        """Truth values: where both are equal."""
        return self.tape.elementwise(self, self._like(other), dtype=DType.BOOL, op="Equal")

    def negated(self) -> Term:
        """Of truth values, the others."""
        return self.apply(op="Not")

    def also(self, other: Term) -> Term:
        """Truth values: where both are true."""
        return self.tape.elementwise(self, other, op="And")

    def chosen(self, yes: Term | Number, no: Term | Number) -> Term:
        """Of truth values: `yes` where true, else `no`; one of them is a term."""
        of = yes if isinstance(yes, Term) else no
        assert isinstance(of, Term)
        choices = (of._like(yes), of._like(no))
        return self.tape.elementwise(self, *choices, dtype=of.kind.dtype, op="Where")

    def apply(self, op: str, **attributes: AttributeValue) -> Term:
        """An operator that acts on each element of this tensor."""
        return self.tape.node(self, op=op, kind=self.kind, **attributes)

    def matmul(self, other: Term) -> Term:
        """Matrix product of two tensors of at least two axes."""
        lead = np.broadcast_shapes(self.shape[:-2], other.shape[:-2])
        shape = (*lead, self.shape[-2], other.shape[-1])
        return self.tape.node(self, other, kind=self._of(shape), op="MatMul")

    def permuted(self, order: Sequence[int]) -> Term:
        """Axes in another order."""
        perm = tuple(order)
        if perm == tuple(range(len(self.shape))):
            return self
        shape = tuple(self.shape[i] for i in perm)
        return self.tape.node(self, kind=self._of(shape), perm=perm, op="Transpose")

    @property
    def transposed(self) -> Term:
        """The last two axes exchanged."""
        n = len(self.shape)
        return self.permuted((*range(n - 2), n - 1, n - 2))

    def reshaped(self, shape: Sequence[int]) -> Term:
        """Another shape, elements in row-major order; −1 stands for what is left."""
        wanted = tuple(shape)
        if -1 in wanted:
            rest = math.prod(self.shape) // math.prod(n for n in wanted if n != -1)
            wanted = tuple(rest if n == -1 else n for n in wanted)
        if wanted == self.shape:
            return self
        known = self.tape.constants.get(self.name)
        if known is not None:
            return self.tape.stored(known.reshape(wanted))
        sizes = self.tape.stored(np.array(wanted, np.int64))
        return self.tape.node(self, sizes, kind=self._of(wanted), op="Reshape")

    def expanded(self, shape: Sequence[int]) -> Term:
        """Broadcast to a shape."""
        wanted = tuple(shape)
        if wanted == self.shape:
            return self
        sizes = self.tape.stored(np.array(wanted, np.int64))
        return self.tape.node(self, sizes, kind=self._of(wanted), op="Expand")

    def summed(self, axes: Iterable[int], *, keep: bool = True) -> Term:
        """Sums along some axes, which are kept with length 1 or dropped."""
        over = tuple(sorted(axes))
        if not over:
            return self
        kept = [1 if i in over else n for i, n in enumerate(self.shape)]
        shape = kept if keep else [n for i, n in enumerate(self.shape) if i not in over]
        kind, keepdims = self._of(shape), int(keep)
        if self.tape.opset < _AXES_AS_INPUT:
            return self.tape.node(self, kind=kind, axes=over, keepdims=keepdims, op="ReduceSum")
        places = self.tape.stored(np.array(over, np.int64))
        return self.tape.node(self, places, kind=kind, keepdims=keepdims, op="ReduceSum")

    def per_channel(self) -> Term:
        """Sums along all axes but the second one, which is the only one left."""
        return self.summed((0, *range(2, len(self.shape))), keep=False)

    def averaged(self, axes: Iterable[int]) -> Term:
        """Means along some axes, which are kept with length 1: sums over their counts."""
        over = tuple(sorted(axes))
        return self.summed(over) / math.prod(self.shape[i] for i in over)

    def unbroadcast(self, shape: Sequence[int]) -> Term:
        """What a broadcast from `shape` carries back: sums along the axes it went along."""
        wanted = tuple(shape)
        missing = len(self.shape) - len(wanted)
        padded = (*(1,) * missing, *wanted)
        along = [i for i, (n, m) in enumerate(zip(self.shape, padded, strict=True)) if n != m]
        return self.summed(along).reshaped(wanted)

    def picked(self, places: npt.NDArray[np.intp], *, absent: float = 0.0) -> Term:
        """The elements at flat places, in the shape of `places`; a negative one gives `absent`."""
        size = math.prod(self.shape)
        flat = self.reshaped((size,))
        if np.any(places < 0):
            nothing = self.tape.number(absent, self.kind.dtype).reshaped((1,))
            flat = self.tape.node(flat, nothing, kind=self._of((size + 1,)), axis=0, op="Concat")
        index = self.tape.stored(np.where(places < 0, size, places).astype(np.int64))
        return self.tape.node(flat, index, kind=self._of(places.shape), axis=0, op="Gather")

    def cut(self, axis: int, start: int, end: int) -> Term:
        """The part of an axis from `start` until before `end`."""
        shape = tuple(end - start if i == axis else n for i, n in enumerate(self.shape))
        if shape == self.shape:
            return self
        if self.tape.opset < _BOUNDS_AS_INPUTS:
            attributes = {"starts": (start,), "ends": (end,), "axes": (axis,)}
            return self.tape.node(self, op="Slice", kind=self._of(shape), **attributes)
        bounds = [self.tape.stored(np.array([v], np.int64)) for v in (start, end, axis)]
        return self.tape.node(self, *bounds, kind=self._of(shape), op="Slice")

    def converted(self, dtype: DType) -> Term:
        """The same numbers in another type."""
        if dtype is self.kind.dtype:
            return self
        kind = TensorType(dtype, self.shape)
        return self.tape.node(self, kind=kind, to=code_of(dtype), op="Cast")

    def _of(self, shape: Sequence[int]) -> TensorType:
        return TensorType(self.kind.dtype, tuple(shape))

    def _like(self, value: Term | Number) -> Term:
        return value if isinstance(value, Term) else self.tape.number(value, self.kind.dtype)


def _written(square: Fraction, pi: int) -> str:
    whole = math.isqrt(square.numerator), math.isqrt(square.denominator)
    if not pi and Fraction(*whole) ** 2 == square:
        return f"{float(Fraction(*whole)):.9g}"
    return f"√({square}{'·π' if pi > 0 else '/π' if pi < 0 else ''})"


@dataclass
class Tape:
    """What is written so far behind a graph's own nodes.

    `opset` is the version of ONNX's operators that all nodes are written for. `roots` are constants
    that stand for the root of a rational number times a power of π.
    """

    graph: Graph
    opset: int
    nodes: list[Node] = field(default_factory=list)
    types: dict[str, TensorType] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    roots: dict[str, tuple[Fraction, int]] = field(default_factory=dict)

    @classmethod
    def after(cls, graph: Graph) -> Tape:
        """A tape behind a graph. Raises UnsupportedModel for an opset that is too old."""
        opset = max((n.opset for n in graph.order if not n.domain), default=_AXES_AS_INPUT)
        if opset < _OLDEST:
            raise UnsupportedModel(
                f"its opset is {opset}, and gradients are written from opset {_OLDEST} on; convert "
                "the model with onnx.version_converter"
            )
        return cls(graph, opset)

    def term(self, name: str) -> Term:
        """A tensor of the graph, or of what is written."""
        kind = self.types.get(name) or self.graph.types[name]
        return Term(self, name, kind)

    def stored(self, value: Array) -> Term:
        """A constant."""
        name = self._fresh(f"grad.constant.{len(self.constants)}")
        self.constants[name] = value
        self.types[name] = TensorType(DType(value.dtype.name), value.shape)
        return Term(self, name, self.types[name])

    def number(self, value: Number, dtype: DType) -> Term:
        """One number of a type, which broadcasts to any tensor; what the type does not have is
        stored as a `root` is.

        Raises UnsupportedModel for a negative one that it does not have, or one beyond it.
        """
        with np.errstate(over="ignore"):
            found = np.asarray(value, np.float64).astype(dtype.numpy)
        if float(found) == float(value):
            return self.stored(found)
        if not 0 < value < float("inf") or not np.isfinite(float(found)):
            raise UnsupportedModel(
                f"to differentiate takes the number {value}, which is no {dtype.value} number; "
                "convert the model to float32 or float64"
            )
        return self.root(Fraction(value) ** 2, dtype)

    def root(self, square: Fraction, dtype: DType, *, pi: int = 0) -> Term:
        """√(square·π^pi) as stored: the number of a type next to it. `roots` has what is meant."""
        exact = math.sqrt(square) * math.pi ** (pi / 2)
        found = self.nearest(exact, dtype)
        self.roots[found.name] = (square, pi)
        return found

    def nearest(self, value: float, dtype: DType) -> Term:
        """The number of a type next to this one: what is meant is the stored number.

        Raises UnsupportedModel for one beyond the type, and where the next one is 0.
        """
        with np.errstate(over="ignore", under="ignore"):
            found = np.asarray(value, np.float64).astype(dtype.numpy)
        if not np.isfinite(float(found)) or (value and not float(found)):
            raise UnsupportedModel(f"{value} is beyond the numbers of {dtype.value}")
        return self.stored(found)

    def elementwise(self, *terms: Term, op: str, dtype: DType | None = None) -> Term:
        """An operator on tensors that broadcast to one shape."""
        shape = np.broadcast_shapes(*(t.shape for t in terms))
        kind = TensorType(dtype or terms[-1].kind.dtype, shape)
        return self.node(*terms, op=op, kind=kind)

    def node(
        self, *inputs: Term | None, op: str, kind: TensorType, **attributes: AttributeValue
    ) -> Term:
        """One more node, whose only output has this type; its name is chosen here."""
        name = self._fresh(f"grad.{len(self.nodes)}.{op}")
        names = tuple("" if t is None else t.name for t in inputs)
        self.nodes.append(
            Node(
                name=name,
                op=op,
                inputs=names,
                outputs=(name,),
                attributes=attributes,
                opset=self.opset,
                written=True,
                stored=frozenset(i for i, n in enumerate(names) if self.is_stored(n)),
            )
        )
        self.types[name] = kind
        return Term(self, name, kind)

    def is_stored(self, name: str) -> bool:
        """Is the tensor a constant?"""
        return name in self.constants or name in self.graph.constants

    def named(self, term: Term, name: str) -> Term:
        """The same tensor under a name that is asked for."""
        made = Node(
            name=self._fresh(f"{name}:Identity"),
            op="Identity",
            inputs=(term.name,),
            outputs=(self._fresh(name),),
            attributes={},
            opset=self.opset,
            written=True,
        )
        self.nodes.append(made)
        self.types[made.outputs[0]] = term.kind
        return Term(self, made.outputs[0], term.kind)

    def given(self, name: str, kind: TensorType) -> Term:
        """A new input of the graph, which `finish` is told of."""
        found = self._fresh(name)
        self.types[found] = kind
        return Term(self, found, kind)

    def finish(self, outputs: Sequence[str], *, inputs: Sequence[str] = ()) -> Graph:
        """The graph with what is written, cut down to what `outputs` need; `inputs` are new."""
        graph = self.graph
        nodes = without_dead((*graph.order, *self.nodes), outputs)
        types = {**graph.types, **self.types}
        constants = {**graph.constants, **self.constants}
        given = (*graph.inputs, *inputs)
        used = {t for n in nodes for t in (*n.inputs, *n.outputs) if t} | {*given, *outputs}
        return build_graph(
            nodes,
            {t: k for t, k in types.items() if t in used},
            {t: v for t, v in constants.items() if t in used},
            inputs=given,
            outputs=tuple(outputs),
            notes=(*graph.notes, *self._rounded(used)),
            ranges=graph.ranges if not inputs else None,
            random_masks=graph.random_masks,
        )

    def _rounded(self, used: set[str]) -> tuple[str, ...]:
        roots = {self.roots[name] for name in used if name in self.roots}
        if not roots:
            return ()
        return (f"{ROUNDED}: {', '.join(sorted(_written(*root) for root in roots))}",)

    def _fresh(self, name: str) -> str:
        while name in self.types or name in self.graph.types or name in self.graph.named:
            name += "_"
        return name
