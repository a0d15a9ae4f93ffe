"""Labels of many boxes at once: one pass over all of them, one look at lemmas and at a runtime.

What a batch does not settle says nothing: such a box is asked about alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.contract import RuntimeContract
from encoders.numbers.enclosure import FloatArray
from gpu_check.emulator.exact import evaluate_real
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Graph
from refine.bounds.network import InputBox, Known
from refine.bounds.properties.deficits import DEFICIT
from refine.bounds.properties.many_margins import ManyMargins, many_margins
from refine.claims.claim import require_semantics
from refine.claims.conduct import conduct_on, inputs_of
from refine.claims.options import Options
from refine.claims.outputs.labels import Labelled, other_labels
from refine.common.clock import Clock
from refine.domain.box import Box
from refine.lemmas.library import prove_lemmas
from refine.proof.applications import applied
from refine.proof.compose import first_failure, lemmas_used, node_obligations
from refine.proof.cross_check import cross_checks
from refine.results.theorem import theorem
from refine.results.verdict import Side

_EXACTLY = {DEFICIT: Fraction(0)}
_BATCH_NUMBERS = 2**23  # of functionals on the widest tensor
_MOST, _FEWEST = 64, 4  # boxes


@dataclass(frozen=True)
class Kept:
    """A label that no execution and no real input of a box changes, with the least margins towards
    another one: of every execution, and over the reals."""

    label: int
    run: float
    real: float


@dataclass(frozen=True)
class Labels:
    """Whose labels: of a row of scores of a graph that runs under a contract; what is tried."""

    graph: Graph
    contract: RuntimeContract
    row: Labelled
    options: Options

    @cached_property
    def _wide(self) -> Graph:
        return self.row.widened(self.graph)

    @cached_property
    def _margins(self) -> ManyMargins | None:
        """None where boxes have to be bounded one by one."""
        try:
            require_semantics(Side(self.graph, self.contract))
        except UnsupportedModel:
            return None
        if self.graph.random_masks:
            return None
        return many_margins(self._wide, self.contract, (), None)

    @property
    def size(self) -> int:
        """How many boxes make a good batch; 0 where there are none."""
        if self._margins is None:
            return 0
        graph = self._margins.network.program.graph
        types = graph.types
        widest = max(t.size for name, t in types.items() if not graph.is_constant(name))
        rows = types[self.row.scores].size
        return min(_MOST, _BATCH_NUMBERS // max(rows * widest, 1)) if rows > 1 else 0

    def guessed(self, points: Mapping[str, FloatArray]) -> list[int]:
        """The labels of points (points, *shape), to float64."""
        with np.errstate(all="ignore"):
            found = evaluate_real(self._wide, points, ApproximateReals())[self.row.scores]
        scores = np.asarray(found, np.float64).reshape(len(found), -1)
        return [int(label) for label in np.argmax(np.nan_to_num(scores, nan=-np.inf), axis=1)]

    def kept(self, boxes: Sequence[InputBox], labels: Sequence[int]) -> list[Kept | None]:
        """Of each box, whether it is proved that its label stays; None says nothing."""
        nothing: list[Kept | None] = [None for _ in boxes]
        if self._margins is None:
            return nothing
        lost = self.row.lost(self.graph, self.contract)
        unsafe = tuple(other_labels(self._wide, self.row.scores, label, lost) for label in labels)
        margins = replace(self._margins, unsafe=unsafe)
        batch = margins.bounded(boxes, Known({}, {}), [{} for _ in boxes])
        if batch is None:
            return nothing
        bounds = batch.bounds
        groups = node_obligations(bounds)
        owed = [o for group in groups.values() for o in group]
        owed += [o for node in bounds.nodes for o in applied(node)]
        every = (*bounds.maps.radii.values(), *(r for b in batch.boxes for r in b.radii.values()))
        cited = {name for radius in every for name in radius.record.lemmas}
        owed += prove_lemmas(lemmas_used([bounds], cited), self.options.cache)
        if self.options.cross_check is not None:
            clock = Clock(time.monotonic(), None, lambda stage: None)
            with np.errstate(all="ignore"):
                crossed, _ = cross_checks(bounds, self.options.cross_check, clock)
            owed += [o for group in crossed.values() for o in group]
        if first_failure(owed) is not None:
            return nothing
        return [
            None
            if theorem(box.radii, _EXACTLY) is None or not all(m.safe for m in box.margins)
            else Kept(
                label,
                min(m.run for m in box.margins),
                min(m.real for m in box.margins),
            )
            for box, label in zip(batch.boxes, labels, strict=True)
        ]

    def honoured(self, boxes: Sequence[Box]) -> bool:
        """Does a runtime of this machine keep to the contract in these boxes, as far as a look at a
        few of their inputs shows?"""
        if not self.options.conform or self.contract.exact:
            return True
        few = boxes[: inputs_of(self.graph)]
        rng = np.random.default_rng(self.options.seed)
        sampled = [box.sample(rng, 1) for box in few]
        points = {n: np.concatenate([s[n] for s in sampled]) for n in self.graph.inputs}
        seen = conduct_on(self.graph, self.contract, points)
        return seen is None or seen.honours is not False
