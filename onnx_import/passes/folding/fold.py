"""Folding on constants of what a runtime computes bit-exactly: data movement and integers.

Floating-point arithmetic is never folded: its rounding belongs to the run time. A stored tensor
that is dequantised becomes the exact product, which is more than its type holds; the runtime rounds
it like any weight. Until then it can only be moved about.

A runtime may round stored numbers before it uses them, or compute in another format than their
type. Moving them about is the same before and after that; what is computed of them is not, and
comes with what it takes of the runtime (`needs`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnx_import.graph import Array, DType, Need, Node, TensorType, Use
from onnx_import.passes.folding.empty import OF_NOTHING, of_nothing
from onnx_import.passes.folding.picked import PICKING, eye_like, picked
from onnx_import.passes.folding.quantized import dequantized, farthest_step, quantized
from onnx_import.passes.folding.values import integer, plain, whole
from onnx_import.tensors import dtype_of, integer_limits

ALONE = frozenset(
    (
        *("BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Constant", "ConstantOfShape"),
        *("BitCast", "BitShift", "Compress", "EyeLike", "NonMaxSuppression", "NonZero", "Unique"),
        *("Mod", "Range", "ReduceProd", "Shape", "Size", "TfIdfVectorizer"),
    )
)
"""Operators that have a meaning on constants (or on a shape that is known) and nowhere else."""


def fold(
    node: Node, types: Sequence[TensorType | None], values: Sequence[Array | None]
) -> Array | None:
    """The value of a node's output as a read-only array, or None if it must stay a node.

    `types` and `values` follow the node's input positions; a value is None where the input is
    omitted or not constant. Raises ValueError, IndexError or OverflowError if the constants do not
    fit the operator.
    """
    if node.op == "Shape" and types[0] is not None:
        return frozen(shape(node, types[0].shape))
    if node.op == "Size" and types[0] is not None:
        return frozen(np.array(types[0].size, dtype=np.int64))
    if node.op == "EyeLike" and types[0] is not None:
        return frozen(eye_like(node, types[0]))
    if any(t is not None and v is None for t, v in zip(types, values, strict=True)):
        return None
    present = [v for v in values if v is not None]
    rounded = all(
        t is None or v is None or not t.dtype.is_float or v.dtype == t.dtype.numpy
        for t, v in zip(types, values, strict=True)
    )
    result = of_nothing(node, values) if node.op in OF_NOTHING else None
    if result is None and present:
        result = moved(node, values, present, rounded)
    return None if result is None else frozen(result)


def moved(
    node: Node, values: Sequence[Array | None], present: list[Array], rounded: bool
) -> Array | None:
    """The output for constant inputs, or None; `present` leaves out omitted optional inputs.

    Unless all of them are `rounded` to their types, they can only be moved about.
    """
    data, *others = present
    match node.op:
        case "Identity":
            return data
        case "Cast" if rounded:
            code = node.attributes["to"]
            assert isinstance(code, int)
            target = dtype_of(code, node.describe())
            if target is DType.BOOL and data.dtype.kind in "iub":
                return np.asarray(data != 0)
            return cast_exactly(data, target)
        case "Reshape":
            return reshape(data, others[0], integer(node, "allowzero", 0))
        case "Flatten":
            axis = integer(node, "axis", 1)
            return data.reshape(math.prod(data.shape[:axis]), math.prod(data.shape[axis:]))
        case "Transpose":
            return data.transpose(integers(node, "perm", []))
        case "Squeeze":
            axes = integers(node, "axes", others)
            return data.squeeze(tuple(axes) if axes is not None else None)
        case "Unsqueeze":
            return np.expand_dims(data, tuple(integers(node, "axes", others) or ()))
        case "Concat":
            return np.concatenate(present, integer(node, "axis", 1))
        case "Gather":
            return np.take(data, others[0].astype(np.int64), integer(node, "axis", 0))
        case "Slice":
            return sliced(node, values)
        case "Expand":
            wider = np.broadcast_shapes(data.shape, tuple(int(n) for n in others[0]))
            return np.broadcast_to(data, wider)
        case "Tile":
            return np.tile(data, tuple(int(n) for n in others[0]))
        case "Trilu":
            cut = np.triu if integer(node, "upper", 1) else np.tril
            return np.asarray(cut(data, int(others[0].reshape(())) if others else 0))
        case "ConstantOfShape":
            value = np.asarray(node.attributes.get("value", np.zeros(1, np.float32)))
            return np.broadcast_to(value.reshape(()), tuple(int(n) for n in data))
        case "Where":
            return np.asarray(np.where(data, *others))
        case "QuantizeLinear" if rounded:
            return quantized(node, values)
        case "DequantizeLinear":
            return dequantized(node, values)
        case "Pad":
            return padded(node, values)
        case _ if node.op in PICKING:
            known = rounded and all(v is None or plain(v) for v in values)
            return picked(node, values) if known else None
        case _:
            return whole(node, present) if rounded else None


MOVING = frozenset(
    (
        *("ConstantOfShape", "Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape"),
        *("Shape", "Size", "Slice", "Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where"),
    )
)
"""Operators that are folded and compute nothing of the numbers that they move."""


def needs(
    node: Node,
    types: Sequence[TensorType | None],
    values: Sequence[Array | None],
    result: Array,
) -> tuple[Need, ...]:
    """What must hold at run time for a node's folded output to be what a runtime computes."""
    if node.op in MOVING or (values and values[0] is not None and not values[0].size):
        return ()
    read = [
        Need(Use.READ, t.dtype, v)
        for t, v in zip(types, values, strict=True)
        if t is not None and v is not None and t.dtype.is_float
    ]
    match node.op:
        case "Cast":
            code = node.attributes["to"]
            assert isinstance(code, int)
            target = dtype_of(code, node.describe())
            return (*read, *([Need(Use.READ, target, result)] if target.is_float else []))
        case "Range" if read:
            # added up, or multiplied and added to the first
            steps = np.arange(result.size) * read[2].values.astype(np.float64).reshape(())
            kind = read[0].dtype
            return (*read, Need(Use.READ, kind, steps), Need(Use.READ, kind, result))
        case "QuantizeLinear" | "NonMaxSuppression":
            return (*read, Need(Use.COMPUTED, read[0].dtype, read[0].values))
        case "DequantizeLinear":
            (scale,) = read
            farthest = farthest_step(node, values)
            return (
                scale,
                Need(Use.COUNTED, scale.dtype, farthest),
                Need(Use.ROUNDED, scale.dtype, result),
            )
        case _:
            return tuple(read)


def frozen(value: Array) -> Array:
    """The same array, which can only be read."""
    value = value.view()
    value.setflags(write=False)
    return value


def shape(node: Node, sizes: tuple[int, ...]) -> Array:
    """What Shape computes, with the bounds it has from opset 15."""
    end = node.attributes.get("end")
    kept = sizes[integer(node, "start", 0) : end if isinstance(end, int) else None]
    return np.array(kept, dtype=np.int64)


def reshape(data: Array, target: Array, allowzero: int) -> Array:
    """Reshape with 0 for "the size at this position" unless `allowzero`, and one −1 for the rest.

    Raises ValueError or IndexError if the sizes do not fit.
    """
    sizes = [int(n) for n in target]
    if not allowzero:
        sizes = [data.shape[i] if n == 0 else n for i, n in enumerate(sizes)]
    return data.reshape(sizes)


def sliced(node: Node, values: Sequence[Array | None]) -> Array:
    """Slice, whose bounds are attributes before opset 10 and inputs from then on."""
    data = values[0]
    assert data is not None
    bounds: list[list[int] | None] = []
    for position, name in enumerate(("starts", "ends", "axes", "steps"), start=1):
        given = values[position] if position < len(values) else None
        bounds.append(integers(node, name, [] if given is None else [given]))
    starts, ends = bounds[0] or [], bounds[1] or []
    axes = bounds[2] if bounds[2] is not None else list(range(len(starts)))
    steps = bounds[3] if bounds[3] is not None else [1] * len(starts)
    cut = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        cut[axis] = clamped(start, end, step, data.shape[axis])
    return data[tuple(cut)]


def clamped(start: int, end: int, step: int, n: int) -> slice:
    """One axis of n elements cut as ONNX has it: going backwards from before the first element
    starts with the first, where Python finds nothing. Raises ValueError for a step of 0."""
    if not step:
        raise ValueError("a step is 0")
    if not n:
        return slice(0, 0)
    start, end = (v + n if v < 0 else v for v in (start, end))
    if step > 0:
        return slice(min(max(start, 0), n), min(max(end, 0), n), step)
    end = min(max(end, -1), n - 1)
    return slice(min(max(start, 0), n - 1), None if end < 0 else end, step)


def padded(node: Node, values: Sequence[Array | None]) -> Array | None:
    """Pad by constants outwards, its bounds being inputs; None for any other."""
    data, pads, value, axes = (*values, None, None, None)[:4]
    if data is None or pads is None or node.attributes.get("mode", "constant") != "constant":
        return None
    chosen = range(data.ndim) if axes is None else [int(a) % data.ndim for a in axes.reshape(-1)]
    sizes = [int(n) for n in pads.reshape(-1)]
    if min(sizes, default=0) < 0:
        return None
    if not data.ndim and not sizes:
        return data
    widths = [(0, 0)] * data.ndim
    for i, axis in enumerate(chosen):
        widths[axis] = (sizes[i], sizes[i + len(sizes) // 2])
    inside = 0 if value is None else value.reshape(())
    return np.asarray(np.pad(data, widths, constant_values=inside))


def cast_exactly(value: Array, dtype: DType) -> Array | None:
    """The same numbers in another element type, or None if one of them is not in it.

    Decided by ranges, not by casting there and back: an out-of-range cast is the platform's choice
    and can come back equal.
    """
    target = dtype.numpy
    if value.dtype == target:
        return value
    if DType(value.dtype.name).is_narrow:
        wide = value.astype(np.float64)
        whole = not dtype.is_float and bool(np.all(np.isfinite(wide) & (wide == np.floor(wide))))
        value = wide.astype(np.int64) if whole else wide
    if dtype.is_narrow:
        return _narrowed(value, dtype)
    if value.dtype.kind == "b" or not value.size:
        return value.astype(target)
    low, high = value.min(), value.max()
    if target.kind == "b":
        exact = bool(np.all((value == 0) | (value == 1)))
    elif target.kind in "iu":
        limits = np.iinfo(dtype.value)
        whole = value.dtype.kind in "iu" or bool(np.all(value == np.floor(value)))
        exact = whole and limits.min <= int(low) and int(high) <= limits.max
    elif value.dtype.kind in "iu":
        limit = 2 ** integer_bits(dtype)
        exact = -limit <= int(low) and int(high) <= limit
    else:
        with np.errstate(over="ignore", under="ignore"):
            exact = bool(np.all(value.astype(target).astype(value.dtype) == value))
    return value.astype(target) if exact else None


def _narrowed(value: Array, dtype: DType) -> Array | None:
    """The same numbers in a type that weights are stored in, or None if one of them is not in it
    or is a zero whose sign is lost."""
    wide = value.astype(np.float64)
    if dtype.is_integer:
        least, most = integer_limits(dtype.value)
        if not np.all((wide == np.floor(wide)) & (wide >= least) & (wide <= most)):
            return None
    found = wide.astype(dtype.numpy)
    back = found.astype(np.float64)
    same = (back == wide) & (dtype.is_integer | (np.signbit(back) == np.signbit(wide)))
    return found if bool(np.all(same)) else None


def integer_bits(dtype: DType) -> int:
    """The p for which a float type holds every integer up to 2^p in magnitude."""
    match dtype:
        case DType.BFLOAT16:
            return 8
        case DType.FLOAT16:
            return 11
        case DType.FLOAT32:
            return 24
        case _:
            return 53


def integers(node: Node, name: str, given: Sequence[Array]) -> list[int] | None:
    """A list of integers from the first array of `given`, else the attribute, else None."""
    if given:
        return [int(n) for n in given[0].reshape(-1)]
    value = node.attributes.get(name)
    return [int(n) for n in value] if isinstance(value, tuple) else None
