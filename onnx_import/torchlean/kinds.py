"""What each TorchLean kind means in ONNX operators: exact names, one table per dialect."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np

from onnx_import.torchlean.documents import Shape, shape_of
from onnx_import.torchlean.place import Kind, OnnxStep, Place, reshape, within
from onnx_import.torchlean.windows import CONV_FIELDS, conv, conv2d, pool, pool2d


class Dialect(Enum):
    """Which of the two incompatible forms of `torchlean.ir.v1` a file has."""

    NEWER = "newer"
    OLDER = "older"


def _unary(op: str) -> Kind:
    return Kind(1, lambda place: (OnnxStep(op),))


def _elementwise(op: str) -> Kind:
    def lower(place: Place) -> Sequence[OnnxStep]:
        place.agree("the shape of the second parent", place.parents[1], place.parents[0])
        return (OnnxStep(op, (1,)),)

    return Kind(2, lower)


def _permuted(perm: Sequence[int]) -> Sequence[OnnxStep]:
    return (OnnxStep("Transpose", (), {"perm": list(perm)}),)


def _permute(place: Place) -> Sequence[OnnxStep]:
    perm = place.entry.integers("perm", len(place.parents[0]))
    place.agree("the sorted attribute 'perm'", tuple(sorted(perm)), tuple(range(len(perm))))
    return _permuted(perm)


def _swapped(place: Place, a: int, b: int) -> Sequence[OnnxStep]:
    perm = list(range(len(place.parents[0])))
    perm[a], perm[b] = perm[b], perm[a]
    return _permuted(perm)


def _transpose(place: Place) -> Sequence[OnnxStep]:
    rank = len(place.parents[0])
    return _swapped(place, place.axis("axis1", rank), place.axis("axis2", rank))


def _swap_first_two(place: Place) -> Sequence[OnnxStep]:
    if len(place.parents[0]) < 2:
        raise place.wrong(f"its parent has the shape {list(place.parents[0])}", "of 2 axes or more")
    return _swapped(place, 0, 1)


def _transpose_last_two(place: Place) -> Sequence[OnnxStep]:
    place.agree("the number of its parent's axes", len(place.parents[0]), 3)
    return _swapped(place, 1, 2)


def _safe_log(place: Place) -> Sequence[OnnxStep]:
    """log(softplus(x) + ε), ε the second parent."""
    place.agree("the shape of the second parent", place.parents[1], ())
    return (OnnxStep("Softplus"), OnnxStep("Add", (1,)), OnnxStep("Log"))


def _declared(place: Place, name: str, shape: Shape) -> None:
    found = shape_of(place.entry.field(name), f"{place.entry.describe()}: attribute '{name}'")
    place.agree(f"attribute '{name}'", found, shape)


def _broadcast_to(place: Place) -> Sequence[OnnxStep]:
    _declared(place, "from_shape", place.parents[0])
    _declared(place, "to_shape", place.shape)
    return (OnnxStep("Expand", (np.array(place.shape, np.int64),)),)


def _reshaped(place: Place) -> Sequence[OnnxStep]:
    _declared(place, "in_shape", place.parents[0])
    _declared(place, "out_shape", place.shape)
    return _to_shape(place, place.shape)


def _flatten(place: Place) -> Sequence[OnnxStep]:
    _declared(place, "value_shape", place.parents[0])
    return _to_shape(place, (math.prod(place.parents[0]),))


def _to_shape(place: Place, shape: Shape) -> Sequence[OnnxStep]:
    if math.prod(shape) != math.prod(place.parents[0]):
        raise place.wrong(
            f"it turns the shape {list(place.parents[0])} into {list(shape)}", "equal"
        )
    return (reshape(shape),)


def _reduced(op: str, axes: Sequence[int] | None, keep: bool) -> Sequence[OnnxStep]:
    """At opset 17 the axes are an input of ReduceSum and an attribute of ReduceMean."""
    attributes: dict[str, Any] = {"keepdims": int(keep)}
    if axes is None:
        return (OnnxStep(op, (), attributes),)
    if op == "ReduceSum":
        return (OnnxStep(op, (np.array(axes, np.int64),), attributes),)
    return (OnnxStep(op, (), {**attributes, "axes": list(axes)}),)


def _reduce_newer(op: str) -> Kind:
    def lower(place: Place) -> Sequence[OnnxStep]:
        axes, keep = place.entry.integers("axes"), place.entry.flag("keepdim")
        if len(set(axes)) < len(axes) or any(a >= len(place.parents[0]) for a in axes):
            raise place.wrong(f"attribute 'axes' is {list(axes)}", "distinct axes of its parent")
        # No axes: nothing to reduce, where ONNX would reduce all.
        return _reduced(op, axes, keep) if axes else (OnnxStep("Identity"),)

    return Kind(1, lower, ("axes", "keepdim"))


def _reduce_older(op: str) -> Kind:
    def lower(place: Place) -> Sequence[OnnxStep]:
        return _reduced(op, [place.axis("axis", len(place.parents[0]))], keep=False)

    return Kind(1, lower, ("axis",))


def _softmax(place: Place) -> Sequence[OnnxStep]:
    return (OnnxStep("Softmax", (), {"axis": place.axis("axis", len(place.parents[0]))}),)


def _concat(place: Place) -> Sequence[OnnxStep]:
    axis = place.axis("axis", len(place.parents[0]))
    return (OnnxStep("Concat", tuple(range(1, len(place.parents))), {"axis": axis}),)


def _linear(place: Place) -> Sequence[OnnxStep]:
    """x·Wᵀ + b over the last axis, W out×in."""
    if not place.parents[0] or not place.shape:
        raise place.wrong("its parent or its result is a scalar", "a tensor")
    inner, outer = place.parents[0][-1], place.shape[-1]
    for name, size in (("in_dim", inner), ("out_dim", outer)):
        if name in place.entry.fields:
            place.agree(f"attribute '{name}'", place.entry.integer(name), size)
    weight = place.tensor("weight", "weight", (outer, inner))
    bias = place.tensor("bias", "bias", (outer,))
    return (OnnxStep("MatMul", (np.ascontiguousarray(weight.T),)), OnnxStep("Add", (bias,)))


def _layer_normalization(place: Place) -> Sequence[OnnxStep]:
    shape = place.parents[0]
    axis, eps = place.axis("axis", len(shape)), place.entry.number("eps")
    gamma = place.tensor("gamma", "weight", shape[axis:])
    beta = place.tensor("beta", "bias", shape[axis:])
    return (OnnxStep("LayerNormalization", (gamma, beta), {"axis": axis, "epsilon": eps}),)


def _batch_normalization(place: Place, axis: int) -> Sequence[OnnxStep]:
    shape, count = place.parents[0], place.entry.integer("channels")
    if not 0 <= axis < len(shape) or shape[axis] != count:
        raise place.wrong(f"its parent has the shape {list(shape)}", f"one with {count} channels")
    names = (("gamma", "weight"), ("beta", "bias"), ("mean", "running_mean"))
    tensors = [place.tensor(a, b, (count,)) for a, b in (*names, ("var", "running_var"))]
    step = OnnxStep("BatchNormalization", tuple(tensors), {"epsilon": place.entry.number("eps")})
    return within((math.prod(shape[:axis]), *shape[axis:]), (step,), shape, shape)


_STATISTICS = ("weight", "bias", "running_mean", "running_var")


COMMON: Mapping[str, Kind] = {
    "permute": Kind(1, _permute, ("perm",)),
    "detach": _unary("Identity"),
    "add": _elementwise("Add"),
    "sub": _elementwise("Sub"),
    "mul_elem": _elementwise("Mul"),
    "max_elem": _elementwise("Max"),
    "min_elem": _elementwise("Min"),
    "abs": _unary("Abs"),
    "sqrt": _unary("Sqrt"),
    "inv": _unary("Reciprocal"),
    "relu": _unary("Relu"),
    "tanh": _unary("Tanh"),
    "sigmoid": _unary("Sigmoid"),
    "exp": _unary("Exp"),
    "log": _unary("Log"),
    "sin": _unary("Sin"),
    "cos": _unary("Cos"),
    "broadcast_to": Kind(1, _broadcast_to, ("from_shape", "to_shape")),
    "sum": Kind(1, lambda place: _reduced("ReduceSum", None, keep=False)),
    "matmul": Kind(2, lambda place: (OnnxStep("MatMul", (1,)),)),
    "linear": Kind(1, _linear, ("in_dim", "out_dim", "weight", "bias"), ("weight", "bias")),
    "softmax": Kind(1, _softmax, ("axis",)),
    "layernorm": Kind(
        1, _layer_normalization, ("axis", "eps", "gamma", "beta"), ("weight", "bias")
    ),
    "reshape": Kind(1, _reshaped, ("in_shape", "out_shape")),
    "flatten": Kind(1, _flatten, ("value_shape",)),
    "concat": Kind(None, _concat, ("axis",)),
}


KINDS: Mapping[Dialect, Mapping[str, Kind]] = {
    Dialect.NEWER: {
        **COMMON,
        "transpose": Kind(1, _transpose, ("axis1", "axis2")),
        "softplus": _unary("Softplus"),
        "safe_log": Kind(2, _safe_log),
        "max_pool": pool("MaxPool"),
        "avg_pool": pool("AveragePool"),
        "reduce_sum": _reduce_newer("ReduceSum"),
        "reduce_mean": _reduce_newer("ReduceMean"),
        "conv": Kind(1, conv, CONV_FIELDS, ("weight", "bias")),
        "batch_norm_eval": Kind(
            1,
            lambda place: _batch_normalization(place, place.entry.integer("channel_axis")),
            ("channel_axis", "channels", "eps", "gamma", "beta", "mean", "var"),
            _STATISTICS,
        ),
    },
    Dialect.OLDER: {
        **COMMON,
        "max_pool2d": pool2d("MaxPool", padded=False),
        "max_pool2d_pad": pool2d("MaxPool", padded=True),
        "avg_pool2d": pool2d("AveragePool", padded=False),
        "avg_pool2d_pad": pool2d("AveragePool", padded=True),
        "reduce_sum": _reduce_older("ReduceSum"),
        "reduce_mean": _reduce_older("ReduceMean"),
        "conv2d": Kind(
            1, conv2d, ("inC", "outC", "kH", "kW", "stride", "padding"), ("weight", "bias")
        ),
        "batch_norm2d_nchw_eval": Kind(
            1, lambda place: _batch_normalization(place, 1), ("channels", "eps"), _STATISTICS
        ),
        "swap_first_two": Kind(1, _swap_first_two),
        "transpose3d_last_two": Kind(1, _transpose_last_two),
    },
}
