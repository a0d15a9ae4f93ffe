"""Neg: −x, exact."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.signed_sum import check_one_variable
from encoders.gradients.rule import unary
from encoders.numbers.enclosure import Interval
from encoders.operator import Field, Operator, RoundingBound, Site
from encoders.relaxations.affine import AffineMap, affine_map, affine_semantics, scaled_part
from encoders.relaxations.elements import broadcast_element
from encoders.rounding.rounding_bounds import exact_unless_flushed
from encoders.traits import Absorbing, Absorption


def _affine(site: Site) -> AffineMap:
    shape = site.outputs[0].shape
    return affine_map((scaled_part(np.asarray(-1.0), shape, shape),), shape)


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    (x,) = inputs
    assert x is not None
    return (np.asarray(-x, dtype=x.dtype),)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    return (arithmetic.negate(inputs[0]),)


values, differences = affine_semantics(_affine)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    return exact_unless_flushed(site, result, contract)


OPERATORS = (
    Operator(
        "Neg",
        since=6,
        check=check_one_variable,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        gradient=unary(lambda x, y, up: -up),
        followed=(runtime,),
        affine=True,
        element=broadcast_element,
        per_element=True,
        mirrors=True,
        absorbs=Absorbing(Absorption.ALIKE),
    ),
)
