"""Where nodes spell out a formula of one number: x·sigmoid(x), x·(1 + erf(x/√2))/2, log(1 + eˣ).

Bounded node by node such a formula is a product of strangers, although both factors hang on the
same number. Here is found which nodes make one up; what it is as a curve is asked of that.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TypeAlias, cast

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.functions.curve import Number, Reals
from encoders.operator import Field
from encoders.program import Program, Step, forward, program_of, real_step
from encoders.traits import Absorption
from onnx_import.graph import Graph, build_graph

_MOST_NODES = 24

_Key: TypeAlias = tuple[object, ...]


@dataclass(frozen=True)
class Body:
    """A formula of one number as a graph: of single numbers, `source` to `result`.

    Two bodies are equal where their nodes are, whatever tensors are called.
    """

    key: _Key
    graph: Graph = field(compare=False)

    @property
    def source(self) -> str:
        """The tensor that it is a formula of."""
        return self.graph.inputs[0]

    def real(self, reals: Reals, x: Number) -> Number:
        """The formula over the numbers of a field, of an array of them.

        Raises Transcendental where an operator asks for what the field has not.
        """
        field = cast(Field, reals)
        given: Mapping[str, ObjectArray] = {self.source: np.asarray(x)}
        made = forward(
            program_of(self.graph), given, lambda step, values: real_step(step, values, field)
        )
        return made[self.graph.outputs[0]]

    def of_shape(self, shape: tuple[int, ...]) -> Graph:
        """The same graph for as many numbers at once."""
        held = self.graph.constants
        types = {
            t: kind if t in held else replace(kind, shape=shape)
            for t, kind in self.graph.types.items()
        }
        nodes, (end,) = self.graph.order, self.graph.outputs
        return build_graph(tuple(nodes), types, held, inputs=(self.source,), outputs=(end,))


@dataclass(frozen=True)
class Formula:
    """The steps of a program that spell out a formula of one tensor, in order, and the nodes before
    the last that nothing else reads."""

    steps: tuple[Step, ...]
    body: Body
    inside: frozenset[str]

    @property
    def end(self) -> Step:
        """The step that gives the result."""
        return self.steps[-1]

    @property
    def source(self) -> str:
        """The tensor of the program that it is a formula of, element by element."""
        return self.body.source


def formulas_of(program: Program) -> Mapping[str, tuple[Formula, ...]]:
    """Formulas that a program spells out, by the name of the first step of each."""
    place = {t: i for i, step in enumerate(program.steps) for t in step.writes}
    covered: set[str] = set()
    found: dict[str, list[Formula]] = {}
    for step in reversed(program.steps):
        if step.name in covered:
            continue
        region = _region(program, step, place)
        if region is None:
            continue
        inside = _inside(program, step, region)
        body = body_of(program.graph, region, step.output)
        assert body is not None
        found.setdefault(region[0].name, []).append(Formula(region, body, inside))
        covered |= inside
    return {name: tuple(formulas) for name, formulas in found.items()}


def _region(program: Program, end: Step, place: Mapping[str, int]) -> tuple[Step, ...] | None:
    """The steps back to the farthest single tensor of which the step's result is a formula; None
    where nothing is gained by taking them together."""
    steps: list[Step] = []
    best: tuple[Step, ...] | None = None
    ends = {end.output}
    while len(steps) < _MOST_NODES:
        tensor = max(ends, key=lambda t: place.get(t, -1))
        step = program.writers.get(tensor)
        if step is None or not is_scalar(step, program.graph):
            break
        if len(ends) == 1 and steps and _stands_alone(step):
            break
        steps.append(step)
        ends = (ends - {tensor}) | set(step.reads)
        if len(ends) == 1 and _is_worth_it(steps):
            best = tuple(reversed(steps))
    return best


def _is_worth_it(steps: Iterable[Step]) -> bool:
    """Does more than one step curve, or does one of two tensors beside another that bends?"""
    bending = [step for step in steps if not step.affine]
    curved = [step for step in bending if not step.operator.branches]
    both = any(len(step.reads) > 1 for step in curved)
    return len(curved) > 1 or (both and len(bending) > 1)


def _stands_alone(step: Step) -> bool:
    """Is more known of it by itself than what is gained? Phases of a hinge, roots of squares."""
    root = step.operator.absorbs
    return step.operator.positive_part or (root is not None and root.by is Absorption.ROOT)


def is_scalar(step: Step, graph: Graph, fixed: Container[str] = ()) -> bool:
    """Is it a formula of single elements in one place of its inputs, and of single numbers? Tensors
    that are `fixed` are such numbers."""
    formula = step.operator.per_element or step.operator.element is not None
    if not formula or step.operator.jump is not None or len(step.writes) != 1 or not step.reads:
        return False
    made = step.site.outputs[0]
    kinds = [graph.types[t] for t in step.reads if t not in fixed]
    alike = all(kind.shape == made.shape and kind.dtype.is_float for kind in (*kinds, made))
    stored = [c for c in step.site.constants if c is not None]
    one = all(np.size(c) == 1 and c.ndim <= len(made.shape) for c in stored)
    return alike and one and not graph.random_masks


def _inside(program: Program, end: Step, region: tuple[Step, ...]) -> frozenset[str]:
    """The nodes before the last of which no other step reads what they write."""
    names: Set[str] = {end.name}
    for step in reversed(region[:-1]):
        tensor = step.output
        readers = {r.name for r in program.readers(tensor)}
        if readers <= names and tensor not in program.graph.outputs:
            names = names | {step.name}
    return frozenset(names - {end.name})


def body_of(graph: Graph, region: Sequence[Step], result: str) -> Body | None:
    """The formula that these steps of a graph spell out; None where they are not one of one
    tensor."""
    if not all(is_scalar(step, graph) for step in region):
        return None
    made = {t for step in region for t in step.writes}
    read = {t for step in region for t in step.reads} - made
    if len(read) != 1 or result not in made:
        return None
    (source,) = read
    nodes = tuple(step.node for step in region)
    constants = {
        t: np.asarray(graph.constants[t]).reshape(())
        for n in nodes
        for t in n.inputs
        if t and graph.is_constant(t)
    }
    used = {t for n in nodes for t in (*n.inputs, *n.outputs) if t}
    types = {t: replace(graph.types[t], shape=()) for t in used}
    body = build_graph(nodes, types, constants, inputs=(source,), outputs=(result,))
    return Body(key_of(body), body)


def key_of(body: Graph) -> _Key:
    """What graphs of one input share that have the same nodes in the same order, and types."""
    place = {body.inputs[0]: 0}
    parts: list[object] = [body.types[body.inputs[0]].dtype]
    for node in body.order:
        read: list[object] = []
        for t in node.inputs:
            stored = body.constants.get(t) if t else None
            read.append(place.get(t) if stored is None else (stored.dtype.str, stored.tobytes()))
        for t in node.outputs:
            place[t] = len(place)
        kinds = tuple(body.types[t].dtype for t in node.outputs if t)
        attributes = tuple(sorted((k, repr(v)) for k, v in node.attributes.items()))
        parts.append((node.domain, node.op, node.opset, attributes, tuple(read), kinds))
    return tuple(parts)
