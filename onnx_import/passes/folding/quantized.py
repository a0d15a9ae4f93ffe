"""Quantised constants: what QuantizeLinear and DequantizeLinear make of stored tensors.

Quantising is folded where the runtime's rounded quotient gives the same integers as the exact
one. Dequantising gives the exact products (x − zero point)·scale in float64: the runtime computes
them with one rounding, the one that every stored number undergoes when its type does not hold it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from onnx_import.graph import Array, DType, Node
from onnx_import.passes.folding.values import integer
from onnx_import.tensors import dtype_of, integer_limits

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Kind:
    """A type of scales: its precision, smallest normal and largest finite number."""

    precision: int
    smallest: float
    largest: float


_KINDS: Mapping[str, _Kind] = {
    "float32": _Kind(24, 2.0**-126, (2.0 - 2.0**-23) * 2.0**127),
    "float16": _Kind(11, 2.0**-14, 65504.0),
    "bfloat16": _Kind(8, 2.0**-126, (2.0 - 2.0**-7) * 2.0**127),
}


@dataclass(frozen=True)
class _Operands:
    """Scale and zero point as exact numbers that broadcast to x."""

    x: Array
    scale: FloatArray
    zero: FloatArray
    kind: _Kind


def dequantized(node: Node, values: Sequence[Array | None]) -> Array | None:
    """The exact numbers in float64; None where a runtime may round more than once or flush."""
    found = _operands(node, values)
    if found is None or not _is_counted(found):
        return None
    kind = found.kind
    steps = found.x.astype(np.float64) - found.zero
    exact: FloatArray = steps * found.scale
    size = np.abs(exact)
    once = np.all(np.abs(steps) <= 2.0**kind.precision)
    plain = np.all((steps == 0) | ((size >= kind.smallest) & (size <= kind.largest)))
    return exact if once and plain else None


def _is_counted(found: _Operands) -> bool:
    """Are these integers, of which no runtime rounds a difference, or the numbers of a narrow
    format, from which nothing is taken?"""
    if found.x.dtype.kind in "iu":
        return found.x.dtype.itemsize <= 4
    dtype = DType(found.x.dtype.name)
    if not dtype.is_narrow:
        return False
    wide = found.x.astype(np.float64)
    return bool(np.all(np.isfinite(wide)) and (dtype.is_integer or not np.any(found.zero)))


def farthest_step(node: Node, values: Sequence[Array | None]) -> Array:
    """The largest |x − zero point| of a node that is folded."""
    found = _operands(node, values)
    assert found is not None
    return np.array(np.max(np.abs(found.x.astype(np.float64) - found.zero), initial=0.0))


def quantized(node: Node, values: Sequence[Array | None]) -> Array | None:
    """The integers; None where a runtime may find others, or could flush an operand."""
    found = _operands(node, values)
    stored = values[2] if len(values) > 2 else None
    wanted = np.dtype(np.uint8) if stored is None else stored.dtype
    if found is None or wanted.name not in _QUANTIZED:
        return None
    x, scale, kind = found.x.astype(np.float64), found.scale, found.kind
    if found.x.dtype.name != "float32" or kind.precision != 24 or np.any(scale < kind.smallest):
        return None
    quotient = x / scale
    if not np.all(np.abs(quotient) <= kind.largest):
        return None
    steps = np.rint(quotient.astype(np.float32).astype(np.float64))
    every = np.broadcast_to(scale, x.shape)
    near = 0.5 - 2.0**-12 - np.abs(quotient) * 2.0**-23  # the runtime's quotient is rounded
    for at in map(tuple, np.argwhere(np.abs(quotient - steps) > near)):
        if steps[at] != round(Fraction(float(x[at])) / Fraction(float(every[at]))):
            return None
    least, most = integer_limits(wanted.name)
    return np.clip(steps + found.zero, least, most).astype(wanted)


def _operands(node: Node, values: Sequence[Array | None]) -> _Operands | None:
    """None for a variant that is not folded: blocks, another type of result, other scales."""
    x, scale, *rest = values
    zero = rest[0] if rest else None
    if x is None or scale is None or scale.dtype.name not in _KINDS:
        return None
    wide = scale.astype(np.float64)
    if node.attributes.get("precision", 0) or not _as_stored(node, values):
        return None
    if not np.all((wide > 0) & np.isfinite(wide)):
        return None
    axis, block = integer(node, "axis", 1), integer(node, "block_size", 0)
    taken_off = np.zeros(()) if zero is None else zero.astype(np.float64)
    along = [_along(v, axis, x.shape, block) for v in (wide, taken_off)]
    return _Operands(x, along[0], along[1], _KINDS[scale.dtype.name])


def _as_stored(node: Node, values: Sequence[Array | None]) -> bool:
    """Does `output_dtype`, where it is given, say what scale and zero point say without it?"""
    code = node.attributes.get("output_dtype", 0)
    if not code:
        return True
    assert isinstance(code, int)
    told = dtype_of(code, node.describe())
    implied = values[1] if node.op == "DequantizeLinear" else (*values, None, None)[2]
    return implied is not None and told.value == implied.dtype.name


def _along(values: FloatArray, axis: int, shape: tuple[int, ...], block: int) -> FloatArray:
    """One number for all, one per element of an axis of a tensor of this shape, or one for each
    `block` of them.

    Raises IndexError for an axis that the tensor has not, ValueError for blocks that do not fit.
    """
    rank = len(shape)
    if not block and values.size == 1:
        return values.reshape(())
    if not -rank <= axis < rank:
        raise IndexError(f"axis {axis} of a tensor with {rank} axes")
    axis %= rank
    if not block:
        return values.reshape(-1, *(1,) * (rank - 1 - axis))
    if block < 0:
        raise ValueError(f"block_size is {block}")
    if not values.ndim and not np.any(values):  # no zero points
        return values
    blocks = tuple(-(-n // block) if i == axis else n for i, n in enumerate(shape))
    if values.shape != blocks:
        raise ValueError(f"scales of shape {list(values.shape)} for blocks {list(blocks)}")
    every: FloatArray = np.repeat(values, block, axis)
    return every[tuple(slice(n) for n in shape)]


_QUANTIZED = frozenset(f"{s}int{bits}" for s in ("", "u") for bits in (2, 4, 8, 16))
