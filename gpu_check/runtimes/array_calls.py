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
from gpu_check.runtimes.runtimes import RuntimeUnavailable

Call: TypeAlias = Callable[[Site, Sequence[Any]], Any]

_SAME = {
    "Abs": "abs",
    "Add": "add",
    "And": "logical_and",
    "Acos": "arccos",
    "Acosh": "arccosh",
    "Asin": "arcsin",
    "Asinh": "arcsinh",
    "Atan": "arctan",
    "Atanh": "arctanh",
    "Ceil": "ceil",
    "Cos": "cos",
    "Cosh": "cosh",
    "Div": "divide",
    "Equal": "equal",
    "Exp": "exp",
    "Floor": "floor",
    "Greater": "greater",
    "GreaterOrEqual": "greater_equal",
    "Less": "less",
    "LessOrEqual": "less_equal",
    "Log": "log",
    "MaskedWhere": "where",
    "Mul": "multiply",
    "Neg": "negative",
    "Not": "logical_not",
    "Or": "logical_or",
    "Pow": "power",
    "Round": "round",
    "Sign": "sign",
    "Sin": "sin",
    "Sinh": "sinh",
    "Sqrt": "sqrt",
    "Sub": "subtract",
    "Tan": "tan",
    "Tanh": "tanh",
    "Where": "where",
}
FOLDED = {"Max": "maximum", "Min": "minimum", "Sum": "add"}
"""Operators of any number of arguments, and the function of two, here and in torch."""
_REDUCED = {
    "ReduceMax": "max",
    "ReduceMean": "mean",
    "ReduceMin": "min",
    "ReduceSum": "sum",
}


def array_calls(xp: Any) -> dict[str, Call]:
    """The calls of a module with numpy's names, by operator."""
    return {
        **{op: elementwise(getattr(xp, name)) for op, name in _SAME.items()},
        **{op: folded(getattr(xp, name)) for op, name in FOLDED.items()},
        **{op: _reduced(getattr(xp, name)) for op, name in _REDUCED.items()},
        "AveragePool": lambda site, a: _average(xp, site, a[0]),
        "BatchNormalization": lambda site, a: _normalized(xp, site, a),
        "Cast": lambda site, a: a[0].astype(site.outputs[0].dtype.numpy),
        "Clip": lambda site, a: _clipped(xp, a),
        "Conv": lambda site, a: _convolved(xp, site, a),
        "ConvTranspose": lambda site, a: _transposed(xp, site, a),
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


def with_made(xp: Any, calls: Mapping[str, Call]) -> dict[str, Call]:
    """The calls, those of softmaxes behind a mask of −∞, and those of activations over time."""

    def masked(op: str) -> Call:
        def call(site: Site, arguments: Sequence[Any]) -> Any:
            x, kept = arguments[:2]
            found = calls[op](site, [xp.where(kept, x, -np.inf)])
            return found if op == "Softmax" else xp.where(kept, found, 0.0)

        return call

    behind = {f"Masked{op}": masked(op) for op in ("Softmax", "LogSoftmax")}
    return {**calls, **behind, **{f"Recurrent{op}": calls[op] for op in ("Sigmoid", "Tanh")}}


def elementwise(function: Callable[..., Any]) -> Call:
    """The call of a function of the node's own arguments."""
    return lambda site, arguments: function(*arguments)


def folded(function: Callable[..., Any]) -> Call:
    """The call of a function of two of the node's arguments, one after the other."""

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


def of_channels(values: Any, rank: int) -> Any:
    """Numbers of the channels beside an array (N, C, *spatial) of this rank."""
    return values.reshape((1, -1) + (1,) * (rank - 2))


def _normalized(xp: Any, site: Site, arguments: Sequence[Any]) -> Any:
    x = arguments[0]
    scale, shift, mean, variance = (of_channels(v, x.ndim) for v in arguments[1:5])
    deviation = xp.sqrt(variance + _like(x, site.real("epsilon", 1e-5)))
    return (x - mean) / deviation * scale + shift


def _instance_normalized(xp: Any, site: Site, arguments: Sequence[Any]) -> Any:
    x, axes = arguments[0], _pixels(site)
    scale, shift = (of_channels(v, x.ndim) for v in arguments[1:3])
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
    rows = weights.reshape(groups, weights.shape[0] // groups, -1)
    return _product(xp, rows, _read(xp, x, window, 0.0), arguments)


def _product(xp: Any, rows: Any, reads: Any, arguments: Sequence[Any]) -> Any:
    """Rows (groups, channels of one, terms) with what windows read; a bias, if there is one."""
    batch, channels, size = reads.shape[:3]
    groups, outputs = rows.shape[:2]
    columns = reads.reshape(batch, groups, channels // groups * size, -1)
    found = xp.matmul(rows, columns).reshape(batch, groups * outputs, *reads.shape[3:])
    bias = arguments[2] if len(arguments) > 2 else None
    return found if bias is None else found + of_channels(bias, found.ndim)


def _transposed(xp: Any, site: Site, arguments: Sequence[Any]) -> Any:
    """A convolution of the input with zeros between its elements and around it, the kernel turned
    round."""
    x, weights = arguments[:2]
    spread = transposed_window(site)
    for axis, (n, s) in enumerate(zip(x.shape[2:], spread.strides, strict=True), start=2):
        apart = xp.pad(x[..., None], [(0, 0)] * x.ndim + [(0, s - 1)])
        apart = xp.moveaxis(apart, -1, axis + 1)
        x = apart.reshape(*x.shape[:axis], n * s, *x.shape[axis + 1 :])
        x = x[(slice(None),) * axis + (slice(0, (n - 1) * s + 1),)]
    for axis, (k, d, cut) in enumerate(
        zip(spread.kernel, spread.dilations, spread.before, strict=True), start=2
    ):
        around = d * (k - 1) - cut
        x = x[(slice(None),) * axis + (slice(max(-around, 0), None),)]
        x = xp.pad(x, [(max(around, 0), 0) if i == axis else (0, 0) for i in range(x.ndim)])
        most = spread.output[axis - 2] + d * (k - 1)
        x = x[(slice(None),) * axis + (slice(0, most),)]
    none = (0,) * len(spread.kernel)
    window = Window(
        spread.kernel,
        (1,) * len(none),
        dilations=spread.dilations,
        before=none,
        after=none,
        output=spread.output,
    )
    groups, (channels, outputs) = site.integer("group", 1), weights.shape[:2]
    turned = xp.flip(weights, axis=tuple(range(2, weights.ndim)))
    parts = turned.reshape(groups, channels // groups, outputs, -1)
    rows = xp.swapaxes(parts, 1, 2).reshape(groups, outputs, -1)
    return _product(xp, rows, _read(xp, x, window, 0.0), arguments)


def transposed_window(site: Site) -> Window:
    """Of a transposed convolution: what is cut off `before` and `after`, and the output's extents.
    Raises RuntimeUnavailable where its pads are not stated."""
    attributes = site.node.attributes
    if attributes.get("auto_pad", "NOTSET") not in ("NOTSET", b"NOTSET", "", b""):
        raise RuntimeUnavailable("ConvTranspose with 'auto_pad' has no plain call")
    if "output_shape" in attributes:
        raise RuntimeUnavailable("ConvTranspose with 'output_shape' has no plain call")
    kernel = site.type_of(1).shape[2:]
    rank = len(kernel)
    pads = site.integers("pads", (0,) * (2 * rank)) or (0,) * (2 * rank)
    ones = (1,) * rank
    return Window(
        kernel,
        site.integers("strides", ones) or ones,
        dilations=site.integers("dilations", ones) or ones,
        before=pads[:rank],
        after=pads[rank:],
        output=site.outputs[0].shape[2:],
    )


def quiet(calls: Mapping[str, Call]) -> dict[str, Call]:
    """The calls without numpy's warnings: infinities and NaN are results like others."""

    def silenced(call: Call) -> Call:
        def run(site: Site, arguments: Sequence[Any]) -> Any:
            with np.errstate(all="ignore"):
                return call(site, arguments)

        return run

    return {op: silenced(call) for op, call in calls.items()}
