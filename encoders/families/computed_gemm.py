"""Gemm whose factors are both computed: what it says of its bilinear part and its bias.

A contract speaks of the node that is in the file, its bias placed as it says, so this is no matrix
product with one more term.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from encoders.families.matrix import left_action, right_action
from encoders.families.products import linear_part
from encoders.lemmas.kernel import Radius
from encoders.numbers.enclosure import FloatArray, Interval, LinearPart
from encoders.operator import DifferenceMap, Site, ValueMap
from encoders.relaxations.affine import AffineMap, affine_differences, affine_values, scaled_part
from encoders.relaxations.bilinear import Bilinear, bilinear_differences, bilinear_values
from encoders.relaxations.composed import (
    added_differences,
    added_values,
    composed_differences,
    composed_values,
)


def bilinear_of(site: Site) -> Bilinear:
    """A'·B', both transposed as the node says."""
    (m, k), (_, n) = (_matrix_shape(site, i) for i in (0, 1))
    shape = (m, n)

    def on(position: int, other: FloatArray) -> LinearPart:
        weights = _turned(site, 1 - position, other)
        own = _matrix_shape(site, position)
        make = right_action if position == 0 else left_action
        part = linear_part(make(weights.shape, own, shape), weights)
        if not _is_transposed(site, position):
            return part
        apply, apply_abs, adjoint = part.apply, part.apply_abs, part.adjoint
        return LinearPart(
            lambda x: apply(np.swapaxes(x, -1, -2)),
            lambda x: apply_abs(np.swapaxes(x, -1, -2)),
            adjoint=lambda c: np.swapaxes(adjoint(c), -1, -2),
            terms=part.terms,
            adjoint_terms=part.adjoint_terms,
            relative=part.relative,
        )

    def product(a: FloatArray, b: FloatArray) -> FloatArray:
        return np.asarray(_turned(site, 0, a) @ _turned(site, 1, b))

    return Bilinear(lambda v: on(0, v), lambda v: on(1, v), product, shape, terms=k)


def computed_values(site: Site, bias: AffineMap, ranges: Sequence[Interval]) -> ValueMap:
    """alpha·A'·B' and a bias; `bias` takes the inputs behind the factors."""
    product = bilinear_values(bilinear_of(site), ranges[:2], None)
    scaled = composed_values(product, lambda v: affine_values(_alpha(site), [v]))
    return added_values(scaled, affine_values(bias, ranges[2:]))


def computed_differences(
    site: Site, bias: AffineMap, ranges: Sequence[Interval], errors: Sequence[Radius]
) -> DifferenceMap:
    """Differences through α·A·B + `bias` where A and B both vary."""
    product = bilinear_differences(bilinear_of(site), ranges[:2], errors[:2])
    scaled = composed_differences(product, lambda e: affine_differences(_alpha(site), [e]))
    return added_differences(scaled, affine_differences(bias, errors[2:]))


def _alpha(site: Site) -> AffineMap:
    shape = site.outputs[0].shape
    part = scaled_part(np.asarray(site.real("alpha", 1.0)), shape, shape)
    return AffineMap((part,), np.zeros(shape), np.zeros(shape))


def _is_transposed(site: Site, position: int) -> bool:
    return site.integer(("transA", "transB")[position], 0) != 0


def _turned(site: Site, position: int, v: FloatArray) -> FloatArray:
    return v.T if _is_transposed(site, position) else v


def _matrix_shape(site: Site, position: int) -> tuple[int, int]:
    rows, columns = site.type_of(position).shape
    return (columns, rows) if _is_transposed(site, position) else (rows, columns)
