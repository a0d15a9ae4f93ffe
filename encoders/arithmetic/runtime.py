"""What a runtime computes with: the operations an operator's run-time semantics is written in.

An operator's `runtime` function is written once against `Arithmetic` and then means whatever the
arithmetic makes of it: bits (`NumpyArithmetic`), Z3 FloatingPoint terms (`FpTermArithmetic`), a
range with a rounding error (`ErrorArithmetic`), or exact rationals (`RationalArithmetic`, the
degenerate contract with u = 0).

Every array has a leading sample axis; constants have length 1 there.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import lru_cache, reduce
from typing import Protocol, TypeGuard, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.values import E, Movement, V
from encoders.contract.contract import (
    AnyOrder,
    BiasPlacement,
    FactorRounding,
    OpenSchedule,
    RuntimeContract,
)
from encoders.contract.orders import (
    AlignedSteps,
    Blocked,
    Blocks,
    Dwindling,
    Lanes,
    Merges,
    Sequential,
    Strided,
    block_lengths,
    merges_of,
)
from encoders.functions.function import Function
from encoders.numbers.formats import FloatFormat
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Array, DType


class Relation(Enum):
    """How two numbers may compare."""

    LESS = "<"
    AT_MOST = "≤"
    EQUAL = "="


class Arithmetic(Protocol[V]):
    """Elementwise, broadcasting operations of one runtime, in one format."""

    def constant(self, values: Array) -> V:
        """Numbers of a formula or an attribute as the runtime computes with them, rounded to the
        format, with a sample axis of length 1 put in front. Stored numbers have a longer way
        (`encoders.arithmetic.number_path`) and are given to an operator as its inputs."""

    def add(self, a: V, b: V) -> V:
        """a + b, rounded to the format."""

    def subtract(self, a: V, b: V) -> V:
        """a − b, rounded to the format."""

    def multiply(self, a: V, b: V) -> V:
        """a·b, rounded to the format."""

    def divide(self, a: V, b: V) -> V:
        """a/b, rounded to the format."""

    def sqrt(self, a: V) -> V:
        """The square root, rounded to the format."""

    def maximum(self, a: V, b: V) -> V:
        """The larger number; NaN where either is NaN."""

    def minimum(self, a: V, b: V) -> V:
        """The smaller number; NaN where either is NaN."""

    def negate(self, a: V) -> V:
        """−a, exact."""

    def absolute(self, a: V) -> V:
        """|a|, exact."""

    def floor(self, a: V) -> V:
        """The largest integer that is not above a."""

    def nearest(self, a: V) -> V:
        """The nearest integer, ties to even."""

    def compare(self, relation: Relation, a: V, b: V) -> V:
        """1 where a stands in this relation to b, else 0 (also where either is NaN)."""

    def select(self, condition: V, a: V, b: V) -> V:
        """a where the condition is not 0, else b."""

    def function(self, f: Function, a: V) -> V:
        """An elementary function as accurate as the contract says.

        Raises `Transcendental` where this arithmetic has no such function.
        """

    def multiply_add(self, a: V, b: V, c: V) -> V:
        """a*b + c, fused or not as the contract's contraction says."""


@runtime_checkable
class ChainArithmetic(Protocol[V]):
    """An arithmetic that can do a whole sequential chain of multiply-adds at once."""

    def chain(self, pairs: Sequence[tuple[V, V]], start: V | None) -> V | None:
        """start + Σ a_k·b_k from first to last (start None: from the first product), exactly as
        `multiply` and `multiply_add` in turn would; None where it has no shortcut."""


@runtime_checkable
class TreeArithmetic(Protocol[V]):
    """An arithmetic that can do a whole tree of multiply-adds at once."""

    def tree(self, pairs: Sequence[tuple[V, V]], merges: Merges) -> V | None:
        """Σ a_k·b_k by `orders.Tree`, exactly as its additions one by one would; None where it has
        no shortcut."""


@runtime_checkable
class StepArithmetic(Protocol[V]):
    """An arithmetic that knows the steps of tensor cores."""

    def step(
        self,
        pairs: Sequence[tuple[V, V]],
        total: V | None,
        alignment: int,
        least: int | None,
    ) -> V:
        """Products and a running sum (None: there is none yet) added as `orders.AlignedSteps` says;
        `least` is the exponent of the smallest normal factor, None for this arithmetic's own."""


@runtime_checkable
class OpenArithmetic(Protocol[V]):
    """An arithmetic whose sums are those of every order, bias and contraction at once."""

    def sum_of_products(self, pairs: Sequence[tuple[V, V]], bias: V | None) -> V:
        """Σ a_k·b_k (+ bias) in whatever order."""

    def sum_of_terms(self, terms: Sequence[V]) -> V:
        """Σ terms in whatever order."""


@runtime_checkable
class MixedArithmetic(Arithmetic[V], Protocol[V]):
    """An arithmetic that can say how the same runtime computes in another type or format."""

    def of_type(self, dtype: DType) -> Arithmetic[V]:
        """Its numbers may be mixed with those of this one; each operation rounds to `dtype`."""

    def in_format(self, fmt: FloatFormat) -> MixedArithmetic[V]:
        """The same runtime's operations that round to this format."""

    def converted(self, a: V) -> V:
        """Numbers of another format of the runtime, rounded once to this one."""

    def read(self, a: V) -> V:
        """Operands of this format: a subnormal one is zero if the contract flushes operands."""


@runtime_checkable
class TruncatingArithmetic(Protocol[V]):
    """An arithmetic that knows runtimes that truncate the operands of products."""

    def truncated_operands(self, a: V, fmt: FloatFormat, rounding: FactorRounding) -> V:
        """The numbers rounded to a shorter format, as factors of a product."""


@runtime_checkable
class IntegerArithmetic(Protocol[V]):
    """An arithmetic that knows how the same runtime computes with integers."""

    def integers(self) -> Arithmetic[V]:
        """Integers, exactly. That they fit their type is somebody else's obligation."""

    def converted(self, a: V) -> V:
        """Integers in this arithmetic's own format, with one rounding."""


@runtime_checkable
class RangingArithmetic(Protocol[V]):
    """An arithmetic that keeps ranges of real values."""

    def between(self, a: V, low: float, high: float) -> V:
        """The same value, of which is known otherwise that the real one lies in [low, high]."""


def between(arithmetic: Arithmetic[V], a: V, low: float, high: float) -> V:
    """A value of a formula, whose real value lies in [low, high] for a reason that arithmetic does
    not see; the value itself where no ranges are kept."""
    return arithmetic.between(a, low, high) if _keeps_ranges(arithmetic) else a


@runtime_checkable
class SpoilingArithmetic(Protocol[V]):
    """An arithmetic that knows infinities and NaN."""

    def spoiled(self, a: V, by: V) -> V:
        """The same value, and NaN where the other one is NaN or +∞."""


def _is(arithmetic: object, protocol: type) -> bool:
    """`isinstance`, for a protocol of methods, which looks for each of them each time."""
    kind: type = type(arithmetic)
    known = _known(kind, protocol)
    return isinstance(arithmetic, protocol) if known is None else known


@lru_cache(maxsize=256)
def _known(kind: type, protocol: type) -> bool | None:
    """Is every object of a class of the protocol? None where each is to be asked."""
    return None if hasattr(kind, "__getattr__") else issubclass(kind, protocol)


def spoils(arithmetic: Arithmetic[V]) -> TypeGuard[SpoilingArithmetic[V]]:
    """Does it know infinities and NaN?"""
    return _is(arithmetic, SpoilingArithmetic)


def _keeps_ranges(arithmetic: Arithmetic[V]) -> TypeGuard[RangingArithmetic[V]]:
    return _is(arithmetic, RangingArithmetic)


def adds_chains(arithmetic: Arithmetic[V]) -> TypeGuard[ChainArithmetic[V]]:
    """Does it add a whole chain of products at once?"""
    return _is(arithmetic, ChainArithmetic)


def adds_trees(arithmetic: Arithmetic[V]) -> TypeGuard[TreeArithmetic[V]]:
    """Does it add the terms of a tree at once?"""
    return _is(arithmetic, TreeArithmetic)


def adds_steps(arithmetic: Arithmetic[V]) -> TypeGuard[StepArithmetic[V]]:
    """Does it know the aligned steps of a tensor core?"""
    return _is(arithmetic, StepArithmetic)


def adds_in_any_order(arithmetic: Arithmetic[V]) -> TypeGuard[OpenArithmetic[V]]:
    """Are its sums those of every order?"""
    return _is(arithmetic, OpenArithmetic)


def mixes_formats(arithmetic: Arithmetic[V]) -> TypeGuard[MixedArithmetic[V]]:
    """Can it say how the same runtime computes in another type or format?"""
    return _is(arithmetic, MixedArithmetic)


def truncates_operands(arithmetic: Arithmetic[V]) -> TypeGuard[TruncatingArithmetic[V]]:
    """Does it know runtimes that truncate the operands of products?"""
    return _is(arithmetic, TruncatingArithmetic)


def knows_integers(arithmetic: Arithmetic[V]) -> TypeGuard[IntegerArithmetic[V]]:
    """Has it exact arithmetic on integers?"""
    return _is(arithmetic, IntegerArithmetic)


def integers_of(arithmetic: Arithmetic[V]) -> IntegerArithmetic[V]:
    """The arithmetic as one that knows integers.

    Raises UnsupportedModel, naming it, for one that does not.
    """
    if not knows_integers(arithmetic):
        kind = type(arithmetic).__name__
        raise UnsupportedModel(f"integers have no meaning in {kind}")
    return arithmetic


def sum_of_products(
    arithmetic: Arithmetic[V],
    contract: RuntimeContract,
    pairs: Sequence[tuple[V, V]],
    bias: V | None = None,
) -> V:
    """Σ a_k·b_k (+ bias) by the contract's schedule: the one place that says what each order is.

    Raises OpenSchedule for an order or bias placement that is not pinned, ValueError for no terms
    at all.
    """
    if not pairs:
        raise ValueError("a sum of no products")
    if adds_in_any_order(arithmetic):
        return arithmetic.sum_of_products(pairs, bias)
    if isinstance(contract.order, AnyOrder) or (
        bias is not None and contract.bias is BiasPlacement.ANY
    ):
        raise OpenSchedule("this contract does not pin the order of a sum")
    if bias is not None and contract.bias is BiasPlacement.FIRST:
        return _ordered(arithmetic, contract, pairs, bias, bias_first=True)
    if bias is not None and contract.bias is BiasPlacement.AFTER_FIRST_BLOCK:
        return _ordered(arithmetic, contract, pairs, bias, bias_first=False)
    total = _ordered(arithmetic, contract, pairs, None, bias_first=False)
    return total if bias is None else arithmetic.add(total, bias)


def _ordered(
    arithmetic: Arithmetic[V],
    contract: RuntimeContract,
    pairs: Sequence[tuple[V, V]],
    bias: V | None,
    bias_first: bool,
) -> V:
    order, least = contract.order, contract.least_factor
    match order:
        case Sequential() | Blocked() | Dwindling() | Blocks():
            return _blocks(arithmetic, pairs, block_lengths(order, len(pairs)), bias, bias_first)
        case AlignedSteps() if bias_first:
            return _stepped(arithmetic, pairs, bias, order, least)
        case AlignedSteps():
            total = _stepped(arithmetic, pairs, None, order, least)
        case Lanes(count):
            total = _lanes(arithmetic, pairs, count)
        case Strided(count):
            total = _strided(arithmetic, pairs, count)
        case _:
            total = _merged(arithmetic, merges_of(order, len(pairs)), pairs)
    return total if bias is None else arithmetic.add(bias, total)


def _blocks(
    arithmetic: Arithmetic[V],
    pairs: Sequence[tuple[V, V]],
    lengths: Sequence[int],
    bias: V | None,
    bias_first: bool,
) -> V:
    total: V | None = None
    start = 0
    for length in lengths:
        block = pairs[start : start + length]
        start += length
        if total is None and bias is not None and bias_first:
            total = _chain(arithmetic, block, bias)
            continue
        partial = _chain(arithmetic, block, None)
        if total is None:
            total = partial if bias is None else arithmetic.add(partial, bias)
        else:
            total = arithmetic.add(total, partial)
    assert total is not None
    return total


def _stepped(
    arithmetic: Arithmetic[V],
    pairs: Sequence[tuple[V, V]],
    total: V | None,
    order: AlignedSteps,
    least: int | None,
) -> V:
    if not adds_steps(arithmetic):
        raise OpenSchedule("aligned steps have no meaning in this arithmetic")
    for start in range(0, len(pairs), order.terms):
        block = pairs[start : start + order.terms]
        total = arithmetic.step(block, total, order.alignment, least)
    assert total is not None
    return total


def _lanes(arithmetic: Arithmetic[V], pairs: Sequence[tuple[V, V]], count: int) -> V:
    """Every lane rounds its first product, so this is not quite the tree of its additions."""
    full = len(pairs) // count * count
    if not full:
        return _chain(arithmetic, pairs, None)
    lanes = [_chain(arithmetic, pairs[i:full:count], None) for i in range(count)]
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [arithmetic.add(a, b) for a, b in zip(lanes[:half], lanes[half:], strict=True)]
    return _chain(arithmetic, pairs[full:], lanes[0]) if full < len(pairs) else lanes[0]


def _strided(arithmetic: Arithmetic[V], pairs: Sequence[tuple[V, V]], count: int) -> V:
    """Here, too, every lane rounds its first product."""
    lanes = [_chain(arithmetic, pairs[i::count], None) for i in range(min(count, len(pairs)))]
    halves = [lanes[: count // 2], lanes[count // 2 :]]
    sums = [reduce(arithmetic.add, half) for half in halves if half]
    return reduce(arithmetic.add, sums)


def _merged(arithmetic: Arithmetic[V], merges: Merges, pairs: Sequence[tuple[V, V]]) -> V:
    """A tree of multiply-adds; terms that follow each other into one partial sum are a chain."""
    if adds_trees(arithmetic):
        whole = arithmetic.tree(pairs, merges)
        if whole is not None:
            return whole
    terms, k = len(pairs), 0
    sums: dict[int, V] = {}
    while k < len(merges):
        left, right = merges[k]
        if left < terms <= right:
            left, right = right, left
        if right >= terms:
            sums[terms + k] = arithmetic.add(sums.pop(left), sums.pop(right))
        else:
            block = [pairs[left], pairs[right]] if left < terms else [pairs[right]]
            while (
                k + 1 < len(merges) and merges[k + 1][0] == terms + k and merges[k + 1][1] < terms
            ):
                k += 1
                block.append(pairs[merges[k][1]])
            sums[terms + k] = _chain(arithmetic, block, sums.pop(left, None))
        k += 1
    return sums[terms + k - 1] if merges else arithmetic.multiply(*pairs[0])


def _chain(arithmetic: Arithmetic[V], pairs: Sequence[tuple[V, V]], start: V | None) -> V:
    if adds_chains(arithmetic):
        whole = arithmetic.chain(pairs, start)
        if whole is not None:
            return whole
    rest = pairs
    if start is None:
        start, rest = arithmetic.multiply(*pairs[0]), pairs[1:]
    for a, b in rest:
        start = arithmetic.multiply_add(a, b, start)
    return start


def sum_of_terms(arithmetic: Arithmetic[V], contract: RuntimeContract, terms: Sequence[V]) -> V:
    """Σ terms by the contract's schedule, without products.

    Raises OpenSchedule for an order that is not pinned and ValueError for no terms at all.
    """
    if not terms:
        raise ValueError("a sum of no terms")
    if adds_in_any_order(arithmetic):
        return arithmetic.sum_of_terms(terms)
    if isinstance(contract.order, AnyOrder):
        raise OpenSchedule("this contract does not pin the order of a sum")
    sums = list(terms)
    for left, right in merges_of(contract.order, len(terms)):
        sums.append(arithmetic.add(sums[left], sums[right]))
    return sums[-1]


def moved(a: V, f: Movement) -> V:
    """Apply a pure data movement (reshape, transpose, slice, gather) to whatever `a` carries."""
    if isinstance(a, np.ndarray):
        return cast(V, f(a))
    return cast(V, a.moved(f))


def zero_padded(arithmetic: Arithmetic[V], a: V, before: Sequence[int], after: Sequence[int]) -> V:
    """Zeros around the trailing axes of `a`, `before` and `after` counting one number per axis."""
    if not any(before) and not any(after):
        return a
    zero = arithmetic.constant(np.zeros((), np.float32))
    value: object = 0.0
    if isinstance(a, np.ndarray) and isinstance(zero, np.ndarray):
        value = zero.reshape(())[()]

    def pad(array: npt.NDArray[E]) -> npt.NDArray[E]:
        return _padded(array, before, after, value)

    return moved(a, pad)


def _padded(
    a: npt.NDArray[E], before: Sequence[int], after: Sequence[int], value: object
) -> npt.NDArray[E]:
    widths = [(0, 0)] * (a.ndim - len(before)) + list(zip(before, after, strict=True))
    out = np.full([n + b + c for n, (b, c) in zip(a.shape, widths, strict=True)], value, a.dtype)
    out[tuple(slice(b, b + n) for n, (b, _) in zip(a.shape, widths, strict=True))] = a
    return out


def joined(arrays: Sequence[V], axis: int) -> V:
    """Concatenate along an axis, constants being repeated to the sample count of the others."""
    plain = [a for a in arrays if isinstance(a, np.ndarray)]
    if len(plain) == len(arrays):
        samples = max(a.shape[0] for a in plain)
        full = [np.broadcast_to(a, (samples, *a.shape[1:])) for a in plain]
        return cast(V, np.concatenate(full, axis=axis))
    first, *others = (a for a in arrays if not isinstance(a, np.ndarray))
    return first.joined(others, axis)


def aligned(arrays: Sequence[V]) -> list[V]:
    """Bring arrays to one rank: broadcast axes go behind the sample axis, not before it."""
    rank = max(len(a.shape) for a in arrays)

    def raise_rank(v: npt.NDArray[E]) -> npt.NDArray[E]:
        return v.reshape(v.shape[0], *(1,) * (rank - v.ndim), *v.shape[1:])

    return [moved(a, raise_rank) if len(a.shape) < rank else a for a in arrays]
