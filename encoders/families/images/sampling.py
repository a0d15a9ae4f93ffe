"""Interpolation between pixels at the places that a stored grid names, linear or cubic.

Along each axis a place has weights on a few pixels; those of several axes multiply. Over the reals
they are exact rationals. A runtime computes coordinates and weights in the format of the data.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.families.gathering import Index, picked
from encoders.families.images.axis import Weights
from encoders.families.images.interpolation import keys
from encoders.numbers.enclosure import FloatArray, add_up, multiply_up
from encoders.operator import Site, remembered
from onnx_import.graph import DType
from onnx_import.passes.images.sampling import (
    NOWHERE,
    Pixels,
    coordinate,
    doubt,
    flat,
    mode_of,
    pixels,
)

_STEEP = {"linear": 1.0, "cubic": 1.5}  # what a weight moves by, at most, per pixel
_LOOSE = {"linear": 2.0, "cubic": 64.0}  # units that its own computation may cost
_A = Fraction(-3, 4)  # Keys' parameter, as all runtimes have it
T = TypeVar("T")
S = TypeVar("S", bound=np.generic)


@dataclass(frozen=True)
class Along:
    """Interpolation along one axis, for each of `points` places.

    `exact` are pixels (taps, points) and exact weights of them, 0 for a pixel that is nowhere;
    `computed` the same as onnxruntime computes it. A place is `beyond` the pixel `before` it.
    """

    before: Pixels
    beyond: FloatArray
    exact: tuple[Pixels, npt.NDArray[np.object_]]
    computed: tuple[Pixels, Weights]


@dataclass(frozen=True)
class Around:
    """Along one axis the pixels (window, points) that a runtime may read whose coordinates are
    computed with some unit roundoff, the sizes of their exact weights, and how far these may be
    off."""

    places: Pixels
    sizes: FloatArray
    off: FloatArray


def parts_of(site: Site) -> tuple[str, str, bool]:
    """Mode, padding, and whether the middles of the outermost pixels are at −1 and 1."""
    given = site.node.attributes
    padding = mode_of(given.get("padding_mode", "zeros"))
    return mode_of(given.get("mode", "linear")), padding, bool(site.integer("align_corners", 0))


def unit_of(site: Site) -> float:
    """The unit roundoff of the format in which weights are computed."""
    return 2.0**-24 if site.type_of(0).dtype is DType.FLOAT32 else 2.0**-53


@remembered
def alongs(site: Site) -> tuple[Along, ...]:
    """Of each axis of pixels, the first first; the grid's batch is among the points."""
    lengths = site.type_of(0).shape[2:]
    return tuple(_along(site, n, k) for n, k in zip(_columns(site), lengths, strict=True))


def _columns(site: Site) -> Weights:
    """(axes, points): the grid's numbers for each axis of pixels, the first first."""
    grid = site.constant(1)
    assert grid is not None
    columns: Weights = np.asarray(grid, grid.dtype.name).reshape(-1, grid.shape[-1]).T[::-1]
    return columns


def _along(site: Site, given: Weights, length: int) -> Along:
    mode, padding, aligned = parts_of(site)
    taps = np.arange(0, 2) if mode == "linear" else np.arange(-1, 3)
    at = [coordinate(Fraction(float(n)), length, aligned) for n in given]
    whole = [math.floor(x) for x in at]
    first, rest = np.array(whole, np.int64), [x - n for x, n in zip(at, whole, strict=True)]
    exact = np.array([_weights(mode, r, Fraction(1), _A) for r in rest], object).T

    one, half = np.asarray(1, given.dtype), np.asarray(2, given.dtype)
    size = np.asarray(length, given.dtype)
    x = (given + one) / half * (size - one) if aligned else ((given + one) * size - one) / half
    down = np.floor(x)
    if mode == "linear":
        computed: Weights = np.stack([(down + one) - x, x - down])
    else:
        beyond = (x - (down - one)) - one
        computed = np.stack(_weights(mode, beyond, one, np.asarray(-0.75, given.dtype)))

    here = pixels(first + taps[:, None], length, padding, aligned)
    there = pixels(down.astype(np.int64) + taps[:, None], length, padding, aligned)
    exact[here == NOWHERE] = Fraction(0)
    computed = np.where(there == NOWHERE, np.zeros((), given.dtype), computed)
    held = np.array([float(r) for r in rest])
    return Along(first, held, (here, exact), (there, computed))


def _around(site: Site, axis: int, unit: float) -> Around:
    """A weight is a function of the coordinate that is nowhere steeper than `_STEEP`; a coordinate
    this near to a pixel may end up on its other side."""
    (mode, padding, aligned), length = parts_of(site), site.type_of(0).shape[2 + axis]
    along, given = alongs(site)[axis], _columns(site)[axis].astype(np.float64)
    (_, exact), low = along.exact, along.beyond
    reach = doubt(given, length, unit) + 4.0 * unit
    window = np.arange(-1, 3) if mode == "linear" else np.arange(-2, 4)
    places = pixels(along.before + window[:, None], length, padding, aligned)
    sizes = np.zeros(places.shape)
    sizes[1:-1] = np.abs(exact.astype(np.float64)) * (1.0 + 2.0**-52)
    off = np.zeros(places.shape) + (_STEEP[mode] * reach + _LOOSE[mode] * unit)
    off[0] *= low <= reach
    off[-1] *= 1.0 - low <= reach
    off[:, reach >= 0.5] = np.inf
    return Around(places, sizes, np.where(places == NOWHERE, 0.0, off))


def _weights(mode: str, r: T, one: T, a: T) -> tuple[T, ...]:
    """Of the pixels around a place r beyond the one before it."""
    if mode == "linear":
        return (one - r, r)  # type: ignore[operator]
    return keys(r, a, one)  # type: ignore[type-var]


def _flat_index(site: Site, places: Pixels) -> Index:
    """Positions in the whole tensor, (…, *output), of pixels (…, points), in every channel; where
    there is none the first."""
    shape, output = site.type_of(0).shape, site.outputs[0].shape
    maps = np.arange(shape[0] * shape[1]).reshape(shape[:2]) * math.prod(shape[2:])
    chosen = np.where(places == NOWHERE, 0, places)
    chosen = chosen.reshape(*places.shape[:-1], shape[0], 1, -1)
    return np.asarray((maps[..., None] + chosen).reshape(*places.shape[:-1], *output), np.intp)


def spread(site: Site, points: npt.NDArray[S]) -> npt.NDArray[S]:
    """(…, points) at every element of the output that stands there, channels broadcast."""
    shape = site.outputs[0].shape
    return points.reshape(*points.shape[:-1], shape[0], 1, *shape[2:])


@remembered
def exact_terms(site: Site) -> tuple[Index, list[npt.NDArray[np.object_]]]:
    """Positions (terms, *output) of what each output adds up, and of each axis the exact weights
    (terms, batch, 1, *points)."""
    return _terms(site, [along.exact for along in alongs(site)])


@remembered
def computed_terms(site: Site) -> tuple[Index, list[Weights]]:
    """The same with the weights that a runtime computes."""
    return _terms(site, [along.computed for along in alongs(site)])


def _terms(
    site: Site, parts: Sequence[tuple[Pixels, npt.NDArray[S]]]
) -> tuple[Index, list[npt.NDArray[S]]]:
    weights = [_at(site, [w for _, w in parts], d) for d in range(len(parts))]
    return _positions(site, [places for places, _ in parts]), weights


def held_products(index: Index, weights: Sequence[npt.NDArray[np.generic]]) -> FloatArray:
    """(terms, *output) in float64: of each term the product of its weights along all axes."""
    held = np.ones(index.shape)
    for axis in weights:
        held = held * axis.astype(np.float64)
    return held


def _choices(parts: Sequence[npt.NDArray[S]]) -> list[tuple[int, ...]]:
    return list(itertools.product(*(range(len(part)) for part in parts)))


def _positions(site: Site, parts: Sequence[Pixels]) -> Index:
    """(terms, *output), a term for every choice of one pixel along each axis."""
    lengths = site.type_of(0).shape[2:]
    places = [
        flat([part[i] for part, i in zip(parts, each, strict=True)], lengths)
        for each in _choices(parts)
    ]
    return _flat_index(site, np.stack(places))


def _at(site: Site, parts: Sequence[npt.NDArray[S]], axis: int) -> npt.NDArray[S]:
    """(terms, batch, 1, *points): what each term has of one axis."""
    return spread(site, np.stack([parts[axis][each[axis]] for each in _choices(parts)]))


def sampled(
    site: Site, values: ObjectArray, number: Callable[[npt.NDArray[np.object_]], ObjectArray]
) -> ObjectArray:
    """The exact map on (k, *in) of a field's numbers; `number` makes such of rationals."""
    index, weights = exact_terms(site)
    total = None
    for k in range(len(index)):
        part = picked(values, index[k])
        for axis in weights:
            part = part * number(axis[k])
        total = part if total is None else total + part
    assert total is not None
    return total


def off_weights(site: Site, unit: float) -> tuple[Index, FloatArray, FloatArray]:
    """Positions, errors and sizes of all weights (window, *output), where a runtime's operations
    err by at most `unit`; infinite where it may read other pixels than these."""
    around = [_around(site, axis, unit) for axis in range(len(alongs(site)))]
    index = _positions(site, [a.places for a in around])
    if any(np.any(np.isinf(a.off)) for a in around):
        nothing = np.full(index.shape, np.inf)
        return index, nothing, nothing
    errors = [_at(site, [a.off for a in around], k) for k in range(len(around))]
    sizes = [_at(site, [a.sizes for a in around], k) for k in range(len(around))]
    off, largest = product_off(sizes, errors)
    return index, np.broadcast_to(off, index.shape), np.broadcast_to(largest, index.shape)


def product_off(
    sizes: Sequence[FloatArray], errors: Sequence[FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """|Πŵ − Πw| for |w_k| at most `sizes` and |ŵ_k − w_k| at most `errors`, which is at most
    Σ_k Π_{j<k}(|w_j| + d_j)·d_k·Π_{j>k}|w_j|; and Π(|w_k| + d_k)."""
    off, largest = np.zeros(()), np.ones(())
    for k, error in enumerate(errors):
        part = multiply_up(largest, error)
        for size in sizes[k + 1 :]:
            part = multiply_up(part, size)
        off = add_up(off, part)
        largest = multiply_up(largest, add_up(sizes[k], error))
    return off, largest
