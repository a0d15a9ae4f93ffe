"""Operators that are decomposed into others when a file is read, once its types are known.

ScatterND, ScatterElements, TensorScatter and OneHot become a Gather by a constant index, LpPool a
Gather of its windows and a norm: only data are moved. Einsum becomes transpositions, matrix
products and sums, as runtimes compute it. Cast to truth values becomes |x| > 0. Dropout in training
becomes a product with a random mask. LRN becomes x·(bias + Σ alpha/size·x²)^−beta. Pow with several
stored exponents is done for each of them. DynamicQuantizeLinear becomes the computation of scale
and zero point, as runtimes do it, and a QuantizeLinear by these. IsNaN, IsInf, Hardmax and Shrink
become comparisons. Clip, PRelu, Pad and normalisations of rows by computed parameters become other
operators. ReduceLogSum and ThresholdedRelu are decomposed at opsets that do not say how,
BatchNormalization in training. RNN, GRU and LSTM are unrolled over time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx

from onnx_import.graph import Array, DType, Node, TensorType
from onnx_import.passes.body import Body
from onnx_import.passes.bounds import (
    clip_by_computed,
    normalized_by_computed,
    pad_with_computed,
    prelu_by_computed,
)
from onnx_import.passes.einsum import einsum
from onnx_import.passes.images.aligning import ATTRIBUTES as ALIGNING
from onnx_import.passes.images.aligning import sampled_once
from onnx_import.passes.images.circular import tensor_scatter
from onnx_import.passes.images.resizing import ATTRIBUTES as RESIZING
from onnx_import.passes.images.resizing import along_each_axis
from onnx_import.passes.images.sampling import ATTRIBUTES as SAMPLING
from onnx_import.passes.images.sampling import nearest_by_grid
from onnx_import.passes.overlapping import col2im, layers_of, lp_normalization
from onnx_import.passes.recurrent import gru, lstm, rnn
from onnx_import.passes.sorting import top_k
from onnx_import.passes.statistics import batch_statistics, product_of_two, running_products
from onnx_import.passes.telling import hardmax, is_inf, is_nan, of_integers, shrink
from onnx_import.passes.windows import global_lp_pool, lp_pool, max_unpool
from onnx_import.tensors import code_of

_MOST_EXPONENTS = 64
_MOST_CHANNELS = 512
_MOST_SCATTERED = 2**26


def decomposed(
    node: Node,
    types: Mapping[str, TensorType],
    constants: Mapping[str, Array],
    taken: Collection[str],
) -> Body | None:
    """The node with other operators, None where it stays. `taken` are the names of all nodes.

    Raises UnsupportedModel, naming the node, for a use that has no meaning here.
    """
    if node.op not in REWRITINGS or node.domain:
        return None
    rewriting, attributes = REWRITINGS[node.op]
    body = Body(node, types, constants, taken)
    unknown = sorted(set(node.attributes) - attributes)
    if unknown:
        raise body.unsupported(f"attribute '{unknown[0]}' (opset {node.opset}) is not supported")
    body.written_by(rewriting)
    return body.finish() if body.protos else None


def _dropout(body: Body) -> None:
    """x·mask/(1 − ratio), as onnxruntime computes it; the mask is sampled at run time."""
    x, *rest = body.node.inputs
    given = bool(rest and rest[0])
    ratio = body.constant(1, "the ratio") if given else np.float32(0.5)
    kind = body.types[x].dtype.numpy
    if ratio.dtype != kind or not 0 <= float(ratio) < 1:
        raise body.unsupported(
            f"its ratio {float(ratio):g} must be a number of its input's type below 1"
        )
    one, dropped = body.store(np.ones((), kind)), body.store(np.asarray(ratio).reshape(()))
    masked = body.add("Mul", x, body.mask())
    body.add("Div", masked, body.add("Sub", one, dropped))


def _require_held(body: Body, shape: tuple[int, ...]) -> None:
    if math.prod(shape) > _MOST_SCATTERED:
        raise body.unsupported(
            f"its data has {math.prod(shape)} numbers; supported are {_MOST_SCATTERED}"
        )


def _scatter_nd(body: Body) -> None:
    shape = body.shape(0)
    index = body.constant(1, "the indices").astype(np.int64)
    depth = index.shape[-1]
    _require_held(body, shape)
    sizes = np.array(shape[:depth], np.int64)
    if np.any((index < -sizes) | (index >= sizes)):
        raise body.unsupported("an index (input 1) is out of range")
    _require_updates(body, (*index.shape[:-1], *shape[depth:]))
    places = np.arange(math.prod(shape)).reshape(*shape[:depth], -1)
    wrapped = np.where(index < 0, index + sizes, index)
    _replace(body, places[tuple(np.moveaxis(wrapped, -1, 0))])


def _scatter_elements(body: Body) -> None:
    shape = body.shape(0)
    axis = body.axis(0, len(shape))
    index = body.constant(1, "the indices").astype(np.int64)
    if np.any((index < -shape[axis]) | (index >= shape[axis])):
        raise body.unsupported("an index (input 1) is out of range")
    others = [i for i in range(len(shape)) if i != axis]
    if index.ndim != len(shape) or any(index.shape[i] > shape[i] for i in others):
        raise body.unsupported(
            f"indices (input 1) of shape {list(index.shape)} do not fit data of shape {list(shape)}"
        )
    _require_updates(body, index.shape)
    _require_held(body, shape)
    at: list[Any] = list(np.indices(index.shape))
    at[axis] = index % shape[axis]
    _replace(body, np.arange(math.prod(shape)).reshape(shape)[tuple(at)])


def _require_updates(body: Body, shape: tuple[int, ...]) -> None:
    if body.shape(2) != shape:
        raise body.unsupported(
            f"updates (input 2) must have the shape {list(shape)}, not {list(body.shape(2))}"
        )


def _replace(body: Body, places: Array) -> None:
    """Put the updates (input 2) at flat places of the data (input 0), or what the attribute
    `reduction` makes of them and the data there."""
    reduction = body.number("reduction", "none")
    if reduction not in _REDUCTIONS:
        raise body.unsupported(f"attribute 'reduction' is '{reduction}', which has no meaning here")
    flat = places.reshape(-1)
    if len(np.unique(flat)) < len(flat):
        if reduction in _REPEATED:
            _reduce_repeated(body, flat.astype(np.int64), _REPEATED[reduction])
            return
        raise body.unsupported("an index occurs twice, and which update wins is not defined")
    shape = body.shape(0)
    source = np.arange(math.prod(shape))
    source[flat.astype(np.int64)] = len(source) + np.arange(len(flat))
    data, updates = (body.reshape(body.node.inputs[i], -1) for i in (0, 2))
    if reduction != "none":
        old = body.add("Gather", data, body.store(flat.astype(np.int64)), axis=0)
        updates = body.add(_REDUCTIONS[reduction], old, updates)
    both = body.add("Concat", data, updates, axis=0)
    body.add("Gather", both, body.store(source.reshape(shape)), axis=0)


def _reduce_repeated(body: Body, flat: Array, op: str) -> None:
    """The data and, layer by layer, the updates of each place, reduced in whatever order a runtime
    takes: a layer has the next update of every place that has one."""
    shape, size = body.shape(0), math.prod(body.shape(0))
    depth = layers_of(flat)
    layers = int(depth.max()) + 1
    if (layers + 1) * size > _MOST_SCATTERED:
        raise body.unsupported(f"it adds up to {layers} updates at one of {size} places")
    data, updates = (body.reshape(body.node.inputs[i], -1) for i in (0, 2))
    nothing = body.store(np.zeros(1, body.types[body.node.inputs[0]].dtype.numpy))
    every = body.add("Concat", data, updates, nothing, axis=0)
    # of a sum what is absent is 0, of an extreme the number of the data once more
    absent = np.full(size, size + len(flat)) if op == "ReduceSum" else np.arange(size)
    source = np.stack([np.arange(size), *[absent] * layers])
    source[depth + 1, flat] = size + np.arange(len(flat))
    stacked = body.add("Gather", every, body.store(source.reshape(-1, *shape)), axis=0)
    body.over(op, stacked, [0])


def _gather_nd(body: Body) -> None:
    """Indices along the axes behind the first `batch_dims`, which both tensors have."""
    shape, batch = body.shape(0), body.number("batch_dims", 0)
    index = body.constant(1, "the indices").astype(np.int64)
    depth = index.shape[-1]
    sizes = np.array(shape[batch : batch + depth], np.int64)
    if np.any((index < -sizes) | (index >= sizes)):
        raise body.unsupported("an index (input 1) is out of range")
    wrapped = np.where(index < 0, index + sizes, index).reshape(-1, *index.shape[batch:])
    places = np.arange(math.prod(shape)).reshape(-1, *shape[batch:])
    parts = [
        p[tuple(np.moveaxis(i, -1, 0))]
        for p, i in zip(
            places, np.broadcast_to(wrapped, (len(places), *wrapped.shape[1:])), strict=True
        )
    ]
    chosen = np.stack(parts).reshape(*shape[:batch], *parts[0].shape)
    flat = body.reshape(body.node.inputs[0], -1)
    body.add("Gather", flat, body.store(chosen.astype(np.int64)), axis=0)


def _xor(body: Body) -> None:
    one, both = (body.add(op, *body.node.inputs) for op in ("Or", "And"))
    body.add("And", one, body.add("Not", both))


def _one_hot(body: Body) -> None:
    if body.node.inputs[0] not in body.known:
        _computed_one_hot(body)
        return
    index = np.trunc(body.constant(0, "the indices").astype(np.float64)).astype(np.int64)
    depth = int(body.constant(1, "the depth").reshape(()))
    axis = body.axis(-1, index.ndim + 1)
    wrapped = np.where(index < 0, index + depth, index)
    hot = np.moveaxis(wrapped[..., None] == np.arange(depth), -1, axis)
    body.add("Gather", body.node.inputs[2], body.store(hot.astype(np.int64)), axis=0)


def _computed_one_hot(body: Body) -> None:
    """A comparison with every place, counted from either end."""
    if body.node.opset < 11:
        raise body.unsupported("the indices (input 0) must be constant before opset 11")
    depth = int(body.constant(1, "the depth").reshape(()))
    off, on = (body.store(v) for v in body.constant(2, "the values"))
    shape, output = body.shape(0), body.types[body.node.outputs[0]].shape
    axis = body.number("axis", -1) % len(output)
    whole = body.add("Cast", body.node.inputs[0], to=onnx.TensorProto.INT64)
    exact = body.add("Cast", whole, to=onnx.TensorProto.DOUBLE)
    tall = body.reshape(exact, *shape[:axis], 1, *shape[axis:])
    places = np.arange(depth, dtype=np.float64).reshape(-1, *(1,) * (len(shape) - axis))
    here = [body.add("Equal", tall, body.store(p)) for p in (places, places - depth)]
    body.add("Where", body.add("Or", *here), on, off)


def _lrn(body: Body) -> None:
    """The scale is one sum over all channels, those outside a window being added and subtracted:
    in some order that is the running sum along the channels that runtimes compute."""
    (x,), shape = body.node.inputs, body.shape(0)
    if len(shape) < 3:
        raise body.unsupported("there are no pixels")
    kind = body.types[x].dtype.numpy
    size, channels = int(body.number("size", 1)), shape[1]
    alpha, beta, bias = (
        np.float32(body.number(name, default))
        for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    if channels > _MOST_CHANNELS:
        raise body.unsupported(
            f"it runs along {channels} channels; supported are {_MOST_CHANNELS}, as a runtime adds "
            "to and subtracts from one sum over all of them"
        )
    start = np.arange(channels)[:, None] - (size - 1) // 2
    if size < 1:
        raise body.unsupported(f"attribute 'size' is {size}, and must be positive")
    window = (np.arange(channels) >= start) & (np.arange(channels) < start + size)
    weights = np.concatenate((np.ones(window.shape), ~window * -1.0), 1) * float(alpha)
    exact = (weights, np.full(channels, size * float(bias)), -np.array([beta], np.float64))
    with np.errstate(over="ignore"):
        stored = [v.astype(kind) for v in exact]
    held = all(np.array_equal(v, w) for v, w in zip(stored, exact, strict=True))
    if not held or not all(np.all(np.isfinite(v)) for v in exact):
        raise body.unsupported(f"'alpha', 'beta' or 'bias'·'size' is no {kind.name} number")
    least = float(ml_dtypes.finfo(kind).smallest_normal)  # type: ignore[no-untyped-call]
    if 0 < abs(float(alpha)) / size < least:
        raise body.unsupported(
            f"'alpha'/'size' is {float(alpha) / size:g}, of which {kind.name} holds few bits only"
        )
    squares = body.add("Mul", x, x)
    both = body.add("Concat", squares, squares, axis=1)
    filters = stored[0].reshape(channels, -1, *(1,) * (len(shape) - 2))
    total = body.add("Conv", both, body.store(filters), body.store(stored[1]))
    scale = body.add("Div", total, body.store(np.array([size], kind)))
    body.add("Mul", x, body.add("Pow", scale, body.store(stored[2])))


def _reduce_log_sum(body: Body) -> None:
    """Before opset 18, from which on ONNX itself defines it so."""
    (x, *rest), opset = body.node.inputs, body.node.opset
    given: dict[str, Any] = {k: v for k, v in body.node.attributes.items() if k != "axes"}
    axes = body.number("axes", None)
    if axes is not None and opset >= 13:
        rest = [body.store(np.array(axes, np.int64))]
    elif axes is not None:
        given["axes"] = axes
    body.add("Log", body.add("ReduceSum", x, *rest, **given))


def _thresholded(body: Body) -> None:
    """At opset 10, whose definition by ONNX needs a later one: x where x > alpha, else 0."""
    (x,) = body.node.inputs
    kind = body.types[x].dtype.numpy
    alpha = np.float32(body.number("alpha", 1.0))
    if float(alpha.astype(kind)) != float(alpha):
        raise body.unsupported(f"attribute 'alpha' {float(alpha):g} is no {kind.name} number")
    above = body.add("Greater", x, body.store(alpha.astype(kind).reshape(())))
    body.add("Where", above, x, body.store(np.zeros((), kind)))


def _dynamic_quantize_linear(body: Body) -> None:
    (x,), (_, scale_name, zero_name) = body.node.inputs, body.node.outputs
    nothing, most = (body.store(np.array(v, np.float32)) for v in (0.0, 255.0))
    high = body.add("Max", body.add("ReduceMax", x, keepdims=0), nothing)
    low = body.add("Min", body.add("ReduceMin", x, keepdims=0), nothing)
    scale = body.add("Div", body.add("Sub", high, low), most, output=scale_name)
    none = body.store(np.array(0, np.uint8))
    zero = body.add("QuantizeLinear", body.add("Neg", low), scale, none, output=zero_name)
    body.add("QuantizeLinear", x, scale, zero)


def _cast(body: Body) -> None:
    """To truth values: |x| > 0."""
    (x,) = body.node.inputs
    kinds = [body.types[t].dtype for t in (x, body.node.outputs[0])]
    if kinds[1] is DType.BOOL and kinds[0].is_float:
        size = body.add("Abs", x)
        body.add("Greater", size, body.store(np.zeros((), kinds[0].numpy)))


def _quantize_to_floats(body: Body) -> None:
    """x/scale in a floating-point type of at most eight bits, whose zero point is 0."""
    kind = body.types[body.node.outputs[0]].dtype
    if not kind.is_narrow or kind.is_integer:
        return
    scale = _scale(body, kind)
    saturate = int(body.number("saturate", 1))
    ratio = body.add("Div", body.node.inputs[0], scale)
    body.add("Cast", ratio, to=code_of(kind), saturate=saturate)


def _dequantize_floats(body: Body) -> None:
    """scale·x of computed floating-point numbers of at most eight bits."""
    x = body.node.inputs[0]
    kind = body.types[x].dtype
    if x in body.known or not kind.is_narrow or kind.is_integer:
        return
    scale = _scale(body, kind)
    to = code_of(body.types[body.node.outputs[0]].dtype)
    body.add("Mul", body.add("Cast", x, to=to), scale)


def _scale(body: Body, kind: DType) -> str:
    """The scale, shaped to broadcast along its axis.

    Raises UnsupportedModel for blocks, a zero point other than 0, and types that are not the
    scale's: runtimes compute in that of the scale.
    """
    x, scale = body.node.inputs[:2]
    wide = body.types[body.node.outputs[0] if body.types[x].dtype is kind else x].dtype
    sizes = body.types[scale].shape
    other = body.types[scale].dtype is not wide
    if body.number("block_size", 0) or body.number("precision", 0) or other:
        raise body.unsupported(
            f"{kind.value} by blocks, or with a scale that is not {wide.value}, is not supported"
        )
    if len(body.node.inputs) > 2 and np.any(body.constant(2, "the zero point").astype(np.float64)):
        raise body.unsupported(f"of {kind.value} the zero point is 0")
    if body.types[scale].size == 1:
        return body.reshape(scale)
    rank = len(body.types[x].shape)
    axis = body.axis(1, rank)
    return body.reshape(scale, *(sizes[0] if i == axis else 1 for i in range(rank)))


def _pow(body: Body) -> None:
    """Elements are sorted by their exponent, and every exponent has a Pow of its own."""
    base, exponent = body.node.inputs
    known = body.known.get(exponent)
    if known is None or base in body.known or known.size < 2:
        return
    shape = body.types[body.node.outputs[0]].shape
    values, which = np.unique(np.broadcast_to(known, shape), return_inverse=True)
    if len(values) > _MOST_EXPONENTS:
        raise body.unsupported(
            f"it raises to {len(values)} different exponents (input 1); supported are "
            f"{_MOST_EXPONENTS}"
        )
    sizes = body.store(np.array(shape, np.int64))
    flat = body.reshape(body.add("Expand", base, sizes), -1)
    places = [np.flatnonzero(which.reshape(-1) == k) for k in range(len(values))]
    powers = [
        body.add("Pow", body.add("Gather", flat, body.store(at), axis=0), body.store(value))
        for at, value in zip(places, values, strict=True)
    ]
    joined = body.add("Concat", *powers, axis=0)
    order = np.argsort(np.concatenate(places)).astype(np.int64)
    body.add("Gather", joined, body.store(order.reshape(shape)), axis=0)


NORMALIZATIONS = ("LayerNormalization", "RMSNormalization")
COMPARISONS = ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual")
_REDUCTIONS = {"none": "", "add": "Add", "mul": "Mul", "max": "Max", "min": "Min"}
_REPEATED = {"add": "ReduceSum", "max": "ReduceMax", "min": "ReduceMin"}
_BLOCKS = "axis block_size output_dtype"
_RECURRENT = "activation_alpha activation_beta activations clip direction hidden_size layout"
REWRITINGS: Mapping[str, tuple[Callable[[Body], None], frozenset[str]]] = {
    op: (rewriting, frozenset(attributes.split()))
    for op, rewriting, attributes in (
        ("BatchNormalization", batch_statistics, "epsilon is_test momentum spatial training_mode"),
        ("Cast", _cast, "round_mode saturate to"),
        ("Clip", clip_by_computed, "consumed_inputs max min"),
        ("Col2Im", col2im, "dilations pads strides"),
        ("CumProd", running_products, "exclusive reverse"),
        ("DequantizeLinear", _dequantize_floats, _BLOCKS),
        ("Dropout", _dropout, "seed"),
        ("DynamicQuantizeLinear", _dynamic_quantize_linear, ""),
        *((op, of_integers, "") for op in COMPARISONS),
        ("Einsum", einsum, "equation"),
        ("GRU", gru, f"{_RECURRENT} linear_before_reset"),
        ("GatherND", _gather_nd, "batch_dims"),
        ("GlobalLpPool", global_lp_pool, "p"),
        ("GridSample", nearest_by_grid, SAMPLING),
        ("Hardmax", hardmax, "axis"),
        ("Interpolate", along_each_axis, RESIZING),
        ("IsInf", is_inf, "detect_negative detect_positive"),
        ("IsNaN", is_nan, ""),
        ("LRN", _lrn, "alpha beta bias size"),
        ("LSTM", lstm, f"{_RECURRENT} input_forget"),
        *((op, normalized_by_computed, "axis epsilon stash_type") for op in NORMALIZATIONS),
        ("LpNormalization", lp_normalization, "axis p"),
        ("LpPool", lp_pool, "auto_pad ceil_mode dilations kernel_shape p pads strides"),
        ("MaxUnpool", max_unpool, "kernel_shape pads strides"),
        ("OneHot", _one_hot, "axis"),
        ("PRelu", prelu_by_computed, "consumed_inputs"),
        ("Pad", pad_with_computed, "mode paddings pads value"),
        ("Pow", _pow, ""),
        ("QuantizeLinear", _quantize_to_floats, f"{_BLOCKS} precision saturate"),
        ("RNN", rnn, _RECURRENT),
        ("ReduceLogSum", _reduce_log_sum, "axes keepdims noop_with_empty_axes"),
        ("ReduceProd", product_of_two, "axes keepdims noop_with_empty_axes"),
        ("RoiAlign", sampled_once, ALIGNING),
        ("Scatter", _scatter_elements, "axis"),
        ("ScatterElements", _scatter_elements, "axis reduction"),
        ("ScatterND", _scatter_nd, "reduction"),
        ("Shrink", shrink, "bias lambd"),
        ("TensorScatter", tensor_scatter, "axis mode"),
        ("ThresholdedRelu", _thresholded, "alpha"),
        ("TopK", top_k, "axis k largest sorted"),
        ("Xor", _xor, ""),
    )
}
ALWAYS = frozenset(REWRITINGS) - {
    "BatchNormalization",
    "Cast",
    "Clip",
    "DequantizeLinear",
    "Dropout",
    "GlobalLpPool",
    "GridSample",
    "Interpolate",
    "PRelu",
    "Pad",
    "Pow",
    "QuantizeLinear",
    "ReduceProd",
    "RoiAlign",
    *COMPARISONS,
    *NORMALIZATIONS,
}  # these stay for the most part
