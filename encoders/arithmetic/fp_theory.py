"""Z3's FloatingPoint theory, and the only module that speaks it.

Traps it keeps others out of: `==` on FP terms is identity of data (NaN = NaN, +0 ≠ -0), not IEEE
equality; `+` and `*` take a process-wide rounding mode; `fp.max` leaves max(+0, -0) open; and
`fp.to_real` of an infinity is any real at all, so that no symbolic `fp.to_real` occurs anywhere.

Semantics: SMT-LIB theory FloatingPoint (Brain, Tinelli, Rümmer & Wahl, ARITH 2015), round to
nearest, ties to even. Every NaN is one value there, so payloads and signs of NaN are not modelled.
Terms live in Z3's default context.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import z3

from encoders.arithmetic.runtime import Relation
from encoders.contract.contract import Contraction, RuntimeContract, Subnormals
from encoders.functions.accuracy import Transcendental
from encoders.functions.function import Function
from encoders.numbers.formats import BINARY64, FloatFormat, power_of_two
from onnx_import.graph import Array, DType

Term: TypeAlias = Any
"""An FP term (z3.FPRef); Any because Z3's own operators carry no types."""
Formula: TypeAlias = Any
"""A Boolean term (z3.BoolRef)."""
TermArray: TypeAlias = npt.NDArray[np.object_]


class Mode(Enum):
    """Directed rounding, for saying that an operation is exact."""

    UP = "toward +oo"
    DOWN = "toward -oo"


def sort_of(fmt: FloatFormat) -> Any:
    """The sort (_ FloatingPoint exponent-bits precision).

    Raises ValueError for a format that no such sort describes.
    """
    if not has_sort(fmt):
        raise ValueError(f"{fmt.name} is not an IEEE 754 interchange-like format")
    return z3.FPSort(fmt.exponent_bits, fmt.precision)


def has_sort(fmt: FloatFormat) -> bool:
    """Does a sort of the theory describe the format?"""
    bits = fmt.exponent_bits
    ends = (2 - 2 ** (bits - 1), 2 ** (bits - 1) - 1)
    return bits >= 2 and fmt.precision >= 3 and (fmt.emin, fmt.emax) == ends


def variable(name: str, fmt: FloatFormat) -> Term:
    """An unknown number of a format: any bit pattern, NaN and infinities included."""
    return z3.FP(name, sort_of(fmt))


def variables(name: str, shape: tuple[int, ...], fmt: FloatFormat) -> TermArray:
    """Fresh terms `name[i,j,…]` in an array with a sample axis of length 1 put in front."""
    array = np.empty((1, *shape), dtype=object)
    for index in np.ndindex(*shape):
        array[(0, *index)] = variable(f"{name}[{','.join(map(str, index))}]", fmt)
    return array


# --- values ---------------------------------------------------------------------------------


def constant(value: float | Fraction, fmt: FloatFormat) -> Term:
    """The numeral for a value of the format; ValueError if the format does not have it.

    A float may be infinite, NaN or -0.0. Built from the bits, so that nothing gets rounded.
    """
    sort = sort_of(fmt)
    if isinstance(value, float) and math.isnan(value):
        return z3.fpNaN(sort)
    negative = math.copysign(1.0, value) < 0 if isinstance(value, float) else value < 0
    if isinstance(value, float) and math.isinf(value):
        return z3.fpInfinity(sort, negative)
    magnitude = abs(Fraction(value))
    exponent = max(_floor_log2(magnitude), fmt.emin) if magnitude else fmt.emin
    significand = magnitude / power_of_two(exponent - fmt.precision + 1)
    if significand.denominator != 1 or magnitude > fmt.largest_finite:
        raise ValueError(f"{value} is not a value of {fmt.name}")
    hidden = 2 ** (fmt.precision - 1)
    normal = significand >= hidden
    field = exponent + fmt.emax if normal else 0
    fraction = int(significand) - (hidden if normal else 0)
    return z3.simplify(
        z3.fpFP(
            z3.BitVecVal(int(negative), 1),
            z3.BitVecVal(field, fmt.exponent_bits),
            z3.BitVecVal(fraction, fmt.precision - 1),
        )
    )


def rounded_constant(value: float, fmt: FloatFormat) -> Term:
    """The numeral that a float64 value becomes when stored in the format."""
    return z3.simplify(convert(constant(value, BINARY64), fmt))


def exact_value(numeral: Term) -> Fraction | float:
    """What an FP numeral is: a rational, or a float that is an infinity or NaN.

    Raises ValueError for a term that is not a numeral. -0 gives Fraction(0); see `float_value`.
    """
    term = z3.simplify(numeral)
    if not z3.is_fp_value(term):
        raise ValueError(f"not an FP numeral: {term}")
    if term.isNaN():
        return math.nan
    sign = -1 if term.isNegative() else 1
    if term.isInf():
        return sign * math.inf
    sort = term.sort()
    scale = 2 ** (sort.ebits() - 1) - 2 + sort.sbits() - 1  # -log2 of the smallest subnormal
    field = term.exponent_as_long(True)
    fraction = term.significand_as_long()
    if field:
        fraction += 2 ** (sort.sbits() - 1)
    return power_of_two(max(field, 1) - 1 - scale) * int(sign * fraction)


def float_value(numeral: Term) -> float:
    """An FP numeral as a float, zeros signed; exact for formats no wider than float64."""
    value = exact_value(numeral)
    if isinstance(value, Fraction) and value == 0:
        return -0.0 if z3.simplify(numeral).isNegative() else 0.0
    return float(value)


def model_value(numeral: Term) -> Fraction | float:
    """A float, zeros signed, if float64 holds the numeral's format; else its exact value."""
    sort = numeral.sort()
    within_float64 = sort.ebits() <= BINARY64.exponent_bits and sort.sbits() <= BINARY64.precision
    return float_value(numeral) if within_float64 else exact_value(numeral)


def evaluate(model: Any, term: Term) -> Term:
    """The numeral a model gives a term; one of many where the model leaves it open."""
    return model.eval(term, model_completion=True)


def _floor_log2(value: Fraction) -> int:
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    return exponent if value >= power_of_two(exponent) else exponent - 1


# --- operations, to nearest even unless told otherwise ----------------------------------------


def add(a: Term, b: Term, mode: Mode | None = None) -> Term:
    """a + b, rounded once."""
    return z3.fpAdd(_mode(mode), a, b)


def subtract(a: Term, b: Term, mode: Mode | None = None) -> Term:
    """a - b, rounded once."""
    return z3.fpSub(_mode(mode), a, b)


def multiply(a: Term, b: Term, mode: Mode | None = None) -> Term:
    """a*b, rounded once."""
    return z3.fpMul(_mode(mode), a, b)


def divide(a: Term, b: Term, mode: Mode | None = None) -> Term:
    """a/b, rounded once."""
    return z3.fpDiv(_mode(mode), a, b)


def fma(a: Term, b: Term, c: Term, mode: Mode | None = None) -> Term:
    """a*b + c, rounded once."""
    return z3.fpFMA(_mode(mode), a, b, c)


def sqrt(a: Term, mode: Mode | None = None) -> Term:
    """The square root, rounded once."""
    return z3.fpSqrt(_mode(mode), a)


def is_exact(operation: Callable[..., Term], *operands: Term) -> Formula:
    """Rounding the operation's result up or down makes no difference: it has none to round."""
    up = operation(*operands, mode=Mode.UP)
    return ieee_equal(up, operation(*operands, mode=Mode.DOWN))


def _mode(mode: Mode | None) -> Any:
    match mode:
        case None:
            return z3.RNE()
        case Mode.UP:
            return z3.RTP()
        case Mode.DOWN:
            return z3.RTN()


def negate(a: Term) -> Term:
    """-a, exact: the sign bit alone changes."""
    return z3.fpNeg(a)


def absolute(a: Term) -> Term:
    """|a|, exact: the sign bit is cleared."""
    return z3.fpAbs(a)


def convert(a: Term, fmt: FloatFormat) -> Term:
    """`a` in another format; ValueError if Z3 is known to narrow such a term wrongly."""
    source, target = a.sort(), sort_of(fmt)
    if source.ebits() > target.ebits() and not _narrows_rightly(source.ebits(), source.sbits()):
        raise ValueError(f"Z3 narrows subnormals of {source} wrongly")
    return z3.fpToFP(z3.RNE(), a, target)


def can_narrow(fmt: FloatFormat) -> bool:
    """Does Z3 convert this format's subnormals to shorter exponents rightly?"""
    return _narrows_rightly(fmt.exponent_bits, fmt.precision)


def _narrows_rightly(exponent_bits: int, precision: int) -> bool:
    # z3 5.4: the solver (not the simplifier) lets the exponent of a normalised subnormal wrap in
    # exponent_bits + 1 bits: from (_ FloatingPoint 5 22), 2^-30 becomes 0.5 in a 5-bit format.
    return precision - 1 < 1 << (exponent_bits - 1)


def maximum(a: Term, b: Term) -> Term:
    """The larger; NaN if either is NaN; `a` where they compare equal, as for +0 and -0."""
    larger = z3.If(z3.fpGEQ(a, b), a, b)
    return z3.If(z3.fpIsNaN(a), a, z3.If(z3.fpIsNaN(b), b, larger))


def minimum(a: Term, b: Term) -> Term:
    """The smaller; NaN if either is NaN; `a` where they compare equal."""
    smaller = z3.If(z3.fpLEQ(a, b), a, b)
    return z3.If(z3.fpIsNaN(a), a, z3.If(z3.fpIsNaN(b), b, smaller))


def floor(a: Term) -> Term:
    """The largest integer that is not above a, exact in a's format."""
    return z3.fpRoundToIntegral(z3.RTN(), a)


def nearest(a: Term) -> Term:
    """The nearest integer, ties to even, exact in a's format."""
    return z3.fpRoundToIntegral(z3.RNE(), a)


def flush(a: Term) -> Term:
    """Subnormal numbers become the zero of their sign."""
    sort = a.sort()
    zero = z3.If(z3.fpIsNegative(a), z3.fpMinusZero(sort), z3.fpPlusZero(sort))
    return z3.If(z3.fpIsSubnormal(a), zero, a)


# --- predicates -------------------------------------------------------------------------------


def ieee_equal(a: Term, b: Term) -> Formula:
    """IEEE 754 equality: NaN equals nothing, +0 equals -0."""
    return z3.fpEQ(a, b)


def same(a: Term, b: Term) -> Formula:
    """The same datum: NaN is NaN, +0 is not -0."""
    return a == b


def less_equal(a: Term, b: Term) -> Formula:
    """a ≤ b as IEEE 754 compares: false where either is NaN."""
    return z3.fpLEQ(a, b)


def less(a: Term, b: Term) -> Formula:
    """a < b as IEEE 754 compares: false where either is NaN."""
    return z3.fpLT(a, b)


def is_nan(a: Term) -> Formula:
    """Is it NaN?"""
    return z3.fpIsNaN(a)


def is_finite(a: Term) -> Formula:
    """Is it neither NaN nor infinite?"""
    return z3.Not(z3.Or(z3.fpIsNaN(a), z3.fpIsInf(a)))


def is_subnormal(a: Term) -> Formula:
    """Is it below the smallest normal number in magnitude, and not 0?"""
    return z3.fpIsSubnormal(a)


def is_zero(a: Term) -> Formula:
    """Is it +0 or -0?"""
    return z3.fpIsZero(a)


# --- run-time semantics as FP terms --------------------------------------------------------------


@dataclass(frozen=True)
class FpTermArithmetic:
    """`Arithmetic` over arrays of FP terms: one pinned contract, one format, bit for bit.

    With operands flushed every operation reads subnormals as zeros of their sign; with results
    flushed a subnormal *rounded* result becomes such a zero. `maximum` only selects: it reads
    operands as the contract says and rounds nothing, so nothing is flushed on the way out.
    """

    format: FloatFormat
    contract: RuntimeContract

    def __post_init__(self) -> None:
        if self.contract.exact:
            raise ValueError("real arithmetic has no floating-point terms")
        if not self.contract.pinned:
            raise ValueError(f"contract '{self.contract.name}' allows more than one execution")
        sort_of(self.format)

    def of_type(self, dtype: DType) -> FpTermArithmetic:
        return self.in_format(self.contract.format_of(dtype))

    def in_format(self, fmt: FloatFormat) -> FpTermArithmetic:
        return FpTermArithmetic(fmt, self.contract)

    def converted(self, a: TermArray) -> TermArray:
        """Raises ValueError where Z3 is known to narrow such terms wrongly."""
        return _elementwise(lambda x: self._result(convert(x, self.format)), 1)(a)

    def read(self, a: TermArray) -> TermArray:
        return _elementwise(self._operand, 1)(a)

    def constant(self, values: Array) -> TermArray:
        numbers = np.asarray(values, dtype=np.float64)[np.newaxis]
        return _elementwise(lambda v: rounded_constant(float(v), self.format), 1)(numbers)

    def add(self, a: TermArray, b: TermArray) -> TermArray:
        return self._apply(add, a, b)

    def subtract(self, a: TermArray, b: TermArray) -> TermArray:
        return self._apply(subtract, a, b)

    def multiply(self, a: TermArray, b: TermArray) -> TermArray:
        return self._apply(multiply, a, b)

    def divide(self, a: TermArray, b: TermArray) -> TermArray:
        return self._apply(divide, a, b)

    def sqrt(self, a: TermArray) -> TermArray:
        return self._apply(sqrt, a)

    def maximum(self, a: TermArray, b: TermArray) -> TermArray:
        return _elementwise(lambda x, y: maximum(self._operand(x), self._operand(y)), 2)(a, b)

    def function(self, f: Function, a: TermArray) -> TermArray:
        raise Transcendental(f"IEEE 754 does not fix the bits of {f.name}")

    def minimum(self, a: TermArray, b: TermArray) -> TermArray:
        return _elementwise(lambda x, y: minimum(self._operand(x), self._operand(y)), 2)(a, b)

    def negate(self, a: TermArray) -> TermArray:
        return _elementwise(negate, 1)(a)

    def absolute(self, a: TermArray) -> TermArray:
        return _elementwise(absolute, 1)(a)

    def floor(self, a: TermArray) -> TermArray:
        return _elementwise(lambda x: floor(self._operand(x)), 1)(a)

    def nearest(self, a: TermArray) -> TermArray:
        return _elementwise(lambda x: nearest(self._operand(x)), 1)(a)

    def compare(self, relation: Relation, a: TermArray, b: TermArray) -> TermArray:
        holds = {
            Relation.LESS: less,
            Relation.AT_MOST: less_equal,
            Relation.EQUAL: ieee_equal,
        }[relation]
        one, zero = constant(1.0, self.format), constant(0.0, self.format)

        def test(x: Term, y: Term) -> Term:
            return z3.If(holds(self._operand(x), self._operand(y)), one, zero)

        return _elementwise(test, 2)(a, b)

    def select(self, condition: TermArray, a: TermArray, b: TermArray) -> TermArray:
        return _elementwise(lambda c, x, y: z3.If(is_zero(c), y, x), 3)(condition, a, b)

    def multiply_add(self, a: TermArray, b: TermArray, c: TermArray) -> TermArray:
        if self.contract.contraction is Contraction.ALWAYS:
            return self._apply(fma, a, b, c)
        return self.add(self.multiply(a, b), c)

    def _operand(self, term: Term) -> Term:
        return flush(term) if self.contract.operands is Subnormals.FLUSH else term

    def _result(self, term: Term) -> Term:
        return flush(term) if self.contract.results is Subnormals.FLUSH else term

    def _apply(self, operation: Callable[..., Term], *arrays: TermArray) -> TermArray:
        def one(*terms: Term) -> Term:
            return self._result(operation(*(self._operand(t) for t in terms)))

        return _elementwise(one, len(arrays))(*arrays)


def _elementwise(function: Callable[..., Term], arity: int) -> Callable[..., TermArray]:
    """`function` over broadcast arrays; the result is an array even where numpy would unwrap."""
    ufunc = np.frompyfunc(function, arity, 1)

    def apply(*arrays: TermArray) -> TermArray:
        return np.asarray(ufunc(*arrays), dtype=object)

    return apply
