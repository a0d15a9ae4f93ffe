"""Roundings that are smaller, or none, because an operand is exactly known."""

from __future__ import annotations

from encoders.lemmas.kernel import Rounding, apply
from encoders.lemmas.operations import KNOWN_FACTOR, ZERO_OPERAND
from encoders.numbers.enclosure import FloatArray
from encoders.rounding.rounding_bounds import Rounder
from encoders.rounding.tracked import Tracked, is_power_of_two, is_zero


def beside_zeros(
    r: Rounder, fresh: Rounding, magnitude: FloatArray, *operands: Tracked
) -> Rounding:
    """The rounding of a sum, like a copy where one of these operands is exactly 0."""
    for operand in operands:
        if is_zero(operand).any():
            fresh = apply(
                ZERO_OPERAND,
                size=magnitude,
                r=fresh,
                c=r.of_copy(magnitude),
                lo=operand.ideal.lo,
                hi=operand.ideal.hi,
                e=operand.error,
            )
    return fresh


def by_factors(r: Rounder, magnitude: FloatArray, *operands: Tracked) -> Rounding:
    """The rounding of a product of these operands, or of a quotient by one."""
    fresh = r.of_product(magnitude)
    for operand in operands:
        if is_power_of_two(operand).any():
            fresh = apply(
                KNOWN_FACTOR,
                size=magnitude,
                r=fresh,
                s=r.of_scaling(magnitude),
                c=r.of_copy(magnitude),
                lo=operand.ideal.lo,
                hi=operand.ideal.hi,
                e=operand.error,
            )
    return fresh
