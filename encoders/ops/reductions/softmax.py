"""Softmax and LogSoftmax along `axis`; up to opset 12 over all axes from `axis` on.

The contract means the shifted algorithm: e = exp(x − max x), then e/Σe, respectively
(x − max x) − log Σe.

MaskedSoftmax and MaskedLogSoftmax are no ONNX operators: the reader makes them where a stored −∞ is
added to scores. Their second input says which scores are kept, a third one, if any, which of these
only count as kept because nobody reads their row. For the others the algorithm has
exp(−∞) = 0, which changes neither the maximum nor the sum: their probability is 0. The logarithm
of that, −∞ at run time, is left at 0 here, and the reader sees to it that nothing reads it. A row
that keeps no score is 0/0.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, between, moved, spoils, sum_of_terms
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.kept import Kept, kept_scores
from encoders.families.parameters import axis_of
from encoders.families.rows.softmax_bounds import (
    MOST_ENTRIES,
    exponentials,
    log_error,
    log_softmax_jacobian,
    log_softmax_range,
    mean_moved,
    softmax_error,
    softmax_jacobian,
    softmax_range,
    two_flushed,
)
from encoders.families.signed_sum import check_float
from encoders.functions.exp import EXP
from encoders.functions.log import LOG
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.gradients.tape import Term
from encoders.lemmas.combining import EXACT
from encoders.lemmas.domains import DEFINED_WHERE_FINITE
from encoders.lemmas.kernel import Radius, apply, exactly_zero
from encoders.lemmas.rows import PROBABILITY
from encoders.numbers.enclosure import FloatArray, Interval, add_up, midpoint_radius, point
from encoders.numbers.forms import forms_in
from encoders.operator import (
    DifferenceMap,
    Field,
    Operator,
    RoundingBound,
    Site,
    ValueMap,
)
from encoders.relaxations.bending import Backward, affordable, lower_of
from encoders.relaxations.low_rank import multiply_adds
from encoders.relaxations.probabilities.bends import bent_shares
from encoders.relaxations.probabilities.shares import share_differences, share_values
from encoders.relaxations.row_maps import row_charge, row_differences, row_values
from encoders.relaxations.rows import Rows, columns, rows_along
from encoders.rounding.rounding_bounds import finish, rounder
from encoders.rounding.signs import of_exponentials

LEMMAS = ("mean-value-step", "relative-quotient")


def _rows(site: Site) -> Rows:
    return rows_along(site.type_of(0).shape, _normalized(site))


def _normalized(site: Site) -> tuple[int, ...]:
    """The axes along which probabilities add up to 1: before opset 13 all from one on."""
    rank = len(site.type_of(0).shape)
    axis = axis_of(site, _axis(site), rank)
    return (axis,) if site.node.opset >= 13 else tuple(range(axis, rank))


def _axis(site: Site) -> int:
    """The attribute, or what it is where it is left out."""
    return site.integer("axis", -1 if site.node.opset >= 13 else 1)


def check(site: Site) -> None:
    check_float(site)
    if site.variable != (0,):
        raise site.unsupported("its input must be computed")
    if not _rows(site).length:
        raise site.unsupported("it sums over an axis of length 0")


def _check_masked(site: Site) -> None:
    check(site)
    stored = site.constant(1)
    if stored is None or stored.shape != site.type_of(0).shape:
        raise site.unsupported("input 1 must say of every score whether it is kept")


def _kept_by_mask(site: Site) -> npt.NDArray[np.bool_]:
    """Which scores the second input keeps."""
    stored = site.constant(1)
    assert stored is not None
    return stored.astype(bool)


def _kept(site: Site) -> Kept:
    return kept_scores(site, _rows(site))


def _shifted(site: Site, x: ObjectArray, field: Field) -> tuple[ObjectArray, ObjectArray]:
    kept = _kept(site)
    rows = kept.fill(_rows(site).split(x))
    shifted = rows - reduce(field.maximum, columns(rows))
    powers = field.function(EXP, shifted)
    return shifted, _zero_elsewhere(kept, powers, field)


def _zero_elsewhere(kept: Kept, rows: ObjectArray, field: Field) -> ObjectArray:
    if kept.everything:
        return rows
    return field.select(field.constant(kept.mask.astype(np.float64)), rows, 0 * rows)


def _total(powers: ObjectArray) -> ObjectArray:
    return np.asarray(np.add.reduce(powers, axis=2, keepdims=True))


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    _, powers = _shifted(site, inputs[0], field)
    return (_rows(site).merge(powers / _total(powers)),)


def log_real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    """LogSoftmax over the reals: x − max x − log Σ exp(x − max x)."""
    shifted, powers = _shifted(site, inputs[0], field)
    result = shifted - field.function(LOG, _total(powers))
    return (_rows(site).merge(_zero_elsewhere(_kept(site), result, field)),)


def _computed(
    site: Site, x: V, arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, V, V]:
    kept = _kept(site)
    whole = moved(x, _rows(site).split)
    rows = moved(whole, kept.fill)
    shifted = arithmetic.subtract(rows, reduce(arithmetic.maximum, columns(rows)))
    powers = between(arithmetic, arithmetic.function(EXP, shifted), 0.0, 1.0)
    if not kept.everything:
        mask, zero = arithmetic.constant(kept.mask), arithmetic.constant(np.zeros((1, 1)))
        powers = arithmetic.select(mask, powers, zero)
    total = sum_of_terms(arithmetic, contract, columns(powers))
    if kept.everything:  # the largest score has the power 1
        total = between(arithmetic, total, 1.0, float(kept.rows.length))
    elif spoils(arithmetic):  # the file adds −∞ to these, which is NaN of +∞
        total = reduce(arithmetic.spoiled, columns(moved(whole, kept.left_out)), total)
    return shifted, powers, total


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    _, powers, total = _computed(site, inputs[0], arithmetic, contract)
    return (moved(arithmetic.divide(powers, total), _rows(site).merge),)


def by_reciprocal(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    """As some runtimes divide, with one reciprocal for each row."""
    _, powers, total = _computed(site, inputs[0], arithmetic, contract)
    over = arithmetic.divide(arithmetic.constant(np.ones((1, 1))), total)
    return (moved(arithmetic.multiply(powers, over), _rows(site).merge),)


def log_runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    """LogSoftmax as a runtime computes it, by the shifted exponentials of Softmax."""
    shifted, _, total = _computed(site, inputs[0], arithmetic, contract)
    kept = _kept(site)
    if np.any(kept.dead):  # −∞ − −∞, not 0 − log 0
        total = arithmetic.divide(total, arithmetic.constant(1.0 - kept.dead))
    result = arithmetic.subtract(shifted, arithmetic.function(LOG, total))
    if not kept.everything:
        read = arithmetic.constant(kept.mask | kept.dead)
        result = arithmetic.select(read, result, arithmetic.constant(np.zeros((1, 1))))
    return (moved(result, _rows(site).merge),)


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    rows = _rows(site)
    x, kept = rows.of_interval(ranges[0]), _kept(site)
    read = kept.fill_interval(x)
    range_ = softmax_range(read, kept.mask)
    at_centre = softmax_range(point(_middle(read)), kept.mask)
    slopes = softmax_jacobian(range_)
    mapped = row_values(rows, rows, x=x, range_=range_, at_middle=at_centre, jacobian=slopes)
    if np.any(kept.dead):
        return mapped
    _, reach = midpoint_radius(read)
    shares = share_values(
        rows,
        kept.mask,
        read,
        range_=range_,
        at_middle=at_centre,
        jacobian=mapped,
        charge=row_charge(slopes, reach),
        forms=forms_in(ranges[0]),
    )
    bent = _bent(site, ranges[0], range_)
    return ValueMap(shares.range, lower_of(shares.backward, bent, ranges))


def _bent(site: Site, x: Interval, range_: Interval) -> Backward | None:
    """How it bends where its scores move together; None where they are not known to."""
    rows, kept = _rows(site), _kept(site)
    forms = forms_in(x)
    if forms is None or not affordable(forms.middle.size, forms.moves.shape[-1]):
        return None
    forms = forms.around(np.clip(forms.middle, x.lo, x.hi))
    read = kept.fill_interval(rows.of_interval(x))
    centre = kept.fill(rows.split(forms.middle[None]))[0]
    at_middle = softmax_range(point(centre), kept.mask)
    return bent_shares(rows, kept.mask, read, forms, range_=range_, at_middle=at_middle)


def _bends(site: Site, ranges: Sequence[Interval]) -> float:
    """Half of how far scores go from their middles."""
    reach = 0.5 * (ranges[0].hi - ranges[0].lo)
    return 0.0 if np.any(_kept(site).dead) else 0.5 * float(np.max(reach, initial=0.0))


def log_values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    """Ranges and linear bounds of LogSoftmax, from its Jacobian on the ranges."""
    rows = _rows(site)
    x, kept = rows.of_interval(ranges[0]), _kept(site)
    read = kept.fill_interval(x)
    at_centre = log_softmax_range(point(_middle(read)), kept.mask)
    jacobian = log_softmax_jacobian(softmax_range(read, kept.mask), kept.mask)
    return row_values(
        rows,
        rows,
        x=x,
        range_=log_softmax_range(read, kept.mask),
        at_middle=at_centre,
        jacobian=jacobian,
    )


def _middle(x: Interval) -> FloatArray:
    """The float64 point that `midpoint_radius` chooses."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(x.lo == x.hi, x.lo, 0.5 * x.lo + 0.5 * x.hi)


def differences(site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]) -> DifferenceMap:
    """ŷ_i/y_i = 1/Σ y_j e^(d_j − d_i) lies within a factor e^(osc d) of 1 (lemma-free: Σ y_j = 1);
    against that, the mean value theorem."""
    rows, kept = _rows(site), _kept(site)
    x, given = kept.fill_interval(rows.of_interval(ranges[0])), rows.of_radius(errors[0])
    read = given.moved(lambda v: kept.fill(v[None])[0])
    hull = softmax_range(x.inflate(read.bound), kept.mask)
    limit = apply(
        PROBABILITY,
        e=read + mean_moved(read),
        Y=softmax_range(x, kept.mask).hi,
        lo=hull.lo,
        hi=hull.hi,
    )
    slopes = softmax_jacobian(hull)
    mapped = row_differences(rows, rows, slopes, given, limit)
    if np.any(kept.dead):
        return mapped
    charge = row_charge(slopes, given.bound)
    return share_differences(rows, kept.mask, given, mapped, charge, hull)


def log_differences(
    site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
) -> DifferenceMap:
    """Differences through LogSoftmax, from its Jacobian on the hull of real and run-time range."""
    rows, kept = _rows(site), _kept(site)
    x, given = kept.fill_interval(rows.of_interval(ranges[0])), rows.of_radius(errors[0])
    read = given.moved(lambda v: kept.fill(v[None])[0])
    hull = softmax_range(x.inflate(read.bound), kept.mask)
    limit = read + mean_moved(read)
    limit = limit if kept.everything else limit.times(kept.mask.astype(np.float64))
    jacobian = log_softmax_jacobian(hull, kept.mask)
    return row_differences(rows, rows, jacobian, given, limit)


def _finite_rows(bound: RoundingBound, x: Interval) -> RoundingBound:
    """The bound, of rows; one that is −∞ throughout, or holds +∞, has no softmax."""
    largest = float(np.max(x.magnitude, initial=0.0))
    return bound.given(
        "finite-scores",
        f"no row holds an infinity or is -inf throughout: magnitudes at most {largest:.6g}",
        DEFINED_WHERE_FINITE,
        M=largest,
        limit=sys.float_info.max,
    )


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    r, kept = rounder(site, contract), _kept(site)
    x = kept.fill_interval(kept.rows.of_interval(inputs[0]))
    accuracy = contract.functions.accuracy(EXP)
    e = exponentials(r, accuracy, x)
    error = softmax_error(r, accuracy, e, softmax_range(x, kept.mask))
    return _finished(site, kept, x, error=error, reached=np.zeros(x.shape), contract=contract)


def log_rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    """LogSoftmax's own rounding error: of the shift, the exponentials, their sum and its
    logarithm."""
    r, kept = rounder(site, contract), _kept(site)
    x = kept.fill_interval(kept.rows.of_interval(inputs[0]))
    e = exponentials(r, contract.functions.accuracy(EXP), x)
    size = log_softmax_range(x, kept.mask).magnitude
    if r.exact:
        zero = exactly_zero(EXACT, x.shape)
        return _finished(site, kept, x, error=zero, reached=size, contract=contract)
    logarithm = log_error(r, contract.functions.accuracy(LOG), e, kept.rows.length)
    moved = e.shift + logarithm + two_flushed(r, size)
    error = r.after(r.of_sum, size, moved)
    error = error if kept.everything else error.times(kept.mask.astype(np.float64))
    reached = add_up(size, moved.bound)
    return _finished(site, kept, x, error=error, reached=reached, contract=contract)


def _finished(
    site: Site,
    kept: Kept,
    x: Interval,
    *,
    error: Radius,
    reached: FloatArray,
    contract: RuntimeContract,
) -> RoundingBound:
    """`reached` bounds results after the subtraction: that may give −∞, whose exponential is 0."""
    r, rows = rounder(site, contract), kept.rows
    magnitude = np.maximum(reached, float(rows.length) * 2.0)
    found = _finite_rows(RoundingBound(error), x)
    if not kept.everything:
        found = kept.some_in_each_row(found, site)
    bound = finish(r, rows.to_radius(found.radius), magnitude)
    return RoundingBound(bound.radius, (*found.preconditions, *bound.preconditions), LEMMAS)


def shares(site: Site) -> npt.NDArray[np.intp] | None:
    """Where its probabilities lie, row by row; none where a row keeps no score."""
    if np.any(_kept(site).dead):
        return None
    flat = np.arange(site.outputs[0].size).reshape(1, *site.outputs[0].shape)
    return np.asarray(_rows(site).split(flat)[0])


def gradient(r: Reverse) -> Carried:
    y = r.output
    return {0: y * (r.up - (r.up * y).summed(_normalized(r.site)))}


def _masked_gradient(r: Reverse) -> Carried:
    _require_read(r.site)
    return gradient(r)


def _masked_log_gradient(r: Reverse) -> Carried:
    """What comes back to a logarithm that is left out is multiplied by 0: NaN stays NaN."""
    _require_read(r.site)
    kept, axis = _kept_by_mask(r.site), _axis(r.site)
    made = r.tape.node(r.x, r.read(1), op="MaskedSoftmax", kind=r.x.kind, axis=axis)
    up = r.up * r.stored(kept.astype(r.up.kind.dtype.numpy))
    return _from_logarithms(replace(r, up=up), made)


def _require_read(site: Site) -> None:
    if site.constant(2) is not None:
        raise site.unsupported(
            "its mask leaves out all scores of a row; such a row is NaN and so is every derivative "
            "by its scores, though nothing reads the row: keep one score of it, whose output is "
            "left out later"
        )


def _log_gradient(r: Reverse) -> Carried:
    return _from_logarithms(r, r.x.apply("Softmax", axis=_axis(r.site)))


def _log_gradient_by_exp(r: Reverse) -> Carried:
    return _from_logarithms(r, r.output.apply("Exp"))


def _from_logarithms(r: Reverse, probabilities: Term) -> Carried:
    return {0: r.up - probabilities * r.up.summed(_normalized(r.site))}


_PLAIN = Operator(
    "Softmax",
    since=1,
    check=check,
    real=real,
    runtime=runtime,
    bends=_bends,
    values=values,
    differences=differences,
    rounding=rounding,
    followed=(runtime, by_reciprocal),
    work=lambda site: multiply_adds(_rows(site).count, _rows(site).length, MOST_ENTRIES),
    functions=(EXP,),
    keeps=of_exponentials,
    shares=shares,
    gradient=Gradient(rule=gradient),
).reading("axis")
_LOG = Operator(
    "LogSoftmax",
    since=1,
    check=check,
    real=log_real,
    runtime=log_runtime,
    values=log_values,
    differences=log_differences,
    rounding=log_rounding,
    work=lambda site: multiply_adds(_rows(site).count, _rows(site).length, MOST_ENTRIES),
    functions=(EXP, LOG),
    gradient=Gradient(rule=_log_gradient, frameworks={"torch": _log_gradient_by_exp}),
).reading("axis")

OPERATORS = tuple(
    o.by_version()
    for o in (
        _PLAIN,
        _LOG,
        replace(
            _PLAIN,
            name="MaskedSoftmax",
            check=_check_masked,
            gradient=Gradient(rule=_masked_gradient),
        ),
        replace(
            _LOG,
            name="MaskedLogSoftmax",
            check=_check_masked,
            gradient=Gradient(rule=_masked_log_gradient),
        ),
    )
)
