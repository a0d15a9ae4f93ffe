"""A normalisation as the nodes that it could be written out as, of which functionals of differences
and values keep what a row's numbers share: its mean, and its σ.

One operator bounds each normalised number by itself around the middle of its row. Where rows vary
little, nodes are up to 30 times tighter two layers on; where they vary much, the operator is. Both
are bounded, and the better carries functionals on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from encoders.arithmetic.canonical_terms import TermsTooLarge
from encoders.arithmetic.term_field import TermField
from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import EXACT
from encoders.families.rows.spelled import AsNodes, as_nodes
from encoders.functions.accuracy import Transcendental
from encoders.numbers.enclosure import Interval
from encoders.program import Program, Step, forward, program_of, real_step, step_of
from encoders.relaxations.rows import rows_along
from onnx_import.graph import build_graph
from refine.bounds.backward import Maps
from refine.bounds.local.errors import Run, Runs

_WORK = 20_000_000  # terms touched to prove one
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


def _axes_of(shape: tuple[int, ...], positions: object) -> tuple[int, ...] | None:
    """The trailing axes along which rows at these flat positions lie; None for others."""
    for first in range(len(shape)):
        axes = tuple(range(first, len(shape)))
        flat = np.arange(int(np.prod(shape))).reshape(1, *shape)
        if np.array_equal(rows_along(shape, axes).split(flat)[0], np.asarray(positions)):
            return axes
    return None


def _is_same(step: Step, made: AsNodes, axes: tuple[int, ...]) -> bool:
    """Do operator and nodes make the same terms? Asked of one row."""
    kind = step.site.type_of(0)
    one = tuple(n if i in axes else 1 for i, n in enumerate(kind.shape))
    stored = tuple(
        None if c is None else (c.dtype.str, c.shape, c.tobytes()) for c in step.site.constants
    )
    attributes = tuple(sorted((k, repr(v)) for k, v in step.node.attributes.items()))
    return _proved(_Question((step.node.op, step.node.opset, attributes, stored, one), step, made))


@dataclass(frozen=True)
class _Question:
    """Whether an operator is the nodes; `asked` is all that the answer hangs on."""

    asked: tuple[object, ...]
    step: Step
    made: AsNodes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Question) and self.asked == other.asked

    def __hash__(self) -> int:
        return hash(self.asked)


@lru_cache(maxsize=64)
def _proved(question: _Question) -> bool:
    step, made = question.step, question.made
    source, end = step.reads[0], made.nodes[-1].outputs[0]
    kind = step.site.type_of(0)
    one = question.asked[-1]
    assert isinstance(one, tuple)
    small = replace(kind, shape=one)
    types = {
        t: k if t in made.constants else replace(k, shape=_of_one(k.shape, kind.shape, one))
        for t, k in made.types.items()
    }
    types |= {source: small, end: small}
    graph = build_graph(made.nodes, types, made.constants, inputs=(source,), outputs=(end,))
    given = (small, *step.site.inputs[1:])
    alone = replace(step, site=replace(step.site, inputs=given, outputs=(small,)))
    field = TermField(_WORK)
    values = {source: field.variables(one)}
    try:
        (meant,) = real_step(alone, values, field)
        nodes = forward(program_of(graph), values, lambda node, v: real_step(node, v, field))
    except (TermsTooLarge, Transcendental, ArithmeticError, LookupError, TypeError, ValueError):
        return False
    if meant.shape != nodes[end].shape:
        return False
    pairs = zip(meant.ravel().tolist(), nodes[end].ravel().tolist(), strict=True)
    return all(a.number == b.number for a, b in pairs)


def _of_one(
    shape: tuple[int, ...], whole: tuple[int, ...], one: tuple[int, ...]
) -> tuple[int, ...]:
    return one if shape == whole else (1,) * len(shape)
