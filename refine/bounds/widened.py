"""A program that reads one row, widened to read many: boxes side by side in one pass.

Where every tensor that varies has a first axis of length 1, and every step gives with more rows
along it what it gives of each row alone, a network of n rows is n networks of one. Its bounds over
a box of n rows are then bounds over n boxes, by the same lemmas applied to arrays n times as long;
and a functional of one row stays one of this row as it is pulled back, so that one array holds
those of all n (`Maps.kept`). What runs is the network of one row: rules of a contract are asked
about that.
"""

from __future__ import annotations

from dataclasses import replace

from encoders.program import Program, Step
from onnx_import.graph import Graph, TensorType


def widened(program: Program, rows: int) -> Program | None:
    """The program that does to each of so many rows what this one does to one; None where it is not
    known to be that."""
    graph = program.graph
    varied = (*graph.inputs, *(t for step in program.steps for t in step.writes))
    if any(t not in varied for t in graph.outputs):
        return None
    if any(graph.types[t].shape[:1] != (1,) for t in varied):
        return None
    if not all(_keeps_rows(step) for step in program.steps):
        return None
    types = dict(graph.types) | {t: _longer(graph.types[t], rows) for t in varied}
    wide = replace(graph, types=types)
    return Program(wide, tuple(widened_step(wide, step) for step in program.steps))


def _keeps_rows(step: Step) -> bool:
    """Is each row of what the step gives that of the same row alone?"""
    operator, site = step.operator, step.site
    if operator.element is None and not operator.per_element:
        return operator.rowwise(site)
    rank = len(site.outputs[0].shape)
    return all(len(site.type_of(i).shape) == rank for i in site.variable)


def _longer(kind: TensorType, rows: int) -> TensorType:
    return TensorType(kind.dtype, (rows, *kind.shape[1:]))


def widened_step(graph: Graph, step: Step) -> Step:
    """The step where its tensors have the types of this graph; rules still ask where it stands as
    it runs."""
    node, site = step.node, step.site
    read = tuple(graph.types[t] if t else None for t in node.inputs)
    written = tuple(graph.types[t] for t in step.writes)
    return replace(step, site=replace(site, inputs=read, outputs=written), runs_at=step.running)
