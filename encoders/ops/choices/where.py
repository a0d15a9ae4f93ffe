"""Where: one of two numbers, as a condition says; exact where the condition cannot flip.

MaskedWhere is no ONNX operator: the reader makes it where the file adds a stored −∞ to a number,
which stands in its third operand and is not chosen there. If that is +∞ or NaN the result is NaN at
run time, as +∞ − ∞ is; so is its derivative, which the file multiplies by 0 or by that NaN. Where
it stands between two tensors that a runtime may compute for the same, the second may lose
`underflows` times as much as one number does by underflow (scores of attention: onnx_import's
scores.py), or be `apart` from the first by so much (deviations without epsilon: statistics.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, aligned, moved, spoils
from encoders.arithmetic.values import E, Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.signed_sum import check_float
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.gradients.tape import Term
from encoders.lemmas.carrying import FOLLOWED
from encoders.lemmas.combining import EXACT
from encoders.lemmas.functions import FORMULA_APART
from encoders.lemmas.kernel import Radius, apply, enclosed, exactly_zero
from encoders.lemmas.operations import SELECTED
from encoders.lemmas.ranges.operations import CHOSEN_RANGE
from encoders.lemmas.ranges.placing import range_of, range_on, stored_range
from encoders.lemmas.ranges.range import Range
from encoders.numbers.enclosure import (
    FloatArray,
    Interval,
    LinearPart,
    add_up,
    dot_up,
    inner_up,
    midpoint_radius,
)
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
from encoders.relaxations.affine import scaled_part
from encoders.rounding.rounding_bounds import (
    below_normal,
    exact_unless_flushed,
    rounder,
    stored_loss,
)
from encoders.traits import Absorbing, Absorption, Likeness


def _known(site: Site, ranges: Sequence[Interval]) -> list[Range]:
    """Ranges of condition and both choices, broadcast to the output."""
    shape, given = site.outputs[0].shape, iter(ranges)
    found = []
    for constant in site.constants:
        exact = None if constant is None else np.asarray(constant, np.float64)
        x = range_of(next(given)) if exact is None else stored_range(exact)
        found.append(range_on(x, shape))
    return found


def _errors(site: Site, errors: Sequence[Radius]) -> list[Radius]:
    given, none = iter(errors), exactly_zero(EXACT, ())
    return [none if c is not None else next(given) for c in site.constants]


def _parts(site: Site, yes: FloatArray, no: FloatArray) -> list[LinearPart | None]:
    """How each variable input acts where it is surely the one chosen."""
    shape = site.outputs[0].shape
    return [
        None if i == 0 else scaled_part(yes if i == 1 else no, site.type_of(i).shape, shape)
        for i in site.variable
    ]


def _certain(condition: Interval) -> tuple[FloatArray, FloatArray]:
    return (condition.lo > 0).astype(np.float64), (condition.hi <= 0).astype(np.float64)


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    return (field.select(*aligned(inputs)),)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    condition = site.constants[0]
    first = inputs[0] if condition is None else arithmetic.constant(np.asarray(condition))
    return (arithmetic.select(*aligned((first, *inputs[1:]))),)


def masked_runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    """NaN, too, of what is left out and is +∞ or NaN."""
    mask = _mask(site)

    def left_out(array: npt.NDArray[E]) -> npt.NDArray[E]:
        return np.where(mask, array, np.zeros((), array.dtype))

    (chosen,) = runtime(site, inputs, arithmetic, contract)
    if spoils(arithmetic):
        chosen = arithmetic.spoiled(chosen, moved(inputs[2], left_out))
    return (chosen,)


def _mask(site: Site) -> npt.NDArray[np.bool_]:
    """Which elements of the third operand are left out."""
    condition = site.constants[0]
    assert condition is not None
    return condition.astype(bool)


def _check_masked(site: Site) -> None:
    check_float(site)
    mask, shape = site.constants[0], site.outputs[0].shape
    if mask is None or mask.shape != shape or site.type_of(2).shape != shape:
        raise site.unsupported("what its mask leaves out is not stored, or of another shape")


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    condition, a, b = _known(site, ranges)
    yes, no = _certain(condition)
    range_ = enclosed(CHOSEN_RANGE, C=condition, X=a, Y=b)
    parts = _parts(site, yes, no)
    carried = (1 in site.variable) * yes + (2 in site.variable) * no
    middle, radius = midpoint_radius(range_)
    unbounded = ~np.isfinite(radius)
    rest = np.where(carried > 0, 0.0, np.where(unbounded, 0.0, middle))
    loose = np.where(carried > 0, 0.0, np.where(unbounded, np.inf, radius))
    # a product with 0 or 1 is exact; sums over broadcast axes err by γ of their length
    magnitude = np.where(np.isfinite(range_.magnitude), range_.magnitude, np.finfo(np.float64).max)
    loose = add_up(loose, carried * magnitude * ((yes.size + 8) * 2.0**-52))

    def backward(c: FloatArray) -> Contribution:
        constant = add_up(inner_up(c, rest), dot_up(c, loose))
        return Contribution(tuple(None if p is None else p.adjoint(c) for p in parts), constant)

    return ValueMap(range_, backward)


def differences(site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]) -> DifferenceMap:
    """The chosen difference; the larger one where the choice is open but the same on both sides;
    how far the two choices may be apart where it may flip (lemma `selected`)."""
    condition, a, b = _known(site, ranges)
    flip, e_a, e_b = _errors(site, errors)
    radius = apply(
        SELECTED,
        lo=condition.lo,
        hi=condition.hi,
        e=flip,
        ea=e_a,
        eb=e_b,
        a_lo=a.lo,
        a_hi=a.hi,
        b_lo=b.lo,
        b_hi=b.hi,
    )
    yes, no = _certain(condition)
    steady = flip.bound == 0
    known = steady & ((yes > 0) | (no > 0))
    parts = _parts(site, yes * steady, no * steady)
    inexact = (known.size + 8) * 2.0**-52  # of sums over broadcast axes
    summed = e_a.times(yes * inexact) + e_b.times(no * inexact)
    remainder = apply(FOLLOWED, m=known.astype(np.float64), r=radius, q=summed.on(radius.shape))

    def backward(c: FloatArray) -> Moved:
        coefficients = tuple(None if p is None else p.adjoint(c) for p in parts)
        return Moved(coefficients, remainder.weighed(c))

    return DifferenceMap(radius, backward)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    """A copy: exact, but for stored numbers that are rounded and for flushed subnormals."""
    bound, r = exact_unless_flushed(site, result, contract), rounder(site, contract)
    lost = exactly_zero(EXACT, result.shape)
    for constant in site.constants[1:]:
        if constant is not None:
            lost = lost.or_else(stored_loss(r, np.asarray(constant, np.float64)))
    return replace(bound, radius=bound.radius + lost).using("step-jump")


def masked_rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    """As of a Where, and how far apart what a runtime computes in its place may be."""
    bound, r = rounding(site, inputs, result, contract), rounder(site, contract)
    if r.exact or not _may_part(site):
        return bound
    lost = below_normal(r.lost).times(site.real("underflows", 0.0)).on(result.shape)
    apart = apply(FORMULA_APART, U=np.full(result.shape, site.real("apart", 0.0)))
    return replace(bound, radius=bound.radius + lost + apart)


def _may_part(site: Site) -> bool:
    """May a runtime compute the second tensor for the first?"""
    return bool(site.real("underflows", 0.0) or site.real("apart", 0.0))


def gradient(r: Reverse) -> Carried:
    choices: dict[int, tuple[Term | int, Term | int]] = {1: (r.up, 0), 2: (0, r.up)}
    return {i: r.x.chosen(*choices[i]).unbroadcast(r.read(i).shape) for i in r.wanted & {1, 2}}


def _masked_gradient(r: Reverse) -> Carried:
    """What goes to an operand is multiplied by 0 where that is not chosen: NaN stays NaN."""
    mask, kind = _mask(r.site), r.up.kind.dtype.numpy
    chosen = {1: mask.astype(kind), 2: (~mask).astype(kind)}
    return {i: (r.up * r.stored(chosen[i])).unbroadcast(r.read(i).shape) for i in r.wanted & {1, 2}}


_WHERE = Operator(
    "Where",
    since=9,
    check=check_float,
    real=real,
    runtime=runtime,
    values=values,
    differences=differences,
    rounding=rounding,
    gradient=Gradient(rule=gradient),
    affine=True,
    affine_where=lambda site: 0 not in site.variable,
    per_element=True,
    absorbs=Absorbing(Absorption.CHOSEN),
    likeness=Likeness(chooses=True),
)

_MASKED = replace(
    _WHERE,
    name="MaskedWhere",
    check=_check_masked,
    runtime=masked_runtime,
    rounding=masked_rounding,
    gradient=Gradient(rule=_masked_gradient),
    follows=lambda site: not _may_part(site),
    absorbs=None,
).reading("apart", "underflows")

OPERATORS = (_WHERE, _MASKED)
