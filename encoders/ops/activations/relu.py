"""Relu: max(x, 0). Exact in every format; a flushing runtime may lose a subnormal result."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.gradients.rule import unary
from encoders.lemmas.kernel import Radius
from encoders.numbers.enclosure import Interval
from encoders.operator import DifferenceMap, Field, Operator, RoundingBound, Site, ValueMap
from encoders.relaxations.elements import broadcast_element
from encoders.relaxations.hinges import hinge_differences, hinge_values
from encoders.relaxations.narrowing import element_constants
from encoders.rounding.rounding_bounds import exact_unless_flushed
from encoders.traits import Absorbing, Absorption, Breaks, Likeness


def check(site: Site) -> None:
    if not site.type_of(0).dtype.is_float:
        raise site.unsupported(f"Relu of {site.type_of(0).dtype.value} is not supported")


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    (x,) = inputs
    assert x is not None
    return (field.maximum(x, field.constant(np.zeros(()))),)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    return (arithmetic.maximum(inputs[0], arithmetic.constant(np.zeros((), np.float32))),)


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    return hinge_values(np.zeros(()), ranges[0])


def differences(site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]) -> DifferenceMap:
    return hinge_differences(np.zeros(()), ranges[0], errors[0])


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    return exact_unless_flushed(site, result, contract)


OPERATORS = (
    Operator(
        "Relu",
        since=6,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        gradient=unary(lambda x, y, up: (x > 0).chosen(up, 0), convention="relu'(0) = 0"),
        followed=(runtime,),
        element=broadcast_element,
        branches=True,
        positive_part=True,
        narrowed=element_constants,
        breaks=Breaks(turning=0),
        absorbs=Absorbing(Absorption.ALIKE),
        likeness=Likeness(limits=lambda site: (0.0, math.inf)),
    ),
)
