"""What ONNX's operators compute, written once against an algebra: `Reals` or a `Machine`.

Data movement is taken from onnx's reference implementation, run on the places of elements. An
operator that is not read here raises `Unread`: such a graph is only tried for crashes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from machine import Machine, Place
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from encoders.contract import Normalization

Array = Any
Meaning = Callable[["Reading"], Array]


class Unread(Exception):
    """An operator without a meaning here."""


class Reading:
    """One node with its arguments: arrays with a sample axis, or plain stored values."""

    def __init__(self, algebra: Any, node: onnx.NodeProto, arguments: list[Any], stored: list[Any],
                 opset: int) -> None:  # fmt: skip
        self.a, self.node, self.x, self.stored, self.opset = (
            algebra, node, arguments, stored, opset)  # fmt: skip
        self.attributes = {t.name: helper.get_attribute_value(t) for t in node.attribute}

    def get(self, name: str, default: Any = None) -> Any:
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def real(self, name: str, default: float) -> Array:
        """A float attribute as the runtime holds it, broadcasting to everything."""
        return self.a.constant(np.float32(self.get(name, default)))

    def number(self, value: float) -> Array:
        return self.a.constant(np.float64(value))

    def ints(self, position: int, name: str) -> list[int] | None:
        if name in self.attributes:
            return [int(v) for v in self.attributes[name]]
        if position < len(self.stored) and self.stored[position] is not None:
            return [int(v) for v in np.ravel(self.stored[position])]
        return None

    def place(self, **sizes: Any) -> Place:
        return Place(self.node.op_type, self.node.name, **sizes)

    @property
    def rank(self) -> int:
        return self.x[0].ndim - 1


def moved(r: Reading) -> list[Array]:
    """Movement, by onnx's reference on the places of elements; −1 is a padded place."""
    floats = [k for k, v in enumerate(r.x) if v is not None and k in _data_of(r)]
    feeds, names, start, flat = {}, [], 1, []
    samples = max(r.x[k].shape[0] for k in floats)
    for k, name in enumerate(r.node.input):
        if not name:
            names.append("")
            continue
        names.append(f"i{k}")
        if k in floats:
            v = np.broadcast_to(r.x[k], (samples, *r.x[k].shape[1:]))
            size = prod(v.shape[1:])
            feeds[f"i{k}"] = np.arange(start, start + size, dtype=np.int64).reshape(v.shape[1:])
            flat.append(v.reshape(samples, size))
            start += size
        else:
            feeds[f"i{k}"] = np.asarray(r.stored[k])
    node = onnx.NodeProto()
    node.CopyFrom(r.node)
    del node.input[:]
    node.input.extend(names)
    if node.op_type in ("Resize", "Upsample"):
        feeds["i0"] = feeds["i0"].astype(np.float64)
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in feeds.items()
    ]
    outputs = [onnx.ValueInfoProto(name=t) for t in node.output]
    graph = helper.make_graph([node], "moving", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", r.opset)])
    found = ReferenceEvaluator(model).run(None, feeds)
    zero = r.a.constant(np.zeros(1)).reshape(1, 1).repeat(samples, 0)
    if r.node.op_type == "Pad" and len(r.x) > 2 and r.x[2] is not None:
        zero = np.broadcast_to(r.x[2].reshape(-1, 1), (samples, 1))
    every = np.concatenate([zero, *flat], axis=1)
    return [every[:, np.asarray(f).astype(np.int64).ravel()].reshape(samples, *np.shape(f))
            for f in found]  # fmt: skip


def _data_of(r: Reading) -> Sequence[int]:
    match r.node.op_type:
        case "Concat":
            return range(len(r.x))
        case "ScatterND" | "ScatterElements":
            return (0, 2)
        case _:
            return (0,)


MOVING = (
    "Concat", "Transpose", "Reshape", "Flatten", "Identity", "Squeeze", "Unsqueeze", "Slice",
    "Gather", "GatherElements", "GatherND", "Pad", "Expand", "Tile", "Trilu", "DepthToSpace",
    "SpaceToDepth", "Split", "ScatterND", "ScatterElements", "CenterCropPad", "Dropout",
)  # fmt: skip


def _unary(name: str) -> Meaning:
    return lambda r: r.a.function(name, r.x[0])


def _aligned(r: Reading) -> list[Array]:
    """Arguments broadcast from the right, samples apart."""
    rank = max(v.ndim for v in r.x)
    return [v.reshape(v.shape[0], *(1,) * (rank - v.ndim), *v.shape[1:]) for v in r.x]


def _relation(f: Callable[[Any, Array, Array], Array]) -> Meaning:
    return lambda r: f(r.a, *_aligned(r))


def _where(condition: Array, a: Array, b: Array) -> Array:
    condition, a, b = np.broadcast_arrays(condition, a, b)
    return np.where(condition.astype(bool), a, b)


def _below(part: Callable[[Reading, Array], Array], other: Any = None) -> Meaning:
    def meaning(r: Reading) -> Array:
        x, zero = r.x[0], r.number(0.0)
        under = part(r, r.a.minimum(x, zero))
        return _where(r.a.less(x, zero), under, x if other is None else other(r, x))

    return meaning


def _elu(r: Reading, x: Array) -> Array:
    less = r.a.subtract(r.a.function("exp", x), r.number(1.0))
    return r.a.multiply(r.real("alpha", 1.0), less)


def _selu(r: Reading, x: Array) -> Array:
    alpha = r.real("alpha", 1.67326319217681884765625)
    power = r.a.multiply(alpha, r.a.function("exp", x))
    return r.a.multiply(_gamma(r), r.a.subtract(power, alpha))


def _gamma(r: Reading) -> Array:
    return r.real("gamma", 1.05070102214813232421875)


def _celu(r: Reading, x: Array) -> Array:
    alpha = r.real("alpha", 1.0)
    power = r.a.function("exp", r.a.divide(x, alpha))
    return r.a.multiply(alpha, r.a.subtract(power, r.number(1.0)))


def _gelu(r: Reading) -> Array:
    a, x = r.a, r.x[0]
    half = r.number(0.5)
    if r.get("approximate", "none") == "tanh":
        if a.exact:
            import flint

            cubic = flint.fmpq(44715, 1000000)
            inner = x + x * x * x * cubic
            gate = a.function("tanh", inner * (2 / a.pi()).sqrt())
        else:
            cube = a.multiply(a.multiply(x, x), x)
            inner = a.add(x, a.multiply(r.number(0.044715), cube))
            gate = a.function("tanh", a.multiply(r.number((2 / np.pi) ** 0.5), inner))
    else:
        gate = a.function("erf", a.multiply(x, a.sqrt(half)))
    return a.multiply(a.multiply(half, x), a.add(r.number(1.0), gate))


def _clip_line(r: Reading, line: Array) -> Array:
    return r.a.maximum(r.number(0.0), r.a.minimum(r.number(1.0), line))


def _hard_sigmoid(r: Reading) -> Array:
    line = r.a.multiply_add(r.real("alpha", 0.2), r.x[0], r.real("beta", 0.5))
    return _clip_line(r, line)


def _hard_swish(r: Reading) -> Array:
    sixth = r.a.divide(r.number(1.0), r.number(6.0))
    line = r.a.multiply_add(sixth, r.x[0], r.number(0.5))
    return r.a.multiply(r.x[0], _clip_line(r, line))


def _swish(r: Reading) -> Array:
    alpha = np.float32(r.get("alpha", 1.0))
    inner = r.x[0] if alpha == 1 else r.a.multiply(r.real("alpha", 1.0), r.x[0])
    return r.a.multiply(r.x[0], r.a.function("sigmoid", inner))


def _mish(r: Reading) -> Array:
    gate = r.a.function("tanh", r.a.function("softplus", r.x[0]))
    return r.a.multiply(r.x[0], gate)


def _softsign(r: Reading) -> Array:
    return r.a.divide(r.x[0], r.a.add(r.number(1.0), r.a.absolute(r.x[0])))


def _clip(r: Reading) -> Array:
    x = r.x[0]
    if len(r.x) > 1 and r.x[1] is not None:
        x = r.a.maximum(x, r.x[1])
    if len(r.x) > 2 and r.x[2] is not None:
        x = r.a.minimum(x, r.x[2])
    return x


def _sign(r: Reading) -> Array:
    zero, one = r.number(0.0), r.number(1.0)
    up, down = r.a.less(zero, r.x[0]), r.a.less(r.x[0], zero)
    return _where(up, one, _where(down, -one, zero))


def _ceil(r: Reading) -> Array:
    return r.a.negate(r.a.floor(r.a.negate(r.x[0])))


def _pow(r: Reading) -> Array:
    n = float(np.ravel(r.stored[1])[0])
    if n != int(n) or not 0 < n < 5:
        raise Unread("Pow")
    found = r.x[0]
    for _ in range(int(n) - 1):
        found = r.a.multiply(found, r.x[0])
    return found


def _fold(f: str) -> Meaning:
    def meaning(r: Reading) -> Array:
        found, *rest = _aligned(r)
        for other in rest:
            found = getattr(r.a, f)(found, other)
        return found

    return meaning


def _sum(mean: bool) -> Meaning:
    def meaning(r: Reading) -> Array:
        terms = np.stack(np.broadcast_arrays(*_aligned(r)), axis=-1)
        total = r.a.total(terms, r.place())
        return r.a.divide(total, r.number(float(len(r.x)))) if mean else total

    return meaning


def _matmul(r: Reading) -> Array:
    x, y = r.x
    one, two = x.ndim == 2, y.ndim == 2
    x = x[:, None, :] if one else x
    y = y[:, :, None] if two else y
    rank = max(x.ndim, y.ndim)
    x, y = (v.reshape(v.shape[0], *(1,) * (rank - v.ndim), *v.shape[1:]) for v in (x, y))
    rows, columns, terms = x.shape[-2], y.shape[-1], x.shape[-1]
    y = np.swapaxes(y, -1, -2)
    place = r.place(terms=terms, rows=rows, columns=columns, constant=r.stored[1] is not None)
    found = r.a.products(x[..., :, None, :], y[..., None, :, :], None, place, True)
    found = found[..., 0, :] if one else found
    return found[..., 0] if two else found


def _gemm(r: Reading) -> Array:
    x, y = r.x[:2]
    x = np.swapaxes(x, 1, 2) if r.get("transA", 0) else x
    y = y if r.get("transB", 0) else np.swapaxes(y, 1, 2)
    alpha, beta = (np.float32(r.get(n, 1.0)) for n in ("alpha", "beta"))
    bias = None
    if len(r.x) > 2 and r.x[2] is not None and beta != 0:
        c = r.x[2]
        bias = c.reshape(c.shape[0], *(1,) * (3 - c.ndim), *c.shape[1:])
        bias = bias if beta == 1 else r.a.multiply(r.real("beta", 1.0), bias)
    place = r.place(terms=x.shape[2], rows=x.shape[1], columns=y.shape[1],
                    constant=r.stored[1] is not None)  # fmt: skip
    x, y = x[:, :, None, :], y[:, None, :, :]
    if alpha == 1:
        return r.a.products(x, y, bias, place, True)
    total = r.a.products(x, y, None, place, True)
    if bias is None:
        return r.a.multiply(r.real("alpha", 1.0), total)
    return r.a.multiply_add(r.real("alpha", 1.0), total, bias)


def _windows(r: Reading, kernel: Sequence[int]) -> tuple[Array, tuple[int, ...]]:
    """Places in the flat spatial input for (output, kernel), −1 where padded; explicit pads."""
    spatial = r.x[0].shape[3:]
    n = len(spatial)
    strides, dilations = r.get("strides") or [1] * n, r.get("dilations") or [1] * n
    pads = r.get("pads") or [0] * (2 * n)
    if r.get("auto_pad", "NOTSET") != "NOTSET" or r.get("ceil_mode", 0):
        raise Unread("auto_pad")
    grids, out = [], []
    for k in range(n):
        span = dilations[k] * (kernel[k] - 1) + 1
        size = (spatial[k] + pads[k] + pads[n + k] - span) // strides[k] + 1
        at = (np.arange(size)[:, None] * strides[k] - pads[k]
              + np.arange(kernel[k])[None] * dilations[k])  # fmt: skip
        grids.append(np.where((at >= 0) & (at < spatial[k]), at, -1))
        out.append(size)
    place = np.zeros((*out, *kernel), np.int64)
    bad = np.zeros(place.shape, bool)
    for k, grid in enumerate(grids):
        shape = [1] * (2 * n)
        shape[k], shape[n + k] = grid.shape
        g = grid.reshape(shape)
        place = place * spatial[k] + np.maximum(g, 0)
        bad |= g < 0
    return np.where(bad, -1, place).reshape(prod(out), prod(kernel)), tuple(out)


def _taken(r: Reading, places: Array, missing: Array) -> Array:
    """(samples, batch, channels, outputs, kernel)."""
    flat = r.x[0].reshape(*r.x[0].shape[:3], -1)
    found = flat[..., np.maximum(places, 0)]
    return np.where(places >= 0, found, np.broadcast_to(missing.reshape(-1)[0], found.shape))


def _conv(r: Reading) -> Array:
    w = r.x[1]
    groups, kernel = r.get("group", 1), w.shape[3:]
    places, out = _windows(r, kernel)
    x = _taken(r, places, r.number(0.0))
    s, batch, channels, outputs, size = x.shape
    x = x.reshape(s, batch, groups, channels // groups, outputs, size)
    x = np.moveaxis(x, 3, 4).reshape(s, batch, groups, 1, outputs, -1)
    m = w.shape[1]
    w = w.reshape(w.shape[0], 1, groups, m // groups, 1, -1)
    bias = None
    if len(r.x) > 2 and r.x[2] is not None:
        bias = r.x[2].reshape(-1, 1, groups, m // groups, 1)
    place = r.place(terms=w.shape[-1], rows=m // groups, columns=outputs,
                    constant=r.stored[1] is not None)  # fmt: skip
    total = r.a.products(x, w, bias, place, True)
    return total.reshape(total.shape[0], batch, m, *out)


def _pool(r: Reading) -> Array:
    kernel = r.get("kernel_shape")
    places, out = _windows(r, kernel)
    if r.node.op_type == "MaxPool":
        if np.any(places < 0):
            x = _taken(r, places, r.number(0.0))
            parts = [r.a.extreme(x[..., k, :][..., np.flatnonzero(p >= 0)], 1)
                     for k, p in enumerate(places)]  # fmt: skip
            found = np.stack(parts, axis=-1)
        else:
            found = r.a.extreme(_taken(r, places, r.number(0.0)), 1)
    else:
        every = r.get("count_include_pad", 0)
        parts = []
        x = _taken(r, places, r.number(0.0))
        for k, p in enumerate(places):
            kept = np.flatnonzero(p >= 0)
            total = r.a.total(x[..., k, :][..., kept], r.place())
            count = places.shape[1] if every else len(kept)
            parts.append(r.a.divide(total, r.number(float(count))))
        found = np.stack(parts, axis=-1)
    return found.reshape(*found.shape[:3], *out)


def _global_pool(r: Reading) -> Array:
    x = r.x[0].reshape(*r.x[0].shape[:3], -1)
    ones = (1,) * (r.rank - 2)
    if r.node.op_type == "GlobalMaxPool":
        return r.a.extreme(x, 1).reshape(*x.shape[:3], *ones)
    total = r.a.total(x, r.place())
    return r.a.divide(total, r.number(float(x.shape[-1]))).reshape(*x.shape[:3], *ones)


def _rows(r: Reading, axes: Sequence[int]) -> tuple[Array, list[int]]:
    """The reduced axes flattened to the last one, and those that are kept."""
    axes = sorted(a % r.rank for a in axes)
    kept = [a for a in range(r.rank) if a not in axes]
    x = np.transpose(r.x[0], (0, *(a + 1 for a in kept), *(a + 1 for a in axes)))
    return x.reshape(*x.shape[: 1 + len(kept)], -1), kept


def _reduced(r: Reading) -> Array:
    axes = r.ints(1, "axes")
    if not axes:
        if r.get("noop_with_empty_axes", 0):
            raise Unread("noop")
        axes = list(range(r.rank))
    x, kept = _rows(r, axes)
    a, n, op = r.a, x.shape[-1], r.node.op_type
    if op in ("ReduceSum", "ReduceMean"):
        found = a.total(x, r.place(terms=n))
        found = a.divide(found, r.number(float(n))) if op == "ReduceMean" else found
    elif op == "ReduceL1":
        found = a.total(a.absolute(x), r.place(terms=n))
    elif op in ("ReduceSumSquare", "ReduceL2"):
        found = a.products(x, x, None, r.place(terms=n), False)
        found = a.sqrt(found) if op == "ReduceL2" else found
    elif op == "ReduceLogSumExp":
        top = a.extreme(x, 1)
        powers = a.function("exp", a.subtract(x, top[..., None]))
        found = a.add(top, a.function("log", a.total(powers, r.place())))
    elif op == "ReduceLogSum":
        found = a.function("log", a.total(x, Place("ReduceSum", "")))
    else:
        found = a.extreme(x, 1 if op == "ReduceMax" else -1)
    if r.get("keepdims", 1):
        shape = [r.x[0].shape[1 + k] if k in kept else 1 for k in range(r.rank)]
        found = found.reshape(found.shape[0], *shape)
    return found


def _softmax(r: Reading) -> Array:
    axis = r.get("axis", -1 if r.opset >= 13 else 1) % r.rank
    if r.opset < 13:
        raise Unread("Softmax before 13")
    x = np.moveaxis(r.x[0], axis + 1, -1)
    a = r.a
    shifted = a.subtract(x, a.extreme(x, 1)[..., None])
    powers = a.function("exp", shifted)
    total = a.total(powers, r.place())[..., None]
    if r.node.op_type == "LogSoftmax":
        found = a.subtract(shifted, a.function("log", total))
    else:
        found = a.divide(powers, total)
    return np.moveaxis(found, -1, axis + 1)


def _batch_normalization(r: Reading) -> Array:
    a = r.a
    shape = (-1, *(1,) * (r.rank - 2)) if r.rank > 1 else (-1,)
    gamma, beta, mean, var = (v.reshape(v.shape[0], *((1, *shape) if r.rank > 1 else shape))
                              for v in r.x[1:5])  # fmt: skip
    deviation = a.sqrt(a.add(var, r.real("epsilon", 1e-5)))
    way = Normalization.DIRECT if a.exact else a.contract.normalization
    direct = way is Normalization.DIRECT
    if way is Normalization.EITHER:
        direct = a.habits["normalization"]
    if direct:
        centred = a.divide(a.subtract(r.x[0], mean), deviation)
        return a.multiply_add(centred, gamma, beta)
    scale = a.divide(gamma, deviation)
    return a.multiply_add(r.x[0], scale, a.subtract(beta, a.multiply(mean, scale)))


def _normalized(r: Reading, x: Array, centred: bool) -> Array:
    """(x − mean)/sqrt(variance + ε) over the last axis."""
    a, n = r.a, r.number(float(x.shape[-1]))
    if centred:
        mean = a.divide(a.total(x, r.place()), n)
        x = a.subtract(x, mean[..., None])
    variance = a.divide(a.products(x, x, None, r.place(), False), n)
    sigma = a.sqrt(a.add(variance, r.real("epsilon", 1e-5)))
    return a.divide(x, sigma[..., None])


def _scaled(r: Reading, z: Array, scale: Array | None, bias: Array | None) -> Array:
    if scale is not None and bias is not None:
        return r.a.multiply_add(z, scale, bias)
    return z if scale is None else r.a.multiply(z, scale)


def _layer_normalization(r: Reading) -> Array:
    axis = r.get("axis", -1) % r.rank
    x = r.x[0].reshape(*r.x[0].shape[: 1 + axis], -1)
    z = _normalized(r, x, r.node.op_type == "LayerNormalization").reshape(r.x[0].shape)
    more = [*r.x[1:], None][:2]
    scale, bias = (
        None if v is None else v.reshape(v.shape[0], *(1,) * (r.rank - v.ndim + 1), *v.shape[1:])
        for v in more
    )
    return _scaled(r, z, scale, bias)


def _instance_normalization(r: Reading) -> Array:
    if not r.a.exact and r.a.contract.normalization is Normalization.FOLDED:
        raise Unread("folded instances")
    x = r.x[0].reshape(*r.x[0].shape[:3], -1)
    z = _normalized(r, x, True)
    scale, bias = (v[:, None, :, None] for v in r.x[1:3])
    return _scaled(r, z, scale, bias).reshape(z.shape[0], *r.x[0].shape[1:])


def _arg(sign: int) -> Meaning:
    def meaning(r: Reading) -> Array:
        axis = r.get("axis", 0) % r.rank
        x = np.moveaxis(r.x[0], axis + 1, 0)
        best, at = x[0], np.zeros(x[0].shape, np.int64)
        for k in range(1, len(x)):
            pair = (best, x[k]) if sign > 0 else (x[k], best)
            better = r.a.less(*pair)
            if r.get("select_last_index", 0):
                better = ~r.a.less(*reversed(pair))
            at = np.where(better, k, at)
            best = np.where(better, x[k], best)
        at = r.a.constant(at)[0]
        return np.expand_dims(at, axis + 1) if r.get("keepdims", 1) else at

    return meaning


def _prelu(r: Reading) -> Array:
    x, slope = _aligned(r)
    return _where(r.a.less(x, r.number(0.0)), r.a.multiply(slope, x), x)


def _leaky(r: Reading) -> Array:
    x = r.x[0]
    under = r.a.multiply(r.real("alpha", 0.01), x)
    return _where(r.a.less(x, r.number(0.0)), under, x)


def _einsum(r: Reading) -> Array:
    equation = r.get("equation").replace(" ", "")
    left, right = equation.split("->")
    labels = left.split(",")
    if len(labels) != 2 or any(len(set(t)) < len(t) for t in labels):
        raise Unread("Einsum")
    summed = [c for c in labels[0] if c in labels[1] and c not in right]
    alone = set(labels[0]) ^ set(labels[1])
    if not summed or not alone <= set(right):
        raise Unread("Einsum")
    sizes = {c: n for t, v in zip(labels, r.x, strict=True)
             for c, n in zip(t, v.shape[1:], strict=True)}  # fmt: skip
    order = [*right, *summed]
    parts = []
    for t, v in zip(labels, r.x, strict=True):
        v = np.transpose(v, (0, *(t.index(c) + 1 for c in order if c in t)))
        v = v.reshape(v.shape[0], *(sizes[c] if c in t else 1 for c in order))
        outer = [sizes[c] if c in t else 1 for c in right]
        inner = [sizes[c] for c in summed]
        parts.append(v.reshape(v.shape[0], *outer, prod(inner)))
    found = r.a.products(*parts, None, Place("MatMul", ""), True)
    return found.reshape(found.shape[0], *(sizes[c] for c in right))


def _bool(f: Callable[[Array, Array], Array]) -> Meaning:
    return lambda r: f(*(v.astype(bool) for v in _aligned(r)))


_ELEMENTS: dict[str, Meaning] = {
    "Add": _fold("add"), "Sub": _fold("subtract"), "Mul": _fold("multiply"),
    "Div": _fold("divide"), "Max": _fold("maximum"), "Min": _fold("minimum"),
    "Sum": _sum(False), "Mean": _sum(True), "Pow": _pow,
    "Neg": lambda r: r.a.negate(r.x[0]), "Abs": lambda r: r.a.absolute(r.x[0]),
    "Relu": lambda r: r.a.maximum(r.x[0], r.number(0.0)),
    "Sqrt": lambda r: r.a.sqrt(r.x[0]),
    "Reciprocal": lambda r: r.a.divide(r.number(1.0), r.x[0]),
    "Floor": lambda r: r.a.floor(r.x[0]), "Ceil": _ceil, "Round": lambda r: r.a.nearest(r.x[0]),
    "Sign": _sign, "Clip": _clip, "LeakyRelu": _leaky, "PRelu": _prelu, "Elu": _below(_elu),
    "Selu": _below(_selu, lambda r, x: r.a.multiply(_gamma(r), x)), "Celu": _below(_celu),
    "Gelu": _gelu, "HardSigmoid": _hard_sigmoid, "HardSwish": _hard_swish, "Swish": _swish,
    "Mish": _mish, "Softsign": _softsign,
    "ThresholdedRelu": lambda r: _where(
        r.a.less(r.real("alpha", 1.0), r.x[0]), r.x[0], r.number(0.0)),
    "Less": _relation(lambda a, x, y: a.less(x, y)),
    "Greater": _relation(lambda a, x, y: a.less(y, x)),
    "LessOrEqual": _relation(lambda a, x, y: ~a.less(y, x)),
    "GreaterOrEqual": _relation(lambda a, x, y: ~a.less(x, y)),
    "Equal": _relation(lambda a, x, y: ~a.less(x, y) & ~a.less(y, x)),
    "And": _bool(np.logical_and), "Or": _bool(np.logical_or), "Xor": _bool(np.logical_xor),
    "Not": lambda r: ~r.x[0].astype(bool), "Where": lambda r: _where(*_aligned(r)),
}  # fmt: skip

MEANINGS: dict[str, Meaning] = {
    **_ELEMENTS,
    **{n: _unary(n.lower())
       for n in ("Exp", "Log", "Tanh", "Sigmoid", "Erf", "Sin", "Cos", "Softplus")},
    "MatMul": _matmul, "Gemm": _gemm, "Conv": _conv, "MaxPool": _pool, "AveragePool": _pool,
    "GlobalAveragePool": _global_pool, "GlobalMaxPool": _global_pool,
    **{f"Reduce{n}": _reduced for n in (
        "Sum", "Mean", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp", "LogSum")},
    "Softmax": _softmax, "LogSoftmax": _softmax, "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization, "RMSNormalization": _layer_normalization,
    "InstanceNormalization": _instance_normalization, "ArgMax": _arg(1), "ArgMin": _arg(-1),
    "Einsum": _einsum,
}  # fmt: skip
_WHOLE = ("Relu", "Max", "Min", "Clip", "Neg", "Abs", "Where", "Less", "Greater", "ArgMax")


def interpret(model: onnx.ModelProto, feeds: dict[str, Array], algebra: Any) -> dict[str, Array]:
    """Every tensor of a model. `feeds` have a sample axis; those of `Reals` are balls.

    Raises Unread for an operator that is not read here.
    """
    model = _spelled_out(model)
    opset = next(o.version for o in model.opset_import if not o.domain)
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    tensors = dict(feeds)
    for name, value in stored.items():
        if value.dtype.kind == "b":
            tensors[name] = value[None]
        elif value.dtype.kind == "f" or value.dtype.name == "bfloat16":
            keep = algebra.constant if algebra.exact else algebra.stored
            tensors[name] = keep(value.astype(np.float64))
    for node in model.graph.node:
        a, wide = algebra, None
        if isinstance(algebra, Machine) and node.op_type not in MOVING:
            wide = _accumulated(algebra)
            a = algebra if wide is None else wide
        arguments = [tensors.get(t) if t else None for t in node.input]
        if wide is not None:  # subnormal numbers of the tensors' format may be read as zero
            arguments = [
                algebra.read(v) if isinstance(v, np.ndarray) and v.dtype.kind == "f" else v
                for v in arguments
            ]
        r = Reading(a, node, arguments, [stored.get(t) for t in node.input], opset)
        if node.domain or node.op_type not in (*MEANINGS, *MOVING):
            raise Unread(node.op_type)
        if node.op_type in MOVING:
            results = moved(r)
        else:
            found = MEANINGS[node.op_type](r)
            results = [algebra.converted(found) if wide is not None and found.dtype.kind == "f"
                       else found]  # fmt: skip
        tensors.update(zip((t for t in node.output if t), results, strict=False))
    return tensors


_SPELLED = ("Attention", "RotaryEmbedding", "MeanVarianceNormalization")


def _spelled_out(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with these operators as the functions that ONNX defines."""
    if not {n.op_type for n in model.graph.node} & set(_SPELLED):
        return model
    raise Unread("a function")


def _accumulated(machine: Machine) -> Machine | None:
    wide, own = machine.contract.accumulation, machine.format
    if wide is None or wide == own or wide.precision < own.precision or wide.emax < own.emax:
        return None
    return machine.within(wide) if wide.emin - wide.precision <= own.emin - own.precision else None
