"""Arithmetic on constant integers and truth values, comparisons of any constants, masks of −∞.

That is what shape and mask computations consist of, and every runtime gives the same bits here.
What could differ (division by zero, the order of −0 and 0, subnormals that may be flushed, an empty
reduction) is left alone. Integers are computed exactly: one that leaves its type is refused, for
there the runtime wraps around and the network over the reals does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np

from onnx_import.graph import Array, Node


def whole(node: Node, values: Sequence[Array]) -> Array | None:
    """The output of a node whose inputs are all constant, or None if runtimes might differ.

    Raises ValueError or IndexError if the constants do not fit the operator, OverflowError for a
    result beyond its integer type.
    """
    if any(v.dtype.kind not in "iub" for v in values):
        exact = node.op in _ORDERED or (node.op == "Add" and any(_is_mask(v) for v in values))
        if node.op == "Range":
            return _float_range(*values)
        if node.op == "Mod":
            return _float_remainder(node, *values)
        if not exact or not all(plain(v) for v in values):
            return None
    if node.op in _EXACT:
        return _exactly(_EXACT[node.op], values)
    if node.op in _PAIRWISE and len(values) == 2:
        return np.asarray(_PAIRWISE[node.op](*values))
    if node.op in _CHAINED:
        return np.asarray(reduce(_CHAINED[node.op], values))
    if node.op in _SINGLE and len(values) == 1:
        return np.asarray(_SINGLE[node.op](values[0]))
    match node.op:
        case "Div":
            return _quotient(*values)
        case "Mod":
            return _remainder(node, *values)
        case "Range":
            start, limit, delta = (int(v.reshape(())) for v in values)
            return _range(start, limit, delta, values[0])
        case "ReduceSum" | "ReduceProd" | "ReduceMax" | "ReduceMin":
            return _reduced(node, values)
        case _:
            return None


def _exactly(operation: Callable[..., Any], values: Sequence[Array]) -> Array:
    """A sum, difference, product or absolute value. Raises OverflowError beyond the type."""
    if values[0].dtype.kind == "i" and all(v.size for v in values):
        farthest = [max(-int(v.min()), int(v.max())) for v in values]
        if math.prod(m + 1 for m in farthest) <= np.iinfo(values[0].dtype.name).max:
            return np.asarray(operation(*values))
    exact: Any = operation(*(np.asarray(v, dtype=object) for v in values))
    return fitting(exact, values[0])


def integer(node: Node, name: str, default: int) -> int:
    """An integer attribute; `default` where the node has none."""
    value = node.attributes.get(name, default)
    assert isinstance(value, int)
    return value


def plain(values: Array) -> bool:
    """Is the order of these numbers beyond doubt: no NaN, no −0, nothing that may be flushed?"""
    if values.dtype.kind in "iub":
        return True
    wide = values.astype(np.float64)
    size, smallest = np.abs(wide), _TINY[values.dtype.name]
    doubtful = np.isnan(wide) | np.where(size == 0, np.signbit(wide), size < smallest)
    return not bool(np.any(doubtful))


def _is_mask(values: Array) -> bool:
    """Nothing but 0 and −∞, one of which added to another number gives that number or −∞?"""
    return bool(np.all((values == 0) | (values == -np.inf)))


def _range(start: int, limit: int, delta: int, like: Array) -> Array | None:
    found = range(start, limit, delta) if delta else range(0)
    return np.array(found, like.dtype) if delta and len(found) <= _LONGEST else None


def _float_range(start: Array, limit: Array, delta: Array) -> Array | None:
    """Numbers that no runtime rounds, whether it adds the steps up or multiplies; else None."""
    if not all(np.all(np.isfinite(v)) for v in (start, limit, delta)) or not np.any(delta):
        return None
    first, last, step = (Fraction(float(v.reshape(()))) for v in (start, limit, delta))
    count = max(math.ceil((last - first) / step), 0)
    if count > _LONGEST_OF_FLOATS:
        return None
    steps = [i * step for i in range(count)]
    wanted = [*steps, *(first + s for s in steps)]
    held = np.array([float(v) for v in wanted], start.dtype)
    if any(Fraction(float(v)) != w for v, w in zip(held, wanted, strict=True)):
        return None
    return held[count:]


def _quotient(a: Array, b: Array) -> Array | None:
    """Division towards zero, as in C."""
    if not np.all(b) or a.dtype.kind == "b":
        return None
    x, y = np.asarray(a, dtype=object), np.asarray(b, dtype=object)
    exact: Any = np.sign(x) * np.sign(y) * (abs(x) // abs(y))
    return fitting(exact, a)


def _remainder(node: Node, a: Array, b: Array) -> Array | None:
    """With the divisor's sign, or with `fmod` the dividend's."""
    if not np.all(b) or a.dtype.kind == "b":
        return None
    operation = np.fmod if node.attributes.get("fmod", 0) else np.mod
    return np.asarray(operation(a, b))


def _float_remainder(node: Node, a: Array, b: Array) -> Array | None:
    """Of floats of one type; None where one is no number of it, or may be flushed, or is a zero.

    C's `fmod` is exact in every format; with the divisor's sign the divisor may be added, and that
    is not.
    """
    if a.dtype != b.dtype or a.dtype.name not in _TINY or not (plain(a) and plain(b)):
        return None
    if not all(np.all(np.isfinite(v) & (v != 0)) for v in (a, b)):
        return None
    cut = bool(node.attributes.get("fmod", 0))
    found: list[float] = []
    for x, y in zip(*(v.reshape(-1).tolist() for v in np.broadcast_arrays(a, b)), strict=True):
        quotient = Fraction(x) / Fraction(y)
        exact = Fraction(x) - (math.trunc(quotient) if cut else math.floor(quotient)) * Fraction(y)
        if abs(exact) < Fraction(_TINY[a.dtype.name]):
            return None
        held = float(exact)
        if Fraction(held) != exact or Fraction(float(np.asarray(held, a.dtype))) != exact:
            return None
        found.append(held)
    shape = np.broadcast_shapes(a.shape, b.shape)
    return np.asarray(found, np.float64).astype(a.dtype).reshape(shape)


def fitting(exact: Any, like: Array) -> Array:
    """Exact numbers in the type that a result has. Raises OverflowError where one is beyond it."""
    values = np.asarray(exact, dtype=object)
    if like.dtype.kind in "iu" and values.size:
        limits = np.iinfo(like.dtype.name)
        for extreme in (values.min(), values.max()):
            if not limits.min <= extreme <= limits.max:
                told = extreme if abs(extreme) < _SHOWN else "a result"
                raise OverflowError(f"integer overflow: {told} is no {like.dtype.name}")
    return values.astype(like.dtype)


def reduced_axes(node: Node, stored: Array | None) -> tuple[int, ...]:
    """Along which axes a reduction goes, by its second input or its attribute; none where neither
    is given."""
    if stored is not None:
        return tuple(int(axis) for axis in stored.reshape(-1))
    given = node.attributes.get("axes")
    return tuple(int(a) for a in given if isinstance(a, int)) if isinstance(given, tuple) else ()


def _reduced(node: Node, values: Sequence[Array]) -> Array | None:
    data = values[0]
    if not data.size or (data.dtype.kind == "b" and node.op not in ("ReduceMax", "ReduceMin")):
        return None
    axes = reduced_axes(node, values[1] if len(values) > 1 else None)
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        return data
    if node.op == "ReduceProd" and data.size > _MOST_MULTIPLIED:
        return None
    chosen: Any = axes or None
    kept = bool(node.attributes.get("keepdims", 1))
    exact: Any = _REDUCTIONS[node.op](np.asarray(data, dtype=object), axis=chosen, keepdims=kept)
    return fitting(exact, data)


_TINY: Mapping[str, float] = {
    "float16": 2.0**-14,
    "bfloat16": 2.0**-126,
    "float32": 2.0**-126,
    "float64": 2.0**-1022,
}
_LONGEST = 1 << 24  # elements of a Range that are worth holding
_LONGEST_OF_FLOATS = 1 << 20  # each of which is looked at
_MOST_MULTIPLIED = 1 << 12
_SHOWN = 10**40  # numbers that a sentence has room for
_EXACT: Mapping[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Abs": np.abs,
}
_PAIRWISE: Mapping[str, Callable[[Any, Any], Any]] = {
    "Equal": np.equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
    "BitwiseAnd": np.bitwise_and,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
}
_ORDERED = frozenset(
    (
        *("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"),
        *("Max", "Min", "ReduceMax", "ReduceMin"),
    )
)
_CHAINED: Mapping[str, Callable[[Any, Any], Any]] = {"Min": np.minimum, "Max": np.maximum}
_SINGLE: Mapping[str, Callable[[Any], Any]] = {
    "Not": np.logical_not,
    "BitwiseNot": np.bitwise_not,
    "Sign": np.sign,
}
_REDUCTIONS: Mapping[str, Callable[..., Any]] = {
    "ReduceSum": np.sum,
    "ReduceProd": np.prod,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
}
