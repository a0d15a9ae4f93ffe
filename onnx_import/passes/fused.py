"""Operators that onnxruntime's optimiser writes, as the operators of ONNX that they put together.

What a kernel adds up in one sum is one sum here, too, so that a contract that leaves the order of
sums open covers the kernel: what is added to a convolution (`Z`) is a channel of its input, with
weights of 1. Activations are those of ONNX, of what the sum gives. Layers between quantised tensors
are DequantizeLinear, the layer and QuantizeLinear, which kernels tabulate to the bit; not so
QLinearAveragePool, which rounds ties away from zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from onnx_import.graph import Array, DType, Node, TensorType
from onnx_import.passes.body import Body
from onnx_import.passes.recurrent import quantised_lstm

DOMAIN = "com.microsoft"
SINCE = {"LayerNormalization": 17, "RMSNormalization": 23, "Gelu": 20}
"""Operators that optimisers write into models of older opsets, by the first opset of their own."""

_ACTIVATIONS: Mapping[str, tuple[str, ...]] = {
    "Clip": ("min", "max"),
    "HardSigmoid": ("alpha", "beta"),
    "LeakyRelu": ("alpha",),
    "Relu": (),
    "Sigmoid": (),
    "Tanh": (),
}
_OF_GEMM: Mapping[str, tuple[str, ...]] = {
    **{name: parameters for name, parameters in _ACTIVATIONS.items() if name != "Clip"},
    "Elu": ("alpha",),
    "Selu": ("alpha", "gamma"),
    "Softplus": (),
    "Softsign": (),
    "ThresholdedRelu": ("alpha",),
}
_BLOCK = 64  # at least so many products are summed before a kernel scales what they give
_MOST_SCALED = 256  # matrices of a batch, each of which is a node


def fused(
    node: Node,
    types: Mapping[str, TensorType],
    constants: Mapping[str, Array],
    taken: Collection[str],
) -> Body:
    """The node with operators of ONNX. Raises UnsupportedModel, naming the node."""
    body = Body(node, types, constants, taken)
    rewriting, attributes = FUSED[node.op]
    unknown = sorted(set(node.attributes) - set(attributes.split()))
    if unknown:
        raise body.unsupported(f"attribute '{unknown[0]}' is not supported")
    body.written_by(rewriting)
    return body.finish()


def _given(body: Body, position: int) -> str:
    inputs = body.node.inputs
    return inputs[position] if position < len(inputs) else ""


def _word(body: Body, name: str) -> str:
    value = body.number(name, "")
    return value.decode() if isinstance(value, bytes) else str(value)


def _kept(body: Body, *names: str) -> dict[str, object]:
    """Those of these attributes that the node has."""
    return {n: body.node.attributes[n] for n in names if n in body.node.attributes}


def _activated(
    body: Body, x: str, known: Mapping[str, tuple[str, ...]], parameters: Sequence[float]
) -> None:
    """Writes the activation that attribute `activation` names, if any."""
    name = _word(body, "activation")
    if not name:
        body.add("Identity", x)
        return
    if name not in known or len(parameters) != len(known[name]):
        raise body.unsupported(f"attribute 'activation' is '{name}', which is not supported here")
    if name == "ThresholdedRelu":
        kind = body.types[body.node.inputs[0]].dtype.numpy
        limit, zero = (body.store(np.array(v, kind)) for v in (*parameters, 0.0))
        body.add("Where", body.add("Greater", x, limit), x, zero)
        return
    if name == "Clip" and body.node.opset >= 11:
        kind = body.types[body.node.inputs[0]].dtype.numpy
        body.add("Clip", x, *(body.store(np.array(p, kind)) for p in parameters))
        return
    body.add(name, x, **dict(zip(known[name], parameters, strict=True)))  # type: ignore[arg-type]


def _gemm(body: Body) -> None:
    names = ("activation_alpha", "activation_beta", "activation_gamma")
    given = [float(body.node.attributes[n]) for n in names if n in body.node.attributes]  # type: ignore[arg-type]
    count = len(_OF_GEMM.get(_word(body, "activation"), ()))
    kept = _kept(body, "alpha", "beta", "transA", "transB")
    total = body.run_alike(body.add("Gemm", *body.node.inputs, **kept))  # type: ignore[arg-type]
    _activated(body, total, _OF_GEMM, given[:count])


def _matmul(body: Body) -> None:
    """alpha·A·B, transposed. A kernel may scale the sums of blocks of products rather than all of
    it: a scaled Gemm says what that is, one for each matrix of a batch."""
    alpha = np.float32(body.number("alpha", 1.0))
    sides, shapes = [], []
    for position, side in enumerate("AB"):
        tensor, shape = body.node.inputs[position], body.shape(position)
        if len(shape) < 2:
            raise body.unsupported(f"input {position} is a vector")
        axes = list(range(len(shape)))
        if body.number(f"transBatch{side}", 0):
            if len(shape) < 3:
                raise body.unsupported(f"attribute 'transBatch{side}' of a matrix")
            axes = [*axes[1:-1], 0, axes[-1]]  # the first axis stands before the last
        if body.number(f"trans{side}", 0):
            axes[-2:] = axes[:-3:-1]
        turned = axes != list(range(len(shape)))
        sides.append(body.add("Transpose", tensor, perm=axes) if turned else tensor)
        shapes.append(tuple(shape[i] for i in axes))
    kind = body.types[body.node.inputs[0]].dtype.numpy
    if float(alpha.astype(kind)) != float(alpha):
        raise body.unsupported(f"attribute 'alpha' {float(alpha):g} is no {kind.name} number")
    if alpha == 1:
        total = body.add("MatMul", *sides)
        if sides == list(body.node.inputs):  # a kernel that transposes adds up in another order
            body.run_alike(total)
    elif shapes[0][-1] > _BLOCK:
        _scaled_products(body, sides, shapes, float(alpha))
    else:
        scale = body.store(alpha.astype(kind).reshape(()))
        body.add("Mul", body.add("MatMul", *sides), scale)


def _scaled_products(
    body: Body, sides: Sequence[str], shapes: Sequence[tuple[int, ...]], alpha: float
) -> None:
    """alpha·A·B for every pair of matrices, one after the other; all rows at once by one matrix."""
    (*left, rows, terms), (*right, _, columns) = shapes
    batch = np.broadcast_shapes(tuple(left), tuple(right))
    if math.prod(right) == 1:
        flat = (body.reshape(sides[0], -1, terms), body.reshape(sides[1], terms, columns))
        body.reshape(body.add("Gemm", *flat, alpha=alpha), *batch, rows, columns)
        return
    if math.prod(batch) > _MOST_SCALED:
        raise body.unsupported(
            f"it scales {math.prod(batch)} products of more than {_BLOCK} terms; supported are "
            f"{_MOST_SCALED}"
        )
    stacks = [
        (body.reshape(side, -1, *shape[-2:]), np.arange(math.prod(own)).reshape(own))
        for side, shape, own in zip(sides, shapes, (left, right), strict=True)
    ]
    places = [np.broadcast_to(at, batch).reshape(-1).tolist() for _, at in stacks]
    found = []
    for pair in zip(*places, strict=True):
        factors = [
            body.add("Gather", stack, body.store(np.array(place, np.int64)), axis=0)
            for (stack, _), place in zip(stacks, pair, strict=True)
        ]
        found.append(body.reshape(body.add("Gemm", *factors, alpha=alpha), 1, rows, columns))
    body.reshape(body.add("Concat", *found, axis=0), *batch, rows, columns)


def _conv(body: Body) -> None:
    kept = _kept(body, "auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    x, w = body.node.inputs[:2]
    if _given(body, 3):
        x, w = _with_summand(body, x, w)
    bias = [b] if (b := _given(body, 2)) else []
    total = body.add("Conv", x, w, *bias, **kept)  # type: ignore[arg-type]
    if not _given(body, 3):
        body.run_alike(total)
    _activated(body, total, _ACTIVATIONS, tuple(body.number("activation_params", ())))


def _with_summand(body: Body, x: str, w: str) -> tuple[str, str]:
    """Input and weights of a convolution that adds input 3, too: as further channels, each read by
    one weight of 1, at the places of the input on which that weight comes to lie."""
    (_, channels, *_), (m, each, *kernel) = body.shape(0), body.shape(1)
    groups = int(body.number("group", 1))
    if channels != each * groups or m % groups:
        raise body.unsupported(f"{groups} groups do not fit its input and its weights")
    taps, added = _placed(body, m, kernel)
    some = m // groups
    more = np.zeros((m, some, *kernel), body.types[body.node.inputs[1]].dtype.numpy)
    for k in range(m):
        more[(k, k % some, *taps)] = 1
    order = [
        k
        for g in range(groups)
        for k in (*range(g * each, (g + 1) * each),
                  *range(channels + g * some, channels + (g + 1) * some))
    ]  # fmt: skip
    both = body.add("Concat", x, added, axis=1)
    if groups > 1:
        both = body.add("Gather", both, body.store(np.array(order, np.int64)), axis=1)
    return both, body.add("Concat", w, body.store(more), axis=1)


def _placed(body: Body, channels: int, kernel: Sequence[int]) -> tuple[tuple[int, ...], str]:
    """A place in the window, and what is added as a tensor of the input's size with zeros between,
    so that the window that makes an element has that element at the place."""
    n, _, *size = body.shape(0)
    rank = len(size)
    strides = body.number("strides", (1,) * rank)
    dilations = body.number("dilations", (1,) * rank)
    windows = [_window(body, axis, k) for axis, k in enumerate(kernel)]
    output = [count for count, _ in windows]
    if body.shape(3) != (n, channels, *output):
        raise body.unsupported(
            f"what it adds (input 3) has shape {list(body.shape(3))}, its result "
            f"{[n, channels, *output]}; they must be the same"
        )
    taps = tuple(-(-before // d) for (_, before), d in zip(windows, dilations, strict=True))
    firsts = [t * d - b for t, d, (_, b) in zip(taps, dilations, windows, strict=True)]
    lasts = [a + s * (o - 1) for a, s, o in zip(firsts, strides, output, strict=True)]
    if any(t >= k or last >= h for t, k, last, h in zip(taps, kernel, lasts, size, strict=True)):
        raise body.unsupported(
            "what it adds (input 3) is supported where some place of the window always lies inside "
            "the input"
        )
    added = body.node.inputs[3]
    if output == size:
        return taps, added
    count = math.prod(output)
    index = np.full(size, count, np.int64)
    there = zip(firsts, lasts, strides, strict=True)
    index[tuple(slice(a, last + 1, s) for a, last, s in there)] = np.arange(count).reshape(output)
    zeros = np.zeros((n, channels, 1), body.types[added].dtype.numpy)
    flat = body.add("Concat", body.reshape(added, n, channels, count), body.store(zeros), axis=2)
    spread = body.add("Gather", flat, body.store(index.reshape(-1)), axis=2)
    return taps, body.reshape(spread, n, channels, *size)


def _window(body: Body, axis: int, kernel: int) -> tuple[int, int]:
    """How many windows there are along a spatial axis, and how far the first starts before it."""
    n = body.shape(0)[axis + 2]
    rank = len(body.shape(0)) - 2
    stride = body.number("strides", (1,) * rank)[axis]
    reach = body.number("dilations", (1,) * rank)[axis] * (kernel - 1) + 1
    mode = _word(body, "auto_pad")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        count = -(-n // stride)
        total = max((count - 1) * stride + reach - n, 0)
        return count, total // 2 if mode == "SAME_UPPER" else total - total // 2
    pads = body.number("pads", (0,) * 2 * rank) if mode in ("", "NOTSET") else (0,) * 2 * rank
    return (n + pads[axis] + pads[axis + rank] - reach) // stride + 1, pads[axis]


def _normalized(op: str, skip: bool) -> Callable[[Body], None]:
    """A normalisation of the last axis, of a sum of inputs where `skip`."""

    def rewriting(body: Body) -> None:
        outputs = body.node.outputs
        if any(outputs[1:3]):
            raise body.unsupported("its mean or deviation is read, which is not supported")
        x, rest = body.node.inputs[0], list(body.node.inputs[1:])
        epsilon = body.number("epsilon", 1e-12 if skip else 1e-5)
        if skip:
            scale, shift = rest[1], rest[2] if op == "LayerNormalization" and len(rest) > 2 else ""
            bias = _given(body, 4 if op == "LayerNormalization" else 3)
            parts = [x, rest[0], *([bias] if bias else [])]
            whole = outputs[3] if len(outputs) > 3 else ""
            x = body.add("Sum" if bias else "Add", *parts, output=whole)
        else:
            scale, shift = rest[0], rest[1] if len(rest) > 1 else ""
        axis = body.number("axis", -1)
        more = [shift] if shift else []
        body.add(op, x, scale, *more, axis=axis, epsilon=float(epsilon))

    return rewriting


def _gelu(body: Body) -> None:
    x = body.node.inputs[0]
    body.add("Gelu", body.add("Add", x, _given(body, 1)) if _given(body, 1) else x)


def _fast_gelu(body: Body) -> None:
    """x/2·(1 + tanh(x·(c·x·x + b))), with the numbers that the kernel has."""
    x = body.node.inputs[0]
    kind = body.types[x].dtype.numpy
    if body.types[x].dtype is DType.FLOAT64:  # without a kernel, and what runs has other numbers
        raise body.unsupported("supported are float32 and float16")
    x = body.add("Add", x, _given(body, 1)) if _given(body, 1) else x
    half, one, b, c = (
        body.store(np.asarray(np.float32(v), kind))
        for v in (0.5, 1.0, 0.7978845608028654, 0.035677408136300125)
    )
    square = body.add("Mul", body.add("Mul", c, x), x)
    gate = body.add("Tanh", body.add("Mul", x, body.add("Add", square, b)))
    body.add("Mul", body.add("Mul", half, x), body.add("Add", gate, one))


def _quick_gelu(body: Body) -> None:
    """x·sigmoid(alpha·x)."""
    x = body.node.inputs[0]
    kind = body.types[x].dtype.numpy
    alpha = np.float32(body.number("alpha", 1.702))
    if float(alpha.astype(kind)) != float(alpha):
        raise body.unsupported(f"attribute 'alpha' {float(alpha):g} is no {kind.name} number")
    scaled = body.add("Mul", x, body.store(alpha.astype(kind).reshape(())))
    body.add("Mul", x, body.add("Sigmoid", scaled))


def _channels_first(op: str) -> Callable[[Body], None]:
    """An operator whose data have their channels last."""

    def rewriting(body: Body) -> None:
        rank = len(body.shape(0))
        last = body.number("channels_last", 1 if op == "MaxPool" else 0)
        x, *rest = body.node.inputs
        kept = {k: v for k, v in body.node.attributes.items() if k != "channels_last"}
        if last:
            x = body.add("Transpose", x, perm=[0, rank - 1, *range(1, rank - 1)])
        found = body.add(op, x, *rest, **kept)  # type: ignore[arg-type]
        if last:
            body.add("Transpose", found, perm=[0, *range(2, rank), 1])

    return rewriting


def _dequantised(body: Body, position: int) -> str:
    """The input there, with its scale and zero point behind it, as real numbers."""
    zero = _given(body, position + 2)
    parts = [_given(body, position), _given(body, position + 1), *([zero] if zero else [])]
    return body.add("DequantizeLinear", *parts)


def _quantised(body: Body, x: str, position: int, data: int) -> None:
    """Written with the scale and zero point there, in the type of the input `data`."""
    kind = body.types[_given(body, data)].dtype.numpy
    zero = _given(body, position + 1) or body.store(np.zeros((), kind))
    body.add("QuantizeLinear", x, _given(body, position), zero)


def _of_each(op: str, *attributes: str) -> Callable[[Body], None]:
    """A function of each number; the attributes are passed on."""

    def rewriting(body: Body) -> None:
        kept = {n: body.node.attributes[n] for n in attributes if n in body.node.attributes}
        x = body.add(op, _dequantised(body, 0), **kept)  # type: ignore[arg-type]
        _quantised(body, x, 3, 0)

    return rewriting


def _joined(body: Body) -> None:
    """Concat of tensors, each with its own scale and zero point; those of the result come first."""
    count, rest = divmod(len(body.node.inputs) - 2, 3)
    if rest or count < 1:
        raise body.unsupported("its tensors, scales and zero points are not three each")
    parts = [_dequantised(body, 2 + 3 * k) for k in range(count)]
    _quantised(body, body.add("Concat", *parts, axis=body.number("axis", 0)), 0, 2)


def _dynamic_matmul(body: Body) -> None:
    """The product that the import itself makes of DynamicQuantizeLinear and MatMulInteger."""
    x, weights, scale = body.node.inputs[:3]
    zero = [_given(body, 3)] if _given(body, 3) else []
    total = body.add("DynamicQuantizeMatMul", x, weights, scale, *zero)
    if _given(body, 4):
        body.add("Add", total, _given(body, 4))


def _blocks_matmul(body: Body) -> None:
    """A·Wᵀ of weights W = (q - zero)·scale, stored in blocks of 4 or 8 bits along a row. They are
    computed as the network runs, as by DequantizeLinear, each product rounded."""
    bits, block = int(body.number("bits", 4)), int(body.number("block_size", 0))
    rows, columns = int(body.number("N", 0)), int(body.number("K", 0))
    if bits not in (4, 8) or body.number("accuracy_level", 0) not in (0, 1) or _given(body, 4):
        raise body.unsupported(
            "supported are 4 and 8 bits, products of float32 numbers (accuracy_level 0 or 1), and "
            "no 'g_idx'"
        )
    count = -(-columns // block)
    whole = _unpacked(body.constant(1, "the weights").reshape(rows, count, -1), bits)
    zero = np.full((rows, count, 1), float(1 << (bits - 1)))
    if _given(body, 3):
        packed = body.constant(3, "the zero points")
        if packed.dtype != np.uint8:
            raise body.unsupported("its zero points are no packed integers")
        zero = _unpacked(packed.reshape(rows, -1), bits)[:, :count, None]
    kind = body.types[body.node.inputs[0]].dtype.numpy
    steps = body.store((whole - zero).astype(kind))
    scales = body.reshape(body.node.inputs[2], rows, count, 1)
    flat = body.reshape(body.add("Mul", steps, scales), rows, count * block)
    if columns < count * block:
        flat = body.add("Gather", flat, body.store(np.arange(columns)), axis=1)
    shape = body.shape(0)
    x = body.reshape(body.node.inputs[0], -1, columns)
    bias = [b] if (b := _given(body, 5)) else []
    total = body.add("Gemm", x, flat, *bias, transB=1)
    body.reshape(total, *shape[:-1], rows)


def _unpacked(packed: Array, bits: int) -> Array:
    """Bytes as the numbers in them along the last axis, the lower half first, in float64."""
    if bits == 8:
        return packed.astype(np.float64)
    bytes_ = packed.astype(np.int64)
    halves = np.stack((bytes_ & 15, bytes_ >> 4), axis=-1)
    return halves.reshape(*packed.shape[:-1], -1).astype(np.float64)


_WINDOW = "auto_pad dilations kernel_shape pads strides"
FUSED: Mapping[str, tuple[Callable[[Body], None], str]] = {
    "BiasGelu": (_gelu, ""),
    "DynamicQuantizeLSTM": (
        quantised_lstm,
        "activation_alpha activation_beta activations clip direction hidden_size input_forget",
    ),
    "DynamicQuantizeMatMul": (_dynamic_matmul, ""),
    "FastGelu": (_fast_gelu, ""),
    "FusedConv": (_conv, f"activation activation_params group {_WINDOW}"),
    "FusedGemm": (
        _gemm,
        "activation activation_alpha activation_beta activation_gamma alpha beta transA transB",
    ),
    "FusedMatMul": (_matmul, "alpha transA transB transBatchA transBatchB"),
    "Gelu": (_gelu, ""),
    "MatMulNBits": (_blocks_matmul, "K N accuracy_level bits block_size"),
    "NhwcMaxPool": (_channels_first("MaxPool"), f"ceil_mode {_WINDOW}"),
    "QLinearConcat": (_joined, "axis"),
    "QLinearConv": (_channels_first("QLinearConv"), f"channels_last group {_WINDOW}"),
    "QLinearLeakyRelu": (_of_each("LeakyRelu", "alpha"), "alpha"),
    "QLinearSigmoid": (_of_each("Sigmoid"), ""),
    "QuickGelu": (_quick_gelu, "alpha"),
    "SimplifiedLayerNormalization": (
        _normalized("RMSNormalization", skip=False),
        "axis epsilon stash_type",
    ),
    "SkipLayerNormalization": (_normalized("LayerNormalization", skip=True), "epsilon"),
    "SkipSimplifiedLayerNormalization": (_normalized("RMSNormalization", skip=True), "epsilon"),
}
