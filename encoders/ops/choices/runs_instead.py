"""RunsInstead: the real value of one tensor, computed at run time as another one is.

Where two graphs are compared, the specification's tensor is its first input and what the
implementation computes for it the second; the third is the second less the first, over the reals.
What comes behind then reads the specified value, off by the error of the second and by that gap.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.lemmas.claims import REAL_GAP
from encoders.lemmas.kernel import Radius, apply
from encoders.lemmas.ranges.placing import range_of
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.operator import (
    Contribution,
    DifferenceMap,
    Field,
    Moved,
    Operator,
    RoundingBound,
    Site,
    ValueMap,
)
from encoders.rounding.rounding_bounds import no_rounding


def check(site: Site) -> None:
    """Raises UnsupportedModel unless it stands between three tensors of one shape that vary."""
    if site.variable != (0, 1, 2) or len(set(site.node.inputs)) != 3:
        raise site.unsupported("its inputs must be three tensors that vary")
    if any(t is None or t.shape != site.outputs[0].shape for t in site.inputs):
        raise site.unsupported("its inputs and its result must have one shape")


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    """The specified value."""
    return (inputs[0],)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    """What is computed for it."""
    return (inputs[1],)


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    def backward(c: FloatArray) -> Contribution:
        return Contribution((c, None, None), np.zeros(len(c)))

    return ValueMap(range_of(ranges[0]), backward)


def differences(site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]) -> DifferenceMap:
    gap = apply(REAL_GAP, lo=ranges[2].lo, hi=ranges[2].hi)

    def backward(c: FloatArray) -> Moved:
        return Moved((None, c, None), gap.weighed(c))

    return DifferenceMap(errors[1] + gap, backward)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    return no_rounding(site).using(REAL_GAP.name)


OPERATORS = (
    Operator(
        "RunsInstead",
        since=1,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        executed=lambda ranges: ranges[1],
    ),
)
