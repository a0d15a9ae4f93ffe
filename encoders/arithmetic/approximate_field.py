"""The real semantics in float64 or a little wider: fast, unproved, good enough to guide a
search."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np

from encoders.arithmetic.runtime import Relation
from encoders.arithmetic.sparse_product import sparse_product
from encoders.functions.function import Function
from onnx_import.graph import Array


class ApproximateReals:
    """`Field` of float64 numbers, whole batches at a time. Nothing it gives supports a verdict.

    `wide` takes numpy's longest float instead, where this machine has one longer than float64: the
    errors of a float64 runtime cannot be seen in float64.
    """

    def __init__(self, wide: bool = False) -> None:
        self.dtype: type[Any] = np.longdouble if wide else np.float64

    @contextmanager
    def working(self) -> Iterator[None]:
        with np.errstate(all="ignore"):
            yield

    def constant(self, values: Array) -> Any:
        return np.asarray(values, dtype=self.dtype)[np.newaxis]

    def number(self, value: Fraction) -> Any:
        near = float(value)
        return self.dtype(near) + self.dtype(float(value - Fraction(near)))

    def maximum(self, a: Any, b: Any) -> Any:
        return np.maximum(a, b)

    def sqrt(self, a: Any) -> Any:
        return np.sqrt(a)

    def pi(self) -> float:
        return math.pi

    def function(self, f: Function, a: Any) -> Any:
        return approximate_function(f, a)

    def floor(self, a: Any) -> Any:
        return np.floor(a)

    def nearest(self, a: Any) -> Any:
        return np.rint(a)

    def compare(self, relation: Relation, a: Any, b: Any) -> Any:
        tests = {Relation.LESS: np.less, Relation.AT_MOST: np.less_equal, Relation.EQUAL: np.equal}
        return tests[relation](a, b).astype(np.float64)

    def select(self, condition: Any, a: Any, b: Any) -> Any:
        return np.where(np.asarray(condition) != 0, a, b)

    def matmul(self, a: Any, b: Any) -> Any:
        return sparse_product(a, b)


def approximate_function(f: Function, a: Any) -> Any:
    """f right to a few ulps, in float64 or wider; infinities and NaN as IEEE 754 recommends."""
    with np.errstate(all="ignore"):
        return f.in_floats(np.asarray(a, np.result_type(np.asarray(a), np.float64)))
