"""That the label is the same over the domain: of the real network and of every execution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from encoders.program import program_of
from encoders.traits import Discontinuity
from onnx_import.errors import ModelError, shorten
from onnx_import.graph import Graph
from refine.claims.claim import Words
from refine.claims.kind import Asked, ClaimKind, EpsilonUse
from refine.claims.unsafe import kept_out, reached_again
from refine.domain.box import Box
from refine.domain.domain import elements_before
from refine.domain.properties import Conjunction, Property, Row
from refine.results.verdict import Result
from refine.witness.witness import real_outputs

_NAME = "argmax"
_WORDS = Words(
    holds="the label is the same over the reals and in every allowed execution, all of it finite",
    broken="an input of the domain has another label in an allowed execution, decided exactly",
    open="it is not shown that the label stays the same",
)
_NOTHING = Fraction(0)


@dataclass(frozen=True)
class _Labelled:
    """Where labels come from: the row of scores, and the output that is the label, where the model
    gives that instead."""

    scores: str
    label: str | None = None


def _settled(asked: Asked) -> Result:
    graph = asked.side.graph
    found = _labelled(graph, asked.text)
    outputs = graph.outputs if found.scores in graph.outputs else (*graph.outputs, found.scores)
    wide = replace(graph, outputs=outputs)
    label = _label(wide, found.scores, asked.domain.boxes[0])
    contract, kind = asked.side.contract, graph.types[found.scores].dtype
    lost = Fraction(0)
    if found.label is not None and not contract.exact:  # what reads the scores may flush two
        lost = 2 * contract.format_of(kind).smallest_normal
    unsafe = other_labels(wide, found.scores, label, lost)
    statement = f"the largest of '{found.scores}' is element {label}, over the reals and as it runs"
    if found.label is None:
        return kept_out(asked, unsafe, statement, words=_WORDS)
    apart = _labels_apart(graph, found.label, label)
    return kept_out(asked, apart, statement, (wide, unsafe), _WORDS)


def _labels_apart(graph: Graph, output: str, label: int) -> Property:
    """The label that the model gives is another one."""
    place, one = elements_before(graph, graph.outputs, output), Fraction(1)
    less = Row({place: one}, {}, at_most=Fraction(label), strict=True)
    more = Row({place: -one}, {}, at_most=Fraction(-label), strict=True)
    unsafe = (Conjunction({}, (less,)), Conjunction({}, (more,)))
    return Property(unsafe, f"values of '{output}' other than {label}", both=True)


def other_labels(graph: Graph, output: str, label: int, lost: Fraction = _NOTHING) -> Property:
    """Scores of which another element is the first largest (ArgMax of ONNX takes the first), or
    would be if the difference of two were off by `lost`."""
    start, size = elements_before(graph, graph.outputs, output), graph.types[output].size
    one = Fraction(1)
    rows = (
        Row({start + label: one, start + j: -one}, {}, at_most=lost, strict=j > label)
        for j in range(size)
        if j != label
    )
    unsafe = tuple(Conjunction({}, (row,)) for row in rows)
    return Property(unsafe, f"labels of '{output}' other than {label}", both=True)


def _labelled(graph: Graph, text: str) -> _Labelled:
    """The output whose largest element is the label, or that is the label. Raises ModelError."""
    named = text.partition(":")[2].strip()
    rows = [_Labelled(t) for t in graph.outputs if _is_row(graph, t)]
    rows += [found for t in graph.outputs if (found := _of_label(graph, t)) is not None]
    all_rows = rows
    if named:
        rows = [r for r in rows if named in (r.scores, r.label)]
    if len(rows) != 1:
        names = ", ".join(f"'{r.label or r.scores}'" for r in all_rows) or "none"
        which = f", and '{shorten(named)}' is not one" if named else ""
        way = ": name one, as --claim argmax:NAME or, of stable, --output NAME" if all_rows else ""
        raise ModelError(
            "argmax speaks of one row of scores, or of the label that is made of one"
            f"{which}; the model has {names}{way}"
        )
    return rows[0]


def _is_row(graph: Graph, tensor: str) -> bool:
    kind = graph.types[tensor]
    return kind.dtype.is_float and kind.size == max(kind.shape, default=1) > 1


def _of_label(graph: Graph, output: str) -> _Labelled | None:
    """An output that is the first largest of a row of scores, moved at most."""
    writers, tensor = program_of(graph).writers, output
    while tensor in writers:
        step = writers[tensor]
        if step.operator.jump is Discontinuity.LARGEST and not graph.types[tensor].dtype.is_float:
            first = not step.node.attributes.get("select_last_index", 0)
            scores = step.node.inputs[0]
            one = graph.types[output].size == 1 and _is_row(graph, scores)
            return _Labelled(scores, output) if first and one and scores in writers else None
        if not step.operator.movement or len(step.reads) != 1:
            return None
        (tensor,) = step.reads
    return None


def _label(graph: Graph, output: str, box: Box) -> int:
    """That of the real network in the middle of a box."""
    middle = {n: box.nearest(n, 0.5 * lo + 0.5 * box.hi[n]) for n, lo in box.lo.items()}
    scores = [
        -np.inf if value is None else float(value.lo)
        for value in real_outputs(graph, box.real_point(middle))[output]
    ]
    return int(np.argmax(scores))


CLAIMS = (
    ClaimKind(
        name=_NAME,
        summary="the label is the same over the domain, of the real network and of what runs",
        settle=_settled,
        again=reached_again,
        epsilon=EpsilonUse.NONE,
        reads=lambda text: text.partition(":")[0].strip() == _NAME,
    ),
)
