"""Convolutions of stored or computed weights and biases: one action on the input, one on weights.

Weights that are computed, of stored numbers say, make a bilinear map with a bias per channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from encoders.arithmetic.runtime import moved
from encoders.contract.contract import AnyOrder, BiasPlacement, RuntimeContract
from encoders.families.product_rounding import varying_rounding
from encoders.families.products import Action, ProductSum, linear_part, product_rounding
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, exactly_zero
from encoders.numbers.enclosure import FloatArray, Interval, LinearPart, point
from encoders.operator import (
    DifferenceMap,
    RoundingBound,
    RuntimeSemantics,
    Site,
    ValueMap,
    remembered,
)
from encoders.relaxations.affine import (
    AffineMap,
    affine_differences,
    affine_values,
    scaled_part,
)
from encoders.relaxations.bilinear import (
    LEMMAS,
    Bilinear,
    bilinear_differences,
    bilinear_values,
)
from encoders.relaxations.composed import added_differences, added_values
from encoders.rounding.error_arithmetic import ErrorArithmetic, traced
from encoders.rounding.rounding_bounds import rounder
from encoders.rounding.tracked import Tracked, tracked

Values = Callable[[Site, Sequence[Interval]], ValueMap]
Differences = Callable[[Site, Sequence[Interval], Sequence[Radius]], DifferenceMap]
Rounding = Callable[[Site, Sequence[Interval], Interval, RuntimeContract], RoundingBound]


def require_computed(site: Site) -> None:
    """Raises UnsupportedModel where the input of a convolution is stored."""
    if 0 not in site.variable:
        raise site.unsupported("its input must be computed")


def has_computed_weights(site: Site) -> bool:
    """Are weights computed, so that the node is no affine map?"""
    return 1 in site.variable


def convolution_semantics(
    on_input: Callable[[Site], Action],
    on_weights: Callable[[Site], Action],
    runtime: RuntimeSemantics,
) -> tuple[Values, Differences, Rounding]:
    """`Operator.values`, `differences` and `rounding` of a convolution with weights at input 1 and
    a bias per channel at input 2. `on_input(site)` is how weights act on the input, `on_weights`
    how the input, as coefficients, acts on weights."""

    def bilinear(site: Site) -> Bilinear:
        own, other = on_input(site), on_weights(site)
        return Bilinear(
            lambda w: linear_part(own, w),
            lambda x: linear_part(other, x),
            lambda x, w: own.apply(w)(x[None])[0],
            site.outputs[0].shape,
            terms=own.terms,
        )

    @remembered
    def affine_at(site: Site) -> AffineMap:
        added = _added(site)
        part = linear_part(on_input(site), site.coefficients(1))
        return replace(added, parts=(part, *added.parts))

    def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
        if not has_computed_weights(site):
            return affine_values(affine_at(site), ranges)
        product = bilinear_values(bilinear(site), ranges[:2], None)
        return added_values(product, affine_values(_added(site), ranges[2:]))

    def differences(
        site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
    ) -> DifferenceMap:
        if not has_computed_weights(site):
            return affine_differences(affine_at(site), errors)
        product = bilinear_differences(bilinear(site), ranges[:2], errors[:2])
        return added_differences(product, affine_differences(_added(site), errors[2:]))

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
    ) -> RoundingBound:
        if not has_computed_weights(site):
            s = ProductSum(on_input(site), site.coefficients(1), _bias_range(site, inputs))
            return product_rounding(site, s, inputs, contract, runtime)
        free_bias = _has_bias(site) and contract.bias is BiasPlacement.ANY
        if not isinstance(contract.order, AnyOrder) and not free_bias:
            return traced(runtime, site, inputs, contract).using(*LEMMAS)
        r, (x, w) = rounder(site, contract), inputs[:2]
        if not _has_bias(site):
            return varying_rounding(r, bilinear(site), x, w).using(*LEMMAS)
        bias = _tracked_bias(site, inputs, ErrorArithmetic(r, contract))
        return varying_rounding(
            r,
            bilinear(site),
            x=x,
            y=w,
            bias=Interval(bias.ideal.lo[0], bias.ideal.hi[0]),
            bias_error=bias.sample,
        ).using(*LEMMAS)

    return values, differences, rounding


def _has_bias(site: Site) -> bool:
    return len(site.inputs) > 2 and site.inputs[2] is not None


def _along(site: Site) -> tuple[int, ...]:
    """The shape in which a number per channel meets the result."""
    shape = site.outputs[0].shape
    return (shape[1], *(1,) * (len(shape) - 2))


def _tracked_bias(site: Site, inputs: Sequence[Interval], arithmetic: ErrorArithmetic) -> Tracked:
    """The bias as it is read, per channel."""
    stored, along = site.constant(2), _along(site)
    read = (
        tracked(inputs[-1], exactly_zero(EXACT, inputs[-1].shape))
        if stored is None
        else arithmetic.stored(stored)
    )
    return moved(read, lambda v: v.reshape(1, *along))


def _per_channel(site: Site, x: Interval) -> Interval:
    along = _along(site)
    return Interval(x.lo.reshape(along), x.hi.reshape(along))


def _bias_range(site: Site, inputs: Sequence[Interval]) -> Interval | None:
    if not _has_bias(site):
        return None
    stored = site.constant(2)
    bias = inputs[-1] if stored is None else point(np.asarray(stored, np.float64))
    return _per_channel(site, bias)


def _added(site: Site) -> AffineMap:
    """The bias alone."""
    shape, along = site.outputs[0].shape, _along(site)
    parts: tuple[LinearPart, ...] = ()
    bias = np.zeros(shape)
    stored = site.constant(2)
    if 2 in site.variable:
        spread = scaled_part(np.ones(()), along, shape)

        def adjoint(c: FloatArray) -> FloatArray:
            return spread.adjoint(c).reshape(c.shape[0], -1)

        parts = (replace(spread, adjoint=adjoint),)
    elif stored is not None:
        bias = np.broadcast_to(np.asarray(stored, np.float64).reshape(along), shape)
    return AffineMap(parts, bias, np.zeros(shape))
