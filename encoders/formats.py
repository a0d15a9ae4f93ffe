"""Binary floating-point formats: what can be represented, and how a value is rounded to it.

Rounding is to nearest, ties to even, everywhere. The emulator rounds float64 arrays
(`round_array`); proofs use exact rationals (`round_fraction`). The two are written separately
and tested against each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

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

    @property
    def unit_roundoff(self) -> Fraction:
        return Fraction(1, 2**self.precision)

    @property
    def smallest_normal(self) -> Fraction:
        return power_of_two(self.emin)

    @property
    def smallest_subnormal(self) -> Fraction:
        return power_of_two(self.emin - self.precision + 1)

    @property
    def largest_finite(self) -> Fraction:
        return (2 - power_of_two(1 - self.precision)) * power_of_two(self.emax)

    @property
    def overflow_threshold(self) -> Fraction:
        """Least magnitude that rounds to infinity: largest_finite plus half an ulp."""
        return (2 - self.unit_roundoff) * power_of_two(self.emax)

    @property
    def exponent_bits(self) -> int:
        """Width of the IEEE exponent field (exact for formats with emin = 1 - emax)."""
        return (self.emax - self.emin + 3).bit_length() - 1


def power_of_two(exponent: int) -> Fraction:
    return Fraction(2**exponent) if exponent >= 0 else Fraction(1, 2**-exponent)


def small_format(exponent_bits: int, precision: int) -> FloatFormat:
    """The IEEE-like format with these widths; `small_format(5, 11)` is binary16."""
    emax = 2 ** (exponent_bits - 1) - 1
    return FloatFormat(f"float(e{exponent_bits},p{precision})", precision, 1 - emax, emax)


BINARY16 = FloatFormat("float16", 11, -14, 15)
BFLOAT16 = FloatFormat("bfloat16", 8, -126, 127)
BINARY32 = FloatFormat("float32", 24, -126, 127)
BINARY64 = FloatFormat("float64", 53, -1022, 1023)

FORMAT_OF_DTYPE = {
    DType.FLOAT16: BINARY16,
    DType.BFLOAT16: BFLOAT16,
    DType.FLOAT32: BINARY32,
    DType.FLOAT64: BINARY64,
}
