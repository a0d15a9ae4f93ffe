"""Sums and means without weights: pooling, reductions, Sum, Mean.

Every output element is Σ of some input elements, perhaps divided by their number. How a mean is
divided is left open where sums go in any order: a division and a product with the rounded
reciprocal are both covered. Pinned contracts divide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, joined, moved, sum_of_terms
from encoders.arithmetic.values import E, Inputs, V
from encoders.contract.contract import AnyOrder, OpenSchedule, RuntimeContract
from encoders.contract.orders import Sequential
from encoders.families.carried import summed_back
from encoders.families.gathering import Index, gathered_part
from encoders.gradients.rule import Gradient
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, exactly_zero
from encoders.numbers.enclosure import FloatArray, Interval, LinearPart, add_up
from encoders.operator import (
    DifferenceMap,
    Field,
    Operator,
    RoundingBound,
    RuntimeSemantics,
    Site,
    ValueMap,
    remembered,
)
from encoders.relaxations.affine import (
    AffineMap,
    affine_differences,
    affine_map,
    affine_values,
)
from encoders.rounding.any_order import any_order_sum
from encoders.rounding.error_arithmetic import ErrorArithmetic, traced
from encoders.rounding.rounding_bounds import Rounder, finish, rounder
from encoders.rounding.signs import of_terms
from encoders.rounding.tracked import Tracked, tracked


def divided(total: V, counts: FloatArray, arithmetic: Arithmetic[V]) -> V:
    """total/counts with one division."""
    return arithmetic.divide(total, arithmetic.constant(counts))


def times_reciprocal(total: V, counts: FloatArray, arithmetic: Arithmetic[V]) -> V:
    """total·fl(1/n): a division as some runtimes compute it, with two roundings."""
    one = arithmetic.constant(np.ones_like(counts))
    reciprocal = arithmetic.divide(one, arithmetic.constant(counts))
    return arithmetic.multiply(total, reciprocal)


def scaled_down(part: LinearPart, counts: FloatArray, shape: tuple[int, ...]) -> LinearPart:
    """x ↦ part(x)/counts; the float64 reciprocal errs by at most U."""
    scale = np.broadcast_to(1.0 / counts, shape)
    if np.all(scale == 1.0):
        return part
    mantissa, _ = np.frexp(scale)
    exact = bool(np.all(np.abs(mantissa) == 0.5))
    return LinearPart(
        lambda x: part.apply(x) * scale,
        lambda x: part.apply_abs(x) * scale,
        lambda c: part.adjoint(c * scale),
        terms=part.terms + 2,
        adjoint_terms=part.adjoint_terms + 2,
        relative=part.relative if exact else part.relative + 2.0**-52,
    )


def has_known_tree(contract: RuntimeContract, *, padded: bool) -> bool:
    """Is it known in which order a sum is taken? Not of a `padded` one whose order is a tree, for a
    runtime may leave the padding out; zeros change no sequential sum."""
    if isinstance(contract.order, AnyOrder):
        return False
    return isinstance(contract.order, Sequential) or not padded


def any_order_total(
    r: Rounder, parts: Sequence[LinearPart], ranges: Sequence[Interval], terms: FloatArray
) -> tuple[Tracked, FloatArray]:
    """Σ of elements in any order, `terms` of them per output; and a bound on every partial sum.

    Partial sums lie between the sum of the negative and the sum of the positive elements. What
    several inputs hold is added up; each element may be flushed where it is read.
    """
    shape = terms.shape
    up, down, every = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for part, x in zip(parts, ranges, strict=True):
        up = add_up(up, part.magnitude_up(np.maximum(x.hi, 0.0)))
        down = add_up(down, part.magnitude_up(np.maximum(-x.lo, 0.0)))
        every = add_up(every, part.magnitude_up(x.magnitude))
    largest = np.maximum(up, down)
    additions = np.maximum(terms - 1.0, 0.0)
    flushed = r.with_finished_sum(exactly_zero(EXACT, shape), largest)
    radius = any_order_sum(r, largest, additions, flushed, total=every)
    range_ = affine_values(affine_map(parts, shape), ranges).range
    reach = add_up(largest, np.where(np.isfinite(radius.bound), radius.bound, 0.0))
    return tracked(range_, radius), reach


def total_rounding(
    r: Rounder,
    contract: RuntimeContract,
    total: Tracked,
    reach: FloatArray,
    counts: FloatArray | None,
) -> RoundingBound:
    """The rounding bound of a sum, or of a mean by either way of dividing."""
    if counts is None or np.all(counts == 1.0):
        return finish(r, total.sample, reach)
    arithmetic = ErrorArithmetic(r, contract)
    means = [f(total, counts, arithmetic) for f in (divided, times_reciprocal)]
    error = means[0].sample.or_else(means[1].sample)
    largest = max(total.largest, *(m.largest for m in means))
    return finish(r, error, np.maximum(reach, largest))


def sum_operator(
    name: str,
    since: int,
    terms_of: Callable[[Site], Index],
    counts_of: Callable[[Site], FloatArray | None],
    check: Callable[[Site], None],
    summed: Callable[[Site], LinearPart] | None = None,
) -> Operator:
    """Σ over index arrays into the one variable input, divided by counts unless they are None.

    `terms_of` gives flat positions (terms, *output), negative where there is nothing to add;
    `summed` is the sum as a linear part, where that is quicker than adding up these.
    """

    def term_list(site: Site, values: V, zero: V) -> list[V]:
        terms = terms_of(site)
        flat = moved(values, lambda v: v.reshape(v.shape[0], -1))
        if np.any(terms < 0):
            flat = joined((flat, moved(zero, lambda v: v.reshape(1, 1))), 1)
        size = site.type_of(0).size
        places = np.where(terms < 0, size, terms)
        return [moved(flat, partial(_column, index=index)) for index in places]

    def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
        terms = term_list(site, inputs[0], field.constant(np.zeros(())))
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        counts = counts_of(site)
        return (total if counts is None else total / field.constant(counts),)

    def total_of(site: Site, values: V, arithmetic: Arithmetic[V], contract: RuntimeContract) -> V:
        terms = term_list(site, values, arithmetic.constant(np.zeros((), np.float32)))
        return sum_of_terms(arithmetic, contract, terms)

    def runtime(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        total, counts = total_of(site, inputs[0], arithmetic, contract), counts_of(site)
        return (total if counts is None else divided(total, counts, arithmetic),)

    def by_reciprocal(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        """Another way to divide, where there is something to divide."""
        counts = counts_of(site)
        if counts is None:
            return ()
        total = total_of(site, inputs[0], arithmetic, contract)
        return (times_reciprocal(total, counts, arithmetic),)

    @remembered
    def part_of(site: Site) -> LinearPart:
        if summed is not None:
            return summed(site)
        return gathered_part(terms_of(site), site.type_of(0).shape)

    def affine(site: Site) -> AffineMap:
        part, counts, shape = part_of(site), counts_of(site), site.outputs[0].shape
        return affine_map((part if counts is None else scaled_down(part, counts, shape),), shape)

    def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
        return affine_values(affine(site), ranges)

    def differences(
        site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
    ) -> DifferenceMap:
        return affine_differences(affine(site), errors)

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
    ) -> RoundingBound:
        terms = terms_of(site)
        if has_known_tree(contract, padded=bool(np.any(terms < 0))):
            return traced(runtime, site, inputs, contract)
        r = rounder(site, contract)
        present = np.sum(terms >= 0, axis=0).astype(np.float64)
        total, reach = any_order_total(r, (part_of(site),), inputs, present)
        return total_rounding(r, contract, total, reach, counts_of(site))

    return Operator(
        name,
        since,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        followed=tuple(_of_known_tree(f, terms_of) for f in (runtime, by_reciprocal)),
        affine=True,
        work=lambda site: int(terms_of(site).size),
        gradient=Gradient(rule=lambda r: summed_back(r, terms_of(r.site), counts_of(r.site))),
        keeps=of_terms,
        summands=lambda site: len(terms_of(site)),
    )


def _of_known_tree(form: RuntimeSemantics, terms_of: Callable[[Site], Index]) -> RuntimeSemantics:
    """The formula, where it is known in which order its terms are added."""

    def runtime(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        if not has_known_tree(contract, padded=bool(np.any(terms_of(site) < 0))):
            raise OpenSchedule("a sum whose padding may be left out is no known tree")
        return form(site, inputs, arithmetic, contract)

    return runtime


def _column(values: npt.NDArray[E], index: Index) -> npt.NDArray[E]:
    return values[:, index]
