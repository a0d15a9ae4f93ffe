"""Swish (SiLU): x·sigmoid(αx), alpha positive, 1 by default."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic
from encoders.arithmetic.values import V
from encoders.curves.gated_curves import swish_curve
from encoders.families.signed_sum import check_float
from encoders.families.smooth import smooth_operator, stored
from encoders.functions.sigmoid import SIGMOID
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.operator import Field, Site


def _alpha(site: Site) -> float:
    return site.real("alpha", 1.0)


def check(site: Site) -> None:
    check_float(site)
    if not 2.0**-60 <= _alpha(site) <= 2.0**60:
        raise site.unsupported("attribute 'alpha' must be positive")


def real(site: Site, x: ObjectArray, field: Field) -> ObjectArray:
    return np.asarray(x * field.function(SIGMOID, x * field.number(Fraction(_alpha(site)))))


def runtime(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
    inner = x if _alpha(site) == 1.0 else arithmetic.multiply(stored(arithmetic, _alpha(site)), x)
    return arithmetic.multiply(x, arithmetic.function(SIGMOID, inner))


def gradient(r: Reverse) -> Carried:
    inner = r.x if _alpha(r.site) == 1.0 else r.x * _alpha(r.site)
    gate = inner.apply("Sigmoid")
    return {0: r.up * (gate + inner * (gate * (1 - gate)))}


OPERATORS = (
    smooth_operator(
        "Swish",
        24,
        curve=lambda site: swish_curve(_alpha(site)),
        real=real,
        runtime=runtime,
        check=check,
        uses=(SIGMOID,),
    )
    .reading("alpha")
    .derived(Gradient(rule=gradient)),
)
