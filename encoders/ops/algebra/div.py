"""Div and Reciprocal: a/b with broadcasting, b away from zero; one correctly rounded division."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, aligned
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.signed_sum import check_float, check_one_variable
from encoders.gradients.rule import Carried, Gradient, Reverse, each, unary
from encoders.lemmas.combining import EXACT
from encoders.lemmas.domains import DEFINED_QUOTIENT
from encoders.lemmas.kernel import Radius, exactly_zero
from encoders.lemmas.ranges.placing import stored_range
from encoders.lemmas.ranges.range import Range
from encoders.numbers.enclosure import Interval, multiply_up
from encoders.operator import (
    DifferenceMap,
    Field,
    Operator,
    RoundingBound,
    Site,
    ValueMap,
)
from encoders.relaxations.affine import (
    AffineMap,
    affine_differences,
    affine_map,
    affine_values,
    scaled_part,
)
from encoders.relaxations.elements import broadcast_element
from encoders.relaxations.quotients import (
    LEMMAS,
    Quotient,
    away_from_zero,
    quotient_differences,
    quotient_values,
)
from encoders.rounding.error_arithmetic import traced
from encoders.rounding.signs import of_product
from encoders.traits import Absorbing, Absorption, Breaks

_LEMMAS = ("underflow-term", "quotient-error")


def check(site: Site) -> None:
    check_float(site)
    divisor = site.constant(1)
    size = np.ones(()) if divisor is None else np.abs(np.asarray(divisor, np.float64))
    if np.any((size < 2.0**-1000) | (size > 2.0**1000)):
        raise site.unsupported(
            "the constant divisor contains a zero, or a number below 2^-1000 or above 2^1000"
        )


def _affine(site: Site) -> AffineMap:
    """Division by a stored number."""
    shape = site.outputs[0].shape
    divisor = np.asarray(site.constants[1], np.float64)
    if not site.variable:
        quotient = np.broadcast_to(np.asarray(site.constants[0], np.float64) / divisor, shape)
        return AffineMap((), quotient, multiply_up(np.abs(quotient), 2.0**-52))
    scale = 1.0 / divisor
    mantissa, _ = np.frexp(scale)
    relative = 0.0 if np.all(np.abs(mantissa) == 0.5) else 2.0**-52
    part = scaled_part(scale, site.type_of(0).shape, shape, relative)
    return affine_map((part,), shape)


def _stored_divisor(site: Site) -> bool:
    return site.constant(1) is not None


def _operands(
    site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
) -> tuple[Interval, Interval, list[Radius]]:
    """Numerator and divisor, stored or not, with how far each may be from its real value."""
    given, moved = iter(ranges), iter(errors)
    found, off = [], []
    for constant in site.constants[:2]:
        exact = None if constant is None else np.asarray(constant, np.float64)
        found.append(next(given) if exact is None else stored_range(exact))
        off.append(next(moved) if exact is None else exactly_zero(EXACT, exact.shape))
    return found[0], found[1], off


def _quotient(site: Site) -> Quotient:
    return Quotient(
        (site.type_of(0).shape, site.type_of(1).shape),
        (0 in site.variable, 1 in site.variable),
        site.outputs[0].shape,
    )


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    a, b = aligned(inputs)
    return (a / b,)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    return (arithmetic.divide(*aligned(inputs)),)


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    if _stored_divisor(site):
        return affine_values(_affine(site), ranges)
    x, y, _ = _operands(site, ranges, [exactly_zero(EXACT, r.shape) for r in ranges])
    return quotient_values(_quotient(site), x, y)


def differences(site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]) -> DifferenceMap:
    if _stored_divisor(site):
        return affine_differences(_affine(site), errors)
    return quotient_differences(_quotient(site), *_operands(site, ranges, errors))


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    bound = traced(runtime, site, inputs, contract)
    return bound if _stored_divisor(site) else _guarded(bound, site, inputs[-1])


def _guarded(bound: RoundingBound, site: Site, divisor: Interval) -> RoundingBound:
    low, high = float(np.min(divisor.lo, initial=0.0)), float(np.max(divisor.hi, initial=0.0))
    if np.all(away_from_zero(divisor)):
        low, high = float(np.min(divisor.lo)), float(np.max(divisor.hi))
    found = bound.given(
        "divisor-not-zero",
        f"{site.node.describe()}: no divisor, between {low + 0.0:.6g} and {high:.6g}, may be 0",
        DEFINED_QUOTIENT,
        lo=divisor.lo,
        hi=divisor.hi,
        limit=sys.float_info.max,
    )
    return found.using(*LEMMAS)


def _unit(site: Site) -> Quotient:
    shape = site.outputs[0].shape
    return Quotient(((1,) * len(shape), shape), (False, True), shape)


def _one(site: Site) -> Range:
    return stored_range(np.ones((1,) * len(site.outputs[0].shape)))


def _reciprocal_real(
    site: Site, inputs: Inputs[ObjectArray], field: Field
) -> tuple[ObjectArray, ...]:
    (x,) = inputs
    assert x is not None
    return (field.constant(np.ones((1,) * (x.ndim - 1))) / x,)


def _reciprocal_runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    one = arithmetic.constant(np.ones((1,) * len(site.outputs[0].shape)))
    return (arithmetic.divide(one, inputs[0]),)


def _reciprocal_values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    return quotient_values(_unit(site), _one(site), ranges[0])


def _reciprocal_differences(
    site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
) -> DifferenceMap:
    one = _one(site)
    return quotient_differences(
        _unit(site), one, ranges[0], [exactly_zero(EXACT, one.shape), errors[0]]
    )


def _reciprocal_rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    bound = traced(_reciprocal_runtime, site, inputs, contract)
    return _guarded(bound, site, inputs[0])


def gradient(r: Reverse) -> Carried:
    a, b = r.x, r.read(1)
    terms = (
        (0, lambda: (r.up / b).unbroadcast(a.shape)),
        (1, lambda: (-(r.up * (r.output / b))).unbroadcast(b.shape)),
    )
    return each(terms, r)


OPERATORS = (
    Operator(
        "Div",
        since=7,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        gradient=Gradient(rule=gradient),
        followed=(runtime,),
        affine=True,
        affine_where=_stored_divisor,
        element=broadcast_element,
        per_element=True,
        breaks=Breaks(vanishing=1),
        absorbs=Absorbing(Absorption.QUOTIENT),
        keeps=of_product,
    ),
    Operator(
        "Reciprocal",
        since=6,
        check=check_one_variable,
        real=_reciprocal_real,
        runtime=_reciprocal_runtime,
        values=_reciprocal_values,
        differences=_reciprocal_differences,
        rounding=_reciprocal_rounding,
        gradient=unary(lambda x, y, up: -(up * (y * y))),
        followed=(_reciprocal_runtime,),
        element=broadcast_element,
        per_element=True,
        breaks=Breaks(vanishing=0),
        keeps=of_product,
    ),
)
