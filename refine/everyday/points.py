"""One input of a model, or several along a first axis, as domains of single points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from encoders.numbers.formats import WHOLE, FloatFormat, round_array
from onnx_import.errors import ModelError
from onnx_import.graph import Array, DType, Graph
from refine.claims.many.points import lasting
from refine.domain.box import Box, FloatArray
from refine.domain.domain import Domain, inputs_of


@dataclass(frozen=True)
class Given:
    """Inputs, one mapping for each point, of numbers that the runtime can receive. `several` says
    that they came along a first axis of their own; `rounded` how many numbers were none."""

    points: tuple[Mapping[str, FloatArray], ...]
    several: bool
    rounded: int
    source: str

    def domain(self, graph: Graph, number: int, fmt_of: Callable[[DType], FloatFormat]) -> Domain:
        """The domain that is one of the points."""
        x = self.points[number]
        formats = {t: _received_in(graph.types[t].dtype, fmt_of) for t in graph.inputs}
        which = f"point {number} of {self.source}" if self.several else self.source
        notes = (
            (f"{self.rounded} numbers were rounded to the input's format",) if self.rounded else ()
        )
        return Domain((Box(x, x, x, x, formats),), which, notes)


def given_by(
    arrays: Mapping[str, Array],
    graph: Graph,
    fmt_of: Callable[[DType], FloatFormat],
    source: str = "the inputs given",
    *,
    whole: bool = False,
) -> Given:
    """Arrays of the inputs' own shapes are one point; with an axis in front, several. Integers and
    truth values are constants of one run unless they are `whole` numbers like others.

    Raises ModelError, naming the input, for one that is missing, does not fit or holds a number
    that is not finite.
    """
    if not graph.inputs:
        return Given(({},), False, 0, source)
    if len(arrays) == len(graph.inputs) == 1:
        arrays = dict(zip(graph.inputs, arrays.values(), strict=True))
    rounded, values = 0, {}
    several: set[bool] = set()
    for name in graph.inputs:
        kind = graph.types[name]
        if name not in arrays:
            raise ModelError(f"{source}: no array for input '{name}'; {inputs_of(graph)}")
        if not kind.dtype.is_float and not whole:
            raise ModelError(
                f"input '{name}' holds {kind.dtype.value} numbers, which are constants of one run: "
                "ask with the model's file and an array for it (refine tolerance --inputs)"
            )
        wide = numbers_of(arrays[name], f"{source}: '{name}'").astype(np.float64)
        rows, many = rows_of(wide, kind.shape, f"{source}: '{name}'")
        several.add(many)
        values[name] = round_array(rows, _received_in(kind.dtype, fmt_of))
        rounded += int(np.count_nonzero(values[name] != rows))
        if not np.all(np.isfinite(values[name])):
            raise ModelError(f"{source}: '{name}' holds numbers that are not finite")
    counts = {len(v) for v in values.values()}
    if len(counts) != 1 or counts == {0} or len(several) != 1:
        raise ModelError(f"{source}: not as many points for each input; {inputs_of(graph)}")
    points = tuple({t: v[k] for t, v in values.items()} for k in range(counts.pop()))
    return Given(points, several.pop(), rounded, source)


def _received_in(dtype: DType, fmt_of: Callable[[DType], FloatFormat]) -> FloatFormat:
    """The format of what the runtime receives of an input; of integers, one that holds them."""
    return fmt_of(dtype) if dtype.is_float else WHOLE


def numbers_of(value: object, what: str) -> Array:
    """An array of real numbers. Raises ModelError for texts, complex numbers, rows of several
    lengths and other objects."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise ModelError(f"{what} is no array of numbers ({error})") from error
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise ModelError(f"{what} has type {array.dtype}; expected numbers")
    return array


def rows_of(
    values: Array, shape: Sequence[int], what: str, several: str = "points"
) -> tuple[Array, bool]:
    """As (points, *shape), and whether there was an axis for several. Raises ModelError for an
    array that is neither one nor several."""
    wanted = lasting(shape)
    if lasting(values.shape) == wanted:
        return values.reshape(1, *shape), False
    if values.ndim and lasting(values.shape[1:]) == wanted:
        return values.reshape(len(values), *shape), True
    raise ModelError(
        f"{what} has shape {list(values.shape)}; expected {list(shape)}, or [{several}, "
        f"{', '.join(map(str, shape))}]"
    )
