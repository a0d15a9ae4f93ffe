"""Sum and Mean of any number of tensors, with broadcasting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, aligned, sum_of_terms
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import AnyOrder, RuntimeContract
from encoders.families.signed_sum import check_equal_shapes, sum_rounding
from encoders.families.sums import (
    any_order_total,
    divided,
    scaled_down,
    times_reciprocal,
    total_rounding,
)
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, exactly_zero
from encoders.numbers.enclosure import FloatArray, Interval, LinearPart, add_up, point
from encoders.operator import DifferenceMap, Field, Operator, RoundingBound, Site, ValueMap
from encoders.relaxations.affine import AffineMap, affine_differences, affine_values, scaled_part
from encoders.rounding.error_arithmetic import traced
from encoders.rounding.rounding_bounds import rounder, stored_loss
from encoders.rounding.signs import of_terms
from encoders.rounding.tracked import Tracked
from encoders.traits import Absorbing, Absorption


def _part(site: Site, position: int) -> LinearPart:
    return scaled_part(np.ones(()), site.type_of(position).shape, site.outputs[0].shape)


def _operator(name: str, mean: bool) -> Operator:
    def counts_of(site: Site) -> FloatArray:
        number = float(len(site.inputs)) if mean else 1.0
        return np.full((1,) * len(site.outputs[0].shape), number)

    def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
        total, *rest = aligned(inputs)
        for x in rest:
            total = total + x
        return (total / field.constant(counts_of(site)),)

    def runtime(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        total = sum_of_terms(arithmetic, contract, aligned(inputs))
        return (divided(total, counts_of(site), arithmetic) if mean else total,)

    def by_reciprocal(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        total = sum_of_terms(arithmetic, contract, aligned(inputs))
        return (times_reciprocal(total, counts_of(site), arithmetic),)

    def affine(site: Site) -> AffineMap:
        shape, counts = site.outputs[0].shape, counts_of(site)
        parts = tuple(scaled_down(_part(site, i), counts, shape) for i in site.variable)
        bias, size = np.zeros(shape), np.zeros(shape)
        for constant in site.constants:
            if constant is not None:
                exact = np.asarray(constant, np.float64)
                bias, size = bias + exact, add_up(size, np.abs(exact))
        radius = size * ((len(site.inputs) + 2) * 2.0**-52)
        return AffineMap(parts, bias / counts, np.broadcast_to(radius, shape))

    def gradient(r: Reverse) -> Carried:
        up = r.up / len(r.inputs) if mean else r.up
        return {i: up.unbroadcast(r.read(i).shape) for i in r.wanted}

    def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
        return affine_values(affine(site), ranges)

    def differences(
        site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
    ) -> DifferenceMap:
        return affine_differences(affine(site), errors)

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
    ) -> RoundingBound:
        if len(site.inputs) == 2 and not mean:
            return sum_rounding(site, inputs, result, contract)
        if not isinstance(contract.order, AnyOrder):
            return traced(runtime, site, inputs, contract)
        r = rounder(site, contract)
        shape, remaining = site.outputs[0].shape, iter(inputs)
        ranges, lost = [], exactly_zero(EXACT, shape)
        for constant in site.constants:
            exact = np.asarray(0.0 if constant is None else constant, np.float64)
            loss = stored_loss(r, exact)
            lost = lost + loss
            ranges.append(next(remaining) if constant is None else point(exact).inflate(loss.bound))
        parts = [_part(site, i) for i in range(len(site.inputs))]
        terms = np.full(shape, float(len(parts)))
        total, reach = any_order_total(r, parts, ranges, terms)
        total = Tracked(total.ideal, total.error + lost, total.largest)
        return total_rounding(r, contract, total, reach, counts_of(site))

    return Operator(
        name,
        6,
        check=check_equal_shapes,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        followed=(runtime, by_reciprocal) if mean else (runtime,),
        affine=True,
        gradient=Gradient(rule=gradient),
        absorbs=None
        if mean
        else Absorbing(Absorption.TERMS, terms_of=lambda site: len(site.inputs)),
        keeps=of_terms,
        summands=lambda site: len(site.inputs),
    )


OPERATORS = (_operator("Sum", False), _operator("Mean", True))
