"""Lookup: a Gather from stored data by computed indices, as the reader names it. No ONNX operator.

Where an index may be any of several, so may be what it picks: that has no slope, and where the
index may move, the whole jump is charged. That no index is out of range is an obligation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, Relation, knows_integers, moved
from encoders.arithmetic.values import E, Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.parameters import axis_of
from encoders.lemmas.combining import EXACT
from encoders.lemmas.domains import INTEGERS_FIT
from encoders.lemmas.kernel import Radius, apply, enclosed, exactly_zero
from encoders.lemmas.operations import JUMP
from encoders.lemmas.ranges.operations import PICKED_RANGE
from encoders.lemmas.ranges.placing import range_moved, range_of
from encoders.lemmas.ranges.range import Range
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.operator import DifferenceMap, Field, Operator, RoundingBound, Site, ValueMap
from encoders.relaxations.steps import jumping, without_slope
from encoders.rounding.rounding_bounds import rounder, stored_loss
from encoders.traits import Discontinuity

_MOST = 2**22  # numbers that are looked at to choose among them


def _axis(site: Site) -> int:
    return axis_of(site, site.integer("axis", 0), len(site.type_of(0).shape))


def check(site: Site) -> None:
    if site.variable != (1,):
        raise site.unsupported("it picks from stored data by computed indices")
    if site.type_of(1).dtype.is_float or not site.outputs[0].dtype.is_float:
        raise site.unsupported("it picks floating-point numbers by integers")
    count = site.type_of(0).shape[_axis(site)]
    if not count or not site.type_of(1).size:
        raise site.unsupported("it picks nothing, or from no numbers")
    if count * site.outputs[0].size > _MOST:
        raise site.unsupported(
            f"each of {site.outputs[0].size} numbers could be one of {count}; supported are "
            f"{_MOST} together: where the indices are an input, give a domain with one point of it"
        )


def _count(site: Site) -> int:
    return site.type_of(0).shape[_axis(site)]


def _among(site: Site, v: npt.NDArray[E]) -> npt.NDArray[E]:
    """(samples, *indices) beside the axes of what is picked."""
    axis, rank = _axis(site), len(site.type_of(0).shape)
    return v.reshape(v.shape[0], *(1,) * axis, *v.shape[1:], *(1,) * (rank - 1 - axis))


def _row(site: Site, v: npt.NDArray[E], k: int) -> npt.NDArray[E]:
    """What index k picks from (1, *data), with an axis of 1 for each of the indices."""
    axis, shape = _axis(site), site.type_of(0).shape
    one = (1,) * len(site.type_of(1).shape)
    row = v[(slice(None),) * (axis + 1) + (k,)]
    return row.reshape(1, *shape[:axis], *one, *shape[axis + 1 :])


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    data, at, n = inputs[0], _among(site, inputs[1]), _count(site)
    ones = (1,) * (at.ndim - 1)
    zero = field.constant(np.zeros(ones))
    at = field.select(field.compare(Relation.LESS, at, zero), at + n, at)
    found = _row(site, data, n - 1)
    for k in range(n - 1):
        here = field.compare(Relation.EQUAL, at, field.constant(np.full(ones, float(k))))
        found = field.select(here, _row(site, data, k), found)
    return (np.broadcast_to(found, (at.shape[0], *site.outputs[0].shape)),)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    n, at = _count(site), moved(inputs[1], lambda v: _among(site, v))
    whole = arithmetic.integers() if knows_integers(arithmetic) else arithmetic
    ones = (1,) * (len(at.shape) - 1)

    def number(k: int) -> V:
        return whole.constant(np.full(ones, float(k)))

    found = moved(inputs[0], lambda v: np.broadcast_to(_row(site, v, 0), _one(site)))
    for k in range(n):
        here = whole.compare(Relation.EQUAL, at, number(k))
        before = whole.compare(Relation.EQUAL, at, number(k - n))
        row = moved(inputs[0], lambda v, k=k: _row(site, v, k))
        found = arithmetic.select(before, row, arithmetic.select(here, row, found))
    return (found,)


def _one(site: Site) -> tuple[int, ...]:
    return (1, *site.outputs[0].shape)


def _span(site: Site, at: Interval) -> Range:
    """Between the least and the largest number that indices between these pick, those in range."""
    axis, n = _axis(site), _count(site)
    rows = np.moveaxis(site.coefficients(0), axis, 0)
    twice = np.concatenate([rows, rows])  # row i of it is what index i − n picks
    first = np.clip(np.ceil(at.lo), -n, n - 1).astype(np.intp).reshape(-1) + n
    last = np.clip(np.floor(at.hi), -n, n - 1).astype(np.intp).reshape(-1) + n
    spans, which = np.unique(np.stack([first, last]), axis=1, return_inverse=True)
    ends = [
        np.stack([extreme(twice[a : max(a, b) + 1], axis=0) for a, b in spans.T])
        for extreme in (np.min, np.max)
    ]
    shape = (*at.lo.shape, *rows.shape[1:])
    lo, hi = (
        np.moveaxis(
            end[which.reshape(-1)].reshape(shape),
            range(at.lo.ndim),
            range(axis, axis + at.lo.ndim),
        )
        for end in ends
    )
    spread = partial(_spread, site)
    return enclosed(
        PICKED_RANGE,
        X=range_moved(range_of(at), spread),
        a=spread((first - n).reshape(at.shape).astype(np.float64)),
        b=spread((last - n).reshape(at.shape).astype(np.float64)),
        least=lo,
        most=hi,
        n=float(n),
    )


def _spread(site: Site, v: FloatArray) -> FloatArray:
    """What is one number for each index, over all that it picks."""
    axis, rank = _axis(site), len(site.type_of(0).shape)
    spread = v.reshape(*v.shape, *(1,) * (rank - 1 - axis))
    return np.broadcast_to(spread, site.outputs[0].shape)


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    return without_slope(_span(site, ranges[0]), 1)


def differences(site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]) -> DifferenceMap:
    (at,), (moving,) = ranges, errors
    held = _span(site, at.inflate(moving.bound))
    moved = moving.moved(partial(_spread, site))
    return jumping(apply(JUMP, lo=held.lo, hi=held.hi, e=moved), 1)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    """A copy: exact, but for stored numbers that the compute format cannot hold."""
    n, (at,) = _count(site), inputs
    lost = stored_loss(rounder(site, contract), site.coefficients(0)).worst()
    low, high = (float(v) for v in (np.ceil(np.min(at.lo)), np.floor(np.max(at.hi))))
    found = RoundingBound(exactly_zero(EXACT, site.outputs[0].shape).or_else(lost))
    return found.given(
        "index-in-range",
        f"{site.node.describe()}: indices between {low + 0.0:.6g} and {high + 0.0:.6g} are among "
        f"the {n} of axis {_axis(site)}",
        INTEGERS_FIT,
        lo=low,
        hi=high,
        least=float(-n),
        most=float(n - 1),
    )


OPERATORS = (
    Operator(
        "Lookup",
        1,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        work=lambda site: _count(site) * site.outputs[0].size,
        jump=Discontinuity.STEP,
    ).reading("axis"),
)
