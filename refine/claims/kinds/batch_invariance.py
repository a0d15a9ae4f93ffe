"""Batch invariance: is row i of a batch what the row gives alone, in every bit or within ε?

The file is read with one row and with N rows, as two graphs, and every row of the second is
compared with the first, over the same inputs: the operators are the same, but constants, sums and
what the shapes decide need not be. A row of the second reading is a graph of its own
(`refine.claims.batch_rows`); rows whose graphs are equal are compared once. Beside the proof,
batches of rows of the domain are run as they are, under executions that the contract allows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from encoders.arithmetic.handling import handling_of
from encoders.contract.contract import RuntimeContract, ScheduleRule
from encoders.contract.orders import AnyOrder
from encoders.lemmas.kernel import any_of
from encoders.program import program_of
from encoders.scheduling import contract_at
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.claims.assumptions import assumptions_of
from refine.claims.batch_rows import Reading, reading_of, row_graph
from refine.claims.batch_search import (
    BatchCandidate,
    apart_on_onnxruntime,
    batches_of,
    confirmed_batch,
    in_batch,
    largest,
    replayed,
    search_batches,
)
from refine.claims.claim import require_semantics
from refine.claims.conduct import conduct_on, inputs_of
from refine.claims.contradiction import contradiction, opposition
from refine.claims.hunting import error_found
from refine.claims.kind import Asked, ClaimKind, ClaimOption, Given
from refine.claims.kinds.difference import diff
from refine.claims.options import Options
from refine.claims.settle import seen
from refine.claims.shown import with_shown
from refine.common.clock import Clock, OutOfTime
from refine.domain.domain import Domain
from refine.pair.sameness import content_of
from refine.results.theorem import Theorem, theorem
from refine.results.verdict import Result, Side, Tolerance, Verdict, Witness
from refine.witness.file import Saved


@dataclass(frozen=True)
class _Compared:
    """Rows of the batch whose graphs are equal, and what comparing one of them gave."""

    rows: tuple[int, ...]
    result: Result


def _settled(asked: Asked) -> Result:
    graph = asked.side.graph
    if graph.source is None:
        raise ModelError("a claim about batches needs a model that is a file")
    return batch_invariance(
        graph,
        asked.integer("batch"),
        domain=asked.domain,
        contract=asked.side.contract,
        tolerance=asked.tolerance,
        options=asked.options,
        tell=asked.tell,
    )


def _rows(given: Given) -> int:
    rows = given["batch"]
    assert isinstance(rows, int)
    return rows


def batch_invariance(
    alone: Graph,
    batch: int,
    domain: Domain,
    *,
    contract: RuntimeContract,
    tolerance: Tolerance,
    options: Options,
    tell: Callable[[str], None] = lambda stage: None,
) -> Result:
    """Settle |row of a batch − the row alone| ≤ ε (0: equal bits) for rows in the domain.

    `alone` has been read with one row. Raises ModelError where the file cannot be read with more,
    and where a row depends on others though no batch was found in which that shows: there is then
    no row to speak of.
    """
    assert alone.source is not None
    handling = handling_of(contract)
    many = load(alone.source, batch, allowed=alone.allowed, handling=handling, sizes=alone.sizes)
    for graph in (alone, many):
        require_semantics(Side(graph, contract))
    clock = Clock(time.monotonic(), options.timeout, tell)
    clock.tell("looking for the rows")
    together = replace(contract, rules=tuple(_rules(many, contract)))
    sides = Side(alone, contract), Side(many, together)
    try:
        reading = reading_of(alone, many, batch, clock.tick)
    except OutOfTime:
        return _out_of_time(sides, domain, tolerance, options)
    clock.tell("running batches")
    found: list[Witness] = []
    if options.search or reading.mixing is not None:
        found = search_batches(reading, *sides, domain, tolerance, options.seed)
    worst = largest(found, tolerance)
    if reading.mixing is not None:
        if worst is None:
            raise ModelError(f"{reading.mixing}, so that no row can be compared with itself alone")
        shown = _unproved(sides, domain, tolerance, options)
        shown = replace(
            shown,
            verdict=Verdict.VIOLATED,
            reason=_VIOLATION,
            worst_found=error_found(worst),
            notes=(reading.mixing,),
        )
        return _finished(shown, worst, reading)
    compared: list[_Compared] = []
    groups = _different(reading)
    for rows, one in groups:
        if clock.late:
            return _out_of_time(sides, domain, tolerance, options)
        effort = replace(_share(options, clock, len(groups)), conform=False)
        result = diff(sides[0], Side(one, together), domain, tolerance, effort, tell)
        compared.append(_Compared(rows, result))
        if result.verdict is Verdict.CONTRADICTION:
            break
    result = _joined(compared, reading)
    witness = result.witness
    if witness is not None:
        row = next(c.rows[0] for c in compared if c.result.witness is witness)
        witness = confirmed_batch(reading, in_batch(reading, witness, row))
    result = _seen(result, reading, sides=sides, domain=domain, options=options, clock=clock)
    return _finished(_decided(result, found, worst, reading), witness or worst, reading)


def run_batch_again(saved: Saved) -> Witness:
    """A saved counterexample of a batch evaluated anew."""
    assert saved.spec is not None
    assert saved.batch is not None
    reading = reading_of(saved.spec.graph, saved.graph, saved.batch)
    c = saved.candidate
    inputs = {n: np.asarray(v, np.float64) for n, v in c.inputs.items()}
    again = BatchCandidate(
        inputs, c.output, index=c.index, together=c.execution, alone=saved.spec.contract, gap=0.0
    )
    witness = confirmed_batch(reading, again)
    assert saved.graph.source is not None
    return replace(witness, replays=tuple(replayed(reading, saved.graph.source, witness)))


def _different(reading: Reading) -> list[tuple[tuple[int, ...], Graph]]:
    """The graphs of the rows, each once, with the rows that have it."""
    groups: dict[Any, tuple[list[int], Graph]] = {}
    for row in range(reading.batch):
        graph = row_graph(reading, row)
        key = tuple((t, content_of(v, bits=True)) for t, v in graph.constants.items())
        groups.setdefault(key, ([], graph))[0].append(row)
    return [(tuple(rows), graph) for rows, graph in groups.values()]


def _joined(compared: Sequence[_Compared], reading: Reading) -> Result:
    """What holds of all rows: the worst answer, and the largest of the bounds."""
    order = (Verdict.CONTRADICTION, Verdict.VIOLATED, Verdict.UNKNOWN, Verdict.VERIFIED)
    results = [c.result for c in compared]
    worst = min(results, key=lambda r: (order.index(r.verdict), not r.timed_out, -r.bound))
    errors = [r.worst_found for r in results if r.worst_found is not None]
    bounds = {t: np.maximum.reduce([r.bounds[t] for r in results]) for t in worst.bounds}
    notes = worst.notes
    if len(compared) > 1:
        rows = ", ".join(str(i) for i in next(c for c in compared if c.result is worst).rows)
        notes = (*notes, f"rows differ in their constants; the layers are shown for row {rows}")
    return replace(
        worst,
        theorem=_theorem_of(results, worst.tolerance),
        bounds=bounds,
        worst_found=max(errors, default=None),
        seconds=sum(r.seconds for r in results),
        timed_out=any(r.timed_out for r in results),
        notes=notes,
    )


def _theorem_of(results: Sequence[Result], tolerance: Tolerance) -> Theorem | None:
    """What is proved of every row, by what is proved of each."""
    shown = [r.theorem.bounds for r in results if r.theorem is not None]
    if len(shown) < len(results):
        return None
    bounds = {t: any_of([radii[t] for radii in shown]) for t in shown[0]}
    return theorem(bounds, tolerance.all_of(bounds))


def _decided(
    result: Result, found: list[Witness], worst: Witness | None, reading: Reading
) -> Result:
    """The result in view of the batches that were run."""
    if result.verdict in (Verdict.CONTRADICTION, Verdict.VIOLATED) or not found:
        return result
    if result.verdict is Verdict.VERIFIED:
        placed = [_in_row(reading, w) for w in found]
        opposing = contradiction(result.bounds, placed)
        if opposing is not None:
            why = opposition(result.bounds, opposing)
            return replace(result, verdict=Verdict.CONTRADICTION, reason=why)
        return result
    if worst is None:
        return result
    return replace(result, verdict=Verdict.VIOLATED, reason=_VIOLATION)


_OPEN = (
    "the contract leaves the order of sums open, so that a row may be summed otherwise each time "
    "it is run; a contract of the runtime itself (ort-cpu, probe:onnxruntime) says more"
)
_VIOLATION = "a row of a batch differs from the row alone by more than eps, evaluated exactly"


def _in_row(reading: Reading, witness: Witness) -> Witness:
    """The witness at the element of the row, in which bounds are given."""
    rows = reading.rows[witness.output]
    assert rows is not None
    rest = witness.index[rows.axis] % rows.length
    return replace(
        witness, index=(*witness.index[: rows.axis], rest, *witness.index[rows.axis + 1 :])
    )


def _finished(result: Result, witness: Witness | None, reading: Reading) -> Result:
    note = (
        f"the specification is a row alone, the implementation the same row in a batch of "
        f"{reading.batch}: the file read with one row and with {reading.batch}, under the "
        "schedules that the contract sets for results of so many rows"
    )
    loose = (_OPEN,) if isinstance(result.contract.order, AnyOrder) else ()
    result = replace(result, notes=(*result.notes, note, *loose))
    if witness is None or result.verdict not in (Verdict.VIOLATED, Verdict.CONTRADICTION):
        return result
    assert reading.alone.source is not None
    replays = tuple(replayed(reading, reading.alone.source, witness))
    return replace(
        result,
        graph=reading.many,
        batch=reading.batch,
        witness=replace(witness, replays=replays),
    )


def _out_of_time(
    sides: tuple[Side, Side], domain: Domain, tolerance: Tolerance, options: Options
) -> Result:
    shown = _unproved(sides, domain, tolerance, options)
    return replace(shown, reason="the time limit was reached", timed_out=True)


def _unproved(
    sides: tuple[Side, Side], domain: Domain, tolerance: Tolerance, options: Options
) -> Result:
    """Unknown, with nothing proved."""
    alone, together = sides
    return Result(
        Verdict.UNKNOWN,
        "",
        tolerance=tolerance,
        bounds={t: np.full(alone.graph.types[t].shape, np.inf) for t in alone.graph.outputs},
        worst_found=None,
        domain=domain,
        contract=together.contract,
        assumptions=assumptions_of(alone.graph, domain, together.contract),
        nodes=(),
        obligations=(),
        graph=alone.graph,
        seed=options.seed,
        seconds=0.0,
        spec=alone,
    )


def _seen(
    result: Result,
    reading: Reading,
    sides: tuple[Side, Side],
    *,
    domain: Domain,
    options: Options,
    clock: Clock,
) -> Result:
    """With what a runtime here does, beside the contract, on batches and on rows alone."""
    alone, _ = sides
    by_rows = seen(alone, domain, options, clock)
    if by_rows is None:
        return result
    count = max(inputs_of(reading.many) // 2, 1)
    rng = np.random.default_rng(options.seed)
    rows = domain.boxes[0].sample(rng, count * reading.batch)
    batches = batches_of(reading, rows)
    together = conduct_on(reading.many, alone.contract, batches)
    result = replace(result, conduct=together, spec_conduct=by_rows)
    if result.worst_found is None or clock.late or by_rows.honours is None:
        return result
    assert reading.alone.source is not None
    return with_shown(result, apart_on_onnxruntime(reading, reading.alone.source, batches))


def _share(options: Options, clock: Clock, groups: int) -> Options:
    """What one of so many comparisons may take: its part of the budget, and the time left."""
    left = None if options.timeout is None else max(options.timeout - clock.seconds, 1e-3)
    return replace(options, timeout=left, budget=options.budget / groups)


def _rules(many: Graph, contract: RuntimeContract) -> Iterator[ScheduleRule]:
    """What the contract says of each node in the batch, by the node's name."""
    if contract.rules:
        for step in program_of(many).steps:
            yield ScheduleRule(contract_at(step.site, contract).schedule, node=step.name)


CLAIMS = (
    ClaimKind(
        name="batch-invariant",
        summary="a row of a batch gives what it gives alone, within E (0: every bit)",
        settle=_settled,
        again=run_batch_again,
        options=(
            ClaimOption(
                name="batch",
                default=8,
                metavar="N",
                help="Rows of the batch that --claim batch-invariant speaks of.",
                least=2,
            ),
        ),
        zero=True,
        rows=_rows,
    ),
)
