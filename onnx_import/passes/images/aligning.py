"""RoiAlign by stored regions as one that reads each of its places once, and a pool over these.

A region that is sampled k times along an axis is one of k times as many elements, of which k are
averaged, or compared. What is compared are products of pixels with their weights, as ONNX's text
has no more and onnxruntime does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

from onnx_import.graph import Array, Node
from onnx_import.passes.body import Body

ATTRIBUTES = (
    "coordinate_transformation_mode mode output_height output_width sampling_ratio spatial_scale"
)
_HALVES_SINCE = 16  # half a pixel is taken off unless the node says otherwise
_MOST = 2**16  # places of all regions, each of which is looked at
_ROUNDINGS = 24.0
_TAPS = 4
_PLACES = "places"  # the mode of a node made here
N = TypeVar("N", Fraction, np.floating)


@dataclass(frozen=True)
class Parts:
    """Along one axis: into how many elements a region is cut, the scale of its edges, whether half
    a pixel is taken off them, and how often each element of the file's node is sampled."""

    count: int
    scale: float
    halves: bool
    samples: int


def parts_of(node: Node, axis: int) -> Parts:
    """Those of a node that samples each of its elements once, of rows or of columns."""
    count = node.attributes.get(("output_height", "output_width")[axis], 1)
    assert isinstance(count, int)
    return Parts(count, _scale(node.attributes), _halves(node), _made(node)[axis])


def tap_of(node: Node) -> int | None:
    """Which of the four products it is that the node is asked for; None for their sum."""
    tap = _made(node)[2]
    return tap if tap >= 0 else None


def _made(node: Node) -> tuple[int, int, int]:
    """How often rows and columns were sampled, and the product asked for, of a node made here."""
    word, *numbers = mode_of(node.attributes).split()
    if word != _PLACES:
        return 1, 1, -1
    rows, columns, tap = (int(n) for n in numbers)
    return rows, columns, tap


def mode_of(given: Mapping[str, Any]) -> str:
    """The attribute `mode`."""
    mode = given.get("mode", "avg")
    return (mode.decode() if isinstance(mode, bytes) else str(mode)).lower()


def _scale(given: Mapping[str, Any]) -> float:
    return float(np.float32(given.get("spatial_scale", 1.0)))


def _halves(node: Node) -> bool:
    usual = "half_pixel" if node.opset >= _HALVES_SINCE else "output_half_pixel"
    return node.attributes.get("coordinate_transformation_mode", usual) == "half_pixel"


@dataclass(frozen=True)
class Region:
    """One region along one axis."""

    parts: Parts
    ends: tuple[float, float]

    def steps(self, number: Callable[[float], N]) -> tuple[N, N, N, N]:
        """Its beginning and end, its length and that of an element of the file's node."""
        scale, half = number(self.parts.scale), number(0.5 if self.parts.halves else 0.0)
        low, high = (number(end) * scale - half for end in self.ends)
        length = high - low
        if not self.parts.halves:
            length = max(length, number(1.0))
        return low, high, length, length / number(self.parts.count // self.parts.samples)

    def places(self, number: Callable[[float], N]) -> list[N]:
        """Where its elements are read, in the order of operations of onnxruntime."""
        low, _, _, size = self.steps(number)
        samples = self.parts.samples
        return [
            low + number(p // samples) * size + number(p % samples + 0.5) * size / number(samples)
            for p in range(self.parts.count)
        ]

    def unrounded(self, number: Callable[[float], np.floating]) -> bool:
        """Are all numbers on the way to its places held as they are?"""
        held = [*self.steps(number), *self.places(number)]
        exact = [*self.steps(Fraction), *self.places(Fraction)]
        return all(Fraction(float(h)) == e for h, e in zip(held, exact, strict=True))


def doubt(region: Region, unit: float) -> float:
    """How far its places may be from exact ones where each operation errs by `unit`; 0 where none
    of them does, in whatever order.

    With S the sum of the edges' sizes and 1, an edge is off by 2 units of its size, the length by
    3·S, an element's times its number by 5·S, the sample's share of it by 6·S, and two sums of at
    most 3·S by 5·S: less than 24·S in all.
    """
    parts = region.parts
    size = sum(abs(end) for end in region.ends) * abs(parts.scale) + 1.0
    counts = (parts.scale, parts.samples, parts.count // parts.samples)
    halved = all(math.frexp(abs(n))[0] == 0.5 for n in counts)
    few = all(abs(end) < 2**8 and (end * 2.0**6).is_integer() for end in region.ends)
    if halved and few and all(2.0**-4 <= abs(n) <= 2.0**4 for n in counts):
        return 0.0
    return _ROUNDINGS * unit * size


def why_unread(
    shape: tuple[int, ...], rois: Array, batches: Array, regions: Sequence[Region]
) -> str:
    """Why a RoiAlign by these regions has no meaning here; the empty text where it has."""
    if len(shape) != 4 or rois.ndim != 2 or rois.shape[1] != 4 or batches.shape != rois.shape[:1]:
        return "its regions (input 1) and their batch indices (input 2) do not fit its data"
    which = batches.astype(np.int64)
    if np.any((which < 0) | (which >= shape[0])):
        return f"its batch indices (input 2) lead beyond a batch of {shape[0]}"
    if sum(r.parts.count for r in regions) > _MOST:
        return f"its regions have more than {_MOST} places"
    number: type[np.floating] = np.dtype(rois.dtype.name).type
    with np.errstate(all="ignore"):
        if not all(np.all(np.isfinite([*r.steps(number), *r.places(number)])) for r in regions):
            return "where its regions (input 1) are read overflows on the way"
    return ""


def at_an_edge(region: Region, length: int, unit: float, apart: bool) -> bool:
    """May rounding decide whether a place is beyond the image; or, where pixels are told `apart`,
    between which it is?"""
    off = doubt(region, unit)
    if not off:
        return False
    for place in region.places(Fraction):
        if any(abs(place - end) <= off for end in (-1, length)):
            return True
        if apart and abs(place - round(place)) <= off and -1 < place < length:
            return True
    return False


def sampled_once(body: Body) -> None:
    """Nothing where the node samples each element once, and averages."""
    node = body.node
    x, given, which = node.inputs
    rois, batches = body.known.get(given), body.known.get(which)
    if rois is None or batches is None:
        raise body.unsupported(
            "its regions (input 1) are computed from the inputs, and where it reads is not known; "
            "store them in the model"
        )
    mode, ratio = mode_of(node.attributes), int(body.number("sampling_ratio", 0))
    if mode.split()[:1] == [_PLACES] or (mode == "avg" and ratio == 1):
        return
    if mode not in ("avg", "max"):
        raise body.unsupported(f"attribute 'mode' is '{mode}'; known are avg and max")
    sizes = tuple(int(body.number(f"output_{side}", 1)) for side in ("height", "width"))
    number: type[np.floating] = np.dtype(rois.dtype.name).type
    grids = [tuple(_sampled(body, row, k, sizes[k], ratio, number) for k in (0, 1)) for row in rois]
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, grid in enumerate(grids):
        groups.setdefault(grid, []).append(i)
    joined, order = [], []
    for grid, rows in groups.items():
        order += rows
        stored = [body.store(rois[rows]), body.store(batches[rows])]
        same: dict[str, Any] = {
            "spatial_scale": _scale(node.attributes),
            "output_height": sizes[0] * grid[0],
            "output_width": sizes[1] * grid[1],
            "sampling_ratio": 1,
        }
        if node.opset >= _HALVES_SINCE:
            same["coordinate_transformation_mode"] = (
                "half_pixel" if _halves(node) else "output_half_pixel"
            )
        window: dict[str, Any] = {"kernel_shape": list(grid), "strides": list(grid)}
        made = f"{_PLACES} {grid[0]} {grid[1]}"
        if mode == "avg":
            read = body.add("RoiAlign", x, *stored, mode=f"{made} -1", **same)
            joined.append(body.add("AveragePool", read, **window))
        else:
            taps = [
                body.add("RoiAlign", x, *stored, mode=f"{made} {k}", **same) for k in range(_TAPS)
            ]
            joined.append(body.add("MaxPool", body.add("Max", *taps), **window))
    if len(joined) > 1:
        places = body.store(np.argsort(order).astype(np.int64))
        body.add("Gather", body.add("Concat", *joined, axis=0), places, axis=0)


def _sampled(
    body: Body,
    row: Array,
    axis: int,
    size: int,
    ratio: int,
    number: type[np.floating],
) -> int:
    """How often an element of a region is sampled along an axis. Raises UnsupportedModel where
    rounding may decide it."""
    if ratio > 0:
        return ratio
    ends = (float(row[1 - axis]), float(row[3 - axis]))
    region = Region(Parts(size, _scale(body.node.attributes), _halves(body.node), 1), ends)
    low, high, _, length = region.steps(Fraction)
    if not region.parts.halves and high - low < 1 - 2 * Fraction(doubt(region, 2.0**-23)):
        return 1  # made a pixel wide
    unit = float(np.finfo(number).eps)
    if abs(length - round(length)) <= doubt(region, unit) and not region.unrounded(number):
        raise body.unsupported(
            f"how often a region of {float(length):g} pixels an element is sampled is decided by "
            "rounding; state 'sampling_ratio'"
        )
    if length <= 0:
        raise body.unsupported("a region (input 1) has no pixels; state 'sampling_ratio'")
    return math.ceil(length)
