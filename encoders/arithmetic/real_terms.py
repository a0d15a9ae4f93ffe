"""The real semantics as Z3 terms over the reals."""

from __future__ import annotations

import operator
from fractions import Fraction
from typing import Any

import numpy as np
import z3

from encoders.arithmetic.exact_fields import ObjectArray, object_array
from encoders.arithmetic.runtime import Relation
from encoders.functions.accuracy import Transcendental
from encoders.functions.curve import Number
from encoders.functions.function import Function
from onnx_import.graph import Array


class RealTerms:
    """`Field` of Z3 real terms in object arrays; stored numbers are exact rationals.

    Multiplying by a stored 0 or 1 builds no term, so sparse rows stay small.
    """

    def constant(self, values: Array) -> ObjectArray:
        flat = np.asarray(values, np.float64).ravel().tolist()
        return object_array((rational_term(Fraction(v)) for v in flat), np.shape(values))[
            np.newaxis
        ]

    def number(self, value: Fraction) -> ObjectArray:
        """With an axis of length 1: a term alone would take an array for a number of its own."""
        return object_array((rational_term(value),), (1,))

    def maximum(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return np.asarray(_larger(a, b), dtype=object)

    def sqrt(self, a: ObjectArray) -> ObjectArray:
        return object_array((z3.Sqrt(v) for v in a.ravel().tolist()), a.shape)

    def pi(self) -> Number:
        raise Transcendental("Z3 has no term for π")

    def function(self, f: Function, a: ObjectArray) -> ObjectArray:
        raise Transcendental(f"Z3 has no term for {f.name}")

    def floor(self, a: ObjectArray) -> ObjectArray:
        return np.asarray(_floor(a), dtype=object)

    def nearest(self, a: ObjectArray) -> ObjectArray:
        return np.asarray(_nearest(a), dtype=object)

    def compare(self, relation: Relation, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        one, zero = z3.RealVal(1), z3.RealVal(0)
        tests = {Relation.LESS: operator.lt, Relation.AT_MOST: operator.le}
        holds = tests.get(relation, operator.eq)
        test = np.frompyfunc(lambda x, y: z3.If(holds(x, y), one, zero), 2, 1)
        return np.asarray(test(a, b), dtype=object)

    def select(self, condition: ObjectArray, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return np.asarray(_chosen(condition, a, b), dtype=object)

    def matmul(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return np.asarray(np.matmul(a, b), dtype=object)


def _whole(x: Any) -> Any:
    """The floor of a term, or of a plain number that multiplying by 0 or 1 left as it was."""
    return z3.ToReal(z3.ToInt(x))


def _nearest_whole(x: Any) -> Any:
    low = _whole(x)
    fraction, half = x - low, z3.RealVal("1/2")
    even = 2 * _whole(low / 2) == low
    return z3.If(z3.Or(fraction < half, z3.And(fraction == half, even)), low, low + 1)


_floor = np.frompyfunc(_whole, 1, 1)
_nearest = np.frompyfunc(_nearest_whole, 1, 1)
_chosen = np.frompyfunc(lambda c, a, b: z3.If(c != 0, a, b), 3, 1)
_larger = np.frompyfunc(lambda a, b: z3.If(a >= b, a, b), 2, 1)


def rational_term(value: Fraction) -> Any:
    """A rational numeral; from text, which is several times faster than z3.RatVal."""
    return z3.RealVal(f"{value.numerator}/{value.denominator}")
