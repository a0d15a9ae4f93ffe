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
from encoders.functions.function import Function
from encoders.numbers.enclosure import FloatArray, Interval, lowest
from encoders.rounding.rounding_bounds import rounder
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
    """A square root, which is monotone."""
    low = np.sqrt(np.maximum(held[0].lo, 0.0)) * (1.0 - 2.0**-50)
    return _from(site, _rounded(site, low, contract))


def of_function(function: Function) -> Keeps:
    """What is computed of an elementary function, which does not leave the range of its values
    unless its accuracy says so."""

    def keeps(site: Site, held: Ranges, contract: RuntimeContract) -> Interval | None:
        accuracy = contract.functions.accuracy(function)
        y = range_of(function.shape, held[0])
        inside = not accuracy.excess and bool(np.all(y.lo >= 0.0))
        return when(inside, site)

    return keeps


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
    r = rounder(site, contract)
    formats = (r.format, contract.stored_format, contract.accumulation, contract.narrow)
    unit = max(float(fmt.unit_roundoff) for fmt in formats if fmt is not None)
    smallest = max(float(fmt.smallest_normal) for fmt in formats if fmt is not None)
    kept = low * (1.0 - _ROUNDINGS * unit) * (1.0 - 2.0**-50)
    return np.where(kept > 2.0 * smallest, kept, 0.0)


def _from(site: Site, low: FloatArray) -> Interval:
    shape = site.outputs[0].shape
    return Interval(np.broadcast_to(low, shape), np.full(shape, np.inf))
