"""MatMul: matrix product over the last two axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, moved, sum_of_products
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import AnyOrder, RuntimeContract
from encoders.families.matrix import (
    as_matrices,
    as_output,
    left_action,
    product_pairs,
    right_action,
)
from encoders.families.product_rounding import varying_rounding
from encoders.families.products import (
    Action,
    ProductSum,
    linear_part,
    product_rounding,
)
from encoders.families.signed_sum import check_float
from encoders.gradients.rule import Carried, Gradient, Reverse, each
from encoders.gradients.tape import Term
from encoders.lemmas.kernel import Radius
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.operator import DifferenceMap, Field, Operator, RoundingBound, Site, ValueMap
from encoders.relaxations.affine import AffineMap, affine_differences, affine_map, affine_values
from encoders.relaxations.bending import bending_of, bent_values
from encoders.relaxations.bilinear import LEMMAS, Bilinear, bilinear_differences
from encoders.relaxations.narrowing import product_constants
from encoders.relaxations.probabilities.mixtures import Mixing, mixed_differences, mixed_values
from encoders.rounding.error_arithmetic import traced
from encoders.rounding.rounding_bounds import rounder
from encoders.rounding.signs import of_product
from encoders.traits import Absorbing, Absorption, Extent, Likeness, Product, Sums


def check(site: Site) -> None:
    check_float(site)
    if not site.variable:
        raise site.unsupported("a product of two constants is not supported")


def _action(site: Site, position: int) -> Action:
    """How values of the other factor act on the one at `position`."""
    other, shape = site.type_of(1 - position).shape, site.type_of(position).shape
    make = right_action if position == 0 else left_action
    return make(other, shape, site.outputs[0].shape)


def _stored(site: Site) -> tuple[Action, FloatArray]:
    (position,) = site.variable
    return _action(site, position), site.coefficients(1 - position)


def _affine(site: Site) -> AffineMap:
    return affine_map((linear_part(*_stored(site)),), site.outputs[0].shape)


def _bilinear(site: Site) -> Bilinear:
    shape = site.outputs[0].shape
    return Bilinear(
        lambda v: linear_part(_action(site, 0), v),
        lambda v: linear_part(_action(site, 1), v),
        lambda a, b: np.matmul(a, b).reshape(shape),
        shape,
        terms=site.type_of(0).shape[-1],
        outer=_outer if _mixes(site) else None,
    )


def _outer(x: FloatArray, y: FloatArray) -> FloatArray:
    (*_, rows, terms, m), columns = x.shape, y.shape[-2]
    left = np.moveaxis(x, -1, -2).reshape(*x.shape[:-3], rows * m, terms)
    both = np.matmul(left, y.reshape(*y.shape[:-2], columns * m))
    return np.moveaxis(both.reshape(*both.shape[:-2], rows, m, columns, m), -3, -2)


def _mixes(site: Site) -> bool:
    shapes = [site.type_of(0).shape, site.type_of(1).shape]
    return len(site.variable) == 2 and all(len(shape) > 1 for shape in shapes)


def _bends(site: Site, ranges: Sequence[Interval]) -> float:
    return bending_of(_bilinear(site), ranges) if _mixes(site) else 0.0


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    a, b = as_matrices(inputs)
    return (as_output(field.matmul(a, b), site),)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    a, b = as_matrices(inputs)
    total = sum_of_products(arithmetic, contract, product_pairs(a, b))
    return (moved(total, lambda v: as_output(v, site)),)


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    if len(site.variable) == 2:
        if isinstance(ranges[0], Mixing):
            return mixed_values(_bilinear(site), ranges[0], ranges[1])
        return bent_values(_bilinear(site), ranges, None)
    return affine_values(_affine(site), ranges)


def differences(site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]) -> DifferenceMap:
    if len(site.variable) == 2:
        if isinstance(ranges[0], Mixing):
            return mixed_differences(_bilinear(site), ranges[0], ranges[1], errors)
        return bilinear_differences(_bilinear(site), ranges, errors)
    return affine_differences(_affine(site), errors)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    if len(site.variable) == 1:
        action, weights = _stored(site)
        return product_rounding(site, ProductSum(action, weights, None), inputs, contract, runtime)
    if not isinstance(contract.order, AnyOrder):
        return traced(runtime, site, inputs, contract).using(*LEMMAS)
    bound = varying_rounding(rounder(site, contract), _bilinear(site), inputs[0], inputs[1])
    return bound.using(*LEMMAS)


def _extent(site: Site) -> Extent:
    a, b = site.type_of(0).shape, site.type_of(1).shape
    if len(b) == 2 or (len(a) >= len(b) > 1 and prod(b[:-2]) == 1):  # all rows with one matrix
        return Extent(terms=a[-1], rows=prod(a[:-1]), columns=b[-1], plain=len(b) == 2)
    several = min(len(a), len(b)) > 1  # with one vector, that by each row or column by itself
    rows, columns = a[-2] if several else 1, b[-1] if len(b) > 1 else 1
    return Extent(terms=a[-1], rows=rows, columns=columns)


def _first(site: Site, terms: int) -> Site:
    position = 1 if 0 in site.variable else 0
    kept = np.array(site.constants[position])
    axis = -1 if position == 0 else -min(kept.ndim, 2)
    np.moveaxis(kept, axis, 0)[terms:] = 0
    constants = tuple(kept if i == position else c for i, c in enumerate(site.constants))
    return replace(site, constants=constants)


def _product(site: Site) -> Product | None:
    matrix = site.constant(1)
    return None if matrix is None else Product(matrix)


def gradient(r: Reverse) -> Carried:
    """A factor that is stored without a batch gets one product over all rows of the other."""
    a, b = r.x, r.read(1)
    left = a if len(a.shape) > 1 else a.reshaped((1, *a.shape))
    right = b if len(b.shape) > 1 else b.reshaped((*b.shape, 1))
    lead = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    up = r.up.reshaped((*lead, left.shape[-2], right.shape[-1]))

    def to_left() -> Term:
        return up.matmul(right.transposed).unbroadcast(left.shape).reshaped(a.shape)

    def to_right() -> Term:
        if len(right.shape) > 2 or len(left.shape) == 2:
            found = left.transposed.matmul(up).unbroadcast(right.shape)
        else:
            rows, columns = left.reshaped((-1, left.shape[-1])), up.reshaped((-1, up.shape[-1]))
            found = rows.transposed.matmul(columns)
        return found.reshaped(b.shape)

    return each(((0, to_left), (1, to_right)), r)


OPERATORS = (
    Operator(
        "MatMul",
        since=1,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        gradient=Gradient(rule=gradient),
        followed=(runtime,),
        affine=True,
        narrowed=product_constants,
        factors=(0, 1),
        mixes=_mixes,
        bends=_bends,
        affine_where=lambda site: len(site.variable) < 2,
        rowwise=lambda site: site.variable == (0,) and len(site.type_of(1).shape) == 2,
        work=lambda site: site.outputs[0].size * site.type_of(0).shape[-1],
        keeps=of_product,
        likeness=Likeness(product=_product, linear_in_constants=True),
        sums=Sums(
            _extent,
            products=True,
            batched=lambda site: len(site.type_of(1).shape) == 2,
            first=_first,
        ),
        absorbs=Absorbing(Absorption.MATRIX),
    ),
)
