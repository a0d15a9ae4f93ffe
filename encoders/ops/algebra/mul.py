"""Mul: a·b with broadcasting; one rounding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, aligned
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.signed_sum import check_float
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.lemmas.kernel import Radius, enclosed
from encoders.lemmas.ranges.operations import PRODUCT_RANGE, SQUARE_RANGE
from encoders.lemmas.ranges.placing import range_of, range_on
from encoders.lemmas.ranges.range import Range
from encoders.numbers.enclosure import FloatArray, Interval, LinearPart, multiply_up
from encoders.operator import DifferenceMap, Field, Operator, RoundingBound, Site, ValueMap
from encoders.relaxations.affine import (
    AffineMap,
    affine_differences,
    affine_map,
    affine_values,
    scaled_part,
)
from encoders.relaxations.bending import bending_of, bent_values
from encoders.relaxations.bilinear import LEMMAS, Bilinear, bilinear_differences
from encoders.relaxations.elements import broadcast_element
from encoders.rounding.error_arithmetic import traced
from encoders.rounding.signs import of_factors
from encoders.traits import Absorbing, Absorption, Commuting, Likeness


def _affine(site: Site) -> AffineMap:
    """The product with a stored factor, or of two stored factors."""
    shape = site.outputs[0].shape
    if not site.variable:
        a, b = (np.asarray(c, np.float64) for c in site.constants)
        product = np.broadcast_to(a * b, shape)
        return AffineMap((), product, multiply_up(np.abs(product), 2.0**-52))
    (position,) = site.variable
    scale = np.asarray(site.constants[1 - position], np.float64)
    return affine_map((scaled_part(scale, site.type_of(position).shape, shape),), shape)


def _bilinear(site: Site) -> Bilinear:
    shape = site.outputs[0].shape

    def on(position: int, factor: FloatArray) -> LinearPart:
        return scaled_part(factor, site.type_of(position).shape, shape)

    def outer(x: FloatArray, y: FloatArray) -> FloatArray:
        return np.broadcast_to(
            x[..., :, None] * y[..., None, :], (*shape, x.shape[-1], x.shape[-1])
        )

    return Bilinear(
        lambda v: on(0, v),
        lambda v: on(1, v),
        lambda a, b: np.broadcast_to(a * b, shape),
        shape,
        terms=1,
        square=site.node.inputs[0] == site.node.inputs[1],
        outer=outer,
    )


def _range(b: Bilinear, ranges: Sequence[Interval]) -> Range:
    x, y = (range_of(r) for r in ranges)
    if b.square:
        return enclosed(SQUARE_RANGE, X=x)
    return range_on(enclosed(PRODUCT_RANGE, X=x, Y=y), b.shape)


def _bends(site: Site, ranges: Sequence[Interval]) -> float:
    return bending_of(_bilinear(site), ranges) if len(site.variable) > 1 else 0.0


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    a, b = aligned(inputs)
    return (a * b,)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    return (arithmetic.multiply(*aligned(inputs)),)


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    if len(site.variable) < 2:
        return affine_values(_affine(site), ranges)
    b = _bilinear(site)
    return bent_values(b, ranges, _range(b, ranges))


def differences(site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]) -> DifferenceMap:
    if len(site.variable) < 2:
        return affine_differences(_affine(site), errors)
    return bilinear_differences(_bilinear(site), ranges, errors)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    bound = traced(runtime, site, inputs, contract)
    return bound if len(site.variable) < 2 else bound.using(*LEMMAS)


def gradient(r: Reverse) -> Carried:
    return {i: (r.up * r.read(1 - i)).unbroadcast(r.read(i).shape) for i in r.wanted}


def _squares(site: Site, contract: RuntimeContract) -> float | None:
    first, second = site.node.inputs
    return 1.0 if first == second else None


OPERATORS = (
    Operator(
        "Mul",
        since=7,
        check=check_float,
        real=real,
        runtime=runtime,
        bends=_bends,
        values=values,
        differences=differences,
        rounding=rounding,
        gradient=Gradient(rule=gradient),
        followed=(runtime,),
        affine=True,
        affine_where=lambda site: len(site.variable) < 2,
        element=broadcast_element,
        per_element=True,
        likeness=Likeness(commuting=Commuting.PRODUCT, linear_in_constants=True),
        absorbs=Absorbing(Absorption.FACTORS),
        keeps=of_factors,
        squares=_squares,
    ),
)
