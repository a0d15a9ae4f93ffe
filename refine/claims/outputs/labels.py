"""Labels: which row of scores a label comes from, and the scores of which another one comes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.program import program_of
from encoders.traits import Discontinuity
from onnx_import.errors import ModelError, shorten
from onnx_import.graph import Array, Graph
from refine.domain.box import elements_before
from refine.domain.properties import Conjunction, Property, Row
from refine.witness.witness import real_outputs

_NOTHING = Fraction(0)
_INDEXED = re.compile(r"(.*)\[\s*([0-9]+)\s*\]", re.DOTALL)


@dataclass(frozen=True)
class Labelled:
    """Where labels come from: the row of scores, and the output that is the label, where the model
    gives that instead."""

    scores: str
    label: str | None = None

    def widened(self, graph: Graph) -> Graph:
        """The graph with the scores among its outputs."""
        if self.scores in graph.outputs:
            return graph
        return replace(graph, outputs=(*graph.outputs, self.scores))

    def lost(self, graph: Graph, contract: RuntimeContract) -> Fraction:
        """What the difference of two scores may lose before the label is made: what makes it may
        flush both."""
        if self.label is None or contract.exact:
            return _NOTHING
        return 2 * Fraction(contract.format_of(graph.types[self.scores].dtype).smallest_normal)


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


def kept_statement(scores: str, label: int) -> str:
    """What is claimed of the label of a row of scores."""
    return f"the largest of '{scores}' is element {label}, over the reals and as it runs"


def labelled(graph: Graph, named: str, way: str) -> Labelled:
    """The output whose largest element is the label, or that is the label: the one of that name, or
    the only one. `way` says how one is named. Raises ModelError."""
    rows = [Labelled(t) for t in graph.outputs if _is_row(graph, t)]
    rows += [found for t in graph.outputs if (found := _of_label(graph, t)) is not None]
    all_rows = rows
    if named:
        rows = [r for r in rows if named in (r.scores, r.label)]
    if len(rows) != 1:
        names = ", ".join(f"'{r.label or r.scores}'" for r in all_rows) or "none"
        which = f", and '{shorten(named)}' is not one" if named else ""
        raise ModelError(
            "a label is that of one row of scores, or of an output that is made of one"
            f"{which}; the model has {names}{f': {way}' if all_rows else ''}"
        )
    return rows[0]


def chosen(graph: Graph, text: str, way: str) -> tuple[Labelled, int | None]:
    """The row that a text names, and the label, where it names one: `LABEL`, `NAME`, `NAME[LABEL]`
    or nothing. Raises ModelError."""
    name, label = text, None
    if text.isdecimal() and text.isascii():
        name, label = "", text
    elif (found := _INDEXED.fullmatch(text)) is not None and text not in graph.outputs:
        name, label = found[1].strip(), found[2]
    row = labelled(graph, name, way)
    size = graph.types[row.scores].size
    if label is not None and (len(label) > len(str(size)) or int(label) >= size):
        raise ModelError(
            f"there is no label {shorten(label)}: '{row.scores}' has labels 0 to {size - 1}"
        )
    return row, None if label is None else int(label)


def label_at(graph: Graph, scores: str, inputs: Mapping[str, Array]) -> int:
    """The label of the real network on one input; `scores` is one of its outputs."""
    every = real_outputs(graph, inputs)[scores]
    return int(np.argmax([-np.inf if value is None else float(value.lo) for value in every]))


def has_label(graph: Graph, scores: str, inputs: Mapping[str, Array], label: int) -> bool:
    """Is this surely the label of the real network on one input?"""
    every = real_outputs(graph, inputs)[scores]
    mine = every[label]
    return mine is not None and all(
        other is not None and (other.hi < mine.lo or (i > label and other.hi <= mine.lo))
        for i, other in enumerate(every)
        if i != label
    )


def _is_row(graph: Graph, tensor: str) -> bool:
    kind = graph.types[tensor]
    return kind.dtype.is_float and kind.size == max(kind.shape, default=1) > 1


def _of_label(graph: Graph, output: str) -> Labelled | None:
    """An output that is the first largest of a row of scores, moved at most."""
    writers, tensor = program_of(graph).writers, output
    while tensor in writers:
        step = writers[tensor]
        if step.operator.jump is Discontinuity.LARGEST and not graph.types[tensor].dtype.is_float:
            first = not step.node.attributes.get("select_last_index", 0)
            scores = step.node.inputs[0]
            one = graph.types[output].size == 1 and _is_row(graph, scores)
            return Labelled(scores, output) if first and one and scores in writers else None
        if not step.operator.movement or len(step.reads) != 1:
            return None
        (tensor,) = step.reads
    return None
