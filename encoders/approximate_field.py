"""The real meaning evaluated in float64: fast, unproved, good enough to guide a search."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np

from onnx_import.graph import Array


class ApproximateReals:
    """`Field` of float64 numbers, whole batches at a time. Nothing it gives supports a verdict."""

    @contextmanager
    def working(self) -> Iterator[None]:
        with np.errstate(all="ignore"):
            yield

    def constant(self, values: Array) -> Any:
        return np.asarray(values, dtype=np.float64)[np.newaxis]

    def number(self, value: Fraction) -> float:
        return float(value)

    def maximum(self, a: Any, b: Any) -> Any:
        return np.maximum(a, b)

    def sqrt(self, a: Any) -> Any:
        return np.sqrt(a)

    def matmul(self, a: Any, b: Any) -> Any:
        return np.matmul(a, b)
