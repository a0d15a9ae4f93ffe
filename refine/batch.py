"""Batch invariance: is row i of a batch what the row gives alone, in every bit or within ε?

A row alone and a row of a batch are the same function, if no row depends on another; they differ
in what the contract says of sums in results with one row and with many. So the claim compares the
network that reads one row with itself, the second time under the schedules of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from encoders.approximate_field import ApproximateReals
from encoders.arithmetic import Relation
from encoders.contract import RuntimeContract, ScheduleRule
from encoders.operator import site_of
from encoders.scheduling import contract_at
from gpu_check.exact import evaluate_real
from gpu_check.replay import NotReplayed, replay_on_onnxruntime
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.check import Options
from refine.diff import diff
from refine.domain import Domain
from refine.verdict import Execution, RealValue, Refusal, Result, Side, Tolerance, Witness
from refine.witness import error_between


def batch_invariance(
    alone: Graph,
    batch: int,
    domain: Domain,
    contract: RuntimeContract,
    tolerance: Tolerance,
    options: Options,
    tell: Callable[[str], None] = lambda stage: None,
) -> Result:
    """Settle |row of a batch − the row alone| ≤ ε (0: equal bits) for rows in the domain.

    `alone` has been read with one row. Raises ModelError where the file cannot be read with more,
    or where a row depends on another: the claim has no meaning there.
    """
    assert alone.source is not None
    many = load(alone.source, batch, allowed=alone.allowed)
    _require_rows(alone, many, batch)
    together = replace(contract, rules=tuple(_rules(many, contract)))
    sides = Side(alone, contract), Side(alone, together)
    result = diff(*sides, domain, tolerance, options, tell)
    note = (
        f"the specification is a row alone, the implementation the same row in a batch of {batch}: "
        "the same network under the schedules that the contract sets for results of so many rows"
    )
    witness = result.witness
    if witness is not None:
        witness = replace(witness, replays=tuple(_replays(alone.source, witness, batch)))
    return replace(result, notes=(*result.notes, note), witness=witness)


def _require_rows(alone: Graph, many: Graph, batch: int) -> None:
    for graph, size in ((alone, 1), (many, batch)):
        for tensor in (*graph.inputs, *graph.outputs):
            shape = graph.types[tensor].shape
            if not shape or shape[0] != size:
                raise ModelError(
                    f"'{tensor}' has shape {list(shape)} in a batch of {size}: its first dimension "
                    "does not count rows, so that batch invariance has no meaning"
                )
    if [(n.name, n.op) for n in alone.order] != [(n.name, n.op) for n in many.order]:
        raise ModelError(f"read with a batch of {batch}, the model has other nodes than with one")
    mixing = _mixing_node(many)
    if mixing is not None:
        raise ModelError(
            f"{mixing}: the first row depends on the others, so that batch invariance has no "
            "meaning for this model"
        )


def _mixing_node(graph: Graph) -> str | None:
    """The node of an output whose first row depends on other rows: what is undefined there shows
    whatever it reaches."""
    rng = np.random.default_rng(0)
    inputs = {n: rng.uniform(0.5, 1.5, (1, *graph.types[n].shape)) for n in graph.inputs}
    for values in inputs.values():
        values[:, 1:] = np.nan
    found = evaluate_real(graph, inputs, _Spreading())
    for node in graph.order:
        for output in node.outputs:
            if output in found and np.any(np.isnan(np.asarray(found[output])[:, 0])):
                return node.describe()
    return None


class _Spreading(ApproximateReals):
    """Numbers of which NaN makes NaN of everything that it enters, comparisons included."""

    def compare(self, relation: Relation, a: Any, b: Any) -> Any:
        return np.where(np.isnan(a) | np.isnan(b), np.nan, super().compare(relation, a, b))

    def select(self, condition: Any, a: Any, b: Any) -> Any:
        return np.where(np.isnan(condition), np.nan, super().select(condition, a, b))


def _rules(many: Graph, contract: RuntimeContract) -> Iterator[ScheduleRule]:
    """What the contract says of each node in the batch, by the node's name."""
    if contract.rules:
        for node in many.order:
            yield ScheduleRule(contract_at(site_of(many, node), contract).schedule, node=node.name)


def _replays(model: Path, witness: Witness, batch: int) -> Iterator[Execution | Refusal]:
    """The row alone on onnxruntime, and the first of a batch of the same rows, held against it."""
    alone = replay_on_onnxruntime(model, witness.inputs)
    rows = {n: np.repeat(v, batch, axis=0) for n, v in witness.inputs.items()}
    together = replay_on_onnxruntime(model, rows)
    for outcome in (alone, together):
        if isinstance(outcome, NotReplayed):
            yield Refusal(outcome.runtime, outcome.why)
            return
    assert not isinstance(alone, NotReplayed)
    assert not isinstance(together, NotReplayed)
    one = float(np.asarray(alone.outputs[witness.output])[witness.index])
    first = float(np.asarray(together.outputs[witness.output])[witness.index])
    exactly = RealValue(Fraction(one), Fraction(one)) if np.isfinite(one) else None
    yield Execution(f"{alone.runtime}: the row alone", one, error_between(one, exactly))
    named = f"{together.runtime}: in a batch of {batch}"
    yield Execution(named, first, error_between(first, exactly))
