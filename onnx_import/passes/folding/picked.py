"""Folding of what picks elements out of constants, counts along them, or reads their bits anew, and
of integers that are cut off or raised to powers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from onnx_import.graph import Array, DType, Node, TensorType
from onnx_import.passes.folding.ngrams import counted_ngrams
from onnx_import.passes.folding.suppressing import suppressed
from onnx_import.passes.folding.values import fitting, integer
from onnx_import.tensors import dtype_of


def picked(node: Node, values: Sequence[Array | None]) -> Array | None:
    """The first output of a node of `PICKING` whose inputs are constant integers, truth values or
    floats whose order and value are beyond doubt; None if runtimes might differ.

    Raises ValueError, IndexError or OverflowError if the constants do not fit the operator.
    """
    return PICKING[node.op](node, values)


def eye_like(node: Node, given: TensorType) -> Array:
    """Ones on a diagonal of a matrix of the shape of the input, whatever this holds."""
    code = node.attributes.get("dtype")
    dtype = dtype_of(code, node.describe()) if isinstance(code, int) else given.dtype
    rows, columns = given.shape
    return np.eye(rows, columns, integer(node, "k", 0)).astype(dtype.numpy)


def _non_zero(node: Node, values: Sequence[Array | None]) -> Array:
    return np.array(np.nonzero(np.atleast_1d(_held(values, 0))), np.int64)


def _compress(node: Node, values: Sequence[Array | None]) -> Array:
    data, condition = _held(values, 0), _held(values, 1)
    axis = node.attributes.get("axis")
    chosen = np.flatnonzero(condition.reshape(-1))
    if not isinstance(axis, int):
        return np.asarray(data.reshape(-1)[chosen])
    return np.take(data, chosen, axis)


def _unique(node: Node, values: Sequence[Array | None]) -> Array | None:
    data, axis = _held(values, 0), node.attributes.get("axis")
    if any(node.outputs[1:]):
        return None
    along = axis if isinstance(axis, int) else None
    if not integer(node, "sorted", 1):
        return None
    return np.asarray(np.unique(data, axis=along))


def _bit_shift(node: Node, values: Sequence[Array | None]) -> Array | None:
    """Bits that leave the type are lost, by definition; a shift by the width or more is undefined
    in C, and of integers with a sign ONNX says all of it from opset 28 on."""
    data, by = _held(values, 0), _held(values, 1)
    width = data.dtype.itemsize * 8
    if data.dtype.kind not in "iu":
        return None
    beyond = (by >= width) | (by < 0)
    told = data.dtype.kind == "i" and node.opset >= _SIGNED_SHIFTS
    if not told and (np.any(beyond) or np.any(data < 0)):
        return None
    left = node.attributes.get("direction") == "LEFT"
    within = np.where(beyond, 0, by).astype(data.dtype)
    found = np.left_shift(data, within) if left else np.right_shift(data, within)
    rest = np.zeros_like(data) if left else -(data < 0).astype(data.dtype)
    return np.asarray(np.where(beyond, rest, found).astype(data.dtype))


def _bit_cast(node: Node, values: Sequence[Array | None]) -> Array | None:
    code = node.attributes["to"]
    assert isinstance(code, int)
    target, data = dtype_of(code, node.describe()), _held(values, 0)
    if target.is_narrow or target is DType.BOOL or target.numpy.itemsize != data.dtype.itemsize:
        return None
    found = np.ascontiguousarray(data).view(target.numpy).reshape(data.shape)
    return found if not target.is_float or bool(np.all(np.isfinite(found))) else None


def _cum_sum(node: Node, values: Sequence[Array | None]) -> Array | None:
    data, axis = _held(values, 0), int(_held(values, 1).reshape(()))
    if data.dtype.kind not in "iu" or not data.size:
        return None
    back = bool(integer(node, "reverse", 0))
    exact = np.flip(data, axis) if back else data
    sums = np.cumsum(exact.astype(object), axis)
    if integer(node, "exclusive", 0):
        sums = sums - exact
    return fitting(np.flip(sums, axis) if back else sums, data)


def _clip(node: Node, values: Sequence[Array | None]) -> Array | None:
    data, low, high = (*values, None, None)[:3]
    if data is None or data.dtype.kind not in "iu" or "min" in node.attributes:
        return None
    above = data if low is None else np.maximum(data, low.reshape(()))
    return np.asarray(above if high is None else np.minimum(above, high.reshape(())))


def _pow(node: Node, values: Sequence[Array | None]) -> Array | None:
    base, exponent = _held(values, 0), _held(values, 1)
    if base.dtype.kind not in "iu" or exponent.dtype.kind not in "iu" or np.any(exponent < 0):
        return None
    if exponent.size and int(exponent.max()) > _LARGEST_POWER:
        return None
    return fitting(np.power(base.astype(object), exponent.astype(object)), base)


def _held(values: Sequence[Array | None], position: int) -> Any:
    value = values[position]
    if value is None:
        raise ValueError(f"input {position} is left out")
    return value


_LARGEST_POWER = 64
_SIGNED_SHIFTS = 28
PICKING: Mapping[str, Callable[[Node, Sequence[Array | None]], Array | None]] = {
    "BitCast": _bit_cast,
    "BitShift": _bit_shift,
    "Clip": _clip,
    "Compress": _compress,
    "CumSum": _cum_sum,
    "NonMaxSuppression": suppressed,
    "NonZero": _non_zero,
    "Pow": _pow,
    "TfIdfVectorizer": counted_ngrams,
    "Unique": _unique,
}
