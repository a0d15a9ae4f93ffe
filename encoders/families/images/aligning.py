"""Where a RoiAlign by stored regions reads: one place for every element of its output.

Along an axis a region's edges are the stored numbers times a scale, half a pixel less where the
node says so; the place of an element is in the middle of its share of the region. What lies a
pixel beyond the image, or more, is 0; else the place is kept within it, and has weights on two
pixels. The weights of both axes multiply.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.families.gathering import Index, picked
from encoders.families.images.axis import Weights
from encoders.families.images.sampling import product_off
from encoders.numbers.enclosure import FloatArray
from encoders.operator import Site, remembered
from onnx_import.graph import Array, DType
from onnx_import.passes.images.aligning import Region, at_an_edge, doubt, parts_of, tap_of

Places = npt.NDArray[np.intp]
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Along:
    """Along one axis: pixels (2, regions, places) with exact weights, and with those that
    onnxruntime computes."""

    exact: tuple[Places, npt.NDArray[np.object_]]
    computed: tuple[Places, Weights]


@dataclass(frozen=True)
class Around:
    """Along one axis the pixels (4, regions, places) that a runtime may read, the sizes of their
    weights, and how far these may be off."""

    places: Places
    sizes: FloatArray
    off: FloatArray


def unit_of(site: Site) -> float:
    """The unit roundoff of the format in which weights are computed."""
    return 2.0**-24 if site.type_of(0).dtype is DType.FLOAT32 else 2.0**-53


def _stored(site: Site, position: int) -> Array:
    value = site.constant(position)
    assert value is not None
    return value


def regions_of(site: Site, axis: int) -> list[Region]:
    """Every region along one axis, rows first."""
    parts = parts_of(site.node, axis)
    return [Region(parts, (float(row[1 - axis]), float(row[3 - axis]))) for row in _stored(site, 1)]


@remembered
def alongs(site: Site) -> tuple[Along, Along]:
    """Of the rows of pixels, and of the columns."""
    return _along(site, 0), _along(site, 1)


def _along(site: Site, axis: int) -> Along:
    n, regions = site.type_of(0).shape[2 + axis], regions_of(site, axis)
    kind = np.dtype(_stored(site, 1).dtype.name)
    exact = np.array([region.places(Fraction) for region in regions], object)
    held: Weights = np.array([region.places(kind.type) for region in regions], kind)
    low = np.array([[math.floor(_kept(v, n)) for v in row] for row in exact], np.intp)
    beyond = np.array([[_kept(v, n) - math.floor(_kept(v, n)) for v in row] for row in exact])
    weights = np.stack([1 - beyond, beyond])
    weights[:, _outside(exact, n)] = Fraction(0)
    within = np.clip(held, kind.type(0), kind.type(n - 1))
    down = np.floor(within)
    computed: Weights = np.stack([kind.type(1) - (within - down), within - down])
    computed[:, _outside(exact, n)] = 0
    return Along((_pair(low, n), weights), (_pair(down.astype(np.intp), n), computed))


def _kept(place: Fraction, n: int) -> Fraction:
    return min(max(place, Fraction(0)), Fraction(n - 1))


def _outside(places: npt.NDArray[np.object_], n: int) -> npt.NDArray[np.bool_]:
    return np.asarray((places < -1) | (places > n), np.bool_)


def _pair(low: Places, n: int) -> Places:
    return np.stack([low, np.minimum(low + 1, n - 1)])


def _around(site: Site, axis: int, unit: float) -> Around:
    """A place this near to a pixel may end up on its other side."""
    n, along, regions = site.type_of(0).shape[2 + axis], alongs(site)[axis], regions_of(site, axis)
    (pixels, _), weights = along.exact, along.exact[1].astype(np.float64)
    far = np.array([[doubt(region, unit)] for region in regions])
    reach = np.where(far > 0.0, far + 4.0 * unit, 0.0)
    places = np.clip(pixels[0] + np.arange(-1, 3)[:, None, None], 0, n - 1)
    sizes = np.zeros(places.shape)
    sizes[1:-1] = weights * (1.0 + 2.0**-52)
    off = np.zeros(places.shape) + reach
    off[0] *= weights[1] <= far
    off[-1] *= weights[0] <= far
    off[:, np.broadcast_to(reach >= 0.5, off.shape[1:])] = np.inf
    exact = np.array([region.places(Fraction) for region in regions], object)
    off[:, _outside(exact, n)] = 0.0
    return Around(places, sizes, off)


def _flat(site: Site, rows: Places, columns: Places) -> Index:
    """Positions in the whole tensor, (terms, *output), of pixels (taps, regions, places) for every
    choice of one tap along each axis."""
    shape, output = site.type_of(0).shape, site.outputs[0].shape
    maps = np.arange(math.prod(shape[:2])).reshape(shape[:2])[_stored(site, 2)] * shape[2]
    rowed = maps[:, :, None, None] + _spread(rows, 0)
    made = [rowed[a] * shape[3] + _spread(columns, 1)[b] for a, b in _choices(rows, columns)]
    return np.asarray([np.broadcast_to(m, output) for m in made], np.intp)


def _spread(values: npt.NDArray[T], axis: int) -> npt.NDArray[T]:
    """(taps, regions, places) as (taps, regions, 1, rows, columns)."""
    shape = values.shape
    return values.reshape(*shape[:2], 1, *((-1, 1) if axis == 0 else (1, -1)))


def _choices(rows: npt.NDArray[T], columns: npt.NDArray[T]) -> list[tuple[int, int]]:
    return list(itertools.product(range(len(rows)), range(len(columns))))


def _chosen(site: Site, count: int) -> list[int]:
    """The terms of the node: all, or the one that it is asked for."""
    tap = tap_of(site.node)
    return list(range(count)) if tap is None else [tap]


@remembered
def exact_terms(site: Site) -> tuple[Index, npt.NDArray[np.object_]]:
    """Positions (terms, *output) of what each output adds up, and exact weights that broadcast."""
    y, x = alongs(site)
    (rows, heights), (columns, widths) = y.exact, x.exact
    weights = [_spread(heights, 0)[a] * _spread(widths, 1)[b] for a, b in _choices(heights, widths)]
    kept = _chosen(site, len(weights))
    return _flat(site, rows, columns)[kept], np.array(weights, object)[kept]


@remembered
def computed_terms(site: Site) -> tuple[Index, Weights]:
    """The same with the weights that onnxruntime computes."""
    (rows, heights), (columns, widths) = (along.computed for along in alongs(site))
    weights: Weights = np.stack(
        [_spread(heights, 0)[a] * _spread(widths, 1)[b] for a, b in _choices(heights, widths)]
    )
    kept = _chosen(site, len(weights))
    return _flat(site, rows, columns)[kept], weights[kept]


def off_weights(site: Site, unit: float) -> tuple[Index, FloatArray]:
    """Positions and errors of all weights (window, *output), where a runtime's operations err by at
    most `unit`; infinite where it may read other pixels."""
    y, x = (_around(site, axis, unit) for axis in (0, 1))
    index = _flat(site, y.places, x.places)
    if np.any(np.isinf(y.off)) or np.any(np.isinf(x.off)):
        return index, np.full(index.shape, np.inf)
    off = [
        product_off(
            [_spread(y.sizes, 0)[a], _spread(x.sizes, 1)[b]],
            [_spread(y.off, 0)[a], _spread(x.off, 1)[b]],
        )[0]
        for a, b in _choices(y.places, x.places)
    ]
    return index, np.broadcast_to(np.stack(off), index.shape)


def may_jump(site: Site, unit: float) -> tuple[float, float] | None:
    """A region of which rounding may decide what a place is, where operations err by `unit`."""
    apart = tap_of(site.node) is not None
    for axis in (0, 1):
        for region in regions_of(site, axis):
            if at_an_edge(region, site.type_of(0).shape[2 + axis], unit, apart):
                return region.ends
    return None


def aligned(
    site: Site, values: ObjectArray, number: Callable[[npt.NDArray[np.object_]], ObjectArray]
) -> ObjectArray:
    """The exact map on (k, *in) of a field's numbers; `number` makes such of rationals."""
    index, weights = exact_terms(site)
    total: ObjectArray = picked(values, index[0]) * number(weights[0])
    for k in range(1, len(index)):
        total = total + picked(values, index[k]) * number(weights[k])
    return total
