"""Row i of a network that reads N rows, as a network that reads one.

The file is read twice, with one row and with N. Where tensors of the two readings differ in shape,
along one axis, the longer one holds the rows, one block after the other. Row i of the N-row reading
is then the one-row reading's graph with row i of every constant that has rows, and with the N-row
reading's own numbers where a constant has none. That this is so is shown node by node, on the
N-row reading: each row of what a node gives depends on the same row of what it reads alone, and is
what the one-row node gives of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.arithmetic.runtime import Relation
from encoders.arithmetic.values import Inputs
from encoders.program import Step, program_of
from onnx_import.errors import ModelError
from onnx_import.graph import Array, Graph

_DRAWS = ((0.1, 0.9), (1.1, 1.9), (-2.0, 2.0))
_LARGE = 10**7  # multiply-adds of a node that is looked at on one draw
_CLOSE = 1e-9  # relative: different elements, sampled at random, are not so close


@dataclass(frozen=True)
class Rows:
    """Along `axis`, `length` positions for each row, one row after the other."""

    axis: int
    length: int

    def of(self, values: Any, row: int) -> Any:
        """One row of an array of all; extra leading axes are kept."""
        axis = self.axis
        start = row * self.length
        return np.take(values, np.arange(start, start + self.length), axis)

    def behind_samples(self) -> Rows:
        """The same rows in arrays with a leading sample axis."""
        return replace(self, axis=self.axis + 1)


@dataclass(frozen=True)
class Reading:
    """Both readings of one file, and where the rows of each of the tensors are: None where it has
    the same shape in both. `mixing` says why no row can be looked at by itself, if so."""

    alone: Graph
    many: Graph
    batch: int
    rows: Mapping[str, Rows | None]
    mixing: str | None = None

    def row_inputs(self, inputs: Mapping[str, Array], row: int) -> dict[str, Array]:
        """One row of an input of all."""
        return {n: self._of(n, v, row) for n, v in inputs.items()}

    def _of(self, name: str, values: Array, row: int) -> Array:
        rows = self.rows[name]
        assert rows is not None
        taken: Array = rows.of(values, row)
        return taken


class NoRows(Exception):
    """The two readings do not correspond, for the reason given."""


def reading_of(
    alone: Graph, many: Graph, batch: int, tick: Callable[[], None] = lambda: None
) -> Reading:
    """Where the rows are. Raises ModelError where an input or output has none; `tick` is called
    often and may raise to stop."""
    rows: dict[str, Rows | None] = {}
    for tensor in (*many.inputs, *many.outputs):
        one = alone.types[tensor].shape if tensor in alone.types else ()
        several = many.types[tensor].shape
        try:
            rows[tensor] = rows_between(one, several, batch)
        except NoRows:
            rows[tensor] = None
        if rows[tensor] is None:
            raise ModelError(
                f"'{tensor}' has shape {list(one)} for one row and {list(several)} for {batch}: "
                "no dimension counts rows, so that batch invariance has no meaning"
            )
    mixing: str | None = None
    try:
        rows |= _rows_of_tensors(alone, many, batch)
        _require_rows(Reading(alone, many, batch, rows), tick)
    except NoRows as reason:
        mixing = str(reason)
    return Reading(alone, many, batch, rows, mixing)


def rows_between(one: tuple[int, ...], several: tuple[int, ...], batch: int) -> Rows | None:
    """Where an array of the second shape holds `batch` rows of the first; None where the shapes are
    equal. Raises NoRows where it does not."""
    if one == several:
        return None
    if len(one) == len(several):
        axes = [i for i, (a, b) in enumerate(zip(one, several, strict=True)) if a != b]
        if len(axes) == 1 and several[axes[0]] == batch * one[axes[0]]:
            return Rows(axes[0], one[axes[0]])
    raise NoRows(f"shape {list(one)} for one row is {list(several)} for {batch}")


def row_graph(reading: Reading, row: int) -> Graph:
    """What the N-row reading does with one row, as a graph in the shape of the one-row reading.

    Meaningful where nothing mixes rows.
    """
    alone, many = reading.alone, reading.many
    constants: dict[str, Array] = {}
    for name, one in alone.constants.items():
        other, rows = many.constants.get(name, one), reading.rows.get(name)
        if rows is not None:
            constants[name] = np.ascontiguousarray(rows.of(other, row))
        else:
            constants[name] = _own(alone, name, one, other)
    return replace(alone, constants=constants)


def _own(alone: Graph, name: str, one: Array, other: Array) -> Array:
    """Numbers of the N-row reading; but of integers, which say shapes and places, the other's."""
    dtype = alone.types[name].dtype
    return other if dtype.is_float or other.dtype == np.bool_ else one


def _rows_of_tensors(alone: Graph, many: Graph, batch: int) -> dict[str, Rows | None]:
    """Of every tensor that both readings have. Raises NoRows, naming the node."""
    if [(n.name, n.op, n.inputs, n.outputs) for n in alone.order] != [
        (n.name, n.op, n.inputs, n.outputs) for n in many.order
    ]:
        raise NoRows(f"read with a batch of {batch}, the model has other nodes than with one")
    rows: dict[str, Rows | None] = {}
    for node in many.order:
        for tensor in (*node.inputs, *node.outputs):
            if not tensor or tensor in rows:
                continue
            if alone.is_constant(tensor) != many.is_constant(tensor):
                raise NoRows(f"{node.describe()}: '{tensor}' is constant in one reading only")
            if many.is_constant(tensor):
                one, several = (g.constants[tensor].shape for g in (alone, many))
            else:
                one, several = (g.types[tensor].shape for g in (alone, many))
            try:
                rows[tensor] = rows_between(one, several, batch)
            except NoRows as why:
                raise NoRows(f"{node.describe()}: of '{tensor}', {why}") from why
    return rows


def _require_rows(reading: Reading, tick: Callable[[], None]) -> None:
    """Raises NoRows, naming a node that gives a row something else than its own row asks for."""
    rng = np.random.default_rng(0)
    rowed = {i: row_graph(reading, i) for i in range(reading.batch)}
    for step in program_of(reading.many).steps:
        node, large = step.node, step.work > _LARGE
        shown = [
            _shown(reading, rowed, step, rng=rng, low=low, high=high, tick=tick)
            for low, high in (_DRAWS[:1] if large else _DRAWS)
        ]
        if not np.all(np.logical_or.reduce(shown)):
            raise NoRows(f"{node.describe()}: it could not be seen on what its rows depend")


def _shown(
    reading: Reading,
    rowed: Mapping[int, Graph],
    step: Step,
    *,
    rng: np.random.Generator,
    low: float,
    high: float,
    tick: Callable[[], None],
) -> Any:
    """Where the node's output, on random inputs, is a number, so that something was seen.

    What has no rows is the same for all of them, and has to depend on none.
    Raises NoRows where a row of it depends on another, or is not what the one-row node gives.
    """
    many, rows, node = reading.many, reading.rows, step.node
    field = ApproximateReals()
    given = {
        t: _sampled(many, t, rng, low, high) for t in node.inputs if t and not many.is_constant(t)
    }
    held = {t: field.constant(many.constants[t]) for t in node.inputs if t and many.is_constant(t)}
    whole = _evaluated(step, given | held, field)
    number = [~np.isnan(w) for w in whole]
    for hidden in _halves(reading.batch):
        tick()
        spoilt = {t: _spoilt(rows.get(t), v, hidden) for t, v in given.items()}
        hiding = {t: _spoilt(rows.get(t), v, hidden) for t, v in held.items() if _spoils(many, t)}
        stored = {t: v[0] for t, v in hiding.items() if many.types[t].dtype.is_float}
        found_all = _evaluated(step.holding(stored), held | spoilt | hiding, _Spreading())
        for output, found, seen in zip(step.writes, found_all, number, strict=True):
            for row in sorted(set(range(reading.batch)) - hidden):
                of_row = partial(_row, rows[output], row=row)
                if np.any(np.isnan(of_row(found)) & of_row(seen)):
                    raise NoRows(f"{node.describe()}: a row depends on the others")
    for output, values in zip(step.writes, whole, strict=True):
        for row, graph in rowed.items():
            tick()
            mine = {t: _row(rows[t], v, row) for t, v in given.items()}
            mine |= {t: field.constant(graph.constants[t]) for t in held}
            one = _evaluated(program_of(graph).step(node), mine, field)
            other = _row(rows[output], values, row)
            found = one[step.writes.index(output)]
            scale = max(float(np.max(np.abs(np.nan_to_num(other)), initial=0.0)), 1.0)
            if found.shape != other.shape or not np.allclose(
                found, other, rtol=_CLOSE, atol=_CLOSE * scale, equal_nan=True
            ):
                raise NoRows(
                    f"{node.describe()}: row {row} of {reading.batch} is not what it gives of "
                    "this row alone"
                )
    return np.concatenate([n.reshape(-1) for n in number])


def _halves(batch: int) -> Iterator[frozenset[int]]:
    """Sets of rows such that any two rows are told apart by one that holds only the second."""
    bit = 1
    while bit < batch:
        ones = frozenset(i for i in range(batch) if i & bit)
        yield ones
        yield frozenset(range(batch)) - ones
        bit *= 2


def _sampled(graph: Graph, tensor: str, rng: np.random.Generator, low: float, high: float) -> Any:
    kind = graph.types[tensor]
    values = rng.uniform(low, high, (1, *kind.shape))
    return values if kind.dtype.is_float else (values > (low + high) / 2).astype(np.float64)


def _row(rows: Rows | None, values: Any, row: int) -> Any:
    return values if rows is None else rows.behind_samples().of(values, row)


def _spoilt(rows: Rows | None, values: Any, hidden: frozenset[int]) -> Any:
    """The numbers with NaN in the rows that are hidden."""
    if rows is None:
        return values
    spoilt = np.array(values, np.float64)
    for row in hidden:
        at = slice(row * rows.length, (row + 1) * rows.length)
        spoilt[(slice(None),) * (rows.axis + 1) + (at,)] = np.nan
    return spoilt


def _spoils(graph: Graph, tensor: str) -> bool:
    """Numbers and truth values; integers are shapes and places."""
    return graph.types[tensor].dtype.is_float or graph.constants[tensor].dtype == np.bool_


def _evaluated(step: Step, values: Mapping[str, Any], field: Any) -> list[Any]:
    arguments = Inputs(values[t] if t else None for t in step.node.inputs)
    with np.errstate(all="ignore"):
        found = step.operator.real(step.site, arguments, field)
    return [np.asarray(f, np.float64) for f in found]


class _Spreading(ApproximateReals):
    """Numbers of which NaN makes NaN of everything that it enters, comparisons included."""

    def compare(self, relation: Relation, a: Any, b: Any) -> Any:
        return np.where(np.isnan(a) | np.isnan(b), np.nan, super().compare(relation, a, b))

    def select(self, condition: Any, a: Any, b: Any) -> Any:
        return np.where(np.isnan(condition), np.nan, super().select(condition, a, b))
