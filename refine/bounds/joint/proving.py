"""Whether nodes do to the rows of a tensor what an operator does: both make the same terms.

Each row of the result comes of the same row alone, of nodes that add up along axes and of those on
single elements alike, so that one row of the tensor's length tells.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import prod

from encoders.arithmetic.canonical_terms import TermsTooLarge
from encoders.arithmetic.term_field import TermField
from encoders.functions.accuracy import Transcendental
from encoders.program import Step, forward, program_of, real_step
from onnx_import.graph import Graph

_WORK = 20_000_000  # terms touched to prove one


@dataclass(frozen=True)
class Question:
    """Whether a step on one row is what these nodes are, which read the same row; `asked` is all
    that the answer hangs on."""

    asked: tuple[object, ...]
    step: Step = field(compare=False)
    nodes: Graph = field(compare=False)


def one_row(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one row along these axes of a tensor of this shape."""
    return tuple(n if i in axes else 1 for i, n in enumerate(shape))


def of_one_row(nodes: Graph, axes: tuple[int, ...]) -> Graph | None:
    """Nodes that read one tensor, on one row of it; None where they make of rows neither rows nor
    single numbers."""
    (source,) = nodes.inputs
    whole = nodes.types[source].shape
    one = one_row(whole, axes)
    types = dict(nodes.types)
    for tensor in types.keys() - nodes.constants.keys():
        kind = types[tensor]
        if kind.shape != whole and prod(kind.shape) * prod(one) != prod(whole):
            return None
        shape = one if kind.shape == whole else (1,) * len(kind.shape)
        types[tensor] = replace(kind, shape=shape)
    return replace(nodes, types=types)


@lru_cache(maxsize=128)
def is_same(question: Question) -> bool:
    """Do both make the same terms of the same variables?"""
    step, nodes = question.step, question.nodes
    (source,), (end,) = nodes.inputs, nodes.outputs
    field_ = TermField(_WORK)
    values = {source: field_.variables(nodes.types[source].shape)}
    try:
        (meant,) = real_step(step, values, field_)
        made = forward(program_of(nodes), values, lambda node, v: real_step(node, v, field_))[end]
    except (TermsTooLarge, Transcendental, ArithmeticError, LookupError, TypeError, ValueError):
        return False
    if meant.shape != made.shape:
        return False
    pairs = zip(meant.ravel().tolist(), made.ravel().tolist(), strict=True)
    return all(a.number == b.number for a, b in pairs)
