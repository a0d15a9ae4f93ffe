"""Mod by stored divisors: of floats (fmod) what truncated division leaves, of integers also what
division leaves that rounds down.

The result is exact at run time: the remainder of two numbers of a format is one. It is x minus a
multiple of the divisor, so that errors pass it as they are where no multiple is crossed, and jump
by as many divisors otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeGuard, runtime_checkable

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, Relation, aligned, integers_of
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.integers import INTEGERS, LARGEST, fitting
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.lemmas.carrying import FOLLOWED, STEP_APART
from encoders.lemmas.choices import STEP_FOLLOWS
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, apply, enclosed, exactly_zero, nothing_known
from encoders.lemmas.ranges.functions import MONOTONE_RANGE, STATED_RANGE
from encoders.lemmas.ranges.making import hull_of
from encoders.lemmas.ranges.placing import range_of, range_of_cases, range_on, range_taken
from encoders.lemmas.ranges.range import Range
from encoders.numbers.enclosure import BoolArray, FloatArray, Interval, multiply_up
from encoders.operator import (
    FLOATS,
    DifferenceMap,
    Field,
    LinearBounds,
    Operator,
    RoundingBound,
    Site,
    ValueMap,
)
from encoders.quantized.integer_products import as_whole
from encoders.relaxations.elementwise import Secant, elementwise_differences, elementwise_values
from encoders.rounding.rounding_bounds import Rounder, held, rounder
from encoders.traits import Discontinuity
from onnx_import.errors import UnsupportedModel

LEMMAS = ("step-jump", "secant-step")
_FARTHEST = 2.0**50  # quotients up to here are told exactly


@runtime_checkable
class RemainderArithmetic(Arithmetic[V], Protocol[V]):
    """An arithmetic that knows remainders."""

    def remainder(self, a: V, b: V) -> V:
        """a − b·trunc(a/b), which rounds nothing."""


def _knows_remainders(arithmetic: Arithmetic[V]) -> TypeGuard[RemainderArithmetic[V]]:
    return isinstance(arithmetic, RemainderArithmetic)


def _truncates(site: Site) -> bool:
    """Is the remainder of truncated division meant, with the sign of the dividend?"""
    return bool(site.node.attributes.get("fmod", 0))


def _divisor(site: Site) -> FloatArray:
    """Of the output's shape."""
    stored = np.asarray(site.constants[1], np.float64)
    return np.broadcast_to(stored, site.outputs[0].shape)


def check(site: Site) -> None:
    dtype = site.outputs[0].dtype
    if site.variable != (0,):
        raise site.unsupported("the divisor (input 1), and it alone, must be constant")
    if dtype.is_float and not _truncates(site):
        raise site.unsupported("of floats only attribute 'fmod' 1 has a meaning")
    if site.type_of(0).shape != site.outputs[0].shape:
        raise site.unsupported("its divisor (input 1) is larger than its dividend")
    divisor = np.asarray(site.constants[1], np.float64)
    if not np.all(divisor):
        raise site.unsupported("a divisor (input 1) is 0")
    if not dtype.is_float and (np.any(divisor == -1) or np.any(np.abs(divisor) > LARGEST)):
        raise site.unsupported("a divisor (input 1) is -1, or above 2^53")


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    x, m = aligned([v for v in inputs if v is not None])
    ratio = x / m
    if not _truncates(site):
        return (x - m * field.floor(ratio),)
    zero = field.constant(np.zeros((1,) * (ratio.ndim - 1)))
    above, below = (field.floor(field.maximum(v, zero)) for v in (ratio, -ratio))
    return (x - m * (above - below),)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    whole = not site.outputs[0].dtype.is_float
    a = integers_of(arithmetic).integers() if whole else arithmetic
    if not _knows_remainders(a):
        raise UnsupportedModel(f"remainders have no meaning in {type(arithmetic).__name__}")
    x, m = aligned([as_whole(v) for v in inputs if v is not None])
    left = a.remainder(x, m)
    if _truncates(site):
        return (left,)
    zero = a.constant(np.zeros((1,) * len(site.outputs[0].shape)))
    apart = a.compare(Relation.LESS, a.multiply(left, m), zero)
    return (a.select(apart, a.add(left, m), left),)


def _quotients(site: Site, ends: FloatArray) -> FloatArray:
    """The integer of divisors that is taken from each number, ±∞ where it is not told exactly."""
    m = _divisor(site)
    with np.errstate(all="ignore"):
        found = np.rint((ends - _left(site, ends)) / m)
    return np.where(np.abs(found) <= _FARTHEST, found, np.copysign(np.inf, ends * m))


def _left(site: Site, ends: FloatArray) -> FloatArray:
    """What is left of float64 numbers, exactly: of integers where it is not their fmod."""
    m = _divisor(site)
    with np.errstate(all="ignore"):
        return np.fmod(ends, m) if _truncates(site) else np.mod(ends, m)


def _within(site: Site, x: Interval) -> tuple[BoolArray, FloatArray, Range]:
    """Where numbers of a range lie between the same two multiples; how many multiples away others
    are; where their results are."""
    m = np.abs(_divisor(site))
    low, high = _quotients(site, x.lo), _quotients(site, x.hi)
    with np.errstate(invalid="ignore"):
        same = (low == high) & np.isfinite(low)
        apart = np.where(same, 0.0, np.abs(high - low))
    apart = np.where(np.isnan(apart), np.inf, apart)
    most = m - 1.0 if not site.outputs[0].dtype.is_float else m
    if _truncates(site):
        least, top = np.where(x.lo < 0, -most, 0.0), np.where(x.hi > 0, most, 0.0)
        least, top = np.maximum(least, np.minimum(x.lo, 0.0)), np.minimum(top, np.maximum(x.hi, 0))
    else:
        up = _divisor(site) > 0
        least, top = np.where(up, 0.0, -most), np.where(up, most, 0.0)
    ends = _left(site, x.lo), _left(site, x.hi)
    low, high = np.where(same, ends[0], least), np.where(same, ends[1], top)
    given = range_on(range_of(x), same.shape)
    cases = []
    for lemma, there in ((MONOTONE_RANGE, same), (STATED_RANGE, ~same)):
        places = np.flatnonzero(there)
        a, b = low.reshape(-1)[places], high.reshape(-1)[places]
        cases.append((places, enclosed(lemma, X=range_taken(given, places), a=a, b=b)))
    return same, apart, range_of_cases(same.shape, cases)


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    (x,) = ranges
    same, _, range_ = _within(site, x)
    with np.errstate(all="ignore"):
        taken = _divisor(site) * np.where(same, _quotients(site, x.lo), 0.0)
    slope = same.astype(np.float64)
    low = np.where(same, np.nextafter(-taken, -np.inf), range_.lo)
    high = np.where(same, np.nextafter(-taken, np.inf), range_.hi)
    return elementwise_values(range_, LinearBounds(slope, low, slope, high), x)


def differences(site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]) -> DifferenceMap:
    (x,), (error,) = ranges, errors
    same, apart, range_ = _within(site, hull_of(x, error))
    with np.errstate(invalid="ignore"):
        jump = np.where(same, 0.0, multiply_up(apart, np.abs(_divisor(site))))
    radius = apply(STEP_FOLLOWS, F=range_, e=error, A=jump)
    near = apply(STEP_APART, e=error, A=jump)
    one = same.astype(np.float64)
    remainder = apply(FOLLOWED, m=one, r=radius, q=near)
    return elementwise_differences(Secant(one, remainder), radius, error)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    """Nothing but subnormal numbers that are read as 0 or made 0, if the divisor arrives whole."""
    (x,) = inputs
    if not site.outputs[0].dtype.is_float:
        return fitting(RoundingBound(exactly_zero(EXACT, x.shape)), site, result).using(*LEMMAS)
    r = rounder(site, contract)
    if r.exact:
        return RoundingBound(exactly_zero(EXACT, x.shape)).using(*LEMMAS)
    if not _arrives(r, np.asarray(site.constants[1], np.float64)):
        return RoundingBound(nothing_known(x.shape)).using(*LEMMAS)
    # a number that is read as 0 is left as it is otherwise, being less than the divisor
    bound = r.after(r.of_copy, result.magnitude, r.operand_loss(x))
    return RoundingBound(bound).using(*LEMMAS)


def _arrives(r: Rounder, divisor: FloatArray) -> bool:
    """Does the operation divide by the numbers of the file?"""
    there = held(r, divisor)
    normal = np.abs(divisor) >= r.smallest_normal
    return bool(np.all((there.values == divisor) & ~there.flushed & normal))


def gradient(r: Reverse) -> Carried:
    """Each multiple is taken away as it is, and so what is left moves as the dividend does."""
    if r.wants(1):
        raise r.site.unsupported("it cannot be differentiated by its divisor (input 1)")
    return {0: r.up}


OPERATORS = (
    Operator(
        "Mod",
        10,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        per_element=True,
        jump=Discontinuity.STEP,
        gradient=Gradient(rule=gradient, convention="its derivative is 1 everywhere, at jumps too"),
        dtypes=(*FLOATS, *INTEGERS),
    ).reading("fmod"),
)
