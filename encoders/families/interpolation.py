"""Linear interpolation between the elements of a tensor along some of its axes.

Along one axis, output element o has the weights 1 − r on element i and r on i + 1, where i + r is
the coordinate of o, kept within the axis. Several axes multiply. Over the reals coordinates and
weights are exact rationals. A runtime computes them in float32, as onnxruntime does, for tensors of
every type; each output element is then a sum of products with products of weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.values import E
from encoders.families.gathering import Index, gathered_part
from encoders.families.movement import indices
from encoders.families.products import Action, Map
from encoders.families.resizing import (
    Float32s,
    coordinates,
    exact_coordinates,
    exact_scales,
    mode_of,
    scales_of,
)
from encoders.numbers.enclosure import FloatArray, add_up, multiply_up
from encoders.operator import Site, remembered

Weights = npt.NDArray[np.floating]  # in float32 or float64

_UNIT = 2.0**-24  # of the float32 in which weights are computed
_STEPS = 8  # rounded operations that give a coordinate and its weights, at most


@dataclass(frozen=True)
class Axis:
    """Interpolation along one axis of `length` elements, for every output element o.

    `exact[o]` is the first element and the weight of the next; `index` (2, out) and `weights`
    (2, out) are what a runtime computes in float32.
    """

    axis: int
    length: int
    exact: tuple[tuple[int, Fraction], ...]
    index: Index
    weights: Weights

    @property
    def matrix(self) -> FloatArray:
        """(out, length): the exact weights, each rounded to the nearest float64."""
        made = np.zeros((len(self.exact), self.length))
        for o, (i, r) in enumerate(self.exact):
            made[o, i] += float(1 - r)
            made[o, min(i + 1, self.length - 1)] += float(r)
        return made

    @property
    def computed(self) -> FloatArray:
        """(out, length): the weights that a runtime computes, within 2^-52 of their size."""
        made = np.zeros((len(self.exact), self.length))
        rows = np.arange(len(self.exact))
        for index, weights in zip(self.index, self.weights, strict=True):
            made[rows, index] += weights.astype(np.float64)
        return made

    def off(self, free: bool) -> FloatArray:
        """(out, length): how far a runtime's weights are from the exact ones.

        Where the algorithm is `free`, its coordinates may be rounded otherwise; the output moves
        by at most |x_{j+1} − x_j| for every unit of the coordinate between j and j + 1.
        """
        exact, computed = self.matrix, self.computed
        off = add_up(np.abs(exact - computed), 2.0**-51 * np.maximum(exact, computed))
        if not free:
            return off
        reach = _STEPS * _UNIT * (self.length + 1)
        for o, (i, _) in enumerate(self.exact):
            off[o, max(i - 1, 0) : i + 3] += reach
        return np.asarray(off * (1.0 + 2.0**-50))


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
        made.append(_axis(a, n, at, places))
    return tuple(made)


def _axis(axis: int, n: int, at: Float32s, places: Sequence[Fraction]) -> Axis:
    exact = []
    for place in places:
        kept = min(max(place, Fraction(0)), Fraction(n - 1))
        exact.append((math.floor(kept), kept - math.floor(kept)))
    kept32 = np.clip(at, np.float32(0), np.float32(n - 1))
    first = np.minimum(kept32.astype(np.intp), n - 1)
    second = np.minimum(first + 1, n - 1)
    near = np.abs(kept32 - second.astype(np.float32))
    far = np.abs(kept32 - first.astype(np.float32))
    half = np.float32(0.5)
    weights = np.where(first == second, half, np.stack([near, far]))
    return Axis(axis, n, tuple(exact), np.stack([first, second]), weights)


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
    for chosen in itertools.product((0, 1), repeat=len(axes)):
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
        if all(r == 0 for _, r in axis.exact):
            values = values.take([i for i, _ in axis.exact], axis.axis + 1)
            continue
        parts = []
        for which in (0, 1):
            at = [min(i + which, axis.length - 1) for i, _ in axis.exact]
            weights = number([r if which else 1 - r for _, r in axis.exact])
            parts.append(values.take(at, axis.axis + 1) * _along(weights, axis.axis, rank))
        values = parts[0] + parts[1]
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
        larger = [np.maximum(m, c) for m, c in zip(matrices, computed, strict=True)]
        total = add_up(total, through(site, [*larger[:k], axis.off(free), *larger[k + 1 :]], x))
    rounded = 2.0 * _UNIT * max(len(axes) - 1, 0)
    return add_up(total, multiply_up(through(site, computed, x), rounded))
