"""Where nodes spell out a normalisation of rows: (x − μ)/√(mean((x − μ)²) + ε), or without μ.

Files of operator sets before 17 spell LayerNormalization out, and most of RMSNormalization still
do. Bounded node by node the quotient is one of strangers, and a row that varies by half its length
costs a hundred times what it is worth.

Which node does what is told by what operators say of themselves, and that together they are the
normalisation is proved: the nodes' real semantics and the operator's give the same terms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from encoders.families.rows.spelled import spelled_normalization
from encoders.operator import Site
from encoders.program import Program, Step
from encoders.traits import Absorption
from onnx_import.graph import Graph, TensorType, build_graph
from refine.bounds.joint.finding import key_of
from refine.bounds.joint.proving import Question, is_same, of_one_row


@dataclass(frozen=True)
class SpelledRows:
    """The steps of a program that normalise rows of a tensor, in order, the quotient last; which of
    them squares."""

    steps: tuple[Step, ...]
    source: str
    axes: tuple[int, ...]
    centred: bool
    epsilon: float
    square: Step

    @property
    def end(self) -> Step:
        """The step that gives the normalised rows."""
        return self.steps[-1]

    def site(self, kind: TensorType) -> Site:
        """Where the operator stands that does the same to a tensor of this type."""
        node = replace(
            self.end.node, inputs=(self.source,), attributes={"epsilon": self.epsilon}, opset=1
        )
        return Site(node, (kind,), (kind,), (None,))


def rows_of(program: Program) -> Mapping[str, tuple[SpelledRows, ...]]:
    """Normalisations that a program spells out, by the name of the last step of each."""
    found: dict[str, list[SpelledRows]] = {}
    for step in program.steps:
        for rows in _around(program, step):
            if _is_one(rows, program.graph):
                found.setdefault(rows.end.name, []).append(rows)
    return {name: tuple(rows) for name, rows in found.items()}


def _around(program: Program, root: Step) -> Iterator[SpelledRows]:
    """What may be a normalisation whose root this step is."""
    absorbs = root.operator.absorbs
    if absorbs is None or absorbs.by is not Absorption.ROOT or not _is_plain(root, 1):
        return
    shifted = program.writers.get(root.reads[0])
    if shifted is None or not shifted.affine or not _is_plain(shifted, 1):
        return
    stored = [c for c in shifted.site.constants if c is not None]
    average = program.writers.get(shifted.reads[0])
    if len(stored) != 1 or stored[0].size != 1 or average is None or not _averages(average):
        return
    square = program.writers.get(average.reads[0])
    if square is None or square.operator.squares is None or len(set(square.reads)) != 1:
        return
    whole, (deviation,) = program.graph.types[average.reads[0]], set(square.reads)
    axes = _axes(whole.shape, average.site.outputs[0].shape)
    before = _less_mean(program, deviation, average)
    epsilon = float(stored[0].reshape(-1)[0])
    if axes is None or not 0.0 <= epsilon < np.inf or not _floats(program, root, deviation):
        return
    source = deviation if not before else before[0].reads[0]
    inner = (*before, square, average, shifted, root)
    for last in _quotients(program, deviation, root):
        steps = (*inner, *last)
        yield SpelledRows(steps, source, axes, bool(before), epsilon, square)


def _is_plain(step: Step, reads: int) -> bool:
    """Is it one operation on so many tensors, computed without a function of a library?"""
    return len(step.reads) == reads and len(step.writes) == 1 and not step.operator.functions


def _averages(step: Step) -> bool:
    """Does it take sums, or means, of as many numbers as it reads for each that it writes?"""
    summands = step.operator.summands
    if summands is None or not _is_plain(step, 1):
        return False
    read, made = step.site.type_of(step.site.variable[0]), step.site.outputs[0]
    return bool(made.size) and summands(step.site) * made.size == read.size


def _axes(whole: tuple[int, ...], reduced: tuple[int, ...]) -> tuple[int, ...] | None:
    """The axes along which a tensor is reduced to length 1; None where it is changed otherwise."""
    if len(whole) != len(reduced):
        return None
    axes = tuple(i for i, (n, m) in enumerate(zip(whole, reduced, strict=True)) if n != m)
    return axes if axes and all(reduced[i] == 1 for i in axes) else None


def _less_mean(program: Program, tensor: str, average: Step) -> tuple[Step, ...]:
    """The steps that take the mean of a tensor and take it away; none, where that is not what this
    tensor is."""
    less = program.writers.get(tensor)
    if less is None or not less.affine or not _is_plain(less, 2):
        return ()
    if any(c is not None for c in less.site.constants):
        return ()
    for source, other in (less.reads, less.reads[::-1]):
        mean = program.writers.get(other)
        same = mean is not None and mean.reads == (source,) and _averages(mean)
        if mean is not None and same and mean.site.outputs[0] == average.site.outputs[0]:
            return (mean, less)
    return ()


def _quotients(program: Program, deviation: str, root: Step) -> Iterator[tuple[Step, ...]]:
    """Steps that divide by the root, or multiply with its reciprocal."""
    for reader in program.readers(root.output):
        if _is_plain(reader, 2) and set(reader.reads) == {deviation, root.output}:
            yield (reader,)
        if not _is_plain(reader, 1) or reader.affine:
            continue
        for last in program.readers(reader.output):
            if _is_plain(last, 2) and set(last.reads) == {deviation, reader.output}:
                yield (reader, last)


def _floats(program: Program, root: Step, deviation: str) -> bool:
    """Are all of one floating-point type?"""
    kinds = program.graph.types[deviation].dtype, root.site.outputs[0].dtype
    return kinds[0].is_float and kinds[0] is kinds[1]


def _is_one(rows: SpelledRows, graph: Graph) -> bool:
    """Are the steps the normalisation, over the reals?"""
    kinds = {graph.types[t].dtype for step in rows.steps for t in (*step.reads, step.output)}
    if len(kinds) != 1 or graph.random_masks:
        return False
    nodes = of_one_row(nodes_alone(graph, rows.steps, rows.source), rows.axes)
    if nodes is None:
        return False
    row = nodes.types[rows.source]
    operator = spelled_normalization(rows.axes, centred=rows.centred, squaring=1)
    step = Step(rows.end.node, operator, rows.site(row), (rows.source,), rows.end.writes)
    asked = key_of(nodes), row.shape, rows.epsilon, rows.axes, rows.centred
    return is_same(Question(asked, step, nodes))


def nodes_alone(graph: Graph, steps: tuple[Step, ...], source: str) -> Graph:
    """These steps of a graph as one that reads `source` and gives what the last writes."""
    nodes = tuple(step.node for step in steps)
    read = {t for n in nodes for t in n.inputs if t}
    constants = {t: graph.constants[t] for t in read if graph.is_constant(t)}
    types = {t: graph.types[t] for t in (*read, *(step.output for step in steps))}
    return build_graph(nodes, types, constants, inputs=(source,), outputs=(steps[-1].output,))
