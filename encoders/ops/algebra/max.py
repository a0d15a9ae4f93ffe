"""Max and Min of any number of tensors, with broadcasting; exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic
from encoders.contract.contract import RuntimeContract
from encoders.families.maxima import (
    Candidate,
    extreme_differences,
    extreme_rounding,
    extreme_values,
    real_extreme,
    runtime_extreme,
)
from encoders.families.movement import indices
from encoders.families.signed_sum import check_equal_shapes
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.operator import (
    DifferenceMap,
    Field,
    Operator,
    RoundingBound,
    Site,
    ValueMap,
    remembered,
)
from encoders.relaxations.elements import broadcast_element


@remembered
def candidates(site: Site) -> list[Candidate]:
    shape = site.outputs[0].shape
    return [
        Candidate(i, np.broadcast_to(indices(t.shape), shape))
        for i, t in enumerate(site.inputs)
        if t is not None
    ]


def _operator(name: str, sign: float) -> Operator:
    def real(
        site: Site, inputs: Sequence[ObjectArray | None], field: Field
    ) -> tuple[ObjectArray, ...]:
        return (real_extreme(candidates(site), inputs, field, sign),)

    def runtime(
        site: Site, inputs: Sequence[Any], arithmetic: Arithmetic[Any], contract: RuntimeContract
    ) -> tuple[Any, ...]:
        return (runtime_extreme(candidates(site), inputs, arithmetic, sign),)

    def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
        return extreme_values(site, candidates(site), ranges, sign)

    def differences(
        site: Site, ranges: Sequence[Interval], errors: Sequence[FloatArray]
    ) -> DifferenceMap:
        return extreme_differences(site, candidates(site), ranges, errors, sign)

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
    ) -> RoundingBound:
        return extreme_rounding(site, result, contract)

    return Operator(
        name,
        6,
        check=check_equal_shapes,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        element=broadcast_element,
        per_element=True,
    )


OPERATORS = (_operator("Max", 1.0), _operator("Min", -1.0))
