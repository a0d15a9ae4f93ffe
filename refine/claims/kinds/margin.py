"""The error of the margins between scores: what a proof over the reals has to leave for what runs.

With m* as the bound, a label that the real network keeps by more than m* is kept by every allowed
execution, whoever proved it of the real network.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, exactly_zero
from encoders.numbers.enclosure import FloatArray
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.bounds.properties.row_errors import ROWS, RowErrors
from refine.claims.assumptions import assumptions_of
from refine.claims.claim import Claim, Words, require_semantics
from refine.claims.kind import Asked, ClaimKind
from refine.claims.outputs.labels import Labelled, chosen, other_labels
from refine.claims.settle import settle
from refine.common.clock import Clock
from refine.common.rounding import float_up
from refine.domain.properties import Property
from refine.options.applicable import nameless_rules
from refine.results.theorem import theorem
from refine.results.verdict import Result

_NAME = "margin"
_NAMING = "name one, as margin:NAME or margin:NAME[LABEL]"
_MOST_PAIRS = 4096
_WORDS = Words(
    holds="every obligation is discharged and the error of the margin is at most eps",
    broken="an input of the domain has a margin with an error above eps, evaluated exactly",
    open="the proved bound on the error of the margin is above eps",
)


@dataclass(frozen=True)
class _Asked:
    """Between which scores: of one label and all others, or of every two."""

    row: Labelled
    label: int | None

    def unsafe(self, graph: Graph) -> Property:
        """All rows, label by label."""
        size = graph.types[self.row.scores].size
        labels = range(size) if self.label is None else (self.label,)
        parts = [other_labels(graph, self.row.scores, label).unsafe for label in labels]
        return Property(sum(parts, ()), f"margins of '{self.row.scores}'")

    def arranged(self, errors: FloatArray, size: int) -> FloatArray:
        """By label, the largest of its margins' errors; of one label, those over each other one."""
        if self.label is None:
            return np.asarray(np.max(errors.reshape(size, size - 1), axis=1))
        return np.asarray(np.insert(errors, self.label, 0.0))

    def arranged_radius(self, errors: Radius, size: int) -> Radius:
        """The same of what is proved."""
        if self.label is None:
            return errors.moved(lambda a: a.reshape(size, size - 1)).worst(axis=1)
        before, behind = slice(self.label), slice(self.label, None)
        own = exactly_zero(EXACT, (1,))
        return errors.moved(lambda a: a[before]).joined(
            [own, errors.moved(lambda a: a[behind])], axis=0
        )


def _settled(asked: Asked) -> Result:
    side, clock = asked.side, Clock(time.monotonic(), asked.options.timeout, asked.tell)
    graph, contract = side.graph, side.contract
    require_semantics(side)
    if graph.random_masks:
        raise ModelError("margins of a network that draws random numbers are not bounded")
    if asked.tolerance.by_output:
        raise ModelError("--claim margin takes one --eps, for every margin")
    between = _between(graph, asked.text.partition(":")[2].strip())
    wide, scores = between.row.widened(graph), between.row.scores
    lost = float_up(between.row.lost(graph, contract))
    claim = Claim(
        side,
        RowErrors(wide, contract, between.unsafe(wide), lost),
        quarry=None,
        assumptions=lambda domain: assumptions_of(graph, domain, contract),
        shown=lambda domain, witness, seed: None,
        notes=lambda proof: (*nameless_rules(contract, graph), _meaning(between)),
        statement=_statement(between),
        words=_WORDS,
    )
    found = settle(claim, asked.domain, asked.tolerance, asked.options, clock)
    size = graph.types[scores].size
    bounds = {ROWS: between.arranged(found.bounds[ROWS], size)}
    if found.theorem is None:
        return replace(found, bounds=bounds)
    proved = {ROWS: between.arranged_radius(found.theorem.bounds[ROWS], size)}
    shown = theorem(proved, found.tolerance.all_of(proved))
    return replace(found, bounds=bounds, theorem=shown)


def _between(graph: Graph, text: str) -> _Asked:
    """`LABEL`, `NAME`, `NAME[LABEL]` or nothing. Raises ModelError."""
    row, label = chosen(graph, text, _NAMING)
    size = graph.types[row.scores].size
    if label is None and size * (size - 1) > _MOST_PAIRS:
        raise ModelError(
            f"'{row.scores}' has {size} labels, too many for the margin between every two: name "
            f"one, as margin:0"
        )
    return _Asked(row, label)


def _statement(between: _Asked) -> str:
    of, label = f"of '{between.row.scores}'", between.label
    if label is None:
        return f"by how much executions may shrink the difference of any two elements {of}"
    return f"by how much executions may shrink element {label} {of} minus any other"


def _meaning(between: _Asked) -> str:
    kept = "a label" if between.label is None else f"label {between.label}"
    return (
        f"{kept} that the real network keeps by a margin above the bound is kept by every allowed "
        "execution"
    )


CLAIMS = (
    ClaimKind(
        name=_NAME,
        summary="the difference of two scores shrinks by at most E; margin:LABEL for one label's",
        settle=_settled,
        reads=lambda text: text.partition(":")[0].strip() == _NAME,
    ),
)
