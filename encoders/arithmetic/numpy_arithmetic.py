"""The bits a runtime computes, on numpy arrays: one pinned contract in one format.

Each format is carried in a wider or equal native type: binary32 in float32 and binary64 in
float64, where the hardware rounds; any smaller format in float64, where each operation is rounded
twice, first to 53 bits and then to the format. The second rounding hides the first:

- a product of two numbers of at most 24 bits is exact in binary64;
- for +, ÷ and √ double rounding is innocuous because 53 ≥ 2p + 2 (Figueroa, "When is double
  rounding innocuous?", SIGNUM Newsletter 30, 1995). In the subnormal range a sum is exact, and a
  quotient or root cannot be within 2^-53 (relatively) of a midpoint m without being m: a − m·b and
  a − m² are multiples of a number above 2^-(2p+3) times a, for m has at most p + 1 bits;
- a fused multiply-add is rounded through binary64 to odd, see `_fused_in_float64`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.native_chain import native_chain
from encoders.arithmetic.rounded_functions import rounded_function
from encoders.arithmetic.runtime import Relation
from encoders.contract.contract import (
    Contraction,
    FactorRounding,
    OpenSchedule,
    RuntimeContract,
    Subnormals,
)
from encoders.functions.function import Function
from encoders.numbers.formats import (
    BINARY32,
    BINARY64,
    FloatFormat,
    fits_twice_in_binary64,
    round_array,
    round_fraction,
    truncate_array,
    truncated_operands,
)
from onnx_import.graph import Array, DType

Carrier = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]

IntArray = npt.NDArray[np.int32]

_PIECE = 2**16
WIDEST_ALIGNMENT = 40
_NO_EXPONENT = np.int32(-5000)  # below that of any product of two numbers that fit
_TOP_BIT = np.int64(-(2**63))


class NumpyArithmetic:
    """`Arithmetic[np.ndarray]`, bit for bit, for one format under one pinned contract.

    All arrays are of type `carrier` and hold numbers of the format, infinities and NaN; they
    broadcast. A result is flushed if, rounded, it is subnormal; zeros that replace subnormal
    numbers keep their sign. `maximum` rounds nothing and flushes only its operands.

    `multiply_add` raises OpenSchedule where the contract leaves contraction open. Raises ValueError
    for a contract that leaves subnormal numbers open or rounds nothing, and for a format other than
    binary64 that does not fit twice into it.
    """

    def __init__(self, fmt: FloatFormat, contract: RuntimeContract) -> None:
        if contract.exact:
            raise ValueError(f"contract '{contract.name}' rounds nothing; it has no bits")
        if Subnormals.EITHER in (contract.results, contract.operands):
            raise OpenSchedule(f"contract '{contract.name}' leaves subnormal numbers open")
        if fmt != BINARY64 and not fits_twice_in_binary64(fmt):
            raise ValueError(f"no carrier for the format {fmt.name}")
        self.format = fmt
        self.contract = contract
        self.carrier = np.dtype(np.float32 if fmt == BINARY32 else np.float64)
        self._native = fmt in (BINARY32, BINARY64)
        self._fused = contract.contraction is Contraction.ALWAYS
        self._flush_operands = contract.operands is Subnormals.FLUSH
        self._flush_results = contract.results is Subnormals.FLUSH
        self._smallest_normal = self.carrier.type(2.0**fmt.emin)

    def of_type(self, dtype: DType) -> NumpyArithmetic:
        return self.in_format(self.contract.format_of(dtype))

    def in_format(self, fmt: FloatFormat) -> NumpyArithmetic:
        return type(self)(fmt, self.contract)

    def integers(self) -> NumpyArithmetic:
        """Integers up to 2^53 in float64."""
        keep = replace(self.contract, results=Subnormals.KEEP, operands=Subnormals.KEEP)
        return NumpyArithmetic(BINARY64, keep)

    def converted(self, a: Carrier) -> Carrier:
        """Numbers of any format no wider than binary64, rounded once to this one."""
        with np.errstate(all="ignore"):
            return self._result(self.rounded(np.asarray(a)))

    def read(self, a: Carrier) -> Carrier:
        (read,) = self._operands(a)
        return read

    def constant(self, values: Array) -> Carrier:
        """Stored values rounded to the format, with a sample axis of length 1 put in front."""
        return self.rounded(values)[np.newaxis]

    def rounded(self, values: Array) -> Carrier:
        """Numbers of any real type, rounded once to the format, in the carrier (new array)."""
        if values.dtype.kind in "iu" and np.any(np.abs(values.astype(np.float64)) > 2.0**53):
            exact = [round_fraction(Fraction(v), self.format) for v in values.ravel().tolist()]
            return np.array([float(v) for v in exact], self.carrier).reshape(values.shape)
        wide = values.astype(np.float64)
        if self.format == BINARY32:
            with np.errstate(over="ignore", invalid="ignore"):
                return wide.astype(np.float32)
        return round_array(wide, self.format)

    def add(self, a: Carrier, b: Carrier) -> Carrier:
        a, b = self._operands(a, b)
        with np.errstate(all="ignore"):
            return self._result(a + b)

    def subtract(self, a: Carrier, b: Carrier) -> Carrier:
        a, b = self._operands(a, b)
        with np.errstate(all="ignore"):
            return self._result(a - b)

    def multiply(self, a: Carrier, b: Carrier) -> Carrier:
        a, b = self._operands(a, b)
        with np.errstate(all="ignore"):
            return self._result(a * b)

    def divide(self, a: Carrier, b: Carrier) -> Carrier:
        a, b = self._operands(a, b)
        with np.errstate(all="ignore"):
            return self._result(a / b)

    def sqrt(self, a: Carrier) -> Carrier:
        (a,) = self._operands(a)
        with np.errstate(all="ignore"):
            return self._result(np.sqrt(a))

    def function(self, f: Function, a: Carrier) -> Carrier:
        """f rounded correctly, which every accuracy allows; flushed as the contract says."""
        (a,) = self._operands(a)
        return self._result(rounded_function(f, a, self.format))

    def power(self, a: Carrier, exponent: float) -> Carrier:
        """a^exponent for a ≥ 0, right to less than an ulp."""
        (a,) = self._operands(a)
        with np.errstate(all="ignore"):
            return self._result(np.power(np.asarray(a, np.float64), exponent))

    def maximum(self, a: Carrier, b: Carrier) -> Carrier:
        """The larger number; `a` where they compare equal (as −0 and +0 do); NaN if either is.

        ReLU written as maximum(x, 0) then keeps −0 and NaN, as onnxruntime's does.
        """
        a, b = self._operands(a, b)
        with np.errstate(invalid="ignore"):
            return np.where((a < b) | np.isnan(b), b, a)

    def spoiled(self, a: Carrier, by: Carrier) -> Carrier:
        """The same number, and NaN where the other one is NaN or +∞."""
        return np.where(np.isnan(by) | (by == np.inf), np.asarray(np.nan, a.dtype), a)

    def minimum(self, a: Carrier, b: Carrier) -> Carrier:
        """The smaller number; `a` where they compare equal; NaN if either is."""
        a, b = self._operands(a, b)
        with np.errstate(invalid="ignore"):
            return np.where((b < a) | np.isnan(b), b, a)

    def negate(self, a: Carrier) -> Carrier:
        return -a

    def absolute(self, a: Carrier) -> Carrier:
        return np.abs(a)

    def floor(self, a: Carrier) -> Carrier:
        (a,) = self._operands(a)
        return np.asarray(np.floor(a))

    def remainder(self, a: Carrier, b: Carrier) -> Carrier:
        a, b = self._operands(a, b)
        with np.errstate(all="ignore"):
            return self._result(np.fmod(a, b))

    def nearest(self, a: Carrier) -> Carrier:
        (a,) = self._operands(a)
        return np.asarray(np.rint(a))

    def compare(self, relation: Relation, a: Carrier, b: Carrier) -> Carrier:
        a, b = self._operands(a, b)
        with np.errstate(invalid="ignore"):
            match relation:
                case Relation.LESS:
                    holds = a < b
                case Relation.AT_MOST:
                    holds = a <= b
                case Relation.EQUAL:
                    holds = a == b
        return holds.astype(self.carrier)

    def select(self, condition: Carrier, a: Carrier, b: Carrier) -> Carrier:
        return np.where(condition != 0, a, b)

    def multiply_add(self, a: Carrier, b: Carrier, c: Carrier) -> Carrier:
        """a·b + c with one rounding or two, as the contract says."""
        if self.contract.contraction is Contraction.EITHER:
            raise OpenSchedule(f"contract '{self.contract.name}' leaves contraction open")
        if not self._fused:
            return self.add(self.multiply(a, b), c)
        a, b, c = self._operands(a, b, c)
        with np.errstate(all="ignore"):
            return self._result(self._fused_once(a, b, c))

    def truncated_operands(self, a: Carrier, fmt: FloatFormat, rounding: FactorRounding) -> Carrier:
        (a,) = self._operands(a)
        with np.errstate(all="ignore"):
            truncated = rounding is FactorRounding.TRUNCATE
            return truncated_operands(a, fmt, truncated).astype(self.carrier)

    def step(
        self,
        pairs: Sequence[tuple[Carrier, Carrier]],
        total: Carrier | None,
        alignment: int,
        least: int | None,
    ) -> Carrier:
        """Exact in float64 throughout: a step adds some tens of integers of a few bits more than
        the alignment. Raises OpenSchedule for an alignment with which they might not fit."""
        if alignment > WIDEST_ALIGNMENT:
            raise OpenSchedule(f"steps are emulated with at most {WIDEST_ALIGNMENT} bits")
        lowest = self.format.emin if least is None else least
        with np.errstate(all="ignore"):
            exact = [self._product(a, b, lowest) for a, b in pairs]
            if total is not None:
                (held,) = self._operands(total)
                exponent = _exponents(held, self.format.emin)
                exact.append(_Term(held.astype(np.float64), 0.0, np.int32(0), exponent))
            largest = exact[0].exponent
            for term in exact[1:]:
                largest = np.maximum(largest, term.exponent)
            grid = largest - alignment
            whole = sum(term.in_units(grid) for term in exact)
            plain = sum(term.high for term in exact)
            summed = np.where(np.isfinite(plain), _scaled_down(whole, grid), plain)
            result = truncate_array(summed, self.format).astype(self.carrier)
        return self._flushed(result) if self._flush_results else result

    def _product(self, a: Carrier, b: Carrier, least: int) -> _Term:
        """The exact product and its exponent."""
        a, b = self._operands(a, b)
        exponent = _exponents(a, least) + _exponents(b, least)
        x, y = a.astype(np.float64), b.astype(np.float64)
        low: Any = 0.0
        shift: Any = np.int32(0)
        if self.format == BINARY64:  # of the significands: nothing overflows or underflows
            (x, up), (y, down) = np.frexp(x), np.frexp(y)
            shift, low = up + down, _product_error(x, y, x * y)
        high = x * y
        return _Term(high, low, shift, np.where(high == 0, _NO_EXPONENT, exponent))

    def chain(
        self, pairs: Sequence[tuple[Carrier, Carrier]], start: Carrier | None
    ) -> Carrier | None:
        """A whole chain of `multiply` and `multiply_add`, None where there is no shortcut."""
        free = self._flush_operands or self._flush_results
        if free or self.format != BINARY32 or self.contract.contraction is Contraction.EITHER:
            return None
        repaired = partial(_fused_in_float64, self.format)
        return native_chain(pairs, start, self._fused, repaired)

    def _fused_once(self, a: Carrier, b: Carrier, c: Carrier) -> Carrier:
        """A new array that rounds to the format as a·b + c does, made in cache-sized pieces."""
        if self.format == BINARY64:
            return _fused_binary64(a, b, c)
        shape = np.broadcast_shapes(a.shape, b.shape, c.shape)
        size = math.prod(shape)
        if size <= _PIECE or shape[0] == 1:
            return _fused_in_float64(self.format, a, b, c)
        result = np.empty(shape, self.carrier if self._native else np.float64)
        rows = max(1, _PIECE * shape[0] // size)
        for start in range(0, shape[0], rows):
            piece = slice(start, start + rows)
            pieces = (v[piece] if v.ndim == len(shape) and v.shape[0] > 1 else v for v in (a, b, c))
            result[piece] = _fused_in_float64(self.format, *pieces)
        return result

    def _operands(self, *arrays: Carrier) -> tuple[Carrier, ...]:
        if not self._flush_operands:
            return arrays
        # truth values and integers have no subnormal numbers
        return tuple(self._flushed(a.copy()) if a.dtype.kind == "f" else a for a in arrays)

    def _result(self, raw: Carrier) -> Carrier:
        """Round a carrier result (a fresh array) to the format, and flush it if so agreed."""
        if not self._native:
            raw = round_array(raw, self.format)
        elif raw.dtype != self.carrier:
            raw = raw.astype(self.carrier)
        return self._flushed(raw) if self._flush_results else raw

    def _flushed(self, fresh: Carrier) -> Carrier:
        fresh = np.asarray(fresh)
        np.multiply(fresh, 0, out=fresh, where=np.abs(fresh) < self._smallest_normal)
        return fresh


@dataclass(frozen=True)
class _Term:
    """(high + low)·2^shift, exactly, high being the sum rounded, and its exponent."""

    high: FloatArray
    low: Any
    shift: Any
    exponent: IntArray

    def in_units(self, grid: Any) -> FloatArray:
        """The integer next to it toward zero, in units of 2^grid."""
        scaled = np.ldexp(self.high, self.shift - grid)
        whole = np.trunc(scaled)
        beyond = (scaled == whole) & (np.sign(self.low) == -np.sign(scaled))
        return np.asarray(np.where(beyond, whole - np.sign(scaled), whole))


def _scaled_down(whole: Any, grid: Any) -> FloatArray:
    """whole·2^grid, toward zero where float64 does not hold it."""
    least = np.int32(-1074)
    kept = np.trunc(np.ldexp(whole, np.minimum(grid - least, 0)))
    return np.asarray(np.ldexp(kept, np.maximum(grid, least)))


def _exponents(a: Carrier, least: int) -> IntArray:
    """⌊log2|a|⌋, at least `least`; that of a zero is nobody's largest."""
    _, exponent = np.frexp(np.where(np.isfinite(a), a, 0.0))
    return np.where(a == 0, _NO_EXPONENT, np.maximum(exponent - 1, least)).astype(np.int32)


def _fused_in_float64(fmt: FloatFormat, a: Carrier, b: Carrier, c: Carrier) -> FloatArray:
    """A float64 number that rounds to `fmt` as the exact a·b + c does; fmt fits twice in binary64.

    The product is exact. s = fl(product + c) may have been rounded onto a midpoint between two
    numbers of `fmt`, which the second rounding would then resolve as a tie: the double-rounding
    trap. Rounding the sum to odd would avoid it (Boldo & Melquiond, "Emulation of a FMA and
    correctly rounded sums", IEEE Trans. Computers 57, 2008). Only sums on a midpoint need it:
    midpoints are float64 numbers and fl is monotone, so any other s is on the same side of every
    midpoint as the exact sum. The error of the addition is known exactly from TwoSum. Suspects:
    normal numbers with the low bits of a midpoint, and everything subnormal.
    """
    shape = np.broadcast_shapes(a.shape, b.shape, c.shape)
    total = np.empty(shape)
    np.multiply(a.astype(np.float64), b.astype(np.float64), out=total)
    total += c
    suspect = (total.view(np.int64) << (11 + fmt.precision)) == _TOP_BIT
    suspect |= np.abs(total) < 2.0**fmt.emin
    if suspect.any():
        x, y, z = (np.broadcast_to(v, shape)[suspect].astype(np.float64) for v in (a, b, c))
        rounded = total[suspect]
        total[suspect] = _made_odd(rounded, two_sum_error(x * y, z, rounded))
    return total


def two_sum_error(x: FloatArray, y: FloatArray, total: FloatArray) -> FloatArray:
    """x + y − total exactly, for total = fl(x + y) without overflow (Knuth's TwoSum)."""
    y_part = total - x
    x_part = total - y_part
    error: FloatArray = (x - x_part) + (y - y_part)
    return error


def _made_odd(total: FloatArray, error: FloatArray) -> FloatArray:
    """The exact total + error rounded to odd, for total = fl(total + error).

    Unless the error is 0 that is the neighbour with an odd significand: `total` itself, or the
    next float64 in the direction of the error.
    """
    bits = total.view(np.int64)
    moved = ((bits & 1) == 0) & (error != 0) & np.isfinite(error)
    step = np.where(np.signbit(total) == np.signbit(error), 1, -1)
    return np.where(moved, bits + step, bits).view(np.float64)


def _fused_binary64(a: FloatArray, b: FloatArray, c: FloatArray) -> FloatArray:
    """a·b + c in binary64, rounded once.

    Where all magnitudes are moderate, Boldo & Melquiond's algorithm (2008): the product becomes
    high + low exactly, then the three terms are added with one intermediate rounding to odd. The
    limits keep every error term normal and every intermediate finite. With a zero or a
    non-finite operand, or c = 0 and a moderate product, two native operations give the same. What
    is left (very large or very small numbers) is computed in rationals.
    """
    a, b, c = (np.array(v) for v in np.broadcast_arrays(a, b, c))
    result = np.asarray(a * b + c)
    size_a, size_b, size_c = np.abs(a), np.abs(b), np.abs(c)
    moderate = (size_a >= 2.0**-300) & (size_a <= 2.0**300)
    moderate &= (size_b >= 2.0**-300) & (size_b <= 2.0**300)
    plain = (a == 0) | (b == 0) | ~np.isfinite(a) | ~np.isfinite(b) | np.isnan(c)
    plain |= moderate & (c == 0)
    usual = moderate & (size_c >= 2.0**-700) & (size_c <= 2.0**900)
    result[usual] = _boldo_melquiond(a[usual], b[usual], c[usual])
    for where in np.argwhere(~(plain | usual)):
        at = tuple(where)
        result[at] = _fused_scalar(float(a[at]), float(b[at]), float(c[at]))
    return result


def _boldo_melquiond(a: FloatArray, b: FloatArray, c: FloatArray) -> FloatArray:
    high = a * b
    low = _product_error(a, b, high)
    inner = c + low
    inner_error = two_sum_error(c, low, inner)
    outer = high + inner
    outer_error = two_sum_error(high, inner, outer)
    rest = inner_error + outer_error
    rest = _made_odd(rest, two_sum_error(inner_error, outer_error, rest))
    result: FloatArray = outer + rest
    return result


def _product_error(a: FloatArray, b: FloatArray, product: FloatArray) -> FloatArray:
    """a·b − product exactly, for product = fl(a·b) (Dekker's TwoProduct)."""
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    error: FloatArray = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + (
        a_low * b_low
    )
    return error


def _split(a: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Veltkamp's splitting of binary64 numbers into two of at most 26 bits each."""
    scaled = a * 134217729.0
    high = scaled - (scaled - a)
    return high, a - high


def _fused_scalar(a: float, b: float, c: float) -> float:
    """a·b + c rounded once, for finite a, b other than 0 and c not NaN."""
    if math.isinf(c):
        return c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    return math.copysign(float(round_fraction(exact, BINARY64)), -1 if exact < 0 else 1)
