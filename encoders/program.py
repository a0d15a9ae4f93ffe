"""The resolved program: every node of a graph with its operator and its surroundings, found once.

A `Graph` is what is imported and shown: tensors joined by nodes, which name operators. A `Program`
is what is computed on: a `Step` for each node in topological order, with the operator that the name
stands for, the site it stands at, the tensors it reads that vary, and the ways from a tensor to the
step that writes it and to those that read it. It lies above the operators, since it needs them, and
so not beside the graph in `onnx_import`, which holds no meaning of any operator.

There is one forward walk and one backward walk. What is computed on the way (rounded numbers, exact
ones, terms, ranges, functionals) is the argument: see `forward` and `backward`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, TypeVar

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.values import Inputs
from encoders.contract.contract import RuntimeContract
from encoders.operator import Field, Operator, Site, is_affine, site_of
from encoders.registry import lookup
from encoders.scheduling import reduction_at
from onnx_import.graph import Array, Graph, Node, TensorType
from onnx_import.passes.late import explained

T = TypeVar("T")
Arrived = TypeVar("Arrived")


@dataclass(frozen=True)
class Step:
    """One node, resolved. `reads` are the tensors among its inputs that vary, by input position (a
    tensor that is read twice is there twice), and `writes` its outputs, omitted ones left out.
    `runs_at` is where the node stands as it runs, if that is another site than the one whose
    tensors are bounded: rules of a contract ask of that."""

    node: Node
    operator: Operator
    site: Site
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    runs_at: Site | None = None

    @property
    def name(self) -> str:
        """The node's name, which no other step of the program has."""
        return self.node.name

    @property
    def output(self) -> str:
        """The first tensor that it writes."""
        return self.writes[0]

    @property
    def running(self) -> Site:
        """Where the node stands as it runs."""
        return self.site if self.runs_at is None else self.runs_at

    @property
    def constants(self) -> dict[str, Array]:
        """The constants among its inputs."""
        inputs = zip(self.node.inputs, self.site.constants, strict=True)
        return {tensor: held for tensor, held in inputs if held is not None}

    @cached_property
    def affine(self) -> bool:
        """Does nothing get lost when functionals are pulled back through it?"""
        return is_affine(self.operator, self.site)

    @cached_property
    def work(self) -> int:
        """About how many multiply-adds it takes."""
        return self.operator.work(self.site)

    @property
    def notes(self) -> tuple[str, ...]:
        """Where runtimes are known to part from the specification here."""
        return self.operator.notes(self.site)

    def check(self) -> None:
        """Raises UnsupportedModel, naming the node, for a use of the operator without a meaning."""
        self.operator.check(self.site)

    def holding(self, constants: Mapping[str, Array]) -> Step:
        """The step where these tensors, if it reads them, are constants of these values."""
        inputs = zip(self.node.inputs, self.site.constants, strict=True)
        held = tuple(constants.get(t, c) if t else None for t, c in inputs)
        return _step(self.node, self.operator, replace(self.site, constants=held))


@dataclass(frozen=True)
class Program:
    """The steps of a graph, in an order in which nothing is read before it is written."""

    graph: Graph
    steps: tuple[Step, ...]

    @cached_property
    def _named(self) -> Mapping[str, Step]:
        return {step.node.name: step for step in self.steps}

    @cached_property
    def writers(self) -> Mapping[str, Step]:
        """The step that writes a tensor; inputs and constants have none."""
        return {tensor: step for step in self.steps for tensor in step.writes}

    @cached_property
    def _readers(self) -> Mapping[str, tuple[Step, ...]]:
        found: dict[str, list[Step]] = {}
        for step in self.steps:
            for tensor in dict.fromkeys(step.reads):
                found.setdefault(tensor, []).append(step)
        return {tensor: tuple(steps) for tensor, steps in found.items()}

    def readers(self, tensor: str) -> tuple[Step, ...]:
        """The steps that read a tensor that varies, each once, in order."""
        return self._readers.get(tensor, ())

    def step(self, node: Node) -> Step:
        """The step of a node of the graph."""
        return self._named[node.name]

    @cached_property
    def work(self) -> int:
        """About how many multiply-adds all steps together take."""
        return sum(step.work for step in self.steps)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """Where runtimes are known to part from the specification in this graph."""
        return tuple(note for step in self.steps for note in step.notes)

    def ruled(self, contract: RuntimeContract) -> RuntimeContract:
        """The contract with those of its rules that count at some step."""
        if not contract.rules:
            return contract
        return contract.on(reduction_at(step.site) for step in self.steps)

    @cached_property
    def checked(self) -> Program:
        """The program, all of whose steps have a meaning.

        Raises UnsupportedModel, naming the node, if one has none.
        """
        for step in self.steps:
            with explained(self.graph.late, step.node.inputs):
                step.check()
        return self


def program_of(graph: Graph) -> Program:
    """The program of a graph, worked out when it is first asked for and kept with the graph.

    Raises UnsupportedModel, naming the node, for an operator, an opset of it or an attribute that
    has no meaning here.
    """
    return graph.once(_resolved)


def _resolved(graph: Graph) -> Program:
    steps = []
    for node in graph.order:
        with explained(graph.late, node.outputs):
            steps.append(step_of(graph, node))
    return Program(graph, tuple(steps))


def step_of(graph: Graph, node: Node) -> Step:
    """A single node resolved anew, for a graph that is made for one question about one node.

    Raises UnsupportedModel as `program_of` does.
    """
    return _step(node, lookup(node), site_of(graph, node))


def _step(node: Node, operator: Operator, site: Site) -> Step:
    reads = tuple(node.inputs[position] for position in site.variable)
    return Step(node, operator, site, reads, tuple(t for t in node.outputs if t))


def arguments(
    step: Step, values: Mapping[str, T], constant: Callable[[Array, TensorType], T]
) -> Inputs[T]:
    """What the semantics of the step receive, by input position: `constant` of a stored array and
    its type, and of a tensor that varies its value."""
    return step.site.arguments((values[t] for t in step.reads), constant)


def real_step(
    step: Step, values: Mapping[str, ObjectArray], field: Field
) -> tuple[ObjectArray, ...]:
    """What a step writes over the numbers of a field: arrays (samples, *tensor shape), as are those
    of what it reads."""
    given = arguments(step, values, lambda stored, _: field.constant(stored))
    return step.operator.real(step.site, given, field)


def forward(
    program: Program,
    given: Mapping[str, T],
    transform: Callable[[Step, Mapping[str, T]], Iterable[T]],
) -> dict[str, T]:
    """The value of every tensor that varies, given those of the graph's inputs.

    `transform(step, values)` gives the values of what a step writes from those of all tensors
    before it.
    """
    values = dict(given)
    for step in program.steps:
        values.update(zip(step.writes, transform(step, values), strict=True))
    return values


def on_demand(
    program: Program,
    tensor: str,
    known: dict[str, T],
    *,
    parts: Callable[[Step], Sequence[str]],
    made: Callable[[str, Step | None], T],
) -> T:
    """The value of one tensor, for which no others are worked out than it hangs on.

    `parts(step)` says of which of the tensors that the step reads values are wanted before its own,
    and `made(tensor, step)` gives that, step None where no step writes the tensor. All are entered
    into `known`, each once, and what is there is taken from there.
    """
    waiting = [tensor]
    while waiting:
        name = waiting[-1]
        step = program.writers.get(name)
        missing = [] if step is None else [t for t in parts(step) if t not in known]
        if missing:
            waiting += missing
            continue
        waiting.pop()
        if name not in known:
            known[name] = made(name, step)
    return known[tensor]


class Backward(Protocol[Arrived]):
    """What is carried backwards through a program, such as functionals of tensors."""

    def arrived(self, step: Step) -> Arrived | None:
        """What has been put on what the step writes, and is taken from there; None: nothing."""

    def carry(self, step: Step, arrived: Arrived) -> None:
        """Puts it on what the step reads instead."""


def backward(program: Program, semantics: Backward[Arrived]) -> None:
    """Carries what lies on tensors back to the graph's inputs: each step that something arrives
    at, once all that read from it have handed theirs on."""
    for step in reversed(program.steps):
        arrived = semantics.arrived(step)
        if arrived is not None:
            semantics.carry(step, arrived)
