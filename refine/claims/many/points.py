"""The points of a data set, and small balls around them, as domains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from encoders.numbers.formats import FloatFormat, round_array
from onnx_import.errors import ModelError
from onnx_import.graph import DType, Graph, Shape
from refine.common.arrays import Stored
from refine.common.exact import Bounds, decimal
from refine.domain.box import FloatArray
from refine.domain.domain import Domain, domain_of_boxes, inputs_of, range_of


@dataclass(frozen=True)
class Points:
    """By input, the points of a data set as (points, elements), each number one that the runtime
    can receive; `rounded` is how many of them were none."""

    values: Mapping[str, FloatArray]
    source: str
    rounded: int

    def __len__(self) -> int:
        return min(len(v) for v in self.values.values())

    def at(self, number: int) -> dict[str, FloatArray]:
        """One point, elements in a row."""
        return {name: rows[number] for name, rows in self.values.items()}

    def domain(
        self,
        graph: Graph,
        number: int,
        radius: str,
        clip: str | None,
        fmt_of: Callable[[DType], FloatFormat],
    ) -> Domain:
        """The ball of a radius around a point (0: the point alone), within a range `clip`.

        Raises DomainError where that holds no number of the runtime, or a text is none.
        """
        r = decimal(radius)
        if r < 0:
            raise ModelError(f"the radius {radius} is negative")
        limit = None if clip is None else range_of(clip)
        box: dict[str, Sequence[Bounds]] = {}
        for name, rows in self.values.items():
            ball = [Bounds(Fraction(x) - r, Fraction(x) + r) for x in rows[number].tolist()]
            if limit is not None:
                ball = [Bounds(max(b.lo, limit.lo), min(b.hi, limit.hi)) for b in ball]
            if any(b.empty for b in ball):
                raise ModelError(f"point {number} lies outside --clip {clip}")
            box[name] = ball
        source = f"point {number} of {self.source}" + (f", radius {radius}" if r else "")
        return domain_of_boxes(graph, [box], source, fmt_of, round_inputs=False)


def shapes_in(stored: Stored | Mapping[str, Stored]) -> dict[str, Shape]:
    """The shapes of arrays by input; that of one alone stands for the only input."""
    arrays = {"": stored} if isinstance(stored, Stored) else stored
    return {name: array.shape for name, array in arrays.items()}


def points_of(
    stored: Stored | Mapping[str, Stored],
    path: str,
    graph: Graph,
    fmt_of: Callable[[DType], FloatFormat],
) -> Points:
    """The points of a data set for a graph: an array for each input by name, or a single one, with
    the points along the first axis; `path` says where they are from.

    Raises ModelError for arrays that do not fit, and for numbers that are not finite.
    """
    if isinstance(stored, Stored):
        given: Mapping[str, Stored] = {"": stored}
    else:
        given = stored
    if len(graph.inputs) == len(given) == 1:
        given = dict(zip(graph.inputs, given.values(), strict=True))
    if missing := [name for name in graph.inputs if name not in given]:
        held = ", ".join(f"'{name}'" for name in given if name) or "one array"
        raise ModelError(f"{path} holds {held}, and none for '{missing[0]}'; {inputs_of(graph)}")
    if not graph.inputs:
        raise ModelError(f"{path} has points, but {inputs_of(graph)}")
    rounded, values = 0, {}
    for name in graph.inputs:
        kind = graph.types[name]
        written = _numbers(given[name], graph, name, path)
        if kind.dtype.is_float:
            values[name] = round_array(written, fmt_of(kind.dtype))
        elif np.array_equal(written, np.trunc(written)):
            values[name] = written  # the domain refuses those that the type does not hold
        else:
            raise ModelError(f"{path}: '{name}' is of {kind.dtype.value}, and not all are whole")
        if not np.all(np.isfinite(values[name])):
            raise ModelError(f"{path}: numbers of '{name}' overflow in the format of the input")
        rounded += int(np.count_nonzero(np.any(values[name] != written, axis=1)))
    counts = {len(v) for v in values.values()}
    if len(counts) != 1 or counts == {0}:
        raise ModelError(f"{path} holds no points, or not as many of each input")
    return Points(values, path, rounded)


def _numbers(stored: Stored, graph: Graph, name: str, path: str) -> FloatArray:
    """As (points, elements)."""
    shape = graph.types[name].shape
    if stored.dtype.kind not in "fiub" or stored.dtype.itemsize > 8:
        raise ModelError(f"{path}: '{name}' has type {stored.dtype}; expected floats or integers")
    if not stored.shape or lasting(stored.shape[1:]) != lasting(shape):
        raise ModelError(
            f"{path}: '{name}' has shape {list(stored.shape)}; expected [points, "
            f"{', '.join(map(str, lasting(shape)))}]"
        )
    written = stored.values()
    values = written.reshape(len(written), graph.types[name].size).astype(np.float64)
    if not np.all(np.isfinite(values)):
        raise ModelError(f"{path}: '{name}' holds numbers that are not finite")
    return values


def lasting(shape: Sequence[int]) -> tuple[int, ...]:
    """Without axes of length 1, which hold no order of elements."""
    return tuple(extent for extent in shape if extent != 1)
