"""The real meaning as Z3 terms over the reals."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import z3

from encoders.exact_fields import object_array
from encoders.operator import ObjectArray
from onnx_import.graph import Array


class RealTerms:
    """`Field` of Z3 real terms in object arrays; stored numbers are exact rationals.

    Multiplying by a stored 0 or 1 builds no term, so sparse rows stay small.
    """

    def constant(self, values: Array) -> ObjectArray:
        flat = np.asarray(values, np.float64).ravel().tolist()
        return object_array((self.number(Fraction(v)) for v in flat), np.shape(values))[np.newaxis]

    def number(self, value: Fraction) -> Any:
        return z3.RatVal(value.numerator, value.denominator)

    def maximum(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return np.asarray(_larger(a, b), dtype=object)

    def sqrt(self, a: ObjectArray) -> ObjectArray:
        return object_array((z3.Sqrt(v) for v in a.ravel().tolist()), a.shape)

    def matmul(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return np.asarray(np.matmul(a, b), dtype=object)


_larger = np.frompyfunc(lambda a, b: z3.If(a >= b, a, b), 2, 1)
