"""Matrix products: how shapes are read, and how stored coefficients act from either side."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.runtime import moved
from encoders.arithmetic.slices import factors
from encoders.arithmetic.sparse_product import sparse_product
from encoders.arithmetic.values import E, V
from encoders.families.products import Action, Map
from encoders.numbers.enclosure import FloatArray
from encoders.operator import Site
from encoders.relaxations.affine import unbroadcast


def as_matrices(inputs: Sequence[V]) -> tuple[V, V]:
    """Both factors with a sample axis, equal rank and at least two further axes.

    As in numpy.matmul, a vector on the left is a row and one on the right a column.
    """
    a, b = inputs
    if len(a.shape) == 2:
        a = moved(a, lambda v: v[:, None, :])
    if len(b.shape) == 2:
        b = moved(b, lambda v: v[:, :, None])
    rank = max(len(a.shape), len(b.shape))

    def raise_rank(v: npt.NDArray[E]) -> npt.NDArray[E]:
        return v.reshape(v.shape[0], *(1,) * (rank - v.ndim), *v.shape[1:])

    return moved(a, raise_rank), moved(b, raise_rank)


def as_output(product: npt.NDArray[E], site: Site) -> npt.NDArray[E]:
    """Drop the axes that `as_matrices` put in."""
    return product.reshape(product.shape[0], *site.outputs[0].shape)


def product_pairs(a: V, b: V) -> Sequence[tuple[V, V]]:
    """The factors of each term k of Σ_k a[…, i, k]·b[…, k, j], broadcasting to the product."""
    return factors(a, -1, b, -2, a.shape[-1])


def right_action(weights: tuple[int, ...], shape: tuple[int, ...], out: tuple[int, ...]) -> Action:
    """x·W for x of `shape` and W of shape `weights` (vectors as in numpy.matmul)."""
    full_in = shape if len(shape) > 1 else (1, *shape)
    full_w = weights if len(weights) > 1 else (*weights, 1)
    full_out = _full_output(full_in, full_w)

    def apply(w: FloatArray) -> Map:
        matrix = w.reshape(full_w)
        return lambda x: (x.reshape(-1, *_pad(full_in, full_w)) @ matrix).reshape(x.shape[0], *out)

    def adjoint(w: FloatArray) -> Map:
        transposed = np.swapaxes(w.reshape(full_w), -1, -2)

        def back(c: FloatArray) -> FloatArray:
            pulled = sparse_product(c.reshape(c.shape[0], *full_out), transposed)
            return unbroadcast(pulled, full_in).reshape(c.shape[0], *shape)

        return back

    return Action(apply, adjoint, full_in[-1], full_out[-1] * _spread(full_out, full_in))


def left_action(weights: tuple[int, ...], shape: tuple[int, ...], out: tuple[int, ...]) -> Action:
    """W·x for x of `shape` and W of shape `weights` (vectors as in numpy.matmul)."""
    full_in = shape if len(shape) > 1 else (*shape, 1)
    full_w = weights if len(weights) > 1 else (1, *weights)
    full_out = _full_output(full_w, full_in)

    def apply(w: FloatArray) -> Map:
        matrix = w.reshape(full_w)
        return lambda x: (matrix @ x.reshape(-1, *_pad(full_in, full_w))).reshape(x.shape[0], *out)

    def adjoint(w: FloatArray) -> Map:
        transposed = np.swapaxes(w.reshape(full_w), -1, -2)

        def back(c: FloatArray) -> FloatArray:
            pulled = transposed @ c.reshape(c.shape[0], *full_out)
            return unbroadcast(pulled, full_in).reshape(c.shape[0], *shape)

        return back

    return Action(apply, adjoint, full_in[-2], full_out[-2] * _spread(full_out, full_in))


def _full_output(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])


def _pad(shape: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return (1,) * (len(other) - len(shape)) + shape


def _spread(out: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """How many output matrices share one input matrix by broadcasting."""
    outer = math.prod(out[:-2])
    inner = math.prod(shape[:-2])
    return max(outer // max(inner, 1), 1)
