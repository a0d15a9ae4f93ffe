"""Sign, Floor, Ceil and Round (ties to even): exact where no jump is crossed.

An integer next to the largest number of a format may be beyond it: then it is an infinity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, Relation, knows_integers, mixes_formats
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.signed_sum import check_one_variable
from encoders.gradients.rule import FLAT
from encoders.lemmas.kernel import Radius
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import round_array
from encoders.operator import DifferenceMap, Field, Operator, RoundingBound, Site, ValueMap
from encoders.relaxations.steps import LEMMAS, Step, read_jump, step_differences, step_values
from encoders.rounding.rounding_bounds import finish, rounder
from encoders.rounding.signs import Keeps, as_read
from encoders.traits import Discontinuity


class Computed(Protocol):
    """A step of one argument, in any arithmetic."""

    def __call__(self, x: V, arithmetic: Arithmetic[V], /) -> V: ...


def _operator(
    name: str,
    since: int,
    step: Step,
    *,
    follows: tuple[float, float] | None,
    exact: Callable[[ObjectArray, Field], ObjectArray],
    computed: Computed,
    keeps: Keeps | None = None,
) -> Operator:
    def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
        return (exact(inputs[0], field),)

    def runtime(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        whole = computed(inputs[0], arithmetic)
        if knows_integers(arithmetic) or mixes_formats(arithmetic):
            whole = arithmetic.converted(whole)
        return (whole,)

    def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
        return step_values(step, ranges[0], follows)

    def differences(
        site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
    ) -> DifferenceMap:
        return step_differences(step, ranges[0], errors[0], np.inf if follows is None else 1.0)

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
    ) -> RoundingBound:
        r = rounder(site, contract)
        x = inputs[0]
        if not r.exact:  # the run-time numbers of a range lie between its rounded ends
            x = x.move(lambda ends: round_array(ends, r.format))
        reached = x.move(step).magnitude
        return finish(r, read_jump(step, r, inputs[0]), reached).using(*LEMMAS)

    return Operator(
        name,
        since,
        check=check_one_variable,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        jump=Discontinuity.STEP,
        gradient=FLAT,
        keeps=keeps,
    )


def _sign(x: ObjectArray, field: Field) -> ObjectArray:
    zero = field.constant(np.zeros((1,) * (x.ndim - 1)))
    above, below = (field.compare(Relation.LESS, *pair) for pair in ((zero, x), (x, zero)))
    return np.asarray(above - below)


def _computed_sign(x: V, arithmetic: Arithmetic[V]) -> V:
    zero = arithmetic.constant(np.zeros((1,) * (len(x.shape) - 1)))
    above = arithmetic.compare(Relation.LESS, zero, x)
    return arithmetic.subtract(above, arithmetic.compare(Relation.LESS, x, zero))


def _signs(site: Site, held: Sequence[Interval], contract: RuntimeContract) -> Interval:
    return as_read(held[0], rounder(site, contract)).move(np.sign)


OPERATORS = (
    _operator("Sign", 9, np.sign, follows=None, exact=_sign, computed=_computed_sign, keeps=_signs),
    _operator(
        "Floor",
        6,
        np.floor,
        follows=(-1.0, 0.0),
        exact=lambda x, f: f.floor(x),
        computed=lambda x, a: a.floor(x),
    ),
    _operator(
        "Ceil",
        6,
        np.ceil,
        follows=(0.0, 1.0),
        exact=lambda x, f: -f.floor(-x),
        computed=lambda x, a: a.negate(a.floor(a.negate(x))),
    ),
    _operator(
        "Round",
        11,
        np.rint,
        follows=(-0.5, 0.5),
        exact=lambda x, f: f.nearest(x),
        computed=lambda x, a: a.nearest(x),
    ),
)
