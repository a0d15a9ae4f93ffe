"""A box of inputs: which points the runtime can receive, and random ones among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from encoders.numbers.formats import FloatFormat, round_array
from onnx_import.graph import Graph
from refine.common.exact import Bounds

FloatArray: TypeAlias = npt.NDArray[np.float64]
ExactBox: TypeAlias = Mapping[str, Sequence[Bounds]]
IntegerArray: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Box:
    """One box of inputs. All four mappings are by graph input, arrays of that input's shape.

    The runtime receives the numbers of `formats[name]` from `lo` to `hi`, both of them such
    numbers. The real network receives the same inputs, and `real_lo`, `real_hi` equal `lo`, `hi`;
    with `--round-inputs` it receives all reals from `real_lo` to `real_hi`, which enclose the
    bounds that the user gave, and the runtime receives each rounded to nearest. `stated` then has
    these bounds themselves, as rationals in two arrays, where float64 does not hold them all.
    """

    lo: Mapping[str, FloatArray]
    hi: Mapping[str, FloatArray]
    real_lo: Mapping[str, FloatArray]
    real_hi: Mapping[str, FloatArray]
    formats: Mapping[str, FloatFormat]
    stated: Mapping[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = field(default_factory=dict)

    def contains(self, point: Mapping[str, npt.ArrayLike]) -> bool:
        """Can the runtime receive this point: right names and shapes, inside, representable?"""
        if set(point) != set(self.lo):
            return False
        for name, value in point.items():
            x = np.asarray(value).astype(np.float64)
            if x.shape != self.lo[name].shape:
                return False
            inside = (self.lo[name] <= x) & (x <= self.hi[name])
            if not np.all(inside & (round_array(x, self.formats[name]) == x)):
                return False
        return True

    def real_point(self, point: Mapping[str, npt.ArrayLike]) -> dict[str, npt.NDArray[Any]]:
        """Real inputs that the runtime receives as this point, the nearest to it: float64 numbers,
        or rationals (an array of objects) where the domain has no float64 number that would do."""
        return {name: self._real(name, np.asarray(v, np.float64)) for name, v in point.items()}

    def _real(self, name: str, x: FloatArray) -> npt.NDArray[Any]:
        near = np.clip(x, self.real_lo[name], self.real_hi[name])
        if name not in self.stated or np.array_equal(near, x):
            return np.asarray(near)
        found = near.astype(object)
        lo, hi = self.stated[name]
        for place in np.argwhere(near != x):
            at = tuple(place)
            found[at] = min(max(Fraction(float(x[at])), lo[at]), hi[at])
        return found

    def nearest(self, name: str, x: FloatArray) -> FloatArray:
        """Numbers rounded to what the runtime can receive of one input; x broadcasts to it."""
        return np.clip(round_array(x, self.formats[name]), self.lo[name], self.hi[name])

    def sample(self, rng: np.random.Generator, n: int) -> dict[str, FloatArray]:
        """n points the runtime can receive, per input of shape (n, *shape).

        A third each, in turn: uniform over the reals and rounded; uniform over the floats, so
        that small magnitudes occur; corners of the box. In half of the corners a part of the
        elements, from none to all, is the number nearest to zero instead.
        """
        points: dict[str, FloatArray] = {}
        for name, lo in self.lo.items():
            hi, fmt = self.hi[name], self.formats[name]
            size = (n, *lo.shape)
            share = rng.random(size)
            uniform = round_array(lo * (1 - share) + hi * share, fmt)
            first, last = _ordinal(lo, fmt), _ordinal(hi, fmt)
            floats = _of_ordinal(rng.integers(first, last, size, endpoint=True), fmt)
            row = (n, *(1 for _ in lo.shape))
            smallest = rng.random(size) < rng.uniform(-1.0, 1.0, row)
            ends = np.where(rng.random(size) < 0.5, lo, hi)
            corners = np.where(smallest, 0.0, ends)
            kind = (np.arange(n) % 3).reshape(row)
            chosen = np.where(kind == 0, uniform, np.where(kind == 1, floats, corners))
            points[name] = np.clip(chosen, lo, hi)
        return points


def element_formats(graph: Graph, box: Box) -> list[FloatFormat]:
    """Of every element of all inputs of a graph, in order."""
    return [box.formats[name] for name in graph.inputs for _ in range(graph.types[name].size)]


def _ordinal(values: FloatArray, fmt: FloatFormat) -> IntegerArray:
    """Positions of numbers of `fmt` in its order: 0 for zero, odd."""
    size = np.abs(values)
    binade = np.where(size > 0, np.maximum(np.frexp(size)[1] - 1, fmt.emin), fmt.emin)
    steps = (size / np.ldexp(1.0, binade - fmt.precision + 1)).astype(np.int64)
    positions: IntegerArray = steps + ((binade - fmt.emin).astype(np.int64) << fmt.precision - 1)
    return np.where(values < 0, -positions, positions)


def _of_ordinal(positions: IntegerArray, fmt: FloatFormat) -> FloatArray:
    size = np.abs(positions)
    binade = np.maximum(size >> fmt.precision - 1, 1) - 1
    steps = (size - (binade << fmt.precision - 1)).astype(np.float64)
    values: FloatArray = np.ldexp(steps, (binade + (fmt.emin - fmt.precision + 1)).astype(np.int32))
    return np.where(positions < 0, -values, values)


def elements_before(graph: Graph, names: Sequence[str], name: str) -> int:
    """How many elements the tensors of `names` have that come before one of them."""
    return sum(graph.types[other].size for other in names[: names.index(name)])


def element_of(graph: Graph, name: str, k: int) -> str:
    """`input 'x'[0, 3] (X_3)`: an element of an input, by its row-major position there."""
    x = k + elements_before(graph, graph.inputs, name)
    index = [int(i) for i in np.unravel_index(k, graph.types[name].shape)]
    return f"input '{name}'{index} (X_{x})"
