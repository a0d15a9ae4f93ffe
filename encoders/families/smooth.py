"""Operators that apply one curve to every element: everything but the two semantics follows from
it.

The curve, the real semantics and the run-time semantics of an operator are written separately;
tests hold them against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Protocol, TypeAlias

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.curves.curves import linear_bounds_of, lines_of, range_of, slope_range, slopes_of
from encoders.families.signed_sum import check_float
from encoders.functions.curve import Curve
from encoders.functions.function import Function
from encoders.lemmas.domains import DEFINED_WITHIN
from encoders.lemmas.functions import BRANCHES, FORMULA_APART
from encoders.lemmas.kernel import Radius, any_of, apply
from encoders.lemmas.ranges.making import hull_of
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.numbers.formats import BINARY64
from encoders.operator import (
    DifferenceMap,
    Field,
    FreeLines,
    Operator,
    RoundingBound,
    RuntimeSemantics,
    Site,
    ValueMap,
)
from encoders.relaxations.elementwise import (
    elementwise_differences,
    secant_of_slopes,
    through_linear_bounds,
)
from encoders.relaxations.lines import free_lines
from encoders.rounding.error_arithmetic import traced
from encoders.rounding.rounding_bounds import rounder
from encoders.rounding.signs import Keeps, of_function
from encoders.rounding.tracked_functions import moved_along
from encoders.site import Element
from encoders.traits import NOWHERE, Breaks

LEMMAS = ("convex-tangent", "function-error", "underflow-term", "product-error", "quotient-error")

Real = Callable[[Site, ObjectArray, Field], ObjectArray]
Defined: TypeAlias = Callable[[RoundingBound, Site, Interval], RoundingBound]
"""A bound where the function has a value on all of a run-time range, and infinite elsewhere."""


class Runtime(Protocol):
    """A run-time meaning of one tensor."""

    def __call__(self, site: Site, x: V, arithmetic: Arithmetic[V], /) -> V: ...


def smooth_operator(
    name: str,
    since: int,
    curve: Callable[[Site], Curve],
    *,
    real: Real,
    runtime: Runtime,
    check: Callable[[Site], None] = check_float,
    uncharged: Callable[[Site, Interval], FloatArray] | None = None,
    charged: Callable[[Site], bool] | None = None,
    defined: Defined = lambda bound, site, x: bound,
    uses: tuple[Function, ...] = (),
    element: Callable[[Site, int], Element] | None = None,
    branches: tuple[Runtime, Runtime] | None = None,
    alternatives: tuple[Runtime | tuple[Runtime, Runtime], ...] = (),
    in_double: tuple[Runtime, ...] = (),
    breaks: Breaks = NOWHERE,
    keeps: Keeps | None = None,
) -> Operator:
    """An operator y = f(x), element by element.

    `real(site, x, field)` and `runtime(site, x, arithmetic)` are its two semantics; what `runtime`
    computes without rounding may differ from `real` by `uncharged(site, x)`, but not at sites that
    `charged` holds of. `uses` names the elementary functions in it. Where `runtime` chooses between
    a formula for x < 0 and one for x ≥ 0, `branches` are these two, and f is continuous at 0.
    `alternatives` are other formulas (or pairs of branches) that runtimes use; the rounding bound
    covers them too, and those `in_double` where numbers are of that format. `defined` asks where f
    has a value.
    """

    def whole_check(site: Site) -> None:
        check(site)
        if site.variable != (0,):
            raise site.unsupported("its first input, and no other, must be computed")

    def whole_real(
        site: Site, inputs: Inputs[ObjectArray], field: Field
    ) -> tuple[ObjectArray, ...]:
        return (real(site, inputs[0], field),)

    def whole_runtime(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        return (runtime(site, inputs[0], arithmetic),)

    def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
        (x,) = ranges
        shape = curve(site)
        range_ = range_of(shape, x)

        @cache  # not before they are chosen from
        def lines() -> FreeLines:
            return free_lines(lines_of(shape, x, range_), x)

        mapped = through_linear_bounds(range_, lambda: linear_bounds_of(shape, x, range_), x)
        return replace(mapped, lines=lines)

    def differences(
        site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
    ) -> DifferenceMap:
        (x,), (given,) = ranges, errors
        shape, hull = curve(site), hull_of(x, given)
        slopes = slope_range(shape, hull)
        moved = moved_along(given, slopes, range_of(shape, hull))
        return elementwise_differences(secant_of_slopes(slopes, given), moved, given)

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
    ) -> RoundingBound:
        double = contract.format_of(site.outputs[0].dtype) == BINARY64
        more = (*alternatives, *(in_double if double else ()))
        forms = (runtime if branches is None else branches, *more)
        slopes = slopes_of(curve(site), inputs[0])
        each = [_of_form(form, site, inputs[0], contract, slopes) for form in forms]
        bound = replace(
            each[0],
            radius=any_of([b.radius for b in each]),
            preconditions=tuple(c for b in each for c in b.preconditions),
        )
        radius = bound.radius
        differs = charged is None or not charged(site)
        if uncharged is not None and differs and not contract.exact:
            apart = uncharged(site, inputs[0]) * (1.0 + 2.0**-40)
            radius = radius + apply(FORMULA_APART, U=apart)
        return defined(replace(bound, radius=radius), site, inputs[0]).using("mean-of-lines")

    every = (runtime, *alternatives, *in_double)
    plain = [form for form in every if not isinstance(form, tuple)]
    alike = uncharged is None or charged is not None
    exact = branches is None and alike and len(plain) == len(every)
    return Operator(
        name,
        since,
        check=whole_check,
        real=whole_real,
        runtime=whole_runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        followed=tuple(_alone(form) for form in plain) if exact else (),
        follows=charged or (lambda site: True),
        element=element,
        functions=uses,
        per_element=True,
        formulas=len(every),
        breaks=breaks,
        keeps=keeps,
    )


def _of_form(
    form: Runtime | tuple[Runtime, Runtime],
    site: Site,
    x: Interval,
    contract: RuntimeContract,
    slopes: tuple[FloatArray, FloatArray],
) -> RoundingBound:
    if isinstance(form, tuple):
        return _by_sign(form, site, x, contract, slopes)
    return _traced(form, site, x, contract)


def _traced(form: Runtime, site: Site, x: Interval, contract: RuntimeContract) -> RoundingBound:
    return traced(_alone(form), site, [x], contract)


def _alone(form: Runtime) -> RuntimeSemantics:
    """The formula as the run-time semantics of a node."""

    def runtime(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        return (form(site, inputs[0], arithmetic),)

    return runtime


def _by_sign(
    branches: tuple[Runtime, Runtime],
    site: Site,
    x: Interval,
    contract: RuntimeContract,
    slopes: tuple[FloatArray, FloatArray],
) -> RoundingBound:
    """The larger of both branches' errors, each on its half of the range.

    A runtime that reads a negative subnormal number as zero takes the other branch; that moves the
    argument by less than the smallest normal number.
    """
    below = Interval(np.minimum(x.lo, 0.0), np.minimum(x.hi, 0.0))
    above = Interval(np.maximum(x.lo, 0.0), np.maximum(x.hi, 0.0))
    bounds = [
        _traced(branch, site, half, contract)
        for branch, half in zip(branches, (below, above), strict=True)
    ]
    radius = apply(
        BRANCHES,
        below=bounds[0].radius,
        above=bounds[1].radius,
        lo=x.lo,
        hi=x.hi,
        S=np.maximum(np.abs(slopes[0]), np.abs(slopes[1])),
        tiny=rounder(site, contract).flushed,
    )
    return RoundingBound(radius, tuple(c for b in bounds for c in b.preconditions))


def function_operator(
    name: str,
    since: int,
    function: Function,
    defined: Defined = lambda bound, site, x: bound,
    breaks: Breaks = NOWHERE,
) -> Operator:
    """An operator that is one elementary function, computed as one."""

    def everywhere(bound: RoundingBound, site: Site, x: Interval) -> RoundingBound:
        return defined(_within_domain(bound, site, x, function), site, x)

    return smooth_operator(
        name,
        since,
        lambda site: function.shape,
        real=lambda site, x, field: field.function(function, x),
        runtime=lambda site, x, arithmetic: arithmetic.function(function, x),
        defined=everywhere,
        uses=(function,),
        breaks=breaks,
        keeps=of_function(function),
    )


def _within_domain(
    bound: RoundingBound, site: Site, x: Interval, function: Function
) -> RoundingBound:
    """The bound if the function has a value at every computed argument."""
    if function.domain is None:
        return bound
    least, most = function.domain
    low = float(np.min(x.lo, initial=np.inf)) + 0.0
    high = float(np.max(x.hi, initial=-np.inf)) + 0.0
    return bound.given(
        "argument-in-domain",
        f"{site.node.describe()}: the computed argument, between {low:.6g} and {high:.6g}, is one "
        f"of which {function.name} is computed, between {least:.6g} and {most:.6g}",
        DEFINED_WITHIN,
        lo=x.lo,
        hi=x.hi,
        least=least,
        most=most,
    )


def stored(arithmetic: Arithmetic[V], value: float) -> V:
    """A number the runtime holds, broadcasting to any tensor."""
    return arithmetic.constant(np.asarray(value, np.float64))
