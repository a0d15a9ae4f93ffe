"""That the label is the same over the domain: of the real network and of every execution."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.claims.kind import Asked, ClaimKind, EpsilonUse
from refine.claims.unsafe import kept_out
from refine.domain.box import Box
from refine.domain.properties import Conjunction, Property, Row
from refine.results.verdict import Result
from refine.witness.witness import real_outputs

_NAME = "argmax"


def _settled(asked: Asked) -> Result:
    graph = asked.side.graph
    output = _scores(graph, asked.text)
    label = _label(graph, output, asked.domain.boxes[0])
    unsafe = other_labels(graph, output, label)
    statement = f"the largest of '{output}' is element {label}, over the reals and as it runs"
    return kept_out(asked, unsafe, statement)


def other_labels(graph: Graph, output: str, label: int) -> Property:
    """Scores of which another element is the first largest (ArgMax of ONNX takes the first)."""
    before = graph.outputs[: graph.outputs.index(output)]
    start, size = sum(graph.types[t].size for t in before), graph.types[output].size
    one, zero = Fraction(1), Fraction(0)
    rows = (
        Row({start + label: one, start + j: -one}, {}, at_most=zero, strict=j > label)
        for j in range(size)
        if j != label
    )
    unsafe = tuple(Conjunction({}, (row,)) for row in rows)
    return Property(unsafe, f"labels of '{output}' other than {label}", both=True)


def _scores(graph: Graph, text: str) -> str:
    """The output whose largest element is the label. Raises ModelError."""
    named = text.partition(":")[2].strip()
    rows = [
        t
        for t in graph.outputs
        if graph.types[t].dtype.is_float
        and graph.types[t].size == max(graph.types[t].shape, default=1) > 1
    ]
    if named:
        if named not in rows:
            raise ModelError(f"output '{named}' is no row of scores; {_known(rows)}")
        return named
    if len(rows) != 1:
        raise ModelError(f"argmax is of one row of scores; {_known(rows)}: argmax:NAME says which")
    return rows[0]


def _known(rows: list[str]) -> str:
    return f"the model has {', '.join(map(repr, rows)) or 'none'}"


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
        epsilon=EpsilonUse.NONE,
        reads=lambda text: text.partition(":")[0].strip() == _NAME,
    ),
)
