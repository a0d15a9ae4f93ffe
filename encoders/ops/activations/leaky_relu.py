"""LeakyRelu and PRelu: x for x ≥ 0, slope·x below; one rounded product there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, Relation, aligned
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.parameters import require_broadcast
from encoders.families.signed_sum import check_float, check_one_variable
from encoders.gradients.rule import Carried, Gradient, Reverse, each
from encoders.lemmas.choices import BY_SIGN
from encoders.lemmas.kernel import Radius, Rounding, apply
from encoders.lemmas.operations import COMPUTED_PRODUCT, KNOWN_FACTOR
from encoders.numbers.enclosure import FloatArray, Interval, add_up, multiply_up
from encoders.operator import DifferenceMap, Field, Operator, RoundingBound, Site, ValueMap
from encoders.relaxations.elements import broadcast_element
from encoders.relaxations.hinges import hinge_differences, hinge_values
from encoders.relaxations.piecewise import LEMMAS, hinge, piecewise_values
from encoders.rounding.rounding_bounds import finish, formula_loss, rounder, stored_loss
from encoders.traits import Absorbing, Absorption, Breaks
from onnx_import.graph import Array


def _leak(site: Site) -> Array:
    """The slope below zero, as stored."""
    return np.full((1,) * len(site.type_of(0).shape), site.real("alpha", 0.01), np.float32)


def _stored_slope(site: Site) -> Array:
    slope = site.constants[1]
    assert slope is not None
    return slope


def _check_slope(site: Site) -> None:
    check_float(site)
    if site.variable != (0,):
        raise site.unsupported("the slope (input 1) must be a constant")
    require_broadcast(site, 1, site.type_of(0).shape)


def _operator(
    name: str,
    since: int,
    slope_of: Callable[[Site], Array],
    check: Callable[[Site], None],
    stored: bool,
) -> Operator:
    """`stored` says that the slope is a stored tensor, input 1, and no attribute."""

    def slopes(site: Site) -> FloatArray:
        return np.asarray(slope_of(site), np.float64)

    def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
        x, slope = aligned((inputs[0], inputs[1] if stored else field.constant(slope_of(site))))
        zero = field.constant(np.zeros((1,) * (x.ndim - 1)))
        return (field.maximum(x, zero) - slope * field.maximum(-x, zero),)

    def runtime(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        given = inputs[1] if stored else arithmetic.constant(slope_of(site))
        x, slope = aligned((inputs[0], given))
        zero = arithmetic.constant(np.zeros((1,) * (len(x.shape) - 1), np.float32))
        below = arithmetic.compare(Relation.LESS, x, zero)
        return (arithmetic.select(below, arithmetic.multiply(slope, x), x),)

    def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
        below = slopes(site)
        if np.any(below > 1.0):
            return piecewise_values(hinge(below, np.ones(())), ranges[0])
        return hinge_values(below, ranges[0])

    def differences(
        site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
    ) -> DifferenceMap:
        return hinge_differences(slopes(site), ranges[0], errors[0])

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
    ) -> RoundingBound:
        """A copy above zero, a product below; a copy there too of a number read as zero."""
        r, (x,) = rounder(site, contract), inputs
        slope = slopes(site)
        held = stored_loss(r, slope) if stored else formula_loss(r, slope)
        lost, loss = r.operand_loss(x), held + r.operand_loss(Interval(slope, slope))
        below = np.maximum(-x.lo, 0.0)
        moved = apply(COMPUTED_PRODUCT, X=np.abs(slope), Y=below, ex=loss, ey=lost)

        def rounded(magnitude: FloatArray) -> Rounding:
            return apply(
                KNOWN_FACTOR,
                size=magnitude,
                r=r.of_product(magnitude),
                s=r.of_scaling(magnitude),
                c=r.of_copy(magnitude),
                lo=slope,
                hi=slope,
                e=loss,
            )

        magnitude = multiply_up(np.abs(slope), below)
        negative = r.after(rounded, magnitude, moved)
        positive = r.after(r.of_copy, np.maximum(x.hi, 0.0), lost)
        if lost.largest > 0:  # a negative x that is read as 0 is copied: off by x and by slope·x
            size = np.maximum(below, magnitude)
            copied = r.after(r.of_copy, size, lost.times(add_up(np.abs(slope), 1.0)))
            negative = negative.or_else(copied)
        reach = np.maximum(x.magnitude, add_up(add_up(magnitude, moved.bound), negative.bound))
        radius = apply(BY_SIGN, lo=x.lo, hi=x.hi, below=negative, above=positive)
        return finish(r, radius, reach).using(*LEMMAS)

    return Operator(
        name,
        since,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        element=broadcast_element,
        branches=True,
        breaks=Breaks(turning=0),
        absorbs=Absorbing(
            Absorption.SCALED, factor=lambda site: float(np.max(np.abs(slopes(site)), initial=1.0))
        ),
    )


def _leaky(r: Reverse) -> Carried:
    return {0: (r.x > 0).chosen(r.up, r.up * r.site.real("alpha", 0.01))}


def _parametric(r: Reverse) -> Carried:
    above, slope = r.x > 0, r.read(1)
    return each(
        (
            (0, lambda: above.chosen(r.up, r.up * slope)),
            (1, lambda: above.chosen(0, r.up * r.x).unbroadcast(slope.shape)),
        ),
        r,
    )


_AT_ZERO = "the slope at 0 is that below it"


OPERATORS = (
    _operator("LeakyRelu", 6, _leak, check_one_variable, stored=False)
    .reading("alpha")
    .derived(Gradient(rule=_leaky, convention=_AT_ZERO)),
    _operator("PRelu", 7, _stored_slope, _check_slope, stored=True).derived(
        Gradient(rule=_parametric, convention=_AT_ZERO)
    ),
)
