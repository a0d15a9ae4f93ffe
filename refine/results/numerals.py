"""Numbers for people: in few digits, and rounded the safe way."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction

from refine.common.rounding import float_down, float_up
from refine.results.verdict import ErrorEnclosure


def plain(epsilon: Fraction) -> str:
    """The shortest decimal that means it, to within float64."""
    return repr(float(epsilon))


def up(value: float, digits: int) -> str:
    """A bound in so many digits, never less than it is."""
    return _rounded(value, Context(digits, ROUND_CEILING))


def down(value: float, digits: int) -> str:
    """A decimal numeral of so many digits that is at most the number."""
    return _rounded(value, Context(digits, ROUND_FLOOR))


def plain_number(value: float | None) -> float | str | None:
    """A number for JSON, which has no infinities: these are texts."""
    return value if value is None or math.isfinite(value) else str(float(value))


def _rounded(value: float, context: Context) -> str:
    if not math.isfinite(value):
        return str(float(value))
    return f"{float(context.plus(Decimal(float(value)))):.{context.prec}g}"


def show_error(error: ErrorEnclosure) -> str:
    """An enclosed error as a numeral, or as both ends where these differ visibly."""
    if not error.finite:
        return "not finite"
    lo, hi = float_down(error.lo), float_up(error.hi)
    return down(lo, 9) if hi - lo <= 1e-9 * hi else f"{down(lo, 9)} … {up(hi, 9)}"
