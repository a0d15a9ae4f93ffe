"""Clip: min(max(x, low), high), the bounds as attributes before opset 11 and inputs since."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, moved
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.signed_sum import check_one_variable
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.gradients.tape import Term
from encoders.lemmas.choices import CLAMPED
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, apply, exactly_zero
from encoders.numbers.enclosure import Interval
from encoders.operator import DifferenceMap, Field, Operator, RoundingBound, Site, ValueMap
from encoders.relaxations.elements import broadcast_element
from encoders.relaxations.piecewise import (
    LEMMAS,
    PiecewiseLinear,
    clamp,
    piecewise_differences,
    piecewise_values,
)
from encoders.rounding.rounding_bounds import (
    exact_unless_flushed,
    formula_loss,
    rounder,
    stored_loss,
)
from encoders.traits import Likeness


def _bounds(site: Site) -> tuple[float, float]:
    """Low and high, infinite where there is none; the numeric limits that exporters write as
    "no bound" stay what they are."""
    found = []
    for position, name, default in ((1, "min", -math.inf), (2, "max", math.inf)):
        constant = site.constant(position)
        if constant is not None:
            found.append(float(np.asarray(constant, np.float64).reshape(-1)[0]))
        elif name in site.node.attributes:
            found.append(site.real(name, default))
        else:
            found.append(default)
    return found[0], found[1]


def _is_stored(site: Site, position: int) -> bool:
    """Is this bound a stored tensor, and no attribute?"""
    return site.constant(position) is not None


def check(site: Site) -> None:
    if any(p in site.variable for p in (1, 2)):
        raise site.unsupported("'min' and 'max' must be constants")
    check_one_variable(site)
    low, high = _bounds(site)
    if low > high:
        raise site.unsupported(f"'min' {low} is above 'max' {high}")


def _function(site: Site) -> PiecewiseLinear:
    return clamp(*_bounds(site))


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    x = inputs[0]
    low, high = _bounds(site)
    if math.isfinite(low):
        x = field.maximum(x, field.constant(np.asarray(low)))
    if math.isfinite(high):
        x = -field.maximum(-x, field.constant(np.asarray(-high)))
    return (x,)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    x = inputs[0]
    low, high = _bounds(site)

    def bound(position: int, value: float) -> V:
        ones = (1,) * (len(x.shape) - 1)
        if not _is_stored(site, position):
            return arithmetic.constant(np.full(ones, value))
        return moved(inputs[position], lambda v: v.reshape(v.shape[0], *ones))

    if math.isfinite(low):
        x = arithmetic.maximum(x, bound(1, low))
    if math.isfinite(high):
        x = arithmetic.minimum(x, bound(2, high))
    return (x,)


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    return piecewise_values(_function(site), ranges[0])


def differences(site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]) -> DifferenceMap:
    return piecewise_differences(_function(site), ranges[0], errors[0])


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    """Exact, but for stored bounds that are rounded and for flushed subnormals."""
    plain = exact_unless_flushed(site, result, contract)
    r, (x,) = rounder(site, contract), inputs
    lost = exactly_zero(EXACT, x.shape)
    low, high = _bounds(site)
    # max(x, low) as the negative of a minimum; what it gives is at most max(hi, low)
    for position, bound, most in ((1, -low, -x.lo), (2, high, np.maximum(x.hi, low))):
        if math.isfinite(bound) and not r.exact:
            loss_of = stored_loss if _is_stored(site, position) else formula_loss
            loss = loss_of(r, np.asarray(bound))
            if loss.largest > 0:
                lost = apply(CLAMPED, hi=most, b=bound, e=lost, f=loss)
    return replace(plain, radius=plain.radius + lost).using(*LEMMAS)


def _between(x: Term, site: Site) -> Term | None:
    """Where no bound is crossed, the ends included; None where there are no bounds."""
    low, high = _bounds(site)
    beyond = [x < low] if math.isfinite(low) else []
    beyond += [x > high] if math.isfinite(high) else []
    inside = [b.negated() for b in beyond]
    return inside[0].also(inside[1]) if len(inside) == 2 else inside[0] if inside else None


def gradient(r: Reverse) -> Carried:
    inside = _between(r.x, r.site)
    return {0: r.up if inside is None else inside.chosen(r.up, 0)}


OPERATORS = (
    Operator(
        "Clip",
        since=6,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        gradient=Gradient(rule=gradient, convention="clip' = 1 at both ends"),
        element=broadcast_element,
        likeness=Likeness(limits=_bounds),
    ).reading("max", "min"),
)
