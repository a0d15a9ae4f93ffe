"""That the label is the same over the domain: of the real network and of every execution."""

from __future__ import annotations

from fractions import Fraction

from onnx_import.graph import Graph
from refine.claims.claim import Words
from refine.claims.kind import Asked, ClaimKind, EpsilonUse
from refine.claims.outputs.labels import chosen, kept_statement, label_at, other_labels
from refine.claims.unsafe import kept_out, reached_again
from refine.domain.box import Box, elements_before
from refine.domain.properties import Conjunction, Property, Row
from refine.results.verdict import Result

_NAME = "argmax"
WORDS = Words(
    holds="the label is the same over the reals and in every allowed execution, all of it finite",
    broken="an input of the domain has another label in an allowed execution, decided exactly",
    open="it is not shown that the label stays the same",
)
_NAMING = "name one, as --claim argmax:NAME or argmax:NAME[LABEL] or, of stable, --output NAME"


def _settled(asked: Asked) -> Result:
    graph = asked.side.graph
    found, label = chosen(graph, asked.text.partition(":")[2].strip(), _NAMING)
    wide = found.widened(graph)
    if label is None:
        label = _label(wide, found.scores, asked.domain.boxes[0])
    unsafe = other_labels(wide, found.scores, label, found.lost(graph, asked.side.contract))
    statement = kept_statement(found.scores, label)
    if found.label is None:
        return kept_out(asked, unsafe, statement, words=WORDS)
    apart = _labels_apart(graph, found.label, label)
    return kept_out(asked, apart, statement, (wide, unsafe), WORDS)


def _labels_apart(graph: Graph, output: str, label: int) -> Property:
    """The label that the model gives is another one."""
    place, one = elements_before(graph, graph.outputs, output), Fraction(1)
    less = Row({place: one}, {}, at_most=Fraction(label), strict=True)
    more = Row({place: -one}, {}, at_most=Fraction(-label), strict=True)
    unsafe = (Conjunction({}, (less,)), Conjunction({}, (more,)))
    return Property(unsafe, f"values of '{output}' other than {label}", both=True)


def _label(graph: Graph, output: str, box: Box) -> int:
    """That of the real network in the middle of a box."""
    middle = {n: box.nearest(n, 0.5 * lo + 0.5 * box.hi[n]) for n, lo in box.lo.items()}
    return label_at(graph, output, box.real_point(middle))


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
