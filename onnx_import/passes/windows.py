"""LpPool and GlobalLpPool, the norms of windows, whose elements are gathered along an axis; and
MaxUnpool, which puts elements back where stored places say."""

from __future__ import annotations

import math

import numpy as np

from onnx_import.graph import Array
from onnx_import.passes.body import Body
from onnx_import.passes.overlapping import is_power, norm_of

_MOST_IN_WINDOWS = 2**23


def lp_pool(body: Body) -> None:
    """Of p above 2 every window is a channel of a GlobalLpPool, whose meaning is its own."""
    if not is_power(body):
        body.over(norm_of(body), _windows(body), [0])
        return
    output = body.types[body.node.outputs[0]].shape
    last = body.add("Transpose", _windows(body), perm=[*range(1, len(output) + 1), 0])
    rows = body.reshape(last, 1, math.prod(output), -1)
    norms = body.add("GlobalLpPool", rows, p=body.number("p", 2))
    body.reshape(norms, *output)


def global_lp_pool(body: Body) -> None:
    """The norm of every channel by a reduction, if there is one."""
    if is_power(body):
        return
    shape = body.shape(0)
    norm = body.over(norm_of(body), body.node.inputs[0], range(2, len(shape)))
    body.reshape(norm, *shape[:2], *(1,) * (len(shape) - 2))


def _windows(body: Body) -> str:
    """The elements of every window along a new first axis, pads being 0."""
    shape, output = body.shape(0), body.types[body.node.outputs[0]].shape
    kernel = body.number("kernel_shape", ())
    if min(output) < 1:
        raise body.unsupported("it computes an empty tensor; leave the node out")
    if len(kernel) != len(shape) - 2:
        raise body.unsupported("attribute 'kernel_shape' does not fit its input")
    strides = body.number("strides", (1,) * len(kernel))
    dilations = body.number("dilations", (1,) * len(kernel))
    mode = body.number("auto_pad", "NOTSET")
    pads = body.number("pads", (0,) * (2 * len(kernel)))
    if mode != "NOTSET" and (any(pads) or ("pads" in body.node.attributes and mode != "VALID")):
        raise body.unsupported("attributes 'auto_pad' and 'pads' exclude each other")
    numbers = math.prod(output) * math.prod(kernel)
    if max(numbers, math.prod(shape)) > _MOST_IN_WINDOWS:
        raise body.unsupported(
            f"its windows hold {numbers} numbers together; supported are {_MOST_IN_WINDOWS}"
        )
    place = np.zeros((1, *(1,) * len(kernel)), np.int64)
    inside = np.ones(place.shape, bool)
    for axis, (n, k, s, d, out) in enumerate(
        zip(shape[2:], kernel, strides, dilations, output[2:], strict=True)
    ):
        total = (out - 1) * s + d * (k - 1) + 1 - n
        if mode in ("SAME_UPPER", "SAME_LOWER") and (total < 0 or (d > 1 and k > 1)):
            raise body.unsupported("what its 'auto_pad' means differs between runtimes; use 'pads'")
        if mode in ("SAME_UPPER", "SAME_LOWER") and out != -(-n // s):
            raise body.unsupported(
                "ONNX's text keeps the extents with its 'auto_pad', and its inference adds windows "
                "for 'ceil_mode'; use 'pads'"
            )
        if mode == "VALID" and (out - 1) * s + d * (k - 1) + 1 > n:
            raise body.unsupported("'auto_pad' VALID cuts off what 'ceil_mode' keeps; use 'pads'")
        given = pads[axis] + pads[axis + len(kernel)] if mode == "NOTSET" else 0
        if mode in ("NOTSET", "VALID") and d * (k - 1) + 1 > n + given:
            raise body.unsupported("its window is longer than the padded input")
        total = max(total, 0)
        before = {
            "NOTSET": pads[axis], "VALID": 0, "SAME_UPPER": total // 2,
            "SAME_LOWER": total - total // 2,
        }[mode]  # fmt: skip
        if (out - 1) * s >= n + before:
            raise body.unsupported("its last windows start in the padding; pad less at the end")
        at = np.arange(k)[:, None] * d + np.arange(out) * s - before
        tall = [-1 if i == axis else 1 for i in range(len(kernel))]
        at = at.reshape(1, k, *(out if t < 0 else 1 for t in tall))
        place = (place[:, None] * n + at).reshape(
            -1, *np.broadcast_shapes(place.shape[1:], at.shape[2:])
        )
        here = inside[:, None] & (at >= 0) & (at < n)
        inside = here.reshape(place.shape)
    pixels = math.prod(shape[2:])
    maps = np.arange(math.prod(shape[:2])).reshape(1, *shape[:2], *(1,) * len(kernel)) * pixels
    index = maps + place[:, None, None]
    inside = np.broadcast_to(inside[:, None, None], index.shape)
    return _or_zero(body, np.where(inside, index, math.prod(shape)))


def _or_zero(body: Body, index: Array) -> str:
    """Elements of the first input at flat places, of which the one behind the last is a zero."""
    x = body.node.inputs[0]
    zero = body.store(np.zeros(1, body.types[x].dtype.numpy))
    padded = body.add("Concat", body.reshape(x, -1), zero, axis=0)
    return body.add("Gather", padded, body.store(index), axis=0)


def max_unpool(body: Body) -> None:
    """Elements at stored places of a tensor of zeros."""
    shape, places = body.shape(0), body.constant(1, "places")
    rank = len(shape) - 2
    kernel = body.number("kernel_shape", ())
    if len(kernel) != rank or places.shape != shape:
        raise body.unsupported("its places or attribute 'kernel_shape' do not fit its input")
    pads, strides = body.number("pads", (0,) * 2 * rank), body.number("strides", (1,) * rank)
    meant = [
        (n - 1) * s + k - pads[axis] - pads[axis + rank]
        for axis, (n, s, k) in enumerate(zip(shape[2:], strides, kernel, strict=True))
    ]
    made, output = (*shape[:2], *meant), body.types[body.node.outputs[0]].shape
    if output != made:
        raise body.unsupported(
            f"its output has shape {list(output)}, not {list(made)} as its attributes say: where "
            "places (input 1) then lie differs between runtimes; pad what it makes instead"
        )
    flat = np.ravel(places).astype(np.int64)
    if np.any((flat < 0) | (flat >= math.prod(made))):
        raise body.unsupported("a place (input 1) lies outside of what it makes")
    if len(np.unique(flat)) < len(flat):
        raise body.unsupported("a place (input 1) occurs twice, and which element stays is open")
    index = np.full(math.prod(output), len(flat), np.int64)
    index[flat] = np.arange(len(flat))
    _or_zero(body, index.reshape(output))
