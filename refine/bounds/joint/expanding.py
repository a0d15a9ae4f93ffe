"""A normalisation as the nodes that it could be written out as, of which functionals of differences
and values keep what a row's numbers share: its mean, and its σ.

One operator bounds each normalised number by itself around the middle of its row. Where rows vary
little, nodes are up to 30 times tighter two layers on; where they vary much, the operator is. Both
are bounded, and the better carries functionals on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import EXACT
from encoders.families.rows.spelled import AsNodes, as_nodes
from encoders.numbers.enclosure import Interval
from encoders.program import Program, Step, step_of
from encoders.relaxations.rows import rows_along
from onnx_import.graph import build_graph
from refine.bounds.backward import Maps
from refine.bounds.joint.proving import Question, is_same, of_one_row
from refine.bounds.local.errors import Run, Runs

_MOST_NUMBERS = 4096  # of a tensor


@dataclass(frozen=True)
class Way:
    """Another way to bound a step: the maps of a program in which others stand in its place, those
    of them that no file has, the last of them, and what runs in place of each."""

    maps: Maps
    inner: tuple[Step, ...]
    last: Step
    runs: Runs | None


def expanded(maps: Maps, step: Step, contract: RuntimeContract) -> Way | None:
    """A normalisation as nodes over the reals, of which the last is off by what the operator's run
    is; None where it is not one along axes of a small tensor, or not proved to be these nodes."""
    site = step.site
    normalizes = step.operator.normalizes
    if normalizes is None or len(step.reads) != 1 or site.type_of(0).size > _MOST_NUMBERS:
        return None
    positions, centred = normalizes(site)
    whole = site.type_of(0).shape
    axes = _axes_of(whole, positions)
    stored = [whole, *(c.shape for c in site.constants if c is not None)]
    if axes is None or not _fits(stored):
        return None
    made = as_nodes(site, axes, centred=centred)
    graph = maps.program.graph
    graph = replace(
        graph,
        types={**graph.types, **made.types},
        constants={**graph.constants, **made.constants},
    )
    steps = tuple(step_of(graph, node) for node in made.nodes)
    if not _is_same(step, made, axes):
        return None
    before = maps.program.steps
    place = next(i for i, each in enumerate(before) if each.name == step.name)
    program = Program(graph, (*before[:place], *steps, *before[place + 1 :]))
    source = step.reads[0]

    def runs(inner: Step, held: Sequence[Interval]) -> Run:
        shape = inner.site.outputs[0].shape
        if inner.name != step.name:
            return Run(inner, np.zeros(shape), EXACT)
        x = maps.values[source].inflate(maps.errors[source])
        return Run(step, np.zeros(shape), contract, (x,))

    return Way(replace(maps, program=program), steps[:-1], steps[-1], runs)


def _fits(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Do parameters of these shapes, as they stand, leave a tensor of the first its shape?"""
    try:
        return np.broadcast_shapes(*shapes) == shapes[0]
    except ValueError:
        return False


def _axes_of(shape: tuple[int, ...], positions: npt.NDArray[np.intp]) -> tuple[int, ...] | None:
    """The trailing axes along which rows at these flat positions lie; None for others."""
    for first in range(len(shape)):
        axes = tuple(range(first, len(shape)))
        flat = np.arange(int(np.prod(shape))).reshape(1, *shape)
        if np.array_equal(rows_along(shape, axes).split(flat)[0], positions):
            return axes
    return None


def _is_same(step: Step, made: AsNodes, axes: tuple[int, ...]) -> bool:
    """Are these nodes what the operator is, over the reals?"""
    source, end, kind = step.reads[0], made.nodes[-1].outputs[0], step.site.type_of(0)
    types = {**made.types, source: kind, end: kind}
    whole = build_graph(made.nodes, types, made.constants, inputs=(source,), outputs=(end,))
    nodes = of_one_row(whole, axes)
    if nodes is None:
        return False
    row = nodes.types[source]
    site = replace(step.site, inputs=(row, *step.site.inputs[1:]), outputs=(row,))
    stored = tuple(
        None if c is None else (c.dtype.str, c.shape, c.tobytes()) for c in step.site.constants
    )
    attributes = tuple(sorted((k, repr(v)) for k, v in step.node.attributes.items()))
    asked = step.node.op, step.node.opset, attributes, stored, row.shape
    return is_same(Question(asked, replace(step, site=site), nodes))
