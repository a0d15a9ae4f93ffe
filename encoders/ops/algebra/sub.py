"""Sub: a - b with broadcasting, of computed tensors or constants; one rounding."""

from __future__ import annotations

from functools import partial

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, aligned
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.signed_sum import check_float, signed_affine, sum_rounding
from encoders.gradients.rule import Carried, Gradient, Reverse, each
from encoders.operator import Field, Operator, Site
from encoders.relaxations.affine import affine_semantics
from encoders.relaxations.elements import broadcast_element
from encoders.traits import Absorbing, Absorption

SIGNS = (1.0, -1.0)


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    a, b = aligned(inputs)
    return (a - b,)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    return (arithmetic.subtract(*aligned(inputs)),)


values, differences = affine_semantics(partial(signed_affine, signs=SIGNS))


def gradient(r: Reverse) -> Carried:
    a, b = (lambda: r.up.unbroadcast(r.x.shape)), (lambda: (-r.up).unbroadcast(r.read(1).shape))
    return each(((0, a), (1, b)), r)


OPERATORS = (
    Operator(
        "Sub",
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
        absorbs=Absorbing(Absorption.TERMS),
    ),
)
