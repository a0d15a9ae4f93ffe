"""What ONNX's operators compute, written once against an algebra: `Reals` or a `Machine`.

An operator that is not read here raises `Unread`: such a graph is only tried for crashes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from determinants import determinant
from foreign import FOREIGN, bias_gelu, fused_gemm
from machine import Machine, Place, accumulated
from onnx import TensorProto, numpy_helper
from quantized import FLOATS, QUANTIZED
from reading import (
    DECOMPOSED,
    MOVING,
    SUMS_OF,
    Array,
    Meaning,
    Reading,
    Unread,
    aligned,
    chosen,
    moved,
    runs_alike,
)
from recurrent import RECURRENT
from windowed import WINDOWED

from encoders.contract.contract import Normalization


def _unary(name: str) -> Meaning:
    return lambda r: r.a.function(name, r.x[0])


def _relation(f: Callable[[Any, Array, Array], Array]) -> Meaning:
    """A relation, which no NaN has to anything (IEEE 754-2019, 5.11)."""

    def meaning(r: Reading) -> Array:
        x, y = aligned(r)
        return f(r.a, x, y) & ~_nan(x) & ~_nan(y)

    return meaning


def _nan(x: Array) -> Any:
    return np.isnan(x) if x.dtype.kind == "f" else np.zeros(x.shape, bool)


def _below(part: Callable[[Reading, Array], Array], other: Any = None) -> Meaning:
    def meaning(r: Reading) -> Array:
        x, zero = r.x[0], r.number(0.0)
        under = part(r, r.a.minimum(x, zero))
        return chosen(r.a.less(x, zero), under, x if other is None else other(r, x))

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
    return chosen(up, one, chosen(down, -one, zero))


def _ceil(r: Reading) -> Array:
    return r.a.negate(r.a.floor(r.a.negate(r.x[0])))


def _pow(r: Reading) -> Array:
    exact = float(np.ravel(r.stored[1])[0])
    n = exact if r.a.exact else float(np.ravel(r.x[1])[0])  # a stored number, rounded as others
    if not (exact.is_integer() and n.is_integer() and 0 < n < 9):
        raise Unread("Pow")
    found = r.x[0]
    for _ in range(int(n) - 1):
        found = r.a.multiply(found, r.x[0])
    return found


def _fold(f: str) -> Meaning:
    def meaning(r: Reading) -> Array:
        found, *rest = aligned(r)
        for other in rest:
            found = getattr(r.a, f)(found, other)
        return found

    return meaning


def _sum(mean: bool) -> Meaning:
    def meaning(r: Reading) -> Array:
        terms = np.stack(np.broadcast_arrays(*aligned(r)), axis=-1)
        total = r.a.total(terms, r.place())
        return r.a.divide(total, r.number(float(len(r.x)))) if mean else total

    return meaning


def matmul(r: Reading) -> Array:
    x, y = r.x
    one, two = x.ndim == 2, y.ndim == 2
    x = x[:, None, :] if one else x
    y = y[:, :, None] if two else y
    rank = max(x.ndim, y.ndim)
    x, y = (v.reshape(v.shape[0], *(1,) * (rank - v.ndim), *v.shape[1:]) for v in (x, y))
    rows, columns, terms = x.shape[-2], y.shape[-1], x.shape[-1]
    y = np.swapaxes(y, -1, -2)
    place = r.place(terms=terms, rows=rows, columns=columns, constant=r.stored[1] is not None,
                    plain=not one and r.x[1].ndim == 3)  # fmt: skip
    found = r.a.products(x[..., :, None, :], y[..., None, :, :], None, place, True)
    found = found[..., 0, :] if one else found
    return found[..., 0] if two else found


def gemm(r: Reading) -> Array:
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
                    constant=r.stored[1] is not None, plain=alpha == 1)  # fmt: skip
    x, y = x[:, :, None, :], y[:, None, :, :]
    if alpha == 1:
        return r.a.products(x, y, bias, place, True)
    total = r.a.products(x, y, None, place, True)
    if bias is None:
        return r.a.multiply(r.real("alpha", 1.0), total)
    return r.a.multiply_add(r.real("alpha", 1.0), total, bias)


def _rows(r: Reading, axes: Sequence[int]) -> tuple[Array, list[int]]:
    """The reduced axes flattened to the last one, and those that are kept."""
    axes = sorted(a % r.rank for a in axes)
    kept = [a for a in range(r.rank) if a not in axes]
    x = np.transpose(r.x[0], (0, *(a + 1 for a in kept), *(a + 1 for a in axes)))
    return x.reshape(*x.shape[: 1 + len(kept)], -1), kept


_SIZED = ("ReduceSum", "ReduceMean", "ReduceL1", "ReduceSumSquare")


def _reduced(r: Reading) -> Array:
    axes = r.ints(1, "axes")
    if not axes:
        if r.get("noop_with_empty_axes", 0):
            raise Unread("noop")
        axes = list(range(r.rank))
    x, kept = _rows(r, axes)
    a, n, op = r.a, x.shape[-1], r.node.op_type
    behind = prod(r.x[0].shape[2 + max(a % r.rank for a in axes) :])
    sizes = {"terms": n, "rows": prod(x.shape[1:-1]) // behind, "columns": behind}
    place = r.place(**sizes) if op in _SIZED else r.place()
    if op in ("ReduceSum", "ReduceMean"):
        found = a.total(x, place)
        found = a.divide(found, r.number(float(n))) if op == "ReduceMean" else found
    elif op == "ReduceL1":
        found = a.total(a.absolute(x), place)
    elif op in ("ReduceSumSquare", "ReduceL2"):
        found = a.products(x, x, None, place, False)
        found = a.sqrt(found) if op == "ReduceL2" else found
    elif op == "ReduceLogSumExp":
        top = a.extreme(x, 1)
        powers = a.function("exp", a.subtract(x, top[..., None]))
        found = a.add(top, a.function("log", a.total(powers, r.place())))
    else:
        found = a.extreme(x, 1 if op == "ReduceMax" else -1)
    if r.get("keepdims", 1):
        shape = [r.x[0].shape[1 + k] if k in kept else 1 for k in range(r.rank)]
        found = found.reshape(found.shape[0], *shape)
    return found


def _running(r: Reading) -> Array:
    """Each of them the sum of an array in which only its own terms are not zero."""
    axis = (r.ints(1, "axis") or [0])[0] % r.rank
    x = np.moveaxis(r.x[0], axis + 1, -1)
    x = x[..., ::-1] if r.get("reverse", 0) else x
    nothing, places = r.number(0.0), np.arange(x.shape[-1])
    counts = places + (0 if r.get("exclusive", 0) else 1)
    sums = [r.a.total(np.where(places < count, x, nothing), r.place()) for count in counts]
    found = np.stack(sums, axis=-1)
    return np.moveaxis(found[..., ::-1] if r.get("reverse", 0) else found, -1, axis + 1)


def _running_products(r: Reading) -> Array:
    axis = (r.ints(1, "axis") or [0])[0] % r.rank
    x = np.moveaxis(r.x[0], axis + 1, 0)
    x = x[::-1] if r.get("reverse", 0) else x
    found = [np.zeros_like(x[0]) + r.number(1.0) if r.get("exclusive", 0) else x[0]]
    for part in x[:-1] if r.get("exclusive", 0) else x[1:]:
        first = len(found) == 1 and r.get("exclusive", 0)
        found.append(part if first else r.a.multiply(found[-1], part))
    made = np.stack(found[::-1] if r.get("reverse", 0) else found)
    return np.moveaxis(made, 0, axis + 1)


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
    way = a.habits["normalization"] if way is Normalization.EITHER else way
    if way is Normalization.DIRECT:
        centred = a.divide(a.subtract(r.x[0], mean), deviation)
        return a.multiply_add(centred, gamma, beta)
    if way is Normalization.RECIPROCAL:
        scale = a.multiply(a.divide(r.number(1.0), deviation), gamma)
    else:
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


def _stashed(r: Reading, x: Array, centred: bool) -> tuple[Array, bool]:
    """As above, in the type `stash_type`; and whether that is another one."""
    inner = r.of(r.get("stash_type", TensorProto.FLOAT))
    if r.a.exact or inner.format == r.a.format:
        return _normalized(r, x, centred), False
    there = r.within(inner, [inner.converted(r.a.read(r.x[0])), *r.x[1:]])
    z = _normalized(there, there.x[0].reshape(x.shape), centred)
    return r.a.converted(inner.read(z)), True


def _layer_normalization(r: Reading) -> Array:
    axis = r.get("axis", -1) % r.rank
    x = r.x[0].reshape(*r.x[0].shape[: 1 + axis], -1)
    z = _stashed(r, x, r.node.op_type == "LayerNormalization")[0].reshape(r.x[0].shape)
    more = [*r.x[1:], None][:2]
    scale, bias = (
        None if v is None else v.reshape(v.shape[0], *(1,) * (r.rank - v.ndim + 1), *v.shape[1:])
        for v in more
    )
    return _scaled(r, z, scale, bias)


def _instance_normalization(r: Reading) -> Array:
    """Of every channel, or of groups of them."""
    s, n, c, *spatial = r.x[0].shape
    groups = r.get("num_groups", c)
    x = r.x[0].reshape(s, n, groups, -1)
    scale, bias = (v.reshape(v.shape[0], 1, -1, *(1,) * len(spatial)) for v in r.x[1:3])
    if r.node.op_type == "GroupNormalization" and r.opset < 21:
        scale, bias = (np.repeat(v, c // groups, axis=2) for v in (scale, bias))
    mixed, z = False, None
    if r.node.op_type == "GroupNormalization" and r.opset >= 21:
        z, mixed = _stashed(r, x, True)
    folded = not r.a.exact and r.a.contract.normalization is Normalization.FOLDED
    if not r.a.exact and r.a.contract.normalization is Normalization.EITHER:
        folded = r.a.habits["normalization"] is Normalization.FOLDED
    if folded and not mixed:
        return _folded(r, x, scale, bias)
    z = _normalized(r, x, True) if z is None else z
    return _scaled(r, z.reshape(z.shape[0], *r.x[0].shape[1:]), scale, bias)


def _folded(r: Reading, x: Array, scale: Array, bias: Array) -> Array:
    """One multiple and one shift for a channel."""
    a, n = r.a, r.number(float(x.shape[-1]))
    mean = a.divide(a.total(x, r.place()), n)[..., None]
    rest = a.subtract(x, mean)
    variance = a.divide(a.products(rest, rest, None, r.place(), False), n)[..., None]
    sigma = a.sqrt(a.add(variance, r.real("epsilon", 1e-5)))
    whole = (mean.shape[0], *r.x[0].shape[1:])
    inverse, mean = (
        np.broadcast_to(v, x.shape).reshape(whole) for v in (a.divide(r.number(1.0), sigma), mean)
    )
    slope = a.multiply(scale, inverse)
    return a.multiply_add(r.x[0], slope, a.subtract(bias, a.multiply(mean, slope)))


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
        at = r.a.integers(at)[0]
        return np.expand_dims(at, axis + 1) if r.get("keepdims", 1) else at

    return meaning


def _hardmax(r: Reading) -> Array:
    axis = r.get("axis", -1) % r.rank
    x = np.moveaxis(r.x[0], axis + 1, 0)
    best, at = x[0], np.zeros(x[0].shape, np.int64)
    for k in range(1, len(x)):
        better = r.a.less(best, x[k])
        best, at = np.where(better, x[k], best), np.where(better, k, at)
    ones = [chosen(at == k, r.number(1.0), r.number(0.0)) for k in range(len(x))]
    return np.moveaxis(np.stack(ones), 0, axis + 1)


def _never(r: Reading) -> Array:
    """What holds of no finite number."""
    return np.zeros(r.x[0].shape, bool)


def _shrink(r: Reading) -> Array:
    x, edge, bias = r.x[0], r.real("lambd", 0.5), r.real("bias", 0.0)
    above = chosen(r.a.less(edge, x), r.a.subtract(x, bias), r.number(0.0))
    return chosen(r.a.less(x, r.a.negate(edge)), r.a.add(x, bias), above)


def _prelu(r: Reading) -> Array:
    x, slope = aligned(r)
    return chosen(r.a.less(x, r.number(0.0)), r.a.multiply(slope, x), x)


def _leaky(r: Reading) -> Array:
    x = r.x[0]
    under = r.a.multiply(r.real("alpha", 0.01), x)
    return chosen(r.a.less(x, r.number(0.0)), under, x)


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
    found = r.a.products(*parts, None, Place("MatMul", "", written=False), True)
    return found.reshape(found.shape[0], *(sizes[c] for c in right))


def _bool(f: Callable[[Array, Array], Array]) -> Meaning:
    return lambda r: f(*(v.astype(bool) for v in aligned(r)))


_ELEMENTS: dict[str, Meaning] = {
    "Add": _fold("add"), "Sub": _fold("subtract"), "Mul": _fold("multiply"),
    "Div": _fold("divide"), "Max": _fold("maximum"), "Min": _fold("minimum"),
    "Mod": _fold("remainder"), "Sum": _sum(False), "Mean": _sum(True), "Pow": _pow,
    "Neg": lambda r: r.a.negate(r.x[0]), "Abs": lambda r: r.a.absolute(r.x[0]),
    "Relu": lambda r: r.a.maximum(r.x[0], r.number(0.0)),
    "Sqrt": lambda r: r.a.sqrt(r.x[0]),
    "Reciprocal": lambda r: r.a.divide(r.number(1.0), r.x[0]),
    "Floor": lambda r: r.a.floor(r.x[0]), "Ceil": _ceil, "Round": lambda r: r.a.nearest(r.x[0]),
    "Sign": _sign, "Clip": _clip, "LeakyRelu": _leaky, "PRelu": _prelu, "Elu": _below(_elu),
    "Selu": _below(_selu, lambda r, x: r.a.multiply(_gamma(r), x)), "Celu": _below(_celu),
    "Gelu": _gelu, "HardSigmoid": _hard_sigmoid, "HardSwish": _hard_swish, "Swish": _swish,
    "Mish": _mish, "Softsign": _softsign,
    "ThresholdedRelu": lambda r: chosen(
        r.a.less(r.real("alpha", 1.0), r.x[0]), r.x[0], r.number(0.0)),
    "Less": _relation(lambda a, x, y: a.less(x, y)),
    "Greater": _relation(lambda a, x, y: a.less(y, x)),
    "LessOrEqual": _relation(lambda a, x, y: ~a.less(y, x)),
    "GreaterOrEqual": _relation(lambda a, x, y: ~a.less(x, y)),
    "Equal": _relation(lambda a, x, y: ~a.less(x, y) & ~a.less(y, x)),
    "And": _bool(np.logical_and), "Or": _bool(np.logical_or), "Xor": _bool(np.logical_xor),
    "Not": lambda r: ~r.x[0].astype(bool), "Where": lambda r: chosen(*aligned(r)),
    "IsNaN": _never, "IsInf": _never, "Shrink": _shrink,
}  # fmt: skip

SEMANTICS: dict[str, Meaning] = {
    **_ELEMENTS, **WINDOWED, **QUANTIZED, **RECURRENT, **FOREIGN,
    **{n: _unary(n.lower())
       for n in ("Exp", "Log", "Tanh", "Sigmoid", "Erf", "Sin", "Cos", "Atan", "Softplus", "Asin",
                 "Acos", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Tan")},
    "MatMul": matmul, "Gemm": gemm, "FusedGemm": fused_gemm(gemm), "BiasGelu": bias_gelu(_gelu),
    **{f"Reduce{n}": _reduced for n in (
        "Sum", "Mean", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp")},
    "CumSum": _running, "CumProd": _running_products, "Softmax": _softmax, "LogSoftmax": _softmax,
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization, "RMSNormalization": _layer_normalization,
    "InstanceNormalization": _instance_normalization,
    "GroupNormalization": _instance_normalization, "ArgMax": _arg(1), "ArgMin": _arg(-1),
    "Einsum": _einsum, "Hardmax": _hardmax, "Det": determinant,
}  # fmt: skip


def interpret(model: onnx.ModelProto, feeds: dict[str, Array], algebra: Any) -> dict[str, Array]:
    """Every tensor of a model. `feeds` have a sample axis; those of `Reals` are balls.

    Raises Unread for an operator that is not read here.
    """
    model = _spelled_out(model)
    opset = next(o.version for o in model.opset_import if not o.domain)
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    kinds = _kinds(model)
    tensors = dict(feeds)
    for name, value in stored.items():
        if kinds[name] in FLOATS:
            wide = value.astype(np.float64)
            tensors[name] = algebra.of(kinds[name]).stored(wide)
        else:
            tensors[name] = value[None] if value.dtype.kind == "b" else algebra.integers(value)
    for node in model.graph.node:
        if node.op_type not in (*SEMANTICS, *MOVING):
            raise Unread(node.op_type)
        reads, makes = ([kinds.get(t, 0) for t in names] for names in (node.input, node.output))
        if not all(makes):
            raise Unread("unknown types")
        own = algebra.of(next((k for k in (*makes, *reads) if k in FLOATS), TensorProto.FLOAT))
        if isinstance(own, Machine):
            own = own.at(_place(node, tensors, stored, makes[0]))
        arguments = [tensors.get(t) if t else None for t in node.input]
        kept = [stored.get(t) for t in node.input]
        wider: Machine | None = None
        if isinstance(own, Machine) and makes[0] in FLOATS:
            apart = _moves(node) or node.op_type in ("Cast", *RECURRENT)
            wider = None if apart else accumulated(own)
        if wider is not None:  # a subnormal number may be read as zero, and become zero
            arguments = [
                wider.converted(algebra.of(k).read(v)) if k in FLOATS and v is not None else v
                for v, k in zip(arguments, reads, strict=True)
            ]
        of = algebra.of if wider is None else _always(wider)
        r = Reading(own if wider is None else wider, node, arguments, kept, opset, of, reads, makes)
        if node.op_type in MOVING:
            results = moved(r)
        else:
            found = SEMANTICS[node.op_type](r)
            results = found if isinstance(found, list) else [found]
            if wider is not None:
                results = [own.converted(v) if k in FLOATS else v
                           for v, k in zip(results, makes, strict=False)]  # fmt: skip
        tensors.update(zip((t for t in node.output if t), results, strict=False))
    return tensors


def _moves(node: onnx.NodeProto) -> bool:
    """Does a node copy numbers, without reading or making any?"""
    if node.op_type not in ("Resize", "Upsample"):
        return node.op_type in (*MOVING, "MaxUnpool")
    modes = [a.s for a in node.attribute if a.name == "mode"]
    return modes in ([], [b"nearest"])


def _always(machine: Machine) -> Callable[[int], Machine]:
    return lambda kind: machine


def _kinds(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every tensor that is known."""
    graph = model.graph
    values = (*graph.input, *graph.value_info, *graph.output)
    kinds = {v.name: v.type.tensor_type.elem_type for v in values}
    kinds |= {t.name: t.data_type for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "QGemm":
            kinds[node.output[0]] = kinds[node.input[8]]
        if not all(kinds.get(t) for t in node.output if t):
            given = next((kinds.get(t, 0) for t in node.input if t), 0)
            kinds |= {t: given for t in node.output if not kinds.get(t)}
    return kinds


def _place(
    node: onnx.NodeProto, tensors: dict[str, Array], stored: dict[str, Array], kind: int
) -> Place:
    """Where a node stands, for what it does beside its sums: of Gemm alone the sizes count."""
    op = SUMS_OF.get(node.op_type, node.op_type)
    if node.op_type != "Gemm":
        own = op == node.op_type or runs_alike(node)
        return Place(op, node.name, kind=kind, written=own)
    flags = {t.name: t.i for t in node.attribute}
    scaled = any(t.name == "alpha" and t.f != 1.0 for t in node.attribute)
    a, b = (tensors[t].shape[1:] for t in node.input[:2])
    a = a[::-1] if flags.get("transA", 0) else a
    b = b[::-1] if flags.get("transB", 0) else b
    constant = node.input[1] in stored
    return Place("Gemm", node.name, constant, a[0], b[1], a[1], kind, not scaled)


_SPELLED = ("Attention", "RotaryEmbedding", "MeanVarianceNormalization")


def _spelled_out(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with ONNX's functions decomposed, each node of which rounds."""
    names = {n.op_type for n in model.graph.node}
    if names & set(_SPELLED):
        raise Unread("a function")
    if "ReduceLogSum" not in names:
        return model
    found = onnx.ModelProto()
    found.CopyFrom(model)
    del found.graph.node[:]
    for node in model.graph.node:
        if node.op_type != "ReduceLogSum":
            found.graph.node.append(node)
            continue
        total, log = onnx.NodeProto(), onnx.NodeProto(op_type="Log", name=f"{node.name}.log")
        total.CopyFrom(node)
        total.op_type, total.name = "ReduceSum", f"{node.name}.sum"
        total.doc_string = log.doc_string = DECOMPOSED
        total.output[0] = f"{node.output[0]}.sum"
        log.input.append(total.output[0])
        log.output.append(node.output[0])
        found.graph.node.extend([total, log])
    return found
