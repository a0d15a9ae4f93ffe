"""Abs: |x|, exact."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.signed_sum import check_one_variable
from encoders.gradients.rule import unary
from encoders.gradients.tape import Term
from encoders.lemmas.kernel import Radius
from encoders.numbers.enclosure import Interval
from encoders.operator import DifferenceMap, Field, Operator, RoundingBound, Site, ValueMap
from encoders.relaxations.elements import broadcast_element
from encoders.relaxations.piecewise import (
    LEMMAS,
    PiecewiseLinear,
    piecewise_differences,
    piecewise_values,
)
from encoders.rounding.rounding_bounds import exact_unless_flushed
from encoders.traits import Absorbing, Absorption

MAGNITUDE = PiecewiseLinear((np.zeros(()),), (np.asarray(-1.0), np.asarray(1.0)), np.abs, np.abs)


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    (x,) = inputs
    assert x is not None
    return (field.maximum(x, -x),)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    return (arithmetic.absolute(inputs[0]),)


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    return piecewise_values(MAGNITUDE, ranges[0])


def differences(site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]) -> DifferenceMap:
    return piecewise_differences(MAGNITUDE, ranges[0], errors[0])


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    return exact_unless_flushed(site, result, contract).using(*LEMMAS)


def _by_sign(x: Term, y: Term, up: Term) -> Term:
    return (x > 0).chosen(up, (x < 0).chosen(-up, 0))


_GRADIENT = unary(
    _by_sign,
    convention="|x|' = 0 at x = 0",
    frameworks={"torch": lambda x, y, up: up * x.apply("Sign")},
)


OPERATORS = (
    Operator(
        "Abs",
        since=6,
        check=check_one_variable,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        gradient=_GRADIENT,
        followed=(runtime,),
        element=broadcast_element,
        per_element=True,
        mirrors=True,
        absorbs=Absorbing(Absorption.ALIKE),
    ),
)
