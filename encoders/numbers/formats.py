"""Binary floating-point formats: what can be represented, and how a value is rounded to it.

Rounding is to nearest, ties to even, everywhere. The emulator rounds float64 arrays
(`round_array`); proofs use exact rationals (`round_fraction`). The two are written separately
and tested against each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import numpy.typing as npt

from onnx_import.graph import DType

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FloatFormat:
    """An IEEE-754-like binary format with infinities, NaN and subnormal numbers.

    `precision` counts the significand's bits, the hidden one included; normal numbers have
    magnitudes in [2^emin, 2^(emax+1)).
    """

    name: str
    precision: int
    emin: int
    emax: int

    @cached_property
    def unit_roundoff(self) -> Fraction:
        """u = 2^−p, half the spacing of numbers from 1 to 2."""
        return Fraction(1, 2**self.precision)

    @cached_property
    def smallest_normal(self) -> Fraction:
        """2^emin."""
        return power_of_two(self.emin)

    @cached_property
    def smallest_subnormal(self) -> Fraction:
        """2^(emin − p + 1), the spacing of subnormal numbers."""
        return power_of_two(self.emin - self.precision + 1)

    @cached_property
    def largest_finite(self) -> Fraction:
        """(2 − 2^(1 − p))·2^emax."""
        return (2 - power_of_two(1 - self.precision)) * power_of_two(self.emax)

    @cached_property
    def largest_number(self) -> float:
        """`largest_finite` as a float64; of no wider format."""
        return float(self.largest_finite)

    @cached_property
    def overflow_threshold(self) -> Fraction:
        """Least magnitude that rounds to infinity: largest_finite plus half an ulp."""
        return (2 - self.unit_roundoff) * power_of_two(self.emax)

    @property
    def exponent_bits(self) -> int:
        """Width of the IEEE exponent field (exact for formats with emin = 1 - emax)."""
        return (self.emax - self.emin + 3).bit_length() - 1

    def holds(self, other: FloatFormat) -> bool:
        """Is every number of the other format one of this?"""
        return (
            other.precision <= self.precision
            and other.emax <= self.emax
            and other.emin - other.precision >= self.emin - self.precision
        )


def power_of_two(exponent: int) -> Fraction:
    """2^exponent, exactly."""
    return Fraction(2**exponent) if exponent >= 0 else Fraction(1, 2**-exponent)


def small_format(exponent_bits: int, precision: int) -> FloatFormat:
    """The IEEE-like format with these widths; `small_format(5, 11)` is binary16."""
    emax = 2 ** (exponent_bits - 1) - 1
    return FloatFormat(f"float(e{exponent_bits},p{precision})", precision, 1 - emax, emax)


BINARY16 = FloatFormat("float16", 11, -14, 15)
BFLOAT16 = FloatFormat("bfloat16", 8, -126, 127)
TENSOR_FLOAT_32 = FloatFormat("tf32", 11, -126, 127)
BINARY32 = FloatFormat("float32", 24, -126, 127)
BINARY64 = FloatFormat("float64", 53, -1022, 1023)

WHOLE = FloatFormat("whole", 24, 23, 23)
"""Integers of less than 24 bits, evenly spaced: what inputs that hold integers can be."""

FORMAT_OF_DTYPE = {
    DType.FLOAT16: BINARY16,
    DType.BFLOAT16: BFLOAT16,
    DType.FLOAT32: BINARY32,
    DType.FLOAT64: BINARY64,
}

NARROW_FORMATS = {
    DType.FLOAT8E4M3FN: FloatFormat("float8_e4m3fn", 4, -6, 8),
    DType.FLOAT8E4M3FNUZ: FloatFormat("float8_e4m3fnuz", 4, -7, 7),
    DType.FLOAT8E5M2: FloatFormat("float8_e5m2", 3, -14, 15),
    DType.FLOAT8E5M2FNUZ: FloatFormat("float8_e5m2fnuz", 3, -15, 15),
    DType.FLOAT4E2M1: FloatFormat("float4_e2m1fn", 2, 0, 2),
}
"""Formats of at most eight bits, as far as rounding goes: what lies beyond `NARROW_LARGEST` is no
number of theirs, whatever `largest_finite` says."""

NARROW_LARGEST = {
    DType.FLOAT8E4M3FN: 448.0,
    DType.FLOAT8E4M3FNUZ: 240.0,
    DType.FLOAT8E5M2: 57344.0,
    DType.FLOAT8E5M2FNUZ: 57344.0,
    DType.FLOAT4E2M1: 6.0,
}
"""The largest number of each (OCP 8-bit Floating Point Specification 1.0; of float8_e4m3fn the
next code, 480, is NaN; of the fnuz types, Noune et al. 2022, and ONNX's text)."""


def round_fraction(value: Fraction, fmt: FloatFormat) -> Fraction | float:
    """The number of `fmt` nearest to an exact rational, ties to even; exact.

    Returns `inf` or `-inf` (a float) at and beyond the overflow threshold. A zero result carries
    no sign: rationals have none.
    """
    if abs(value) >= fmt.overflow_threshold:
        return math.inf if value > 0 else -math.inf
    grid = _spacing(value, fmt)
    return round(value / grid) * grid


def round_down(value: Fraction, fmt: FloatFormat) -> float:
    """The largest number of `fmt`, `-inf` included, that is ≤ an exact rational.

    Raises ValueError for a format that is not contained in binary64.
    """
    _require_within_binary64(fmt)
    top, under, largest = value.numerator, value.denominator, fmt.largest_finite
    if abs(top) * largest.denominator > largest.numerator * under:
        return float(largest) if top > 0 else -math.inf
    shift = _spacing_exponent(value, fmt)
    steps = (top << -shift) // under if shift < 0 else top // (under << shift)
    return math.ldexp(steps, shift)  # exact: a number of a format within binary64


def round_up(value: Fraction, fmt: FloatFormat) -> float:
    """The smallest number of `fmt`, `inf` included, that is ≥ an exact rational."""
    return 0.0 - round_down(-value, fmt)


def next_up(value: float, fmt: FloatFormat) -> float:
    """The smallest number of `fmt` that is > `value`; `inf` and NaN stay themselves.

    `value` need not be representable in `fmt`.
    """
    if math.isnan(value) or value == math.inf:
        return value
    if value == -math.inf:
        return -float(fmt.largest_finite)
    exact = Fraction(value)
    above = round_up(exact, fmt)
    return above if above > value else round_up(exact + fmt.smallest_subnormal / 2, fmt)


def next_down(value: float, fmt: FloatFormat) -> float:
    """The largest number of `fmt` that is < `value`; `-inf` and NaN stay themselves."""
    return -next_up(-value, fmt)


def is_representable(value: float | Fraction, fmt: FloatFormat) -> bool:
    """Is this a finite number of `fmt`?"""
    if isinstance(value, float) and not math.isfinite(value):
        return False
    exact = Fraction(value)
    return abs(exact) <= fmt.largest_finite and (exact / _spacing(exact, fmt)).denominator == 1


def round_array(values: npt.ArrayLike, fmt: FloatFormat) -> FloatArray:
    """The numbers of `fmt` nearest to float64 values, ties to even, in a new float64 array.

    Overflow gives an infinity, the sign of a zero result is that of its argument, NaN stays NaN.
    Raises ValueError unless `fmt` is binary64 or at most half as precise and well inside its range.

    With M = 1.5·2^52 grid steps, x + M lies where binary64 has exactly the grid of `fmt` at x, so
    the addition rounds x to that grid, ties to even (M is an even multiple), and subtracting M is
    exact. The grid is that of the binade of x, or of the smallest normal number below it; beyond
    2^(emax+1) it may stop growing, since all that is infinite anyway.
    """
    exact = np.array(values, dtype=np.float64, ndmin=1)
    if fmt == BINARY64:
        return exact.reshape(np.shape(values))
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = exact.copy()
        round_to_grid(rounded, np.empty_like(rounded), fmt)
        beyond = np.abs(rounded) > fmt.largest_number
        if beyond.any():
            rounded[beyond] = np.inf
    return np.copysign(rounded, exact, out=rounded).reshape(np.shape(values))


def round_to_grid(values: FloatArray, shift: FloatArray, fmt: FloatFormat) -> None:
    """The same in place, but for results that are infinite and for the signs of zeros; `shift` is
    scratch. Raises ValueError for binary64, too, whose numbers are on its grid already."""
    if not fits_twice_in_binary64(fmt):
        raise ValueError(f"arrays cannot be rounded to {fmt.name}")
    np.bitwise_and(values.view(np.int64), _EXPONENT_BITS, out=shift.view(np.int64))
    np.maximum(shift, 2.0**fmt.emin, out=shift)
    np.minimum(shift, 2.0 ** (fmt.emax + 1), out=shift)
    shift *= 1.5 * 2.0 ** (53 - fmt.precision)
    values += shift
    values -= shift


def truncate_array(values: npt.ArrayLike, fmt: FloatFormat) -> FloatArray:
    """The numbers of `fmt` next to float64 values toward zero, in a new float64 array.

    Beyond the largest finite number that is an infinity; NaN stays NaN.
    """
    exact = np.asarray(values, dtype=np.float64)
    _, exponent = np.frexp(np.where(np.isfinite(exact), exact, 0.0))
    grid = np.maximum(exponent - 1, fmt.emin) - fmt.precision + 1
    with np.errstate(invalid="ignore", over="ignore"):
        whole = np.ldexp(np.trunc(np.ldexp(exact, -grid)), grid)
        beyond = np.abs(exact) >= np.ldexp(1.0, fmt.emax + 1)
    whole = np.where(np.isfinite(exact), whole, exact)
    return np.where(beyond, np.copysign(np.inf, exact), whole)


def truncated_operands(values: npt.ArrayLike, fmt: FloatFormat, truncated: bool) -> FloatArray:
    """Float64 values in a shorter format, toward zero or to nearest."""
    return truncate_array(values, fmt) if truncated else round_array(values, fmt)


def fits_twice_in_binary64(fmt: FloatFormat) -> bool:
    """Are products of two numbers of `fmt` exact in binary64, with room for double rounding?

    True for every format with precision ≤ 24 and an exponent range up to that of binary32.
    """
    return fmt.precision <= 24 and fmt.emin >= -126 and fmt.emax <= 127


def is_computable(fmt: FloatFormat) -> bool:
    """Are there bits of its operations here: is it float64, or does it fit twice into that?"""
    same = (fmt.precision, fmt.emin, fmt.emax) == (53, -1022, 1023)
    return same or (2 <= fmt.precision <= 24 and -126 <= fmt.emin <= 0 <= fmt.emax <= 127)


_EXPONENT_BITS = np.int64(0x7FF0_0000_0000_0000)


def _spacing(value: Fraction, fmt: FloatFormat) -> Fraction:
    """The distance between neighbouring numbers of `fmt` in the binade of a finite value."""
    return power_of_two(_spacing_exponent(value, fmt))


def _spacing_exponent(value: Fraction, fmt: FloatFormat) -> int:
    """The logarithm of that distance to base 2."""
    top, under = abs(value.numerator), value.denominator
    if not top:
        return fmt.emin - fmt.precision + 1
    exponent = top.bit_length() - under.bit_length()
    shifted = (top << -exponent) < under if exponent < 0 else top < (under << exponent)
    return max(exponent - shifted, fmt.emin) - fmt.precision + 1


def _require_within_binary64(fmt: FloatFormat) -> None:
    fits = fmt.precision <= 53 and fmt.emax <= 1023
    if not fits or fmt.emin - fmt.precision < BINARY64.emin - BINARY64.precision:
        raise ValueError(f"numbers of {fmt.name} are not all float64 numbers")
