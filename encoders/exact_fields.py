"""Exact numbers for real meanings, in numpy object arrays: rationals, and balls around reals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import numpy.typing as npt

from encoders.formats import power_of_two
from onnx_import.graph import Array

ObjectArray = npt.NDArray[np.object_]


class Rationals:
    """`Field` of exact rationals (`flint.fmpq`).

    Division by zero raises ZeroDivisionError.
    """

    @contextmanager
    def working(self) -> Iterator[None]:
        """Surround a computation with this; rationals need no preparation."""
        yield

    def constant(self, values: Array) -> ObjectArray:
        """The exact values, with a sample axis of length 1. ValueError for inf and NaN."""
        return object_array(map(_rational, _pairs(values)), values.shape)[np.newaxis]

    def number(self, value: Fraction) -> flint.fmpq:
        return flint.fmpq(value.numerator, value.denominator)

    def maximum(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return np.asarray(np.maximum(a, b), dtype=object)

    def sqrt(self, a: ObjectArray) -> ObjectArray:
        """Square roots of perfect squares; ValueError for any other number."""
        return object_array((_rational_root(v) for v in a.ravel().tolist()), a.shape)

    def matmul(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return _matmul(a, b, flint.fmpq_mat)


class Balls:
    """`Field` of balls (`flint.arb`): midpoint, radius, computed with `bits` bits.

    Every result contains the exact one. Arithmetic on balls outside this class's methods takes
    its precision from flint's context, so a computation belongs inside `with balls.working():`.
    """

    def __init__(self, bits: int = 300) -> None:
        self.bits = bits

    @contextmanager
    def working(self) -> Iterator[None]:
        """Sets flint's working precision to `bits`, and puts the old one back."""
        with flint.ctx.workprec(self.bits):
            yield

    def constant(self, values: Array) -> ObjectArray:
        """Balls of radius 0, with a sample axis of length 1. ValueError for inf and NaN."""
        if values.dtype.kind in "iub":
            balls: Iterable[flint.arb] = (flint.arb(int(v)) for v in values.ravel().tolist())
        else:
            balls = map(flint.arb, _finite(values).ravel().tolist())
        return object_array(balls, values.shape)[np.newaxis]

    def number(self, value: Fraction) -> flint.arb:
        with self.working():
            return flint.arb(flint.fmpq(value.numerator, value.denominator))

    def maximum(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        with self.working():
            return np.asarray(_ball_maximum(a, b), dtype=object)

    def sqrt(self, a: ObjectArray) -> ObjectArray:
        """Square roots; a ball that contains negative numbers gives NaN, as in arb."""
        with self.working():
            return object_array((v.sqrt() for v in a.ravel().tolist()), a.shape)

    def matmul(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        with self.working():
            return _matmul(a, b, flint.arb_mat)


class RationalArithmetic:
    """`Arithmetic` over rationals in object arrays: the degenerate contract, u = 0.

    No operation rounds, not even `constant`. Division by zero raises ZeroDivisionError, `sqrt` of
    anything but a perfect square ValueError: there are no infinities and no NaN.
    """

    def __init__(self) -> None:
        self._field = Rationals()

    def constant(self, values: Array) -> ObjectArray:
        return self._field.constant(values)

    def add(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return np.asarray(a + b, dtype=object)

    def subtract(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return np.asarray(a - b, dtype=object)

    def multiply(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return np.asarray(a * b, dtype=object)

    def divide(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return np.asarray(a / b, dtype=object)

    def sqrt(self, a: ObjectArray) -> ObjectArray:
        return self._field.sqrt(a)

    def maximum(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return self._field.maximum(a, b)

    def multiply_add(self, a: ObjectArray, b: ObjectArray, c: ObjectArray) -> ObjectArray:
        return np.asarray(a * b + c, dtype=object)


def enclosure(number: flint.arb | flint.fmpq) -> tuple[Fraction, Fraction]:
    """Exact rational [lo, hi] around a number of either field; lo = hi for a rational.

    Raises ValueError for a ball that is not finite.
    """
    if isinstance(number, flint.fmpq):
        exact = fraction(number)
        return exact, exact
    if not number.is_finite():
        raise ValueError("a ball that is not finite encloses no real number")
    middle, radius = _dyadic(number.mid()), _dyadic(number.rad())
    return middle - radius, middle + radius


def fraction(number: flint.fmpq) -> Fraction:
    return Fraction(int(number.p), int(number.q))


def object_array(items: Iterable[Any], shape: tuple[int, ...]) -> ObjectArray:
    """Items in C order as an object array of this shape (numpy must not look inside them)."""
    array = np.empty(shape, dtype=object)
    array.reshape(-1)[:] = list(items)
    return array


_ball_maximum = np.frompyfunc(flint.arb.max, 2, 1)


def _dyadic(exact: flint.arb) -> Fraction:
    mantissa, exponent = exact.man_exp()
    return int(mantissa) * power_of_two(int(exponent))


def _finite(values: Array) -> npt.NDArray[np.float64]:
    wide = values.astype(np.float64)
    if not np.all(np.isfinite(wide)):
        raise ValueError("infinity and NaN are not real numbers")
    return wide


def _pairs(values: Array) -> Iterable[tuple[int, int]]:
    """(m, e) with value m·2^e, for every element in C order."""
    if values.dtype.kind in "iub":
        return ((int(v), 0) for v in values.ravel().tolist())
    fractions, exponents = np.frexp(_finite(values).ravel())
    mantissas = (fractions * 2.0**53).astype(np.int64).tolist()
    return zip(mantissas, (exponents - 53).tolist(), strict=True)


def _rational(pair: tuple[int, int]) -> flint.fmpq:
    mantissa, exponent = pair
    if exponent >= 0:
        return flint.fmpq(mantissa << exponent)
    return flint.fmpq(mantissa, 1 << -exponent)


def _rational_root(value: flint.fmpq) -> flint.fmpq:
    if value < 0 or not (value.p.is_square() and value.q.is_square()):
        raise ValueError(f"{value} is not the square of a rational")
    return flint.fmpq(value.p.isqrt(), value.q.isqrt())


def _matmul(a: ObjectArray, b: ObjectArray, matrix: Any) -> ObjectArray:
    """Matrix product over the last two axes by flint; matrices that broadcast are built once."""
    rows, inner, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    if inner != b.shape[-2]:
        raise ValueError(f"matrix product of shapes {a.shape} and {b.shape}")
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if not inner:
        raise ValueError("matrix product with no terms")
    lefts = [matrix(rows, inner, m.ravel().tolist()) for m in a.reshape(-1, rows, inner)]
    rights = [matrix(inner, columns, m.ravel().tolist()) for m in b.reshape(-1, inner, columns)]
    left_at = np.broadcast_to(np.arange(len(lefts)).reshape(a.shape[:-2]), lead).ravel()
    right_at = np.broadcast_to(np.arange(len(rights)).reshape(b.shape[:-2]), lead).ravel()
    products = (lefts[i] * rights[j] for i, j in zip(left_at, right_at, strict=True))
    entries = (entry for product in products for entry in product.entries())
    return object_array(entries, (*lead, rows, columns))
