"""Add: a + b with broadcasting, of computed tensors or constants; one rounding."""

from __future__ import annotations

from functools import partial

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, aligned
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.signed_sum import check_float, signed_affine, sum_rounding
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.operator import Field, Operator, Site
from encoders.relaxations.affine import affine_semantics
from encoders.relaxations.elements import broadcast_element
from encoders.relaxations.narrowing import element_constants
from encoders.rounding.signs import of_sum
from encoders.traits import Absorbing, Absorption, Commuting, Likeness

SIGNS = (1.0, 1.0)


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    a, b = aligned(inputs)
    return (a + b,)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    return (arithmetic.add(*aligned(inputs)),)


values, differences = affine_semantics(partial(signed_affine, signs=SIGNS))


def gradient(r: Reverse) -> Carried:
    return {i: r.up.unbroadcast(r.read(i).shape) for i in r.wanted}


OPERATORS = (
    Operator(
        "Add",
        since=7,
        check=check_float,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=sum_rounding,
        gradient=Gradient(rule=gradient),
        followed=(runtime,),
        affine=True,
        element=broadcast_element,
        per_element=True,
        narrowed=element_constants,
        likeness=Likeness(commuting=Commuting.SUM),
        absorbs=Absorbing(Absorption.TERMS),
        keeps=of_sum,
        summands=lambda site: 2,
    ),
)
