"""What a runtime computes with: the operations an operator's run-time meaning is written in.

An operator's `runtime` function is written once against `Arithmetic` and then means whatever the
arithmetic makes of it: bits (`NumpyArithmetic`), Z3 FloatingPoint terms (`FpTermArithmetic`), a
range with a rounding error (`ErrorArithmetic`), or exact rationals (`RationalArithmetic`, the
degenerate contract with u = 0).

Every array has a leading sample axis; constants have length 1 there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from encoders.contract import (
    AnyOrder,
    BiasPlacement,
    Blocked,
    Order,
    Pairwise,
    RuntimeContract,
    Sequential,
)
from onnx_import.graph import Array

T = TypeVar("T")


class Arithmetic(Protocol[T]):
    """Elementwise, broadcasting operations of one runtime, in one format."""

    def constant(self, values: Array) -> T:
        """Stored values as the runtime holds them (rounded to the compute format), with a
        sample axis of length 1 put in front."""

    def add(self, a: T, b: T) -> T: ...
    def subtract(self, a: T, b: T) -> T: ...
    def multiply(self, a: T, b: T) -> T: ...
    def divide(self, a: T, b: T) -> T: ...
    def sqrt(self, a: T) -> T: ...
    def maximum(self, a: T, b: T) -> T: ...

    def multiply_add(self, a: T, b: T, c: T) -> T:
        """a*b + c, fused or not as the contract's contraction says."""


def sum_of_products(
    arithmetic: Arithmetic[T],
    contract: RuntimeContract,
    pairs: Sequence[tuple[T, T]],
    bias: T | None = None,
) -> T:
    """Σ a_k·b_k (+ bias) by the contract's schedule: the one place that says what each order is.

    Raises ValueError for an order or bias placement that is not pinned, and for no terms at all.
    """
    if not pairs:
        raise ValueError("a sum of no products")
    if isinstance(contract.order, AnyOrder) or (
        bias is not None and contract.bias is BiasPlacement.ANY
    ):
        raise ValueError("this contract does not pin the order of a sum")
    if bias is not None and contract.bias is BiasPlacement.FIRST:
        return _ordered(arithmetic, contract.order, pairs, bias, bias_first=True)
    if bias is not None and contract.bias is BiasPlacement.AFTER_FIRST_BLOCK:
        return _ordered(arithmetic, contract.order, pairs, bias, bias_first=False)
    total = _ordered(arithmetic, contract.order, pairs, None, bias_first=False)
    return total if bias is None else arithmetic.add(total, bias)


def _ordered(
    arithmetic: Arithmetic[T],
    order: Order,
    pairs: Sequence[tuple[T, T]],
    bias: T | None,
    bias_first: bool,
) -> T:
    match order:
        case Sequential():
            return _blocks(arithmetic, pairs, len(pairs), bias, bias_first)
        case Blocked(size):
            return _blocks(arithmetic, pairs, size, bias, bias_first)
        case Pairwise():
            total = _halves(arithmetic, pairs)
            return total if bias is None else arithmetic.add(bias, total)
        case AnyOrder():
            raise ValueError("this contract does not pin the order of a sum")


def _blocks(
    arithmetic: Arithmetic[T],
    pairs: Sequence[tuple[T, T]],
    size: int,
    bias: T | None,
    bias_first: bool,
) -> T:
    total: T | None = None
    for start in range(0, len(pairs), size):
        block = pairs[start : start + size]
        if start == 0 and bias is not None and bias_first:
            total = _chain(arithmetic, block, bias)
            continue
        partial = _chain(arithmetic, block, None)
        if total is None:
            total = partial if bias is None else arithmetic.add(partial, bias)
        else:
            total = arithmetic.add(total, partial)
    assert total is not None
    return total


def _chain(arithmetic: Arithmetic[T], pairs: Sequence[tuple[T, T]], start: T | None) -> T:
    rest = pairs
    if start is None:
        start, rest = arithmetic.multiply(*pairs[0]), pairs[1:]
    for a, b in rest:
        start = arithmetic.multiply_add(a, b, start)
    return start


def _halves(arithmetic: Arithmetic[T], pairs: Sequence[tuple[T, T]]) -> T:
    if len(pairs) == 1:
        return arithmetic.multiply(*pairs[0])
    middle = (len(pairs) + 1) // 2
    left = _halves(arithmetic, pairs[:middle])
    if len(pairs) - middle == 1:
        return arithmetic.multiply_add(*pairs[middle], left)
    return arithmetic.add(left, _halves(arithmetic, pairs[middle:]))
