"""Exact numbers for real semantics, in numpy object arrays: rationals, and balls around reals."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import numpy.typing as npt

from encoders.arithmetic.runtime import Relation
from encoders.functions.accuracy import Transcendental
from encoders.functions.function import Function
from encoders.numbers.formats import power_of_two
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

    def pi(self) -> flint.fmpq:
        raise Transcendental("π is not rational")

    def function(self, f: Function, a: ObjectArray) -> ObjectArray:
        raise Transcendental(f"{f.name} of a rational is not rational")

    def floor(self, a: ObjectArray) -> ObjectArray:
        return object_array((_floor(v) for v in a.ravel().tolist()), a.shape)

    def nearest(self, a: ObjectArray) -> ObjectArray:
        return object_array((flint.fmpq(round(fraction(v))) for v in a.ravel().tolist()), a.shape)

    def compare(self, relation: Relation, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        with np.errstate(all="ignore"):
            return np.asarray(_RATIONAL_TESTS[relation](a, b), dtype=object)

    def select(self, condition: ObjectArray, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return np.asarray(_rational_choice(condition, a, b), dtype=object)

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

    def pi(self) -> flint.arb:
        with self.working():
            return flint.arb.pi()

    def function(self, f: Function, a: ObjectArray) -> ObjectArray:
        """Outside the domain (log of a ball with numbers ≤ 0) the ball is NaN, as in arb."""
        with self.working():
            return object_array(map(f.on_balls, a.ravel().tolist()), a.shape)

    def floor(self, a: ObjectArray) -> ObjectArray:
        with self.working():
            return object_array((v.floor() for v in a.ravel().tolist()), a.shape)

    def nearest(self, a: ObjectArray) -> ObjectArray:
        """The nearest integers, ties to even; a ball around both for an open choice."""
        with self.working():
            return object_array((_ball_nearest(v) for v in a.ravel().tolist()), a.shape)

    def compare(self, relation: Relation, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        """1, 0, or a ball around both where the balls leave it open."""
        with self.working():
            return np.asarray(_BALL_TESTS[relation](a, b), dtype=object)

    def select(self, condition: ObjectArray, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        """a or b, or a ball around both where the condition is not decided."""
        with self.working():
            return np.asarray(_ball_choice(condition, a, b), dtype=object)

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

    def integers(self) -> RationalArithmetic:
        return self

    def converted(self, a: ObjectArray) -> ObjectArray:
        return a

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

    def function(self, f: Function, a: ObjectArray) -> ObjectArray:
        return self._field.function(f, a)

    def minimum(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return np.asarray(-self._field.maximum(-a, -b), dtype=object)

    def negate(self, a: ObjectArray) -> ObjectArray:
        return np.asarray(-a, dtype=object)

    def absolute(self, a: ObjectArray) -> ObjectArray:
        return self._field.maximum(a, np.asarray(-a, dtype=object))

    def floor(self, a: ObjectArray) -> ObjectArray:
        return self._field.floor(a)

    def remainder(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        ratio = self.absolute(np.asarray(a / b, dtype=object))
        left = self.absolute(a) - self.absolute(b) * self.floor(ratio)
        return np.asarray(np.where(np.asarray(a < 0, bool), -left, left), dtype=object)

    def nearest(self, a: ObjectArray) -> ObjectArray:
        return self._field.nearest(a)

    def compare(self, relation: Relation, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return self._field.compare(relation, a, b)

    def select(self, condition: ObjectArray, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return self._field.select(condition, a, b)

    def multiply_add(self, a: ObjectArray, b: ObjectArray, c: ObjectArray) -> ObjectArray:
        return np.asarray(a * b + c, dtype=object)

    def step(
        self,
        pairs: Sequence[tuple[ObjectArray, ObjectArray]],
        total: ObjectArray | None,
        alignment: int,
        least: int | None,
    ) -> ObjectArray:
        products = sum(a * b for a, b in pairs)
        return np.asarray(products if total is None else total + products, dtype=object)


_LONGEST = 20000  # binary places


def enclosure(number: flint.arb | flint.fmpq) -> tuple[Fraction, Fraction]:
    """Rational [lo, hi] around a number of either field; lo = hi for a rational.

    The ends of a ball are exact, unless it is so near 0 that they would be too long to write down.
    Raises ValueError for a ball that is not finite.
    """
    if isinstance(number, flint.fmpq):
        exact = fraction(number)
        return exact, exact
    if not number.is_finite():
        raise ValueError("a ball that is not finite encloses no real number")
    if number != 0 and abs(number) < flint.arb(2) ** -_LONGEST:
        return power_of_two(-_LONGEST) * (-1 if not number > 0 else 0), power_of_two(-_LONGEST)
    middle, radius = (_writable(part) for part in (number.mid(), number.rad()))
    width = radius[1] + (middle[1] - middle[0])
    return middle[0] - width, middle[0] + width


def _writable(exact: flint.arb) -> tuple[Fraction, Fraction]:
    """A dyadic number twice, or 0 and 2^-_LONGEST around the size of one too long to write down."""
    if exact != 0 and abs(exact) < flint.arb(2) ** -_LONGEST:
        return Fraction(0), power_of_two(-_LONGEST)
    found = _dyadic(exact)
    return found, found


def fraction(number: flint.fmpq) -> Fraction:
    """A rational number of FLINT as one of Python."""
    return Fraction(int(number.p), int(number.q))


def object_array(items: Iterable[Any], shape: tuple[int, ...]) -> ObjectArray:
    """Items in C order as an object array of this shape (numpy must not look inside them)."""
    array = np.empty(shape, dtype=object)
    array.reshape(-1)[:] = list(items)
    return array


_ball_maximum = np.frompyfunc(flint.arb.max, 2, 1)


def _floor(value: flint.fmpq) -> flint.fmpq:
    return flint.fmpq(int(value.p) // int(value.q))


def _test(holds: Callable[[Any, Any], bool]) -> Any:
    return np.frompyfunc(lambda a, b: flint.fmpq(int(holds(a, b))), 2, 1)


def _ball_test(holds: Callable[[Any, Any], bool], fails: Callable[[Any, Any], bool]) -> Any:
    def decide(a: flint.arb, b: flint.arb) -> flint.arb:
        if holds(a, b):
            return flint.arb(1)
        return flint.arb(0) if fails(a, b) else flint.arb(0).union(flint.arb(1))

    return np.frompyfunc(decide, 2, 1)


_FAR = flint.arb(2) ** 20000


def _ball_nearest(value: flint.arb) -> flint.arb:
    if not abs(value) < _FAR:  # beyond that, or no number: the same within half a unit
        return value + flint.arb(0, 0.5)
    low, high = (round(end) for end in enclosure(value))
    return flint.arb(low).union(flint.arb(high))


def _ball_select(condition: flint.arb, a: flint.arb, b: flint.arb) -> flint.arb:
    if condition == 0:
        return b
    return a if condition != 0 else a.union(b)


_RATIONAL_TESTS = {
    Relation.LESS: _test(operator.lt),
    Relation.AT_MOST: _test(operator.le),
    Relation.EQUAL: _test(operator.eq),
}
# comparisons of balls hold only if they hold for all their points
_BALL_TESTS = {
    Relation.LESS: _ball_test(operator.lt, operator.ge),
    Relation.AT_MOST: _ball_test(operator.le, operator.gt),
    Relation.EQUAL: _ball_test(operator.eq, operator.ne),
}
_rational_choice = np.frompyfunc(lambda c, a, b: a if c != 0 else b, 3, 1)
_ball_choice = np.frompyfunc(_ball_select, 3, 1)


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
