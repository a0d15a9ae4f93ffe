"""Tensors of two graphs that are the same real function, by what their nodes do to equal tensors.

Nodes that do the same to equal tensors give equal ones. Where two graphs part by a rewrite and have
equal values again at points that are drawn, both tensors are written in terms of what is known to
be equal before them: if these are the same terms, the tensors are equal, and what follows goes on
from there. So a rewrite costs the terms of its own few nodes, not those of all behind it. Values at
points decide what is tried, and terms what is equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.term_field import TermField
from encoders.numbers.enclosure import FloatArray
from encoders.program import Step, program_of
from encoders.traits import Commuting
from onnx_import.graph import Graph
from refine.common.clock import OutOfTime
from refine.pair.layouts import Elementwise, Layouts, elementwise
from refine.pair.pair import Pair
from refine.pair.sameness import attributes_of, content_of, is_copy, is_unchanged, key_of
from refine.pair.summands import Summand, summand_of
from refine.pair.terms import Terms

_TERMS = 2_000_000  # parts of terms that are made, of both graphs together
_ALIKE = 1e-9  # relative difference of values that may be equal


@dataclass
class Classes:
    """A number for each tensor of the graphs that share `numbers`: tensors with the same number are
    the same real function of the inputs. `merged` are tensors whose class is known otherwise.
    """

    graph: Graph
    inputs: Mapping[str, int]
    numbers: dict[Any, int]
    sums: dict[int, tuple[int, ...]]
    layouts: Layouts
    merged: dict[str, int] = field(default_factory=dict)
    contents: dict[str, Any] = field(default_factory=dict)
    summands: dict[str, Summand | None] = field(default_factory=dict)

    def of_all(self) -> dict[str, int]:
        """Of every tensor.

        A layer with a bias, or with what is added in its sums, is read as a layer and a sum, and
        sums of sums as one, whose terms have no order; moves that only change shapes are joined
        into one.
        """
        graph = self.graph
        classes = {**self.inputs, **self.merged}
        unshaped: dict[int, int] = {}  # what a class is but for its shape

        def of(tensor: str) -> int:
            if tensor not in classes:
                classes[tensor] = self._numbered(_constant(*self._content(tensor)))
            return classes[tensor]

        for tensor in graph.outputs:
            if graph.is_constant(tensor):
                of(tensor)
        for step in program_of(graph).steps:
            node, like = step.node, step.operator.likeness
            out, shape = node.outputs[0], graph.types[node.outputs[0]].shape
            if out in classes:
                continue
            product = like.product(step.site)
            if is_copy(step) or is_unchanged(step):
                classes[out] = of(node.inputs[0])
            elif like.reshapes and not graph.is_constant(node.inputs[0]):
                source = of(node.inputs[0])
                base = unshaped.get(source, source)
                same = shape == graph.types[node.inputs[0]].shape
                classes[out] = source if same else self._numbered(("shaped", base, shape))
                unshaped[classes[out]] = base
            elif product is not None:
                held = content_of(product.matrix)
                total = self._numbered(("by a matrix", of(node.inputs[0]), held))
                if product.bias is not None:
                    total = self._sum((total, of(node.inputs[product.bias])), shape)
                classes[out] = total
            elif (order := like.turned(step.site)) is not None and step.reads:
                classes[out] = self.layouts.transposed(of(node.inputs[0]), order)
            elif (axes := like.reduced(step.site)) is not None and node.inputs[0] in step.reads:
                rank = len(graph.types[node.inputs[0]].shape)
                kept = len(shape) == rank
                key = node.op, node.domain
                classes[out] = self.layouts.reduced(of(node.inputs[0]), key, axes, rank, kept)
            elif (each := elementwise(graph, step, self.layouts, of)) is not None:
                classes[out] = self.layouts.turn(self._each(step, each), each.order)
            elif like.commuting is Commuting.SUM:
                classes[out] = self._sum([of(t) for t in node.inputs], shape)
            elif like.commuting is not None:
                operands = [of(t) for t in node.inputs]
                classes[out] = self._numbered((like.commuting, frozenset(operands), shape))
            elif like.feeding is not None and all(
                map(graph.is_constant, filter(None, node.inputs[1:]))
            ):
                classes[out] = self._layer(step, of)
            else:
                names = {t: str(of(t)) for t in node.inputs if t and not graph.is_constant(t)}
                classes[out] = self._numbered(key_of(graph, step, names))
        return classes

    def _each(self, step: Step, each: Elementwise) -> int:
        """The class of what a node on single elements makes of tensors that are not transposed."""
        graph, node, commuting = self.graph, step.node, step.operator.likeness.commuting
        stored = {t: _constant(*content_of(each.turned_back(v))) for t, v in step.constants.items()}
        if commuting is not None:
            operands = [
                each.operands[t] if t in each.operands else self._numbered(stored[t])
                for t in node.inputs
            ]
            if commuting is Commuting.SUM:
                return self._sum(operands, each.shape)
            return self._numbered((commuting, frozenset(operands), each.shape))
        names = dict.fromkeys(each.operands, "")
        *told, _ = key_of(graph, step, names)
        arguments = tuple("" if not t else each.operands.get(t, stored.get(t)) for t in node.inputs)
        return self._numbered(("each", *told, arguments, each.shape))

    def _layer(self, step: Step, of: Callable[[str], int]) -> int:
        """The class of what a layer with constant weights makes."""
        graph, node = self.graph, step.node
        shape = graph.types[node.outputs[0]].shape
        if step.name not in self.summands:
            self.summands[step.name] = summand_of(graph, step)
        summand = self.summands[step.name]
        read = node.inputs[0] if summand is None else summand.read
        weights = graph.constants[node.inputs[1]] if summand is None else summand.weights
        kind = node.op, node.domain, attributes_of(step, False)
        given = of(read), graph.types[read].shape, content_of(weights)
        terms = [self._numbered(("layer", kind, given))]
        if summand is not None:
            terms.append(of(summand.added))
        if len(node.inputs) > 2 and node.inputs[2]:
            bias = graph.constants[node.inputs[2]]
            along = bias.reshape(-1, *(1,) * (len(shape) - 2))
            if np.any(along):
                terms.append(self._numbered(_constant(*content_of(along))))
        return terms[0] if len(terms) == 1 else self._sum(terms, shape)

    def _sum(self, terms: Iterable[int], shape: tuple[int, ...]) -> int:
        """The class of a sum, of those of its terms; sums among them are their own terms."""
        parts = sorted(p for t in terms for p in self.sums.get(t, (t,)))
        found = self._numbered((Commuting.SUM, tuple(parts), shape))
        self.sums.setdefault(found, tuple(parts))
        return found

    def _numbered(self, key: Any) -> int:
        return self.numbers.setdefault(key, len(self.numbers))

    def _content(self, tensor: str) -> tuple[tuple[int, ...], str, bytes]:
        if tensor not in self.contents:
            self.contents[tensor] = content_of(self.graph.constants[tensor])
        found: tuple[tuple[int, ...], str, bytes] = self.contents[tensor]
        return found


@dataclass
class Congruence:
    """What is known of two graphs: an implementation and its specification."""

    pair: Pair
    mine: Classes
    theirs: Classes
    tried: set[tuple[str, str]] = field(default_factory=set)

    @classmethod
    def of(cls, pair: Pair) -> Congruence:
        """What nodes alone tell."""
        numbers: dict[Any, int] = {}
        inputs = {a: numbers.setdefault(("input", a), len(numbers)) for a in pair.inputs}
        theirs = {b: inputs[a] for a, b in pair.inputs.items()}
        shared = numbers, dict[int, tuple[int, ...]](), Layouts(numbers)
        return cls(
            pair,
            Classes(pair.impl.graph, inputs, *shared),
            Classes(pair.spec.graph, theirs, *shared),
        )

    def equal(self) -> frozenset[str]:
        """Outputs of the implementation that are known to be equal."""
        mine, theirs = self.mine.of_all(), self.theirs.of_all()
        return frozenset(t for t, other in self.pair.outputs.items() if mine[t] == theirs[other])

    def extend(
        self,
        values: Mapping[str, FloatArray],
        specified: Mapping[str, FloatArray],
        tick: Callable[[], None],
    ) -> None:
        """Find what else is equal, from the inputs on. `values` and `specified` are of all tensors
        of the implementation and the specification, at some points."""
        field_of_terms = TermField(_TERMS, tick)
        try:
            while self._one_more(values, specified, field_of_terms):
                pass
        except (OutOfTime, ArithmeticError, TypeError, ValueError):
            pass  # what was found until then holds

    def _one_more(
        self,
        values: Mapping[str, FloatArray],
        specified: Mapping[str, FloatArray],
        numbers: TermField,
    ) -> bool:
        mine, theirs = self.mine.of_all(), self.theirs.of_all()
        if all(mine[a] == theirs[b] for a, b in self.pair.outputs.items()):
            return False
        fresh = _Frontier(numbers, frozenset(mine.values()) & frozenset(theirs.values()))
        ours = Terms(self.pair.impl.graph, numbers, {})
        others = Terms(self.pair.spec.graph, numbers, {})
        for a, b in self._alike(mine, theirs, values, specified):
            self.tried.add((a, b))
            fresh.enter(ours, mine, a)
            fresh.enter(others, theirs, b)
            if ours.key(a) == others.key(b):
                self.mine.merged[a] = theirs[b]
                self.theirs.merged[b] = theirs[b]
                return True
        return False

    def _alike(
        self,
        mine: Mapping[str, int],
        theirs: Mapping[str, int],
        values: Mapping[str, FloatArray],
        specified: Mapping[str, FloatArray],
    ) -> Iterator[tuple[str, str]]:
        """Pairs of tensors of no common class with nearly equal values, in order."""
        ours, others = frozenset(mine.values()), frozenset(theirs.values())
        open_: dict[tuple[int, ...], list[str]] = {}
        for b in _computed(self.pair.spec.graph):
            if theirs[b] not in ours:
                open_.setdefault(specified[b].shape, []).append(b)
        for a in _computed(self.pair.impl.graph):
            if mine[a] in others:
                continue
            for b in open_.get(values[a].shape, ()):
                if (a, b) not in self.tried and _near(values[a], specified[b]):
                    yield a, b


@dataclass
class _Frontier:
    """Variables for tensors of `shared` classes, one array for each."""

    numbers: TermField
    shared: frozenset[int]
    variables: dict[tuple[int, tuple[int, ...]], ObjectArray] = field(default_factory=dict)

    def enter(self, terms: Terms, classes: Mapping[str, int], tensor: str) -> None:
        """Gives variables to what the tensor comes of."""
        graph, writers = terms.graph, program_of(terms.graph).writers
        todo, seen = [tensor], set[str]()
        while todo:
            at = todo.pop()
            if at in seen or at in terms.known or graph.is_constant(at):
                continue
            seen.add(at)
            if classes[at] in self.shared or at not in writers:
                key = classes[at], graph.types[at].shape
                if key not in self.variables:
                    self.variables[key] = self.numbers.variables(graph.types[at].shape)
                terms.known[at] = self.variables[key]
            else:
                todo += writers[at].reads


def _constant(shape: tuple[int, ...], *values: Any) -> tuple[Any, ...]:
    """What a constant is known by."""
    while shape[:1] == (1,):  # broadcasting adds such axes by itself
        shape = shape[1:]
    return "constant", shape, *values


def _computed(graph: Graph) -> Iterator[str]:
    for step in program_of(graph).steps:
        if graph.types[step.output].dtype.is_float:
            yield step.output


def _near(a: FloatArray, b: FloatArray) -> bool:
    """Are these numbers, and no further apart than float64 makes equal ones?"""
    mine, other = a.astype(np.float64), b.astype(np.float64)
    if not (np.all(np.isfinite(mine)) and np.all(np.isfinite(other))):
        return False
    size = float(np.max(np.abs(other), initial=0.0))
    return float(np.max(np.abs(mine - other), initial=0.0)) <= _ALIKE * size
