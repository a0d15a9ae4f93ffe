"""Concrete batches: rows sampled from the domain, run together and each alone, compared exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.contract import RuntimeContract
from encoders.contract.members import contrasting
from encoders.numbers.enclosure import FloatArray
from gpu_check.emulator.emulator import emulate
from gpu_check.runtimes.replay import NotReplayed, Replayed, replay_on_onnxruntime
from onnx_import.errors import ModelError
from onnx_import.graph import Array, Graph
from refine.claims.batch_rows import Reading
from refine.claims.pair_quarry import given_by
from refine.common.rounding import float_down
from refine.domain.domain import Domain
from refine.results.verdict import (
    ErrorEnclosure,
    Execution,
    RealValue,
    Refusal,
    Shown,
    Side,
    Tolerance,
    Witness,
)
from refine.search.evaluation import real_outputs
from refine.witness.witness import distance, error_between, is_violation, typed_inputs

_BATCHES = 12
_CONFIRMED = 4
_RUN, _ROWS_RUN = 3, 4  # batches, and rows of each, that a real runtime is shown


@dataclass(frozen=True)
class BatchCandidate:
    """A batch, an output element of it, and how each side is executed."""

    inputs: Mapping[str, FloatArray]
    output: str
    index: tuple[int, ...]
    together: RuntimeContract
    alone: RuntimeContract
    gap: float


def search_batches(
    reading: Reading, alone: Side, together: Side, domain: Domain, tolerance: Tolerance, seed: int
) -> list[Witness]:
    """Some batches of rows of the domain, the most different ones decided exactly.

    Among them are batches of equal rows, which only a row's place can tell apart.
    """
    found: list[BatchCandidate] = []
    rng = np.random.default_rng(seed)
    theirs, ours = contrasting(alone.contract), contrasting(together.contract)
    for box in domain.boxes:
        rows = box.sample(rng, _BATCHES * reading.batch)
        found += _compared(reading, batches_of(reading, rows), theirs, ours)
    found.sort(key=lambda c: -c.gap)
    chosen = [c for c in found if c.gap > 0][:_CONFIRMED]
    return [confirmed_batch(reading, c) for c in chosen]


def confirmed_batch(reading: Reading, found: BatchCandidate) -> Witness:
    """What the row gives in the batch and alone, as bits or as balls around real numbers."""
    rows = reading.rows[found.output]
    assert rows is not None
    row, rest = divmod(found.index[rows.axis], rows.length)
    place = (*found.index[: rows.axis], rest, *found.index[rows.axis + 1 :])
    one = reading.row_inputs(found.inputs, row)
    batch: Mapping[str, Array] = found.inputs
    mine = given_by(
        reading.many,
        batch,
        real_inputs=batch,
        execution=found.together,
        output=found.output,
        index=found.index,
    )
    theirs = given_by(
        reading.alone, one, real_inputs=one, execution=found.alone, output=found.output, index=place
    )
    finite = mine.finite and theirs.finite
    zero = Fraction(0)
    return Witness(
        typed_inputs(reading.many, batch),
        found.inputs,
        execution=found.together,
        output=found.output,
        index=found.index,
        value=mine.shown,
        real=theirs.value,
        error=distance(mine.value, theirs.value) if finite else ErrorEnclosure(zero, zero, False),
        spec_execution=found.alone,
    )


def in_batch(reading: Reading, witness: Witness, row: int) -> BatchCandidate:
    """A row that is found to differ, as one row of a batch of equal rows."""
    assert witness.spec_execution is not None
    rows = reading.rows[witness.output]
    assert rows is not None
    at = row * rows.length + witness.index[rows.axis]
    index = (*witness.index[: rows.axis], at, *witness.index[rows.axis + 1 :])
    inputs = {
        n: _repeated(reading, n, np.asarray(v, np.float64)) for n, v in witness.inputs.items()
    }
    return BatchCandidate(
        inputs,
        witness.output,
        index=index,
        together=witness.execution,
        alone=witness.spec_execution,
        gap=0.0,
    )


def replayed(reading: Reading, model: Path, witness: Witness) -> Iterator[Execution | Refusal]:
    """The row alone on onnxruntime, and the batch, held against it."""
    rows = reading.rows[witness.output]
    assert rows is not None
    row, rest = divmod(witness.index[rows.axis], rows.length)
    place = (*witness.index[: rows.axis], rest, *witness.index[rows.axis + 1 :])
    alone = replay_on_onnxruntime(model, reading.row_inputs(witness.inputs, row))
    together = replay_on_onnxruntime(model, witness.inputs)
    for outcome in (alone, together):
        if isinstance(outcome, NotReplayed):
            yield Refusal(outcome.runtime, outcome.why)
            return
    assert not isinstance(alone, NotReplayed)
    assert not isinstance(together, NotReplayed)
    one = float(np.asarray(alone.outputs[witness.output])[place])
    several = float(np.asarray(together.outputs[witness.output])[witness.index])
    exactly = RealValue(Fraction(one), Fraction(one)) if np.isfinite(one) else None
    yield Execution(f"{alone.runtime}: the row alone", one, error_between(one, exactly))
    named = f"{together.runtime}: row {row} of a batch of {reading.batch}"
    yield Execution(named, several, error_between(several, exactly))


def apart_on_onnxruntime(
    reading: Reading, model: Path, batches: Mapping[str, FloatArray]
) -> Shown | None:
    """The largest difference between some rows of a few batches and the same rows alone, the file
    run as it is written; None where it does not run there with so many rows."""
    found: Shown | None = None
    for k in range(min(_RUN, min((len(v) for v in batches.values()), default=0))):
        batch = typed_inputs(reading.many, {name: v[k] for name, v in batches.items()})
        together = replay_on_onnxruntime(model, batch)
        if isinstance(together, NotReplayed):
            return None
        for row in range(min(reading.batch, _ROWS_RUN)):
            alone = replay_on_onnxruntime(model, reading.row_inputs(batch, row))
            if isinstance(alone, NotReplayed):
                return None
            gap = max((_gap(reading, t, row, together, alone) for t in alone.outputs), default=0.0)
            if found is None or gap > found.error:
                found = Shown(f"{together.runtime}, which runs rows together and alone", gap)
    return found


def _gap(reading: Reading, output: str, row: int, together: Replayed, alone: Replayed) -> float:
    layout = reading.rows[output]
    assert layout is not None
    ours = np.asarray(layout.of(np.asarray(together.outputs[output]), row), np.float64)
    theirs = np.asarray(alone.outputs[output]).astype(np.float64)
    with np.errstate(all="ignore"):
        gaps = np.abs(ours.reshape(-1) - theirs.reshape(-1))
    same = np.isnan(ours) & np.isnan(theirs) | (ours == theirs)
    gaps = np.where(same.reshape(-1), 0.0, np.nan_to_num(gaps, nan=np.inf))
    if not gaps.size or not np.max(gaps):
        return 0.0
    place = int(np.argmax(gaps))
    if not np.isfinite(gaps[place]):
        return float(np.inf)
    a, b = (Fraction(float(v.reshape(-1)[place])) for v in (ours, theirs))
    return float_down(abs(a - b))


def largest(witnesses: list[Witness], tolerance: Tolerance) -> Witness | None:
    """The violation with the largest difference, if any of these is one."""
    violations = [w for w in witnesses if is_violation(w, tolerance)]
    return max(violations, key=lambda w: (not w.error.finite, w.error.lo), default=None)


def batches_of(reading: Reading, rows: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Rows, (count, *shape of one), as batches: all different, then all equal."""
    mixed: dict[str, FloatArray] = {}
    for name, values in rows.items():
        different = [
            _joined(reading, name, values[i : i + reading.batch])
            for i in range(0, len(values), reading.batch)
        ]
        equal = [_repeated(reading, name, v) for v in values[:: reading.batch]]
        mixed[name] = np.stack([*different, *equal])
    return mixed


def _joined(reading: Reading, name: str, rows: FloatArray) -> FloatArray:
    layout = reading.rows[name]
    assert layout is not None
    whole: FloatArray = np.concatenate(list(rows), axis=layout.axis)
    return whole


def _repeated(reading: Reading, name: str, row: FloatArray) -> FloatArray:
    return _joined(reading, name, np.stack([row] * reading.batch))


def _compared(
    reading: Reading,
    batches: Mapping[str, FloatArray],
    theirs: Sequence[RuntimeContract],
    ours: Sequence[RuntimeContract],
) -> Iterator[BatchCandidate]:
    """The element of each output at which each of the batches differs most from its rows, under
    each execution of the batch beside each of the rows."""
    each = [_of_row(reading, batches, i) for i in range(reading.batch)]
    try:
        batch = [_run(reading.many, batches, several) for several in ours]
        rows = [[_run(reading.alone, row, one) for row in each] for one in theirs]
    except ValueError as error:
        raise ModelError(f"the rows cannot be run: {error}") from error
    for several, together in zip(ours, batch, strict=True):
        for one, alone in zip(theirs, rows, strict=True):
            yield from _farthest(reading, batches, (one, alone), (several, together))


def _farthest(
    reading: Reading,
    batches: Mapping[str, FloatArray],
    rows: tuple[RuntimeContract, Sequence[Mapping[str, Array]]],
    batch: tuple[RuntimeContract, Mapping[str, Array]],
) -> Iterator[BatchCandidate]:
    (one, alone), (several, together) = rows, batch
    for output, values in together.items():
        layout = reading.rows[output]
        assert layout is not None
        apart = np.concatenate([a[output] for a in alone], axis=layout.axis + 1)
        with np.errstate(all="ignore"):
            gaps = np.abs(values.astype(np.float64) - apart.astype(np.float64))
        gaps = np.where(np.isfinite(values), np.nan_to_num(gaps, nan=0.0), np.inf)
        if not several.exact:
            gaps = np.where(np.isfinite(apart), gaps, np.inf)
        for sample, gap in enumerate(gaps):
            if not gap.size:
                continue
            place = np.unravel_index(int(np.argmax(gap)), gap.shape)
            yield BatchCandidate(
                {n: v[sample] for n, v in batches.items()},
                output,
                index=tuple(int(i) for i in place),
                together=several,
                alone=one,
                gap=float(gap[place]),
            )


def _of_row(reading: Reading, batches: Mapping[str, FloatArray], row: int) -> dict[str, FloatArray]:
    found: dict[str, FloatArray] = {}
    for name, values in batches.items():
        layout = reading.rows[name]
        assert layout is not None
        found[name] = layout.behind_samples().of(values, row)
    return found


def _run(
    graph: Graph, points: Mapping[str, FloatArray], execution: RuntimeContract
) -> Mapping[str, Array]:
    with np.errstate(all="ignore"):
        if execution.exact:
            return real_outputs(graph, points, ApproximateReals())
        wide = execution.compute_format is not None
        types = {n: graph.types[n].dtype.numpy for n in points}
        typed = {n: v if wide else v.astype(types[n]) for n, v in points.items()}
        found = emulate(graph, typed, execution)
    samples = len(next(iter(points.values())))
    return {t: np.broadcast_to(v, (samples, *v.shape[1:])) for t, v in found.items()}
