"""Whether an input leads into an unsafe set, decided on exact numbers: nothing left to doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from encoders.numbers.enclosure import FloatArray
from onnx_import.graph import Array, Graph
from refine.domain.properties import Conjunction, Property, Row
from refine.results.verdict import Reached, RealValue, Witness
from refine.search.evaluation import Candidate, element_at
from refine.witness.witness import computed_outputs, confirm, real_outputs


def reached_at(graph: Graph, unsafe: Property, candidate: Candidate) -> Witness:
    """A candidate evaluated exactly: where its outputs stand, as its execution computes them and
    over the reals.

    The witness names an output that the nearest row speaks of; one that is no finite number comes
    first.
    """
    outputs = computed_outputs(graph, candidate.inputs, candidate.execution)
    real_inputs = _flat(graph.inputs, candidate.real_inputs)
    exact = candidate.execution.exact
    broken = None if exact else _not_finite(graph, outputs)
    if broken is not None:
        return confirm(graph, replace(candidate, output=broken[0], index=broken[1]))
    computed: list[RealValue | None]
    if exact:
        computed = _enclosures(graph, candidate.real_inputs)
    else:
        computed = [RealValue(v, v) for v in _flat(graph.outputs, outputs)]
    slacks = [_slack(part, real_inputs, computed) for part in unsafe.unsafe]
    number = min(range(len(slacks)), key=lambda i: (slacks[i] is None, slacks[i] or Fraction(0)))
    part, slack = unsafe.unsafe[number], slacks[number]
    place = next((i for row in part.rows for i in row.outputs), 0)
    output, flat = element_at(graph, place)
    index = tuple(int(i) for i in np.unravel_index(flat, graph.types[output].shape))
    witness = confirm(graph, replace(candidate, output=output, index=index))
    within = [p for p in unsafe.unsafe if _holds_enclosed(p, real_inputs, computed)]
    shown = within[0] if within else part
    return replace(
        witness,
        reached=Reached(
            unsafe=shown,
            slack=Fraction(0) if slack is None else slack,
            within=bool(within),
            real=reached_over_reals(graph, unsafe, candidate.real_inputs),
            outputs=outputs,
            real_slack=_slack(shown, real_inputs, _enclosures(graph, candidate.real_inputs)),
        ),
    )


def standing_of(
    graph: Graph,
    unsafe: Property,
    real_inputs: Mapping[str, Array],
    outputs: Mapping[str, Array],
) -> tuple[bool, Fraction | None]:
    """Do outputs lie in the unsafe set, and what is their slack to the nearest conjunction? Those
    that are not finite do not, and have none."""
    if _not_finite(graph, outputs) is not None:
        return False, None
    x, y = _flat(graph.inputs, real_inputs), _flat(graph.outputs, outputs)
    values = [RealValue(v, v) for v in y]
    slacks = [s for part in unsafe.unsafe if (s := _slack(part, x, values)) is not None]
    return any(part.holds(x, y) for part in unsafe.unsafe), min(slacks, default=None)


def reached_over_reals(
    graph: Graph, unsafe: Property, real_inputs: Mapping[str, Array]
) -> bool | None:
    """Does the real network lead into the unsafe set? None where its enclosure leaves that open."""
    values, x = _enclosures(graph, real_inputs), _flat(graph.inputs, real_inputs)
    answers = {_holds_enclosed(part, x, values) for part in unsafe.unsafe}
    return True if True in answers else None if None in answers else False


def _enclosures(graph: Graph, real_inputs: Mapping[str, Array]) -> list[RealValue | None]:
    enclosed = real_outputs(graph, real_inputs)
    return [value for name in graph.outputs for value in enclosed[name]]


def _holds_enclosed(
    part: Conjunction, x: Sequence[Fraction], y: Sequence[RealValue | None]
) -> bool | None:
    if not all(half.holds(x[i]) for i, half in part.limits.items()):
        return False
    answers = [_row_enclosed(row, x, y) for row in part.rows]
    return False if False in answers else None if None in answers else True


def _row_enclosed(row: Row, x: Sequence[Fraction], y: Sequence[RealValue | None]) -> bool | None:
    side = _side_enclosed(row, x, y)
    if side is None:
        return None
    low, high = side.lo, side.hi
    if high < row.at_most or (high == row.at_most and not row.strict):
        return True
    if low > row.at_most or (low == row.at_most and row.strict):
        return False
    return None


def _side_enclosed(
    row: Row, x: Sequence[Fraction], y: Sequence[RealValue | None]
) -> RealValue | None:
    """The left side of a row; None where an output has no value."""
    low = high = sum((c * x[i] for i, c in row.inputs.items()), Fraction(0))
    for i, c in row.outputs.items():
        value = y[i]
        if value is None:
            return None
        ends = (c * value.lo, c * value.hi)
        low, high = low + min(ends), high + max(ends)
    return RealValue(low, high)


def _slack(
    part: Conjunction, x: Sequence[Fraction], y: Sequence[RealValue | None]
) -> Fraction | None:
    """The largest left side minus right side, at most; None where the input is not one that it
    speaks of, or an output has no value."""
    if not all(half.holds(x[i]) for i, half in part.limits.items()):
        return None
    sides = [(_side_enclosed(row, x, y), row.at_most) for row in part.rows]
    slacks = [side.hi - at_most for side, at_most in sides if side is not None]
    return max(slacks, default=Fraction(0)) if len(slacks) == len(sides) else None


def _flat(names: Sequence[str], arrays: Mapping[str, Array]) -> list[Fraction]:
    """All elements of some tensors, one after the other, exactly."""
    return [
        Fraction(value if isinstance(value, (int, Fraction)) else float(value))
        for name in names
        for value in np.asarray(arrays[name]).reshape(-1).tolist()
    ]


def _not_finite(graph: Graph, outputs: Mapping[str, Array]) -> tuple[str, tuple[int, ...]] | None:
    """The first output element that is an infinity or NaN."""
    for name in graph.outputs:
        values: FloatArray = np.asarray(outputs[name], np.float64)
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            return name, tuple(int(i) for i in bad[0])
    return None
