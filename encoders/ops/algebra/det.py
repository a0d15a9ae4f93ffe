"""Det: determinants of square matrices, by elimination with partial pivoting as libraries do it.

P·(A + E) = L·U holds exactly for the numbers that are computed, with |L| ≤ 1: what elimination
rounds is laid on the entries, a column of U is at most twice what it was before each step, and the
determinant is computed as the product of the pivots (docs/lemmas.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, Relation, moved, sum_of_products
from encoders.arithmetic.values import E, Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.minors import cofactor_ranges, determinant_range
from encoders.families.signed_sum import check_float
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, apply, exactly_zero, nothing_known
from encoders.lemmas.operations import COMPUTED_PRODUCT
from encoders.lemmas.ranges.making import hull_of
from encoders.lemmas.ranges.placing import range_of
from encoders.lemmas.rows import PRODUCT_OF_PIVOTS
from encoders.numbers.enclosure import (
    FloatArray,
    Interval,
    add_up,
    midpoint_radius,
    point,
)
from encoders.operator import DifferenceMap, Field, Operator, RoundingBound, Site, ValueMap
from encoders.relaxations.row_maps import row_differences, row_values
from encoders.relaxations.rows import Rows, reduced_rows
from encoders.rounding.any_order import any_order_sum
from encoders.rounding.norms import relative_sum
from encoders.rounding.rounding_bounds import Rounder, below_normal, finish, rounder
from encoders.traits import Extent, Sums
from onnx_import.graph import TensorType

LEMMAS = ("mean-value", "product-of-pivots")
_LARGEST = 10  # rows; expansions by minors double with each more


def _size(site: Site) -> int:
    return site.type_of(0).shape[-1]


def check(site: Site) -> None:
    check_float(site)
    shape = site.type_of(0).shape
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise site.unsupported(f"its input of shape {list(shape)} holds no square matrices")
    if shape[-1] > _LARGEST:
        raise site.unsupported(
            f"matrices of {shape[-1]} rows; determinants are bounded of up to {_LARGEST}"
        )
    if site.variable != (0,) or not site.type_of(0).size:
        raise site.unsupported("its input must be computed, and no empty tensor")


def _rows(site: Site) -> tuple[Rows, Rows]:
    shape = site.type_of(0).shape
    return reduced_rows(shape, (len(shape) - 2, len(shape) - 1), site.outputs[0].shape)


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    """By minors of the first rows, for every set of columns: no division, no choice."""
    n, shape = _size(site), site.outputs[0].shape
    x = inputs[0]
    minors: dict[frozenset[int], ObjectArray] = {frozenset((j,)): x[..., 0, j] for j in range(n)}
    for i in range(1, n):
        larger: dict[frozenset[int], ObjectArray] = {}
        for chosen, minor in minors.items():
            for j in set(range(n)) - chosen:
                term = x[..., i, j] * minor
                if sum(c > j for c in chosen) % 2:
                    term = -term
                key = chosen | {j}
                larger[key] = larger[key] + term if key in larger else term
        minors = larger
    (found,) = minors.values()
    return (found.reshape(x.shape[0], *shape),)


def _entry(v: npt.NDArray[E], i: int, j: int) -> npt.NDArray[E]:
    return v[..., i, j]


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    """The first of the largest entries of a column is its pivot; a column of zeros has none."""
    n, ones = _size(site), (1,) * len(site.outputs[0].shape)
    zero, one = (arithmetic.constant(np.full(ones, v, np.float32)) for v in (0.0, 1.0))
    a = [[moved(inputs[0], partial(_entry, i=i, j=j)) for j in range(n)] for i in range(n)]
    sign = one

    def left(row: list[V], j: int, k: int) -> V:
        """An entry less what k steps of elimination take off it."""
        pairs = [(arithmetic.negate(row[t]), a[t][j]) for t in range(k)]
        return sum_of_products(arithmetic, contract, pairs, row[j]) if pairs else row[j]

    for k in range(n):
        for row in a[k:]:
            row[k] = left(row, k, k)
        if k == n - 1:
            break
        largest, later = arithmetic.absolute(a[k][k]), []
        for row in a[k + 1 :]:
            size = arithmetic.absolute(row[k])
            later.append(arithmetic.compare(Relation.LESS, largest, size))
            largest = arithmetic.select(later[-1], size, largest)
        free, pivots = one, a[k]
        for i in range(n - 1, k, -1):
            here = arithmetic.select(later[i - k - 1], free, zero)
            free = arithmetic.select(later[i - k - 1], zero, free)
            below, above = a[i], a[k]
            pivots = [arithmetic.select(here, p, q) for p, q in zip(below, pivots, strict=True)]
            a[i] = [arithmetic.select(here, q, p) for p, q in zip(below, above, strict=True)]
            sign = arithmetic.select(here, arithmetic.negate(sign), sign)
        a[k] = pivots
        none = arithmetic.compare(Relation.EQUAL, largest, zero)
        divisor = arithmetic.select(none, one, pivots[k])
        for row in a[k + 1 :]:
            row[k] = arithmetic.divide(row[k], divisor)
        for j in range(k + 1, n):
            pivots[j] = left(pivots, j, k)
    found = a[0][0]
    for k in range(1, n):
        found = arithmetic.multiply(found, a[k][k])
    return (arithmetic.multiply(sign, found),)


def _whole(x: Interval, n: int) -> Interval:
    found = cofactor_ranges(range_of(x), n)
    return Interval(found.lo[:, None, :], found.hi[:, None, :])


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    inside, outside = _rows(site)
    x, n = inside.of_interval(ranges[0]), _size(site)
    return row_values(
        inside,
        outside,
        x=x,
        range_=determinant_range(x, n),
        at_middle=determinant_range(range_of(point(midpoint_radius(x)[0])), n),
        jacobian=_whole(x, n),
    )


def differences(site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]) -> DifferenceMap:
    inside, outside = _rows(site)
    x, given = inside.of_interval(ranges[0]), inside.of_radius(errors[0])
    return _moves(inside, outside, x, given, _size(site))


def _moves(inside: Rows, outside: Rows, x: Interval, given: Radius, n: int) -> DifferenceMap:
    """How far determinants move whose entries move by `given` (rows, n²)."""
    limit = nothing_known((inside.count, 1))
    return row_differences(inside, outside, _whole(hull_of(x, given), n), given, limit)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    r = rounder(site, contract)
    if r.exact:
        return RoundingBound(exactly_zero(EXACT, site.outputs[0].shape), (), LEMMAS)
    inside, outside = _rows(site)
    x, n = inside.of_interval(inputs[0]), _size(site)
    columns = np.max(x.magnitude.reshape(-1, n, n), axis=1)
    entries, sizes = _eliminated(r, columns)
    laid = entries.moved(lambda v: np.repeat(v[:, None, :], n, axis=1).reshape(len(v), n * n))
    plain = Rows((inside.count, n * n), (inside.count, n * n), (1,))
    single = Rows((inside.count, 1), (inside.count, 1), (1,))
    off = _moves(plain, single, x, laid, n).radius
    with np.errstate(over="ignore", invalid="ignore"):
        grown = np.prod(np.maximum(sizes, 1.0), axis=1, keepdims=True)
        grown = grown * (1.0 + 2.0 * n * r.unit) * (1.0 + 2.0**-40)
    grown = np.where(np.isnan(grown), np.inf, grown)
    lost = below_normal(r.underflow).times(grown * float(n - 1))
    if r.flushed:
        lost = lost + below_normal(r.flushed).times(grown * float(3 * n))
    error = apply(
        PRODUCT_OF_PIVOTS,
        e=off,
        t=lost,
        k=float(n - 1),
        u=r.unit,
        B=relative_sum(r, n - 1),
        D=determinant_range(x, n).magnitude,
    )
    return finish(r, outside.to_radius(error), grown).using(*LEMMAS)


def _eliminated(r: Rounder, columns: FloatArray) -> tuple[Radius, FloatArray]:
    """What elimination is off by as an error of the entries of each column, (rows, n), and how
    large the pivot of each column may be; `columns` are the largest entries.

    An entry of U is one of A less products of multipliers, at most 1, and of entries of U above
    it. A pivot that is read as 0 leaves its column as it is.
    """
    n = columns.shape[1]
    copied = _lost(r, columns.shape)
    entries, pivots = [], []
    held = columns  # |A| and what the steps so far may have taken off it: no partial sum is larger
    entry = columns  # of the next row of U
    products, off = copied, copied
    for k in range(n):
        if k:
            factor = apply(
                COMPUTED_PRODUCT,
                X=1.0,
                Y=entry,
                ex=_lost(r, columns.shape),
                ey=_lost(r, columns.shape),
            )
            products = products + r.after(r.of_product, entry, factor)
            held = add_up(held, entry)
            additions = np.full(held.shape, float(k))
            summed = r.with_finished_sum(products, held)
            off = off.or_else(any_order_sum(r, held, additions, summed, total=held))
            entry = add_up(held, off.bound)
        this = off.moved(partial(_column, at=k))
        pivots.append(entry[:, k])
        if k < n - 1:
            quotient = r.of_product(np.ones(len(columns))).times(entry[:, k])
            this = this + quotient + _lost(r, this.shape).times(2.0)
        entries.append(this.moved(lambda v: v[:, None]))
    return entries[0].joined(entries[1:], axis=1), np.stack(pivots, axis=1)


def _column(v: FloatArray, at: int) -> FloatArray:
    return v[:, at]


def _lost(r: Rounder, shape: tuple[int, ...]) -> Radius:
    """What a number loses that is read as 0, or becomes 0."""
    if not r.flushed:
        return exactly_zero(EXACT, shape)
    return below_normal(r.flushed).on(shape)


def gradient(r: Reverse) -> Carried:
    """The cofactors: determinants of what is left without a row and a column."""
    n, shape = _size(r.site), r.x.shape
    up = r.up.reshaped((*r.up.shape, 1, 1))
    if n == 1:
        return {0: up}
    kept = np.array([[k for k in range(n) if k != i] for i in range(n)])
    places = kept[:, None, :, None] * n + kept[None, :, None, :]
    matrices = np.arange(math.prod(shape[:-2])).reshape(shape[:-2]) * n * n
    left = r.x.picked(matrices[..., None, None, None, None] + places)
    minors = r.tape.node(left, op="Det", kind=TensorType(left.kind.dtype, left.shape[:-2]))
    signs = (-1.0) ** np.add.outer(np.arange(n), np.arange(n))
    return {0: up * (minors * r.stored(signs.astype(r.x.kind.dtype.numpy)))}


OPERATORS = (
    Operator(
        "Det",
        since=11,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        gradient=Gradient(rule=gradient),
        sums=Sums(lambda site: Extent(_size(site), 1, 1)),
        work=lambda site: site.type_of(0).size * _size(site),
    ),
)
