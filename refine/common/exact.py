"""Exact bounds: decimal text read as the rational it denotes, and rounded inward to a format.

Nothing here passes through a double: the nearest double of a decimal can lie outside the
interval that the user wrote.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Context
from fractions import Fraction
from functools import lru_cache

from encoders.numbers.formats import (
    FloatFormat,
    next_down,
    next_up,
    round_down,
    round_fraction,
    round_up,
)
from onnx_import.errors import ModelError

DECIMAL = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_LONGEST_DECIMAL = 4000
_SHORT = 64


class DomainError(ModelError):
    """A domain that cannot be read, does not fit the model, or is empty."""


@dataclass(frozen=True)
class Bounds:
    """The reals from `lo` to `hi`, without the end itself where that end is open."""

    lo: Fraction
    hi: Fraction
    lo_open: bool = False
    hi_open: bool = False

    @property
    def empty(self) -> bool:
        """Is there no real number between the ends?"""
        return self.lo > self.hi or (self.lo == self.hi and (self.lo_open or self.hi_open))


def decimal(text: str) -> Fraction:
    """The rational that decimal text such as `0.1` or `-2.5e-3` denotes.

    Raises DomainError for anything else, infinities and NaN included.
    """
    text = text.strip()
    return _short_decimal(text) if len(text) <= _SHORT else _decimal(text)


def _decimal(text: str) -> Fraction:
    if not re.fullmatch(DECIMAL, text):
        raise DomainError(f"'{shorten(text)}' is not a finite decimal number such as 0.1 or 2.5e-3")
    exponent = (re.split("[eE]", text)[1:] or ["0"])[0].lstrip("+-").lstrip("0") or "0"
    # Longer than any format can tell apart, and a short text can ask for gigabytes of digits.
    long = len(text) > _LONGEST_DECIMAL or len(exponent) > len(str(_LONGEST_DECIMAL))
    if long or int(exponent) > _LONGEST_DECIMAL:
        raise DomainError(
            f"the number '{shorten(text)}' has more than {_LONGEST_DECIMAL} decimal places"
        )
    return Fraction(text)


_short_decimal = lru_cache(maxsize=2**12)(_decimal)
"""Files name few numbers, and many of them often."""


def inward(bounds: Bounds, fmt: FloatFormat) -> tuple[float, float] | None:
    """The smallest and the largest number of `fmt` within bounds; None if there is none."""
    lo, hi = round_up(bounds.lo, fmt), round_down(bounds.hi, fmt)
    if bounds.lo_open and lo == bounds.lo:
        lo = next_up(lo, fmt)
    if bounds.hi_open and hi == bounds.hi:
        hi = next_down(hi, fmt)
    return (lo, hi) if lo <= hi else None


def received_ends(bounds: Bounds, fmt: FloatFormat) -> tuple[float, float] | None:
    """The ends of what a runtime receives of bounds: `inward`, and where no number of `fmt` lies
    within, the numbers that are nearest to reals within. None if these overflow."""
    within = inward(bounds, fmt)
    if within is not None:
        return within
    lo, hi = (float(round_fraction(end, fmt)) for end in (bounds.lo, bounds.hi))
    return (lo, hi) if math.isfinite(lo) and math.isfinite(hi) else None


def show(value: Fraction | float, digits: int | None = None) -> str:
    """A number for messages: to so many digits, or as the shortest decimal of its double."""
    try:
        return repr(float(value)) if digits is None else f"{float(value):.{digits}g}"
    except OverflowError:
        exact = Fraction(value)
        return f"{Context(prec=digits or 6).divide(exact.numerator, exact.denominator):E}"


def shorten(text: str, limit: int = 60) -> str:
    """Text of at most `limit` characters, the last of which is … where some are left out."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
