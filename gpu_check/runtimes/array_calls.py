"""ONNX operators as calls of a library that has numpy's functions: numpy itself, jax.numpy.

Each is what people write for it there. Sums run in whatever order the library has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from encoders.families.pooling import pool_window, reduced_axes
from encoders.families.windows import Window, window_of
from encoders.operator import Site
from encoders.ops.reductions.average_pool import counts_of

Call: TypeAlias = Callable[[Site, Sequence[Any]], Any]

_SAME = {
    "Abs": "abs",
    "Add": "add",
    "And": "logical_and",
    "Atan": "arctan",
    "Ceil": "ceil",
    "Cos": "cos",
    "Div": "divide",
    "Equal": "equal",
    "Exp": "exp",
    "Floor": "floor",
    "Greater": "greater",
    "GreaterOrEqual": "greater_equal",
    "Less": "less",
    "LessOrEqual": "less_equal",
    "Log": "log",
    "Mul": "multiply",
    "Neg": "negative",
    "Not": "logical_not",
    "Or": "logical_or",
    "Pow": "power",
    "Round": "round",
    "Sign": "sign",
    "Sin": "sin",
    "Sqrt": "sqrt",
    "Sub": "subtract",
    "Tanh": "tanh",
    "Where": "where",
}
_FOLDED = {"Max": "maximum", "Min": "minimum", "Sum": "add"}
_REDUCED = {
    "ReduceMax": "max",
    "ReduceMean": "mean",
    "ReduceMin": "min",
    "ReduceSum": "sum",
}


def array_calls(xp: Any) -> dict[str, Call]:
    """The calls of a module with numpy's names, by operator."""
    return {
        **{op: _plain(getattr(xp, name)) for op, name in _SAME.items()},
        **{op: _folded(getattr(xp, name)) for op, name in _FOLDED.items()},
        **{op: _reduced(getattr(xp, name)) for op, name in _REDUCED.items()},
        "AveragePool": lambda site, a: _average(xp, site, a[0]),
        "BatchNormalization": lambda site, a: _normalized(xp, site, a),
        "Cast": lambda site, a: a[0].astype(site.outputs[0].dtype.numpy),
        "Clip": lambda site, a: _clipped(xp, a),
        "Conv": lambda site, a: _convolved(xp, site, a),
        "GlobalAveragePool": lambda site, a: xp.mean(a[0], axis=_pixels(site)),
        "GlobalMaxPool": lambda site, a: xp.max(a[0], axis=_pixels(site)),
        "InstanceNormalization": lambda site, a: _instance_normalized(xp, site, a),
        "LayerNormalization": lambda site, a: _layer_normalized(xp, site, a),
        "LeakyRelu": lambda site, a: xp.where(
            a[0] >= 0, a[0], a[0] * _like(a[0], site.real("alpha", 0.01))
        ),
        "LogSoftmax": lambda site, a: _log_softmax(xp, site, a[0]),
        "MatMul": lambda site, a: xp.matmul(a[0], a[1]),
        "MaxPool": lambda site, a: xp.max(_patches(xp, site, a[0], -np.inf), axis=2),
        "Reciprocal": lambda site, a: _like(a[0], 1.0) / a[0],
        "ReduceSumSquare": lambda site, a: xp.sum(a[0] * a[0], axis=reduced_axes(site)),
        "Relu": lambda site, a: xp.maximum(a[0], _like(a[0], 0.0)),
        "Sigmoid": lambda site, a: _like(a[0], 1.0) / (_like(a[0], 1.0) + xp.exp(-a[0])),
        "Softmax": lambda site, a: _softmax(xp, site, a[0]),
        "Softplus": lambda site, a: xp.logaddexp(a[0], _like(a[0], 0.0)),
    }


def _plain(function: Callable[..., Any]) -> Call:
    return lambda site, arguments: function(*arguments)


def _folded(function: Callable[..., Any]) -> Call:
    def call(site: Site, arguments: Sequence[Any]) -> Any:
        found = arguments[0]
        for more in arguments[1:]:
            found = function(found, more)
        return found

    return call


def _reduced(function: Callable[..., Any]) -> Call:
    return lambda site, arguments: function(arguments[0], axis=reduced_axes(site))


def _like(x: Any, value: float) -> Any:
    """A number in the type of the array, so that no wider type takes over."""
    return x.dtype.type(value)


def _clipped(xp: Any, arguments: Sequence[Any]) -> Any:
    low, high = (*arguments[1:], None, None)[:2]
    found = arguments[0]
    found = found if low is None else xp.maximum(found, low)
    return found if high is None else xp.minimum(found, high)


def _axis(site: Site) -> int:
    return site.integer("axis", -1)


def _softmax(xp: Any, site: Site, x: Any) -> Any:
    powers = xp.exp(x - xp.max(x, axis=_axis(site), keepdims=True))
    return powers / xp.sum(powers, axis=_axis(site), keepdims=True)


def _log_softmax(xp: Any, site: Site, x: Any) -> Any:
    moved = x - xp.max(x, axis=_axis(site), keepdims=True)
    return moved - xp.log(xp.sum(xp.exp(moved), axis=_axis(site), keepdims=True))


def _pixels(site: Site) -> tuple[int, ...]:
    return tuple(range(2, len(site.type_of(0).shape)))


def _of_channels(values: Any, rank: int) -> Any:
    return values.reshape((1, -1) + (1,) * (rank - 2))


def _normalized(xp: Any, site: Site, arguments: Sequence[Any]) -> Any:
    x = arguments[0]
    scale, shift, mean, variance = (_of_channels(v, x.ndim) for v in arguments[1:5])
    deviation = xp.sqrt(variance + _like(x, site.real("epsilon", 1e-5)))
    return (x - mean) / deviation * scale + shift


def _instance_normalized(xp: Any, site: Site, arguments: Sequence[Any]) -> Any:
    x, axes = arguments[0], _pixels(site)
    scale, shift = (_of_channels(v, x.ndim) for v in arguments[1:3])
    centred = x - xp.mean(x, axis=axes, keepdims=True)
    variance = xp.mean(centred * centred, axis=axes, keepdims=True)
    return centred / xp.sqrt(variance + _like(x, site.real("epsilon", 1e-5))) * scale + shift


def _layer_normalized(xp: Any, site: Site, arguments: Sequence[Any]) -> Any:
    x = arguments[0]
    axes = tuple(range(_axis(site) % x.ndim, x.ndim))
    centred = x - xp.mean(x, axis=axes, keepdims=True)
    variance = xp.mean(centred * centred, axis=axes, keepdims=True)
    found = centred / xp.sqrt(variance + _like(x, site.real("epsilon", 1e-5))) * arguments[1]
    return found if len(arguments) < 3 or arguments[2] is None else found + arguments[2]


def _patches(xp: Any, site: Site, x: Any, fill: float) -> Any:
    """(N, C, kernel elements, *output): what each window of a pooling reads."""
    return _read(xp, x, pool_window(site), fill)


def _read(xp: Any, x: Any, window: Window, fill: float) -> Any:
    reach = [
        (o - 1) * s + d * (k - 1) + 1
        for o, s, d, k in zip(
            window.output, window.strides, window.dilations, window.kernel, strict=True
        )
    ]
    pads = [
        (b, max(a, r - n - b))
        for b, a, r, n in zip(window.before, window.after, reach, x.shape[2:], strict=True)
    ]
    padded = xp.pad(x, [(0, 0), (0, 0), *pads], constant_values=fill)
    every = (slice(None), slice(None))
    return xp.stack([padded[(*every, *where)] for where in window.positions()], axis=2)


def _average(xp: Any, site: Site, x: Any) -> Any:
    total = xp.sum(_patches(xp, site, x, 0.0), axis=2)
    return total / xp.asarray(counts_of(site)).astype(x.dtype)


def _convolved(xp: Any, site: Site, arguments: Sequence[Any]) -> Any:
    x, weights = arguments[:2]
    window, groups = window_of(site, site.type_of(1).shape[2:]), site.integer("group", 1)
    reads = _read(xp, x, window, 0.0)
    batch, channels = reads.shape[:2]
    outputs = weights.shape[0]
    rows = weights.reshape(groups, outputs // groups, -1)
    columns = reads.reshape(batch, groups, channels // groups * reads.shape[2], -1)
    found = xp.matmul(rows, columns).reshape(batch, outputs, *window.output)
    bias = arguments[2] if len(arguments) > 2 else None
    return found if bias is None else found + _of_channels(bias, found.ndim)


def quiet(calls: Mapping[str, Call]) -> dict[str, Call]:
    """The calls without numpy's warnings: infinities and NaN are results like others."""

    def silenced(call: Call) -> Call:
        def run(site: Site, arguments: Sequence[Any]) -> Any:
            with np.errstate(all="ignore"):
                return call(site, arguments)

        return run

    return {op: silenced(call) for op, call in calls.items()}
