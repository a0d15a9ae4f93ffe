"""Quantised operators and Casts, read from ONNX's text: integers are exact, floats round."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from onnx import TensorProto
from reading import Array, Meaning, Reading, Unread
from windowed import conv

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
_LIMITS: dict[int, tuple[float, float]] = {
    TensorProto.UINT8: (0.0, 255.0), TensorProto.INT8: (-128.0, 127.0),
    TensorProto.UINT16: (0.0, 65535.0), TensorProto.INT16: (-32768.0, 32767.0),
}  # fmt: skip


_NARROW: dict[int, tuple[Any, float]] = {
    TensorProto.FLOAT8E4M3FN: (ml_dtypes.float8_e4m3fn, 448.0),
    TensorProto.FLOAT8E5M2: (ml_dtypes.float8_e5m2, 57344.0),
}


class Integers:
    """Exact sums of products of integers in float64, for what a machine does not round."""

    exact = True

    def products(self, a: Array, b: Array, bias: Any, place: Any, wide: bool) -> Array:
        return np.add.reduce(a * b, axis=-1)

    def constant(self, values: Array) -> Array:
        return np.asarray(values, np.float64)[None]


def _spread(r: Reading, values: Any, axis: int) -> Array:
    """Numbers along one axis of the first argument, or a single one for all."""
    if np.prod(values.shape[1:]) == 1:
        return values.reshape(values.shape[0], *(1,) * r.rank)
    shape = [1] * r.rank
    shape[axis] = -1
    return values.reshape(values.shape[0], *shape)


def _stepped(r: Reading, t: Array, zero: Array, kind: int) -> Array:
    """The nearest integer, the zero point added, kept within the type."""
    if kind not in _LIMITS:
        raise Unread("a wide type")
    low, high = _LIMITS[kind]
    q = r.a.steps(t) + zero
    if r.a.exact:
        return r.a.maximum(r.a.minimum(q, r.number(high)), r.number(low))
    return np.clip(np.where(np.isnan(q), low, q), low, high)


def _zero(r: Reading, position: int) -> Array:
    given = r.optional(position)
    return r.number(0.0) if given is None else given


def _quantize(r: Reading) -> Array:
    axis = r.get("axis", 1) % r.rank if r.rank else 0
    scale, zero = _spread(r, r.x[1], axis), _spread(r, _zero(r, 2), axis)
    if r.get("block_size", 0):
        raise Unread("blocks")
    return _stepped(r, r.a.divide(r.x[0], scale), zero, r.made[0])


def _dequantize(r: Reading) -> Array:
    axis = r.get("axis", 1) % r.rank if r.rank else 0
    scale, zero = _spread(r, r.x[1], axis), _spread(r, _zero(r, 2), axis)
    return r.a.multiply(r.a.converted(r.x[0] - zero), scale)


def _dynamic(r: Reading) -> list[Array]:
    a, x = r.a, r.x[0].reshape(r.x[0].shape[0], -1)
    nothing = r.number(0.0)
    high = a.maximum(a.extreme(x, 1), nothing)
    low = a.minimum(a.extreme(x, -1), nothing)
    most = a.stored(np.array(255.0))  # a constant of ONNX's definition, rounded as weights are
    scale = a.divide(a.subtract(high, low), most)
    zero = _stepped(r, a.divide(a.negate(low), scale), r.number(0.0), TensorProto.UINT8)
    wide = (-1, *(1,) * r.rank)
    q = a.divide(r.x[0], scale.reshape(wide))
    return [_stepped(r, q, zero.reshape(wide), TensorProto.UINT8), scale, zero]


def _exactly(r: Reading) -> Any:
    return r.a if r.a.exact else Integers()


def _centred(r: Reading, at: int, zero: int, factor: int, channels: bool) -> Array:
    x, z = r.x[at], r.optional(zero)
    if z is None:
        return x
    if np.prod(z.shape[1:]) == 1:
        z = z.reshape(z.shape[0], *(1,) * (x.ndim - 1))
    elif channels:
        z = z.reshape(z.shape[0], -1, *(1,) * (x.ndim - 2))
    else:
        z = z[..., None] if factor == 0 else z
        z = z.reshape(z.shape[0], *(1,) * (x.ndim - z.ndim), *z.shape[1:])
    return x - z


def _product(r: Reading, factors: tuple[int, int], zeros: tuple[int, int]) -> Array:
    from interpreter import gemm, matmul

    op = r.node.op_type
    windowed = "Conv" in op
    pair = [_centred(r, factors[i], zeros[i], i, windowed and i == 1) for i in (0, 1)]
    inner = r.within(_exactly(r), pair)
    return (conv if windowed else gemm if op == "QGemm" else matmul)(inner)


def _integer_product(r: Reading) -> Array:
    return _product(r, (0, 1), (2, 3))


def _requantized(r: Reading, y: int, bias: int) -> Array:
    total = _product(r, (0, 3), (2, 5))
    after = r.rank - 2 if "Conv" in r.node.op_type else 0

    def column(v: Array) -> Array:
        v = v.reshape(v.shape[0], *((-1,) if np.prod(v.shape[1:]) > 1 else ()), *(1,) * after)
        return v.reshape(v.shape[0], *(1,) * (total.ndim - v.ndim), *v.shape[1:])

    if r.optional(bias) is not None:
        total = total + column(r.x[bias])
    a, b, s = (column(r.x[i]) for i in (1, 4, y))
    m = r.of(TensorProto.FLOAT)
    factor = m.divide(m.multiply(a, b), s)
    return _stepped(r, m.multiply(m.converted(total), factor), column(_zero(r, y + 1)), r.made[0])


def _layered(r: Reading) -> Array:
    """A sum, a product or a mean of quantised tensors, as onnxruntime computes it."""
    m, op = r.of(TensorProto.FLOAT), r.node.op_type
    wide = (-1, *(1,) * r.rank)
    scales = [r.x[i].reshape(wide) for i in ((1, 3) if "Pool" in op else (1, 4, 6))]
    zeros = [_zero(r, i) for i in ((2, 4) if "Pool" in op else (2, 5, 7))]
    if "Pool" in op:
        n = float(np.prod(r.x[0].shape[3:]))
        axes = tuple(range(3, r.x[0].ndim))
        total = np.add.reduce(r.x[0] - zeros[0].reshape(wide), axis=axes, keepdims=True)
        factor = m.divide(scales[0], m.multiply(scales[1], r.number(n)))
        steps = m.multiply(m.converted(total), factor)
        return _stepped(r, steps, zeros[1].reshape(wide), r.made[0])
    if op == "QLinearMul":
        a, b = (r.x[i] - z.reshape(wide) for i, z in ((0, zeros[0]), (3, zeros[1])))
        factor = m.divide(m.multiply(scales[0], scales[1]), scales[2])
        t = m.multiply_add(m.converted(a * b), factor, m.converted(zeros[2].reshape(wide)))
        return _stepped(r, t, r.number(0.0), r.made[0])
    f, g = (m.divide(s, scales[2]) for s in scales[:2])
    za, zb, zy = (m.converted(z.reshape(wide)) for z in zeros)
    fixed = m.subtract(zy, m.add(m.multiply(f, za), m.multiply(g, zb)))
    t = m.multiply_add(m.converted(r.x[3]), g, fixed)
    return _stepped(r, m.multiply_add(m.converted(r.x[0]), f, t), r.number(0.0), r.made[0])


_TINY = {ml_dtypes.float8_e4m3fn: 2.0**-6, ml_dtypes.float8_e5m2: 2.0**-14}  # normal from there on


def _narrowed(r: Reading, x: Array, kind: Any, most: float) -> Array:
    """What lies beyond the type is its largest number, over the reals too; at run time it is
    rounded, and a runtime that flushes loses subnormal numbers."""
    if r.a.exact:
        return r.a.maximum(r.a.minimum(x, r.number(most)), r.number(-most))
    found = np.clip(np.asarray(x, np.float64), -most, most).astype(kind).astype(np.float64)
    return np.asarray(r.a.flushed(found, _TINY[kind]))


def _cast(r: Reading) -> Array:
    x, source, target = r.x[0], r.kinds[0], r.made[0]
    if source == TensorProto.BOOL:
        x = r.a.truth(x.astype(bool))
    if source in FLOATS:
        x = r.of(source).read(x)
    if source in _NARROW:
        kept = x if r.a.exact else r.a.flushed(x, _TINY[_NARROW[source][0]], read=True)
        return r.of(target).converted(kept)
    if target == TensorProto.BOOL:
        zero = r.number(0.0)
        return r.a.less(zero, r.a.absolute(x))
    if target in FLOATS:
        return r.of(target).converted(x)
    if target in _NARROW:
        return _narrowed(r, x, *_NARROW[target])
    return r.a.truncate(x) if source in FLOATS else x


QUANTIZED: dict[str, Meaning] = {
    "QuantizeLinear": _quantize, "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic, "MatMulInteger": _integer_product,
    "ConvInteger": _integer_product, "Cast": _cast,
    "QLinearMatMul": lambda r: _requantized(r, 6, 8),
    "QLinearAdd": _layered, "QLinearMul": _layered, "QLinearGlobalAveragePool": _layered,
    "QLinearConv": lambda r: _requantized(r, 6, 8), "QGemm": lambda r: _requantized(r, 7, 6),
}  # fmt: skip
