"""Interpolate: a Resize or Upsample in mode linear or cubic, as the reader names it. No ONNX
operator. What is cubic or antialiased along several axes is done along one after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, moved, sum_of_products
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import AnyOrder, RuntimeContract
from encoders.families.gathering import picked
from encoders.families.images.interpolation import (
    action_of,
    axes_of,
    computed_terms,
    interpolated,
    terms_of,
    weight_error,
)
from encoders.families.images.resizing import (
    ATTRIBUTES,
    check_sizes,
    copy_notes,
    is_cubic,
    mode_of,
    scales_of,
)
from encoders.families.parameters import word
from encoders.families.products import ProductSum, linear_part, misweighed, product_rounding
from encoders.families.signed_sum import check_one_variable
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import exactly_zero
from encoders.numbers.enclosure import Interval
from encoders.operator import Field, Operator, RoundingBound, Site
from encoders.relaxations.affine import AffineMap, affine_map, affine_semantics
from encoders.rounding.rounding_bounds import rounder


def check(site: Site) -> None:
    check_one_variable(site)
    word(site, "mode", "linear", ("linear", "cubic"))
    check_sizes(site)
    mode_of(site)
    shape, output = site.type_of(0).shape, site.outputs[0].shape
    for n, o, scale in zip(shape, output, scales_of(site), strict=True):
        if not n or not scale > 0 or (scale == 1 and o != n):
            raise site.unsupported("its scales do not give the inferred output shape")
    if (is_cubic(site) or site.integer("antialias", 0)) and len(axes_of(site)) > 1:
        raise site.unsupported("it is cubic or antialiased along several axes at once")


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    def number(values: Sequence[Fraction]) -> ObjectArray:
        made = field.constant(np.zeros(len(values)))
        for i, value in enumerate(values):
            made[:, i] = field.number(value)
        return made

    return (interpolated(site, inputs[0], number),)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    index, weights = computed_terms(site)
    pairs = [
        (arithmetic.constant(w), moved(inputs[0], partial(picked, index=i)))
        for i, w in zip(index, weights, strict=True)
    ]
    return (sum_of_products(arithmetic, contract, pairs),)


def _affine(site: Site) -> AffineMap:
    """The exact map; float64 holds every weight and product to a unit or two."""
    axes = axes_of(site)
    exact = tuple(
        replace(
            axis,
            index=np.array([[i for i, _ in taps] for taps in axis.taps]).T,
            weights=np.array([[float(weight) for _, weight in taps] for taps in axis.taps]).T,
        )
        for axis in axes
    )
    index, weights = terms_of(site, exact)
    held = np.asarray(weights, np.float64)
    part = linear_part(action_of(site, index), held, 2.0**-51 * len(axes))
    return affine_map((part,), site.outputs[0].shape)


values, differences = affine_semantics(_affine)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    """Of the sum of products with the runtime's weights, and what these are off.

    With any order goes any way of computing weights in float32.
    """
    if rounder(site, contract).exact:
        return RoundingBound(exactly_zero(EXACT, site.outputs[0].shape))
    index, weights = computed_terms(site)
    terms = ProductSum(action_of(site, index), weights.astype(np.float64), None)
    bound = product_rounding(site, terms, inputs, contract, runtime)
    free = isinstance(contract.order, AnyOrder)
    off = weight_error(site, inputs[0].magnitude, free)
    wrong = misweighed(off)
    return replace(bound, radius=bound.radius + wrong)


OPERATORS = (
    Operator(
        "Interpolate",
        since=7,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        affine=True,
        work=lambda site: site.outputs[0].size * math.prod(len(a.index) for a in axes_of(site)),
        notes=copy_notes,
    )
    .reading(*ATTRIBUTES, "scales")
    .by_version(),
)
