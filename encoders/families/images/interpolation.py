"""Interpolation between the elements of a tensor along some of its axes, linear or cubic.

Along one axis, output element o has the weights 1 − r on element i and r on i + 1, where i + r is
the coordinate of o, kept within the axis. Several axes multiply. Over the reals coordinates and
weights are exact rationals. A runtime computes them in float32, as onnxruntime does, for tensors of
every type; each output element is then a sum of products with products of weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.values import E
from encoders.families.gathering import Index, gathered_part
from encoders.families.images.antialias import antialiased
from encoders.families.images.axis import (
    UNIT,
    Axis,
    Taps,
    Weights,
    coordinate_error,
    cost_of_keys,
    exactly_cubed,
    steepness_of_keys,
)
from encoders.families.images.resizing import (
    Float32s,
    coordinates,
    exact_coordinates,
    exact_scales,
    is_cubic,
    keys_parameter,
    mode_of,
    scales_of,
)
from encoders.families.movement import indices
from encoders.families.products import Action, Map
from encoders.numbers.enclosure import FloatArray, add_up, multiply_up
from encoders.operator import Site, remembered

N = TypeVar("N", Fraction, Weights)


@remembered
def axes_of(site: Site) -> tuple[Axis, ...]:
    """The axes along which the node interpolates, those not resized included where a runtime does
    so: onnxruntime takes two axes of a tensor with up to four, three of one with five."""
    shape, output, mode = site.type_of(0).shape, site.outputs[0].shape, mode_of(site)
    scales, exact = scales_of(site), exact_scales(site)
    resized = {
        a for a, (n, o) in enumerate(zip(shape, output, strict=True)) if n != o or scales[a] != 1
    }
    rank = len(shape)
    usual = (range(max(rank - 2, 0), rank), range(max(rank - 3, 0), rank), range(1, rank - 1))
    chosen = next((set(axes) for axes in usual[rank == 5 :] if resized <= set(axes)), resized)
    cubic, wide = is_cubic(site), bool(site.integer("antialias", 0))
    if cubic or wide:
        chosen = resized
    made = []
    for a in sorted(chosen):
        n, out = shape[a], output[a]
        if a in resized:
            at, places = (
                coordinates(mode, scales[a], n, out),
                exact_coordinates(mode, exact[a], n, out),
            )
        else:
            at, places = np.arange(n, dtype=np.float32), [Fraction(o) for o in range(n)]
        off = coordinate_error(mode, exact[a], n, out) if a in resized else 0.0
        if wide:
            made.append(antialiased(site, a, n, at, places, (scales[a], exact[a]), off))
        elif cubic:
            made.append(_cubic(site, a, n, at, places, off))
        else:
            made.append(_axis(a, n, at, places, off))
    return tuple(made)


def _axis(axis: int, n: int, at: Float32s, places: Sequence[Fraction], off: float) -> Axis:
    exact: list[Taps] = []
    free = np.zeros((len(places), n))
    for o, place in enumerate(places):
        kept = min(max(place, Fraction(0)), Fraction(n - 1))
        i, r = math.floor(kept), kept - math.floor(kept)
        exact.append(((i, 1 - r), (min(i + 1, n - 1), r)))
        # a coordinate this near to an element may end up on its other side
        least, most = i - (r <= off), i + 1 + (1 - r <= off)
        free[o, max(least, 0) : most + 1] = (off + 2.0 * UNIT) * bool(off)
    kept32 = np.clip(at, np.float32(0), np.float32(n - 1))
    first = np.minimum(kept32.astype(np.intp), n - 1)
    second = np.minimum(first + 1, n - 1)
    near = np.abs(kept32 - second.astype(np.float32))
    far = np.abs(kept32 - first.astype(np.float32))
    half = np.float32(0.5)
    weights = np.where(first == second, half, np.stack([near, far]))
    return Axis(axis, n, tuple(exact), np.stack([first, second]), weights, free)


def _cubic(
    site: Site, axis: int, n: int, at: Float32s, places: Sequence[Fraction], off: float
) -> Axis:
    """Keys' kernel (1981), whose free parameter is the node's; what lies outside is the element at
    the edge."""
    a = keys_parameter(site)
    single = np.asarray(float(a), np.float32)
    exact: list[Taps] = []
    for place in places:
        i = math.floor(place)
        places_of = (min(max(i - 1 + k, 0), n - 1) for k in range(4))
        exact.append(tuple(zip(places_of, keys(place - i, a, Fraction(1)), strict=True)))
    first = np.floor(at)
    steps = first.astype(np.intp)[None] + np.arange(-1, 3)[:, None]
    computed: Weights = np.stack(keys(at - first, single, np.ones((), np.float32)))
    most = 1.0
    if site.integer("exclude_outside", 0):
        exact, most = _inside(site, [math.floor(p) for p in places], exact, n)
        computed = _inside_computed(computed, (steps < 0) | (steps >= n))
        if not most * (steepness_of_keys(float(a)) * off + cost_of_keys(float(a), True)) < 2.0**-4:
            raise site.unsupported("without what lies outside its weights are too far from exact")
    free = np.zeros((len(places), n))
    for o, place in enumerate(places):
        for i, error in _cubic_errors(a, place, off, most > 1.0):
            free[o, min(max(i, 0), n - 1)] += most * error
    free *= 1.0 + 2.0**-40
    return Axis(axis, n, tuple(exact), np.clip(steps, 0, n - 1), computed, free)


def _cubic_errors(
    a: Fraction, place: Fraction, off: float, divided: bool
) -> Iterator[tuple[int, float]]:
    """Elements around a place, and how far their weights may be off where it may be `off`, which
    then may lie on the other side of an element; they may be `divided` by their sum."""
    i, r = math.floor(place), float(place - math.floor(place))
    if not off and not divided and exactly_cubed(a, place - i):
        return
    below, above = r <= off * 1.01, 1.0 - r <= off * 1.01
    moved = steepness_of_keys(float(a)) * off
    for k in range(-1 - below, 3 + above):
        outer = k not in (0, 1) or below or above
        yield i + k, moved + cost_of_keys(float(a), outer)


def _inside(
    site: Site, first: Sequence[int], taps: Sequence[Taps], n: int
) -> tuple[list[Taps], float]:
    """The weights without those outside, divided by their sum S; and by how much at most an error
    in them grows: where each of five, one on the other side of a pixel among them, is within
    d ≤ |S|/10 of its w, the quotient is within 2·d/|S| + 10·|w|·d/S² of w/S."""
    made, most = [], 1.0
    for i, each in zip(first, taps, strict=True):
        there = [0 <= i - 1 + k < n for k in range(len(each))]
        total = sum((w for (_, w), kept in zip(each, there, strict=True) if kept), Fraction(0))
        if abs(total) < Fraction(1, 8):
            raise site.unsupported("without what lies outside its weights nearly cancel")
        largest = max(abs(w) for _, w in each)
        most = max(most, float(2 / abs(total) + 10 * largest / total**2) * (1.0 + 2.0**-50))
        made.append(
            tuple(
                (p, w / total if kept else Fraction(0))
                for (p, w), kept in zip(each, there, strict=True)
            )
        )
    return made, most


def _inside_computed(weights: Weights, outside: npt.NDArray[np.bool_]) -> Weights:
    """As onnxruntime computes it, one added to the next."""
    kept = np.where(outside, np.zeros((), weights.dtype), weights)
    total = np.zeros(kept.shape[1:], kept.dtype)
    for each in kept:
        total = total + each
    return np.asarray(kept / total)


def keys(s: N, a: N, one: N) -> tuple[N, N, N, N]:
    """The weights of the four elements around a coordinate s beyond the second, in the order of
    operations of onnxruntime; each step rounds in float32 where these are."""
    two = one + one
    three, four = two + one, two + two
    five, eight = four + one, four + four

    def outer(t: N) -> N:
        return ((a * t - five * a) * t + eight * a) * t - four * a

    def inner(t: N) -> N:
        return ((a + two) * t - (a + three)) * t * t + one

    return outer(s + one), inner(s), inner(one - s), outer(two - s)


def _along(values: npt.NDArray[E], axis: int, rank: int) -> npt.NDArray[E]:
    """(…, out) seen along one of `rank` axes."""
    return values.reshape(*values.shape[:-1], *(-1 if a == axis else 1 for a in range(rank)))


@remembered
def computed_terms(site: Site) -> tuple[Index, Weights]:
    """`terms_of` with the weights that a runtime computes in float32."""
    return terms_of(site, axes_of(site))


def terms_of(site: Site, axes: Sequence[Axis]) -> tuple[Index, Weights]:
    """Flat positions and weights of what each output adds up, (terms, *output), in order.

    The last axis is the innermost; its weight is multiplied by those of the axes before it.
    """
    shape, output = site.type_of(0).shape, site.outputs[0].shape
    rank, flat = len(shape), indices(shape)
    index, weights = [], []
    for chosen in itertools.product(*(range(len(axis.index)) for axis in axes)):
        places = [np.arange(n) for n in shape]
        weight = np.ones((1,) * rank, axes[0].weights.dtype if axes else np.float32)
        for axis, which in reversed(list(zip(axes, chosen, strict=True))):
            places[axis.axis] = axis.index[which]
            weight = weight * _along(axis.weights[which], axis.axis, rank)
        index.append(flat[np.ix_(*places)])
        weights.append(np.broadcast_to(weight, output))
    return np.stack(index), np.stack(weights)


def interpolated(
    site: Site, values: ObjectArray, number: Callable[[Sequence[Fraction]], ObjectArray]
) -> ObjectArray:
    """The exact map on (k, *in) of a field's numbers; `number` makes one from rationals."""
    rank = len(site.type_of(0).shape)
    for axis in axes_of(site):
        if len(axis.index) == 2 and all(taps[0][1] == 1 for taps in axis.taps):
            values = values.take([taps[0][0] for taps in axis.taps], axis.axis + 1)
            continue
        total = None
        for which in range(len(axis.index)):
            at = [taps[which][0] for taps in axis.taps]
            weights = number([taps[which][1] for taps in axis.taps])
            part = values.take(at, axis.axis + 1) * _along(weights, axis.axis, rank)
            total = part if total is None else total + part
        assert total is not None
        values = total
    return values


def action_of(site: Site, index: Index) -> Action:
    """Weights (terms, *output) on the elements at these positions."""
    spread = gathered_part(index[None], site.type_of(0).shape)

    def apply(weights: FloatArray) -> Map:
        return lambda x: np.sum(spread.apply(x) * weights, axis=1)

    def adjoint(weights: FloatArray) -> Map:
        return lambda c: spread.adjoint(c[:, None] * weights)

    return Action(apply, adjoint, len(index), spread.adjoint_terms + 1)


def through(site: Site, matrices: Sequence[FloatArray], x: FloatArray) -> FloatArray:
    """An upper bound on matrices ≥ 0 along the axes, applied to x ≥ 0 of the input's shape."""
    for axis, matrix in zip(axes_of(site), matrices, strict=True):
        moved = np.moveaxis(x, axis.axis, -1) @ matrix.T
        x = np.moveaxis(moved * (1.0 + (matrix.shape[1] + 4) * 2.0**-52), -1, axis.axis)
    return np.asarray(x)


def weight_error(site: Site, x: FloatArray, free: bool) -> FloatArray:
    """|Σ ŵ·x − Σ w·x| for |x| at most `x`: one axis off at a time, and products of weights."""
    axes = axes_of(site)
    matrices, computed = [a.matrix for a in axes], [a.computed for a in axes]
    total = np.zeros(site.outputs[0].shape)
    for k, axis in enumerate(axes):
        # Π ŵ − Π w = Σ_k ŵ_1 … ŵ_{k−1} (ŵ_k − w_k) w_{k+1} …
        larger = [np.maximum(np.abs(m), np.abs(c)) for m, c in zip(matrices, computed, strict=True)]
        total = add_up(total, through(site, [*larger[:k], axis.off(free), *larger[k + 1 :]], x))
    rounded = 2.0 * UNIT * max(len(axes) - 1, 0)
    sizes = [np.abs(c) for c in computed]
    return add_up(total, multiply_up(through(site, sizes, x), rounded))
