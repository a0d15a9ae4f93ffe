"""What computed numbers keep to whatever their rounding is: mostly, that they are not negative.

Rounding is monotone (lemma `monotone`) and keeps zero, so a sum or product of numbers that are not
negative is none that is, in any order and with any FMA, and a sum is at least as large as any of
its terms is when it is read. A bound on the rounding error alone forgets that: it lets a variance
come out below zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.curves.curves import range_of
from encoders.functions.accuracy import FunctionAccuracy
from encoders.functions.exp import EXP
from encoders.functions.function import Function
from encoders.numbers.enclosure import FloatArray, Interval, anywhere, lowest
from encoders.rounding.rounding_bounds import Rounder, rounder
from encoders.site import Site

Ranges: TypeAlias = Sequence[Interval]
Keeps: TypeAlias = Callable[[Site, Sequence[Interval], RuntimeContract], Interval | None]
"""A range of what a node computes of run-time numbers in these ranges, that rounding keeps to; None
where none is known. Real numbers keep to it, too."""

_ROUNDINGS = 8.0  # more than a number goes through in one operation


def not_negative(site: Site, held: Ranges, contract: RuntimeContract) -> Interval | None:
    """A norm, say."""
    return _from(site, np.zeros(()))


def of_terms(site: Site, held: Ranges, contract: RuntimeContract) -> Interval | None:
    """A sum, or mean, none of whose terms is negative."""
    return when(_not_negative(_lows(site, held)), site)


def of_sum(site: Site, held: Ranges, contract: RuntimeContract) -> Interval | None:
    """A sum of two, one rounding: not below the larger of them as it is read."""
    lows = _lows(site, held)
    if len(lows) != 2 or not _not_negative(lows):
        return None
    return _from(site, _rounded(site, np.maximum(*lows), contract))


def of_product(site: Site, held: Ranges, contract: RuntimeContract) -> Interval | None:
    """A product, quotient or sum of products of numbers that are not negative."""
    factors = [site.node.attributes.get(name, 1.0) for name in ("alpha", "beta")]
    scaled = all(isinstance(factor, float | int) and factor >= 0 for factor in factors)
    return when(scaled and _not_negative(_lows(site, held)), site)


def of_factors(site: Site, held: Ranges, contract: RuntimeContract) -> Interval | None:
    """A product of two, or a square."""
    first, second = site.node.inputs
    return when(first == second or _not_negative(_lows(site, held)), site)


def of_root(site: Site, held: Ranges, contract: RuntimeContract) -> Interval | None:
    """A square root, which is monotone; what is subnormal may be read as 0, whose root is 0."""
    r = rounder(site, contract)
    read = as_read(held[0], r)
    low = np.sqrt(np.maximum(read.lo, 0.0)) * (1.0 - 2.0**-50)
    return _from(site, _rounded(site, low, contract))


def of_function(function: Function) -> Keeps:
    """What is computed of an elementary function, which does not leave the range of its values
    unless its accuracy says so; in a part of that range, what it errs by may change its sign."""

    def keeps(site: Site, held: Ranges, contract: RuntimeContract) -> Interval | None:
        accuracy, r = contract.functions.accuracy(function), rounder(site, contract)
        whole = function.shape.range(anywhere(held[0].shape))
        if bool(np.all(whole.lo >= 0.0)):
            return when(r.exact or not accuracy.excess, site)
        least = range_of(function.shape, as_read(held[0], r)).lo
        return when(bool(np.all(least >= _least_of_one_sign(site, accuracy, contract))), site)

    return keeps


def of_exponentials(site: Site, held: Ranges, contract: RuntimeContract) -> Interval | None:
    """Quotients and sums of exponentials, none of which is negative unless their accuracy says
    so."""
    exact = rounder(site, contract).exact
    return when(exact or not contract.functions.accuracy(EXP).excess, site)


def _least_of_one_sign(
    site: Site, accuracy: FunctionAccuracy, contract: RuntimeContract
) -> FloatArray:
    """From which value on no result of a function has another sign, for what it errs by."""
    if rounder(site, contract).exact or accuracy.is_rounding:
        return np.zeros(())
    unit, _, tiny = _largest_of_formats(site, contract)
    found = np.inf
    if accuracy.units is not None:
        found = accuracy.units * unit
    if accuracy.ulps is not None and 2.0 * accuracy.ulps * unit <= 1.0:
        found = min(found, accuracy.ulps * tiny)
    return np.asarray(found)


def as_read(x: Interval, r: Rounder) -> Interval:
    """What numbers are read as: 0 as well where one may be subnormal, and these may be lost."""
    if r.exact or not r.flush_operands:
        return x
    small = (x.lo < r.smallest_normal) & (x.hi > -r.smallest_normal)
    return Interval(
        np.where(small, np.minimum(x.lo, 0.0), x.lo), np.where(small, np.maximum(x.hi, 0.0), x.hi)
    )


def when(known: bool, site: Site) -> Interval | None:
    """Not negative, where that is known."""
    return _from(site, np.zeros(())) if known else None


def _lows(site: Site, held: Sequence[Interval]) -> list[FloatArray]:
    """The least that each operand may be at run time, computed or stored."""
    rest = iter(held)
    return [
        next(rest).lo if constant is None else np.asarray(constant, np.float64)
        for kind, constant in zip(site.inputs, site.constants, strict=True)
        if kind is not None and (constant is None or kind.dtype.is_float)
    ]


def _not_negative(lows: Sequence[FloatArray]) -> bool:
    """Can no operand be negative?"""
    return all(not low.size or lowest(low) >= 0.0 for low in lows)


def _rounded(site: Site, low: FloatArray, contract: RuntimeContract) -> FloatArray:
    """The least that numbers from here on may be once they are read and rounded."""
    unit, smallest, _ = _largest_of_formats(site, contract)
    kept = low * (1.0 - _ROUNDINGS * unit) * (1.0 - 2.0**-50)
    return np.where(kept > 2.0 * smallest, kept, 0.0)


def _largest_of_formats(site: Site, contract: RuntimeContract) -> tuple[float, float, float]:
    """Of the formats in which a node may hold a number: the largest unit roundoff, smallest normal
    number and smallest subnormal one."""
    r = rounder(site, contract)
    formats = (r.format, contract.stored_format, contract.accumulation, contract.narrow)
    given = [fmt for fmt in formats if fmt is not None]
    return (
        max(float(fmt.unit_roundoff) for fmt in given),
        max(float(fmt.smallest_normal) for fmt in given),
        max(float(fmt.smallest_subnormal) for fmt in given),
    )


def _from(site: Site, low: FloatArray) -> Interval:
    shape = site.outputs[0].shape
    return Interval(np.broadcast_to(low, shape), np.full(shape, np.inf))
