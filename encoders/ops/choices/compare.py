"""Equal, Less, Greater, LessOrEqual, GreaterOrEqual: truth values as the numbers 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, Relation, aligned
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract, Subnormals
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, any_of, apply, enclosed, exactly_zero
from encoders.lemmas.lemma import RangeLemma
from encoders.lemmas.operations import JUMP
from encoders.lemmas.ranges.operations import (
    AT_MOST_RANGE,
    BESIDE_ITSELF,
    EQUAL_RANGE,
    LESS_RANGE,
)
from encoders.lemmas.ranges.placing import range_of, range_on, stored_range
from encoders.lemmas.ranges.range import Range
from encoders.numbers.enclosure import Interval
from encoders.operator import DifferenceMap, Field, Operator, RoundingBound, Site, ValueMap
from encoders.relaxations.steps import jumping, without_slope
from encoders.rounding.rounding_bounds import Rounder, rounder, stored_loss
from encoders.traits import Absorbing, Absorption, Compared, Discontinuity, Likeness


def _lemma(relation: Relation) -> RangeLemma:
    match relation:
        case Relation.LESS:
            return LESS_RANGE
        case Relation.AT_MOST:
            return AT_MOST_RANGE
        case Relation.EQUAL:
            return EQUAL_RANGE


def _check(site: Site) -> None:
    for position in range(2):
        dtype = site.type_of(position).dtype
        if not dtype.is_float:
            raise site.unsupported(f"a comparison of {dtype.value} numbers is not supported")


def _operands(site: Site, ranges: Sequence[Interval], swapped: bool) -> tuple[Range, Range]:
    given = iter(ranges)
    found = []
    for constant in site.constants:
        exact = None if constant is None else np.asarray(constant, np.float64)
        found.append(range_of(next(given)) if exact is None else stored_range(exact))
    return (found[1], found[0]) if swapped else (found[0], found[1])


def _operator(name: str, since: int, relation: Relation, swapped: bool) -> Operator:
    def ordered(inputs: Sequence[V]) -> list[V]:
        both = aligned(inputs)
        return both[::-1] if swapped else both

    def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
        return (field.compare(relation, *ordered(inputs)),)

    def runtime(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        return (arithmetic.compare(relation, *ordered(inputs)),)

    def range_(site: Site, ranges: Sequence[Interval], alike: bool | None = None) -> Range:
        """Of truth values; of a number beside itself where both are `alike`."""
        if _beside_itself(site) if alike is None else alike:
            truth = np.full(site.outputs[0].shape, float(relation is not Relation.LESS))
            return enclosed(BESIDE_ITSELF, m=truth)
        x, y = _operands(site, ranges, swapped)
        return range_on(enclosed(_lemma(relation), X=x, Y=y), site.outputs[0].shape)

    def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
        return without_slope(range_(site, ranges), len(site.variable))

    def flips(
        site: Site,
        ranges: Sequence[Interval],
        moved: Sequence[Radius],
        changed: Radius,
        alike: bool | None = None,
    ) -> Radius:
        """1 where operands that move by so much may change the answer, if something `changed`."""
        hulls = [x.inflate(m.bound) for x, m in zip(ranges, moved, strict=True)]
        held = range_(site, hulls, alike)
        return apply(JUMP, lo=held.lo, hi=held.hi, e=changed)

    def differences(
        site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
    ) -> DifferenceMap:
        return jumping(flips(site, ranges, errors, any_of(errors)), len(site.variable))

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
    ) -> RoundingBound:
        """Operands read as zero, and stored ones that the compute format cannot hold; one that is
        compared with itself is read twice, each time anew where the contract leaves that open."""
        alike = _beside_itself(site) and contract.operands is not Subnormals.EITHER
        r = _operand_rounder(site, contract)
        operands = _operands(site, inputs, False)
        lost = [r.operand_loss(x) for x in operands]
        stored = [
            exactly_zero(EXACT, x.shape) if constant is None else stored_loss(r, x.lo)
            for x, constant in zip(operands, site.constants, strict=True)
        ]
        moved = [a + b for a, b in zip(lost, stored, strict=True)]
        whole = Site(site.node, site.inputs, site.outputs, (None, None))
        found = exactly_zero(EXACT, site.outputs[0].shape)
        for i in range(2):
            tiny = [_near_zero(x, r) if k == i else x for k, x in enumerate(operands)]
            for changed, held in ((lost[i], tiny), (stored[i], operands)):
                if changed.largest > 0:
                    found = found.or_else(flips(whole, held, moved, changed, alike))
        return RoundingBound(found)

    return Operator(
        name,
        since,
        check=_check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        compared=Compared(relation, swapped),
        per_element=True,
        jump=Discontinuity.COMPARISON,
        absorbs=Absorbing(Absorption.COMPARED),
        likeness=Likeness(lower=None if relation is Relation.EQUAL else int(swapped)),
    )


def _beside_itself(site: Site) -> bool:
    """Is a tensor compared with itself?"""
    first, second = site.node.inputs
    return first == second


def _near_zero(x: Interval, r: Rounder) -> Interval:
    """The part of x that may be read as zero, where there is one."""
    edge = r.smallest_normal
    return Interval(np.clip(x.lo, -edge, edge), np.clip(x.hi, -edge, edge))


def _operand_rounder(site: Site, contract: RuntimeContract) -> Rounder:
    """Rounding in the format of what is compared; the result has none."""
    return rounder(replace(site, outputs=(site.type_of(0),)), contract)


OPERATORS = (
    _operator("Equal", 7, Relation.EQUAL, False),
    _operator("Less", 7, Relation.LESS, False),
    _operator("Greater", 7, Relation.LESS, True),
    _operator("LessOrEqual", 12, Relation.AT_MOST, False),
    _operator("GreaterOrEqual", 12, Relation.AT_MOST, True),
)
