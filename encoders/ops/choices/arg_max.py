"""ArgMax and ArgMin: the position of the extreme element, charged in full where it may change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, Relation, knows_integers, moved
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.gathering import Index, picked
from encoders.families.movement import indices
from encoders.families.parameters import axis_of
from encoders.lemmas.kernel import Radius, apply, enclosed
from encoders.lemmas.operations import JUMP
from encoders.lemmas.ranges.operations import PLACE_RANGE
from encoders.lemmas.ranges.placing import extreme_range, range_of, range_signed, range_taken
from encoders.lemmas.ranges.range import Range
from encoders.numbers.enclosure import Interval
from encoders.operator import (
    DifferenceMap,
    Field,
    Operator,
    RoundingBound,
    Site,
    ValueMap,
    remembered,
)
from encoders.relaxations.steps import jumping, without_slope
from encoders.rounding.rounding_bounds import rounder
from encoders.rounding.signs import as_read
from encoders.traits import Discontinuity


@remembered
def _terms(site: Site) -> Index:
    """(elements, *output): the positions compared, in order."""
    shape = site.type_of(0).shape
    axis = axis_of(site, site.integer("axis", 0), len(shape))
    return np.moveaxis(indices(shape), axis, 0).reshape(-1, *site.outputs[0].shape)


def check(site: Site) -> None:
    if not site.type_of(0).dtype.is_float or site.variable != (0,):
        raise site.unsupported("its input must be computed floating-point numbers")
    _terms(site)


def _operator(name: str, sign: float) -> Operator:
    def relation(site: Site) -> Relation:
        return Relation.AT_MOST if site.integer("select_last_index", 0) else Relation.LESS

    def places(site: Site, x: Interval) -> Range:
        """The first and the last position that may hold the extreme."""
        terms = range_signed(range_taken(range_of(x), _terms(site)), sign)
        largest, n = extreme_range(terms, True), len(terms.lo)
        possible = terms.hi >= largest.lo
        first, last = np.argmax(possible, axis=0), n - 1 - np.argmax(possible[::-1], axis=0)
        place = np.arange(n).reshape(-1, *(1,) * first.ndim)
        beyond = (place < first) | (last < place)
        return enclosed(
            PLACE_RANGE,
            X=largest,
            first=first.astype(np.float64),
            last=last.astype(np.float64),
            rival=np.max(np.where(beyond, terms.hi, -np.inf), axis=0),
            n=float(n),
        )

    def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
        terms = [picked(inputs[0], i) for i in _terms(site)]
        terms = terms if sign > 0 else [-t for t in terms]
        best, place = terms[0], 0 * terms[0]
        for k, term in enumerate(terms[1:], start=1):
            better = field.compare(relation(site), best, term)
            here = field.constant(np.full((1,) * (term.ndim - 1), float(k)))
            place = field.select(better, here, place)
            best = field.maximum(best, term)
        return (place,)

    def runtime(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        terms = [moved(inputs[0], partial(picked, index=i)) for i in _terms(site)]
        ones = (1,) * len(site.outputs[0].shape)
        # a place need not be a number of the format
        whole = arithmetic.integers() if knows_integers(arithmetic) else arithmetic
        best, place = terms[0], whole.constant(np.zeros(site.outputs[0].shape))
        for k, term in enumerate(terms[1:], start=1):
            pair = (best, term) if sign > 0 else (term, best)
            better = arithmetic.compare(relation(site), *pair)
            place = whole.select(better, whole.constant(np.full(ones, float(k))), place)
            best = arithmetic.select(better, term, best)
        return (place,)

    def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
        return without_slope(places(site, ranges[0]), 1)

    def flips(site: Site, x: Interval, moving: Radius) -> Radius:
        held = places(site, x.inflate(moving.bound))
        any_term = moving.moved(lambda v: v.reshape(-1)[_terms(site)]).worst(axis=0)
        return apply(JUMP, lo=held.lo, hi=held.hi, e=any_term)

    def differences(
        site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
    ) -> DifferenceMap:
        return jumping(flips(site, ranges[0], errors[0]), 1)

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
    ) -> RoundingBound:
        r = rounder(replace(site, outputs=(site.type_of(0),)), contract)
        return RoundingBound(flips(site, inputs[0], r.operand_loss(inputs[0])))

    def keeps(site: Site, held: Sequence[Interval], contract: RuntimeContract) -> Interval:
        r = rounder(replace(site, outputs=(site.type_of(0),)), contract)
        return places(site, as_read(held[0], r))

    return Operator(
        name,
        1,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        work=lambda site: site.type_of(0).size,
        keeps=keeps,
        jump=Discontinuity.LARGEST if sign > 0 else Discontinuity.SMALLEST,
    )


OPERATORS = (
    _operator("ArgMax", 1.0).reading("axis", "keepdims", "select_last_index"),
    _operator("ArgMin", -1.0).reading("axis", "keepdims", "select_last_index"),
)
