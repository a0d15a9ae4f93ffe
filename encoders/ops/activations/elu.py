"""Elu, Selu and Celu: x where positive, a scaled e^x − 1 elsewhere.

A runtime is taken to compute the exponential and subtract 1, which errs at least as much as one
that has expm1. Kinks at 0 are where two pieces meet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, Relation
from encoders.arithmetic.values import V
from encoders.families.signed_sum import check_float
from encoders.families.smooth import Real, Runtime, smooth_operator, stored
from encoders.functions.curve import Curve, Number, Piece, Reals, Shape
from encoders.functions.exp import EXP
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.gradients.tape import Term
from encoders.numbers.enclosure import Interval
from encoders.operator import Field, Operator, Site
from encoders.traits import NOWHERE, Breaks
from onnx_import.graph import DType

_INFINITY = float("inf")
# the attributes' defaults, numbers of float32
SELU_ALPHA = 1.67326319217681884765625
SELU_GAMMA = 1.05070102214813232421875


def _exponential_curve(scale: float, rate: float, gain: float) -> Curve:
    """scale·(e^(x/rate) − 1) up to 0, gain·x from there; rate and gain positive.

    Slopes lie between those at −∞, 0− and 0+; 1.01 pays for the float64 product and quotient.
    """
    s, r, g = Fraction(scale), Fraction(rate), Fraction(gain)

    def left(field: Reals, x: Number) -> Number:
        return field.number(s) * (field.function(EXP, x * field.number(1 / r)) - 1)

    def left_slope(field: Reals, x: Number) -> Number:
        return field.number(s / r) * field.function(EXP, x * field.number(1 / r))

    def range_(x: Interval) -> Interval:
        low = np.full(x.shape, min(-scale, 0.0))
        return Interval(low, np.maximum(max(-scale, 0.0), gain * np.maximum(x.hi, 0.0) * 1.01))

    return Curve(
        (
            Piece(-_INFINITY, 0.0, Shape.CONVEX if s >= 0 else Shape.CONCAVE, left, left_slope),
            Piece(
                0.0,
                _INFINITY,
                Shape.CONVEX,
                lambda field, x: field.number(g) * x,
                lambda field, x: field.number(g) + 0 * x,
            ),
        ),
        range_,
        (min(0.0, 1.01 * scale / rate), 1.01 * max(gain, scale / rate)),
    )


def _elu_curve(site: Site) -> Curve:
    return _exponential_curve(site.real("alpha", 1.0), 1.0, 1.0)


def _elu_real(site: Site, x: ObjectArray, field: Field) -> ObjectArray:
    zero = field.constant(np.zeros(()))
    negative = -field.maximum(-x, zero)
    alpha = field.number(Fraction(site.real("alpha", 1.0)))
    return np.asarray(field.maximum(x, zero) + alpha * (field.function(EXP, negative) - 1))


def _elu_part(alpha: float, x: V, arithmetic: Arithmetic[V]) -> V:
    power = arithmetic.function(EXP, x)
    less = arithmetic.subtract(power, stored(arithmetic, 1.0))
    return arithmetic.multiply(stored(arithmetic, alpha), less)


def _elu_below(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
    return _elu_part(site.real("alpha", 1.0), x, arithmetic)


def _unchanged(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
    return x


def _selu_curve(site: Site) -> Curve:
    gamma, alpha = site.real("gamma", SELU_GAMMA), site.real("alpha", SELU_ALPHA)
    return _exponential_curve(gamma * alpha, 1.0, gamma)  # a product of float32 is exact


def _selu_real(site: Site, x: ObjectArray, field: Field) -> ObjectArray:
    zero = field.constant(np.zeros(()))
    gamma = field.number(Fraction(site.real("gamma", SELU_GAMMA)))
    alpha = field.number(Fraction(site.real("alpha", SELU_ALPHA)))
    power = field.function(EXP, -field.maximum(-x, zero))
    return np.asarray(gamma * (field.maximum(x, zero) + alpha * power - alpha))


def _selu_below(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
    gamma = stored(arithmetic, site.real("gamma", SELU_GAMMA))
    alpha = stored(arithmetic, site.real("alpha", SELU_ALPHA))
    power = arithmetic.function(EXP, x)
    return arithmetic.multiply(gamma, arithmetic.subtract(arithmetic.multiply(alpha, power), alpha))


def _selu_factored(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
    gamma = stored(arithmetic, site.real("gamma", SELU_GAMMA))
    return arithmetic.multiply(gamma, _elu_part(site.real("alpha", SELU_ALPHA), x, arithmetic))


def _selu_gathered(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
    """(γ·α)·(eˣ − 1), as onnxruntime computes it: γ·α may overflow where no result does."""
    gamma = stored(arithmetic, site.real("gamma", SELU_GAMMA))
    alpha = stored(arithmetic, site.real("alpha", SELU_ALPHA))
    less = arithmetic.subtract(arithmetic.function(EXP, x), stored(arithmetic, 1.0))
    return arithmetic.multiply(arithmetic.multiply(gamma, alpha), less)


def _selu_above(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
    return arithmetic.multiply(stored(arithmetic, site.real("gamma", SELU_GAMMA)), x)


def _celu_curve(site: Site) -> Curve:
    alpha = site.real("alpha", 1.0)
    return _exponential_curve(alpha, alpha, 1.0)


def _celu_real(site: Site, x: ObjectArray, field: Field) -> ObjectArray:
    zero = field.constant(np.zeros(()))
    alpha = field.number(Fraction(site.real("alpha", 1.0)))
    power = field.function(EXP, -field.maximum(-x, zero) / alpha)
    return np.asarray(field.maximum(x, zero) + alpha * (power - 1))


def _celu_below(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
    alpha = stored(arithmetic, site.real("alpha", 1.0))
    power = arithmetic.function(EXP, arithmetic.divide(x, alpha))
    return arithmetic.multiply(alpha, arithmetic.subtract(power, stored(arithmetic, 1.0)))


def _either(below: Runtime, above: Runtime) -> Runtime:
    """`below` where x < 0, `above` elsewhere; the branch not taken must not overflow."""

    def runtime(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
        zero = stored(arithmetic, 0.0)
        return arithmetic.select(
            arithmetic.compare(Relation.LESS, x, zero),
            below(site, arithmetic.minimum(x, zero), arithmetic),
            above(site, x, arithmetic),
        )

    return runtime


def _positive(name: str, default: float) -> Callable[[Site], None]:
    def check(site: Site) -> None:
        check_float(site)
        if not site.real(name, default) > 0:
            raise site.unsupported(f"attribute '{name}' must be positive")

    return check


def _made(
    name: str,
    since: int,
    curve: Callable[[Site], Curve],
    *,
    real: Real,
    below: Runtime,
    above: Runtime,
    check: Callable[[Site], None],
    alternatives: tuple[tuple[Runtime, Runtime], ...] = (),
    breaks: Breaks = NOWHERE,
) -> Operator:
    return smooth_operator(
        name,
        since,
        curve=curve,
        real=real,
        runtime=_either(below, above),
        check=check,
        uses=(EXP,),
        branches=(below, above),
        alternatives=alternatives,
        breaks=breaks,
    )


_BELOW = "its slope at 0 is that below it"


def _elu_gradient(r: Reverse) -> Carried:
    below = r.up * (r.output + r.site.real("alpha", 1.0))
    return {0: (r.x > 0).chosen(r.up, below)}


def _selu_gradient(r: Reverse) -> Carried:
    alpha, gamma = r.site.real("alpha", SELU_ALPHA), r.site.real("gamma", SELU_GAMMA)
    below = _falling(r.x, 1.0) * alpha * gamma
    return {0: r.up * (r.x > 0).chosen(r.tape.number(gamma, r.x.kind.dtype), below)}


def _celu_gradient(r: Reverse) -> Carried:
    return {0: (r.x > 0).chosen(r.up, r.up * _falling(r.x, r.site.real("alpha", 1.0)))}


def _falling(x: Term, alpha: float) -> Term:
    """exp(x/alpha) below 0 and 1 above, where the exponential itself may overflow."""
    below = x.tape.elementwise(x, x.tape.number(0, x.kind.dtype), op="Min")
    return (below if alpha == 1.0 else below / alpha).apply("Exp")


OPERATORS = (
    _made(
        "Elu",
        6,
        curve=_elu_curve,
        real=_elu_real,
        below=_elu_below,
        above=_unchanged,
        check=check_float,
        breaks=Breaks(turning=0),
    )
    .reading("alpha")
    .derived(Gradient(rule=_elu_gradient, convention=_BELOW)),
    _made(
        "Selu",
        6,
        curve=_selu_curve,
        real=_selu_real,
        below=_selu_below,
        above=_selu_above,
        check=_positive("gamma", SELU_GAMMA),
        alternatives=((_selu_factored, _selu_above), (_selu_gathered, _selu_above)),
    )
    .reading("alpha", "gamma")
    .derived(Gradient(rule=_selu_gradient, convention=_BELOW)),
    replace(
        _made(
            "Celu",
            12,
            curve=_celu_curve,
            real=_celu_real,
            below=_celu_below,
            above=_unchanged,
            check=_positive("alpha", 1.0),
        )
        .reading("alpha")
        .derived(Gradient(rule=_celu_gradient, convention=_BELOW)),
        dtypes=(DType.FLOAT32,),
    ),
)
