"""Derivatives of formulas by dual numbers: a value and a slope, over balls or power series.

Every real semantics of a scalar formula can be read over these numbers, so that a formula's
derivative need not be written beside it. Where it is open which of two numbers is the larger, the
slope of the maximum is a ball around both: Clarke's generalised gradient, which holds a slope that
any difference quotient is (Clarke 1983, theorem 2.3.7).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import flint
import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray, object_array
from encoders.arithmetic.series_field import Smooth
from encoders.functions.accuracy import Transcendental
from encoders.functions.curve import Number, Reals
from encoders.functions.function import Function
from onnx_import.graph import Array


@dataclass(frozen=True)
class Dual:
    """value + slope·t, of t² = 0. The numbers of both are of one field."""

    value: Number
    slope: Number

    def __add__(self, other: Number) -> Dual:
        b = _dual(other)
        return Dual(self.value + b.value, self.slope + b.slope) if b else NotImplemented

    def __sub__(self, other: Number) -> Dual:
        b = _dual(other)
        return Dual(self.value - b.value, self.slope - b.slope) if b else NotImplemented

    def __rsub__(self, other: Number) -> Dual:
        return Dual(other, 0) - self

    def __neg__(self) -> Dual:
        return Dual(-self.value, -self.slope)

    def __mul__(self, other: Number) -> Dual:
        b = _dual(other)
        if b is None:
            return NotImplemented
        return Dual(self.value * b.value, self.slope * b.value + self.value * b.slope)

    def __truediv__(self, other: Number) -> Dual:
        b = _dual(other)
        if b is None:
            return NotImplemented
        quotient = self.value / b.value
        return Dual(quotient, (self.slope - quotient * b.slope) / b.value)

    def __rtruediv__(self, other: Number) -> Dual:
        return Dual(other, 0) / self

    __radd__, __rmul__ = __add__, __mul__


def _dual(other: Number) -> Dual | None:
    """The number as a dual one; None of an array, whose elements numpy then takes one by one."""
    if isinstance(other, np.ndarray):
        return None
    return other if isinstance(other, Dual) else Dual(other, 0)


class DualField(Smooth):
    """`Field` of dual numbers over `inner`, for scalar formulas; of balls it knows maxima too."""

    def __init__(self, inner: Reals) -> None:
        self.inner = inner

    def variable(self, x: ObjectArray) -> ObjectArray:
        """The number that derivatives are taken by, of this value in each place."""
        return object_array((Dual(v, 1) for v in np.ravel(x).tolist()), np.shape(x))

    def constant(self, values: Array) -> ObjectArray:
        held = np.asarray(self.inner.constant(values), dtype=object)
        return object_array((Dual(v, 0) for v in held.ravel().tolist()), held.shape)

    def number(self, value: Fraction) -> Dual:
        return Dual(self.inner.number(value), 0)

    def pi(self) -> Dual:
        return Dual(self.inner.pi(), 0)

    def sqrt(self, a: ObjectArray) -> ObjectArray:
        values, slopes = parts(a)
        roots = np.asarray(self.inner.sqrt(values), dtype=object)
        pairs = zip(roots.ravel().tolist(), slopes.ravel().tolist(), strict=True)
        return object_array((Dual(r, s / (2 * r)) for r, s in pairs), roots.shape)

    def function(self, f: Function, a: ObjectArray) -> ObjectArray:
        """Raises Transcendental for a function of which no derivative is known."""
        formula = f.shape.pieces[0].slope
        values, slopes = parts(a)
        made = np.ravel(self.inner.function(f, values)).tolist()
        rates = np.ravel(np.asarray(formula(self.inner, values), dtype=object)).tolist()
        each = zip(made, rates, slopes.ravel().tolist(), strict=True)
        return object_array((Dual(v, rate * s) for v, rate, s in each), values.shape)

    def maximum(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        """Raises Transcendental over anything but balls."""
        first, second = np.broadcast_arrays(np.asarray(a, object), np.asarray(b, object))
        (values, slopes), (others, rates) = parts(first), parts(second)
        pairs = zip(values.flat, others.flat, slopes.flat, rates.flat, strict=True)
        return object_array((_larger(*each) for each in pairs), values.shape)


def parts(a: ObjectArray) -> tuple[ObjectArray, ObjectArray]:
    """Values and slopes of dual numbers; other numbers are constants."""
    held = np.asarray(a, dtype=object)
    numbers = [v if isinstance(v, Dual) else Dual(v, 0) for v in held.flat]
    values, slopes = ([n.value for n in numbers], [n.slope for n in numbers])
    return object_array(values, held.shape), object_array(slopes, held.shape)


def _larger(a: Number, b: Number, slope: Number, rate: Number) -> Dual:
    """The larger of two numbers of these slopes: where it is open which, one around both."""
    above = a - b
    if not isinstance(above, flint.arb):
        raise Transcendental("a maximum has no derivative everywhere")
    if above > 0:
        return Dual(a, slope)
    if above < 0:
        return Dual(b, rate)
    return Dual(flint.arb(a).max(b), flint.arb(slope).union(flint.arb(rate)))
