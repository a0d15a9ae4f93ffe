"""The answer of `--confidence`: the likely errors beside the worst ones, what is assumed, as rows
and as JSON. Nothing here is ever `verified`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from encoders.contract.contract import RoundingMode, RuntimeContract
from encoders.numbers.enclosure import FloatArray
from onnx_import.graph import Graph
from refine.domain.domain import Domain
from refine.probable.likely import (
    Certain,
    ProbableErrors,
    Probably,
    probable_errors,
    worst_of,
)
from refine.proof.proof import input_box
from refine.results.document import strict_json
from refine.results.numerals import plain_number, up

SCHEMA = "refine-probable-1"
COLUMNS = ("output", "worst case", "likely", "worst/likely")
DRAWN = (
    "each rounding is drawn independently of all others, up or down with the probabilities of "
    "stochastic rounding: then the bound is a theorem"
)
MODELLED = (
    "each rounding to nearest is zero on average given those before it: a model (Higham & Mary "
    "2019), which no runtime promises and rounding to nearest does not imply"
)
EACH = (
    "for each input by itself, over the roundings: not for all inputs at once, nor for an input "
    "that is chosen by looking at its roundings"
)
IN_ORDER = "where the contract leaves an order open, it does not hang on roundings to come"


@dataclass(frozen=True, eq=False)
class ProbableBound:
    """`likely` fails with a probability of at most `failing`; `worst` bounds every execution:
    `proved` by the lemmas, or found by the same walk where no lemma speaks of the contract."""

    graph: Graph
    contract: RuntimeContract
    domain: Domain
    failing: float
    worst: Mapping[str, FloatArray]
    proved: bool
    likely: ProbableErrors

    @property
    def assumed(self) -> tuple[str, ...]:
        """What the likely bounds rest on."""
        drawn = self.contract.rounding is RoundingMode.STOCHASTIC
        events = (
            f"all {self.likely.events} bounds, on outputs and inner tensors, hold together "
            f"except with a probability of at most {self.failing:g}: λ = "
            f"{self.likely.factor:.4g} (Azuma & Hoeffding, union bound)"
        )
        kept = tuple(
            f"the errors of node '{name}' are taken at their worst: {reason}"
            for name, reason in self.likely.kept.items()
        )
        order = () if drawn or self.contract.pinned else (IN_ORDER,)
        return (DRAWN if drawn else MODELLED, events, EACH, *order, *kept)

    @property
    def answer(self) -> str:
        """The claim in a sentence."""
        largest = max((float(np.max(e, initial=0.0)) for e in self.worst.values()), default=0.0)
        kind = "proved" if self.proved else "by the same walk, without lemmas"
        return (
            f"likely: |f_rt(x) − f_R(x)| ≤ {up(self.likely.largest, 4)} except with a "
            f"probability of at most {self.failing:g}, for each x; in the worst case "
            f"{up(largest, 4)} ({kind})"
        )


def probable_bound(
    graph: Graph,
    contract: RuntimeContract,
    domain: Domain,
    failing: float,
    proved: Mapping[str, FloatArray] | None,
    tick: Callable[[], None] = lambda: None,
) -> ProbableBound:
    """Likely errors over a domain. `proved` are the worst ones; None: the same walk finds them.

    Raises ModelError for a probability outside (0, 1), UnsupportedModel, naming the node, for what
    has no stochastic rounding.
    """
    boxes = [input_box(box, domain, contract) for box in domain.boxes]

    def over(how: Certain | Probably) -> ProbableErrors:
        return worst_of([probable_errors(graph, box, contract, how, tick) for box in boxes])

    likely = over(Probably(failing))
    worst = over(Certain()).errors if proved is None else proved
    least = {t: np.minimum(e, worst[t]) for t, e in likely.errors.items()}
    likely = replace(likely, errors=least)
    return ProbableBound(graph, contract, domain, failing, worst, proved is not None, likely)


def rows_of(found: ProbableBound) -> list[tuple[str, ...]]:
    """One row for each output: its largest element in each sense."""
    rows: list[tuple[str, ...]] = []
    for name, likely in found.likely.errors.items():
        worst = float(np.max(found.worst[name], initial=0.0))
        most = float(np.max(likely, initial=0.0))
        ratio = f"{worst / most:.3g}" if most > 0 else ""
        rows.append((name, up(worst, 4), up(most, 4), ratio))
    return rows


def document_of(found: ProbableBound) -> str:
    """What `--json` writes."""
    likely = found.likely.errors
    made = {
        "schema": SCHEMA,
        "model": {"path": str(found.graph.source), "sha256": found.graph.sha256},
        "contract": found.contract.name,
        "domain": found.domain.source,
        "confidence": found.failing,
        "factor": found.likely.factor,
        "events": found.likely.events,
        "proved": found.proved,
        "outputs": {
            name: {
                "worst": [plain_number(float(v)) for v in np.ravel(found.worst[name])],
                "likely": [plain_number(float(v)) for v in np.ravel(likely[name])],
            }
            for name in likely
        },
        "kept": dict(found.likely.kept),
        "assumptions": list(found.assumed),
    }
    return strict_json(made)
