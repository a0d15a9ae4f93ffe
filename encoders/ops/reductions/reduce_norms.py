"""ReduceL1 and ReduceSumSquare: sums of magnitudes, and of squares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, moved, sum_of_products, sum_of_terms
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import AnyOrder, OpenSchedule, RuntimeContract
from encoders.families.gathering import gathered_part, picked
from encoders.families.pooling import reduced_extent, reduced_terms, with_reduced
from encoders.families.product_rounding import varying_rounding
from encoders.families.signed_sum import check_one_variable
from encoders.families.sums import (
    any_order_total,
    has_known_tree,
    total_rounding,
)
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.lemmas.kernel import Radius, enclosed
from encoders.lemmas.ranges.operations import SQUARE_RANGE
from encoders.lemmas.ranges.placing import range_of
from encoders.numbers.enclosure import FloatArray, Interval, LinearPart
from encoders.operator import (
    Contribution,
    DifferenceMap,
    Field,
    Moved,
    Operator,
    RoundingBound,
    Site,
    ValueMap,
    remembered,
)
from encoders.ops.elementary.abs import MAGNITUDE
from encoders.relaxations.affine import affine_differences, affine_map, affine_values, scaled_part
from encoders.relaxations.bilinear import LEMMAS as PRODUCT_LEMMAS
from encoders.relaxations.bilinear import Bilinear, bilinear_differences, bilinear_values
from encoders.relaxations.composed import composed_differences, composed_values
from encoders.relaxations.piecewise import LEMMAS as PIECE_LEMMAS
from encoders.relaxations.piecewise import piecewise_differences, piecewise_values
from encoders.rounding.error_arithmetic import traced
from encoders.rounding.rounding_bounds import rounder
from encoders.rounding.signs import not_negative
from encoders.traits import Sums


def _check(site: Site) -> None:
    check_one_variable(site)
    if not len(reduced_terms(site)):
        raise site.unsupported("it reduces an axis of length 0")


@remembered
def _part(site: Site) -> LinearPart:
    return gathered_part(reduced_terms(site), site.type_of(0).shape)


def _columns(site: Site, values: V) -> list[V]:
    return [moved(values, partial(picked, index=i)) for i in reduced_terms(site)]


def _summed(site: Site, x: Interval) -> ValueMap:
    return affine_values(affine_map((_part(site),), site.outputs[0].shape), (x,))


def _summed_differences(site: Site, error: Radius) -> DifferenceMap:
    return affine_differences(affine_map((_part(site),), site.outputs[0].shape), (error,))


# --- ReduceL1


def _l1_real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    total, *rest = (field.maximum(t, -t) for t in _columns(site, inputs[0]))
    for term in rest:
        total = total + term
    return (total,)


def _l1_runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    terms = [arithmetic.absolute(t) for t in _columns(site, inputs[0])]
    return (sum_of_terms(arithmetic, contract, terms),)


def _l1_followed(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    if not has_known_tree(contract, padded=not site.node.written):
        raise OpenSchedule("a sum whose padding may be left out is no known tree")
    return _l1_runtime(site, inputs, arithmetic, contract)


def _l1_values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    return composed_values(piecewise_values(MAGNITUDE, ranges[0]), partial(_summed, site))


def _l1_differences(
    site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
) -> DifferenceMap:
    inner = piecewise_differences(MAGNITUDE, ranges[0], errors[0])
    return composed_differences(inner, partial(_summed_differences, site))


def _l1_rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    # LpPool, padding and all, is decomposed into this, and into no node that the file has
    if has_known_tree(contract, padded=not site.node.written):
        return traced(_l1_runtime, site, inputs, contract).using(*PIECE_LEMMAS)
    r, (x,) = rounder(site, contract), inputs
    low = np.maximum(np.maximum(x.lo, -x.hi), 0.0)
    terms = np.full(site.outputs[0].shape, float(len(reduced_terms(site))))
    total, reach = any_order_total(r, (_part(site),), (Interval(low, x.magnitude),), terms)
    return total_rounding(r, contract, total, reach, None).using(*PIECE_LEMMAS)


# --- ReduceSumSquare


def _square(site: Site) -> Bilinear:
    shape = site.type_of(0).shape

    def on(factor: FloatArray) -> LinearPart:
        return scaled_part(factor, shape, shape)

    return Bilinear(on, on, np.multiply, shape, terms=1, square=True)


def _both(pulled: ValueMap) -> Callable[[FloatArray], Contribution]:
    """The two factors are one tensor: their functionals add up."""

    def backward(c: FloatArray) -> Contribution:
        found = pulled.backward(c)
        return Contribution(_added(c, found.coefficients), found.constant)

    return backward


def _both_moved(pulled: DifferenceMap) -> Callable[[FloatArray], Moved]:
    def backward(c: FloatArray) -> Moved:
        found = pulled.backward(c)
        return Moved(_added(c, found.coefficients), found.cost)

    return backward


def _added(c: FloatArray, of_both: tuple[FloatArray | None, ...]) -> tuple[FloatArray]:
    first, second = of_both
    return (np.zeros_like(c) if first is None or second is None else first + second,)


def _square_real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    total, *rest = (t * t for t in _columns(site, inputs[0]))
    for term in rest:
        total = total + term
    return (total,)


def _square_runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    terms = [(t, t) for t in _columns(site, inputs[0])]
    return (sum_of_products(arithmetic, contract, terms),)


def _square_values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    (x,) = ranges
    range_ = enclosed(SQUARE_RANGE, X=range_of(x))
    # the two equal middles make the added coefficients exact: they are the same float64 number
    inner = bilinear_values(_square(site), (x, x), range_)
    return composed_values(ValueMap(inner.range, _both(inner)), partial(_summed, site))


def _square_differences(
    site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
) -> DifferenceMap:
    (x,), (error,) = ranges, errors
    inner = bilinear_differences(_square(site), (x, x), (error, error))
    return composed_differences(
        DifferenceMap(inner.radius, _both_moved(inner)), partial(_summed_differences, site)
    )


def _square_rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    if not isinstance(contract.order, AnyOrder):
        return traced(_square_runtime, site, inputs, contract).using(*PRODUCT_LEMMAS)
    (x,), part = inputs, _part(site)

    def on(factor: FloatArray) -> LinearPart:
        """Only ever applied to non-negative numbers, as a bound."""
        size = np.where(factor > 0, np.maximum(factor, 2.0**-500), 0.0)
        return LinearPart(
            lambda v: part.apply(v * size),
            lambda v: part.apply(v * size),
            lambda c: part.adjoint(c) * size,
            part.terms + 1,
            part.adjoint_terms + 1,
        )

    n = len(reduced_terms(site))
    b = Bilinear(on, on, np.multiply, site.outputs[0].shape, terms=n, square=True)
    return varying_rounding(rounder(site, contract), b, x, x).using(*PRODUCT_LEMMAS)


def _l1_gradient(r: Reverse) -> Carried:
    up = with_reduced(r, r.up)
    return {0: (r.x > 0).chosen(up, (r.x < 0).chosen(-up, 0))}


def _square_gradient(r: Reverse) -> Carried:
    return {0: with_reduced(r, r.up) * (r.x * 2)}


OPERATORS = (
    Operator(
        "ReduceL1",
        1,
        check=_check,
        real=_l1_real,
        runtime=_l1_runtime,
        values=_l1_values,
        differences=_l1_differences,
        rounding=_l1_rounding,
        gradient=Gradient(rule=_l1_gradient, convention="|x|' = 0 at x = 0"),
        followed=(_l1_followed,),
        sums=Sums(reduced_extent),
        keeps=not_negative,
    ).reading("axes", "keepdims", "noop_with_empty_axes"),
    Operator(
        "ReduceSumSquare",
        1,
        check=_check,
        real=_square_real,
        runtime=_square_runtime,
        values=_square_values,
        differences=_square_differences,
        rounding=_square_rounding,
        gradient=Gradient(rule=_square_gradient),
        followed=(_square_runtime,),
        sums=Sums(reduced_extent),
        keeps=not_negative,
    ).reading("axes", "keepdims", "noop_with_empty_axes"),
)
