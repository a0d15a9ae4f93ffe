"""Col2Im and LpNormalization: blocks added up where they overlap, and vectors of length 1."""

from __future__ import annotations

import math

import numpy as np

from onnx_import.graph import Array
from onnx_import.passes.body import Body

_MOST_PLACES = 2**26


def norm_of(body: Body) -> str:
    """The reduction that is the norm of a node's `p`. Raises UnsupportedModel, naming the node, for
    any but 1 and 2."""
    p = body.number("p", 2)
    if p not in (1, 2):
        raise body.unsupported(f"attribute 'p' is {p}; supported are 1 and 2")
    return f"ReduceL{p}"


def is_power(body: Body) -> bool:
    """Is a node's `p` above those whose norms are reductions?"""
    return int(body.number("p", 2)) > 2


def layers_of(places: Array) -> Array:
    """For each of flat places how many of the same stand before it."""
    order = np.argsort(places, kind="stable")
    starts = np.flatnonzero(np.diff(places[order], prepend=-1))
    found = np.empty(len(places), np.int64)
    found[order] = np.arange(len(places)) - np.repeat(starts, np.diff([*starts, len(places)]))
    return found


def lp_normalization(body: Body) -> None:
    """x over its norm along an axis, and 0 where that is 0."""
    axis = body.axis(-1, len(body.shape(0)))
    norm = body.over(norm_of(body), body.node.inputs[0], [axis], keepdims=1)
    kind = body.types[body.node.inputs[0]].dtype.numpy
    none, one = body.store(np.zeros((), kind)), body.store(np.ones((), kind))
    safe = body.add("Where", body.add("Equal", norm, none), one, norm)
    body.add("Div", body.node.inputs[0], safe)


def col2im(body: Body) -> None:
    """Each pixel is the sum of the columns' elements that stand for it."""
    shape = body.shape(0)
    image = [int(n) for n in body.constant(1, "the image's shape").reshape(-1)]
    block = [int(n) for n in body.constant(2, "the blocks' shape").reshape(-1)]
    rank = len(image)
    strides = body.number("strides", (1,) * rank)
    dilations = body.number("dilations", (1,) * rank)
    pads = body.number("pads", (0,) * (2 * rank))
    steps = [
        (n + pads[i] + pads[i + rank] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1
        for i, n in enumerate(image)
    ]
    if len(shape) != 3 or shape[1] % math.prod(block) or shape[2] != math.prod(steps):
        raise body.unsupported(f"columns of shape {list(shape)} do not fit the image {image}")
    channels = shape[1] // math.prod(block)
    inside = np.ones((), bool)
    pixel = np.zeros((), np.int64)
    for i, n in enumerate(image):
        at = np.arange(block[i])[:, None] * dilations[i] + np.arange(steps[i]) * strides[i]
        at = at - pads[i]
        tall = [1] * (2 * rank)
        tall[i], tall[rank + i] = block[i], steps[i]
        at = at.reshape(tall)
        inside = inside & (at >= 0) & (at < n)
        pixel = pixel * n + at
    inside = np.broadcast_to(inside, (*block, *steps))
    pixels, sources = np.broadcast_to(pixel, inside.shape)[inside], np.flatnonzero(inside)
    layer = layers_of(pixels)
    layers = int(layer.max(initial=0)) + 1
    maps = shape[0] * channels
    if layers * maps * math.prod(image) > _MOST_PLACES:
        raise body.unsupported(f"it adds up to {layers} elements at each of its pixels")
    size = math.prod(block) * math.prod(steps)
    index = np.full((layers, math.prod(image)), -1)
    index[layer, pixels] = sources
    every = index[:, None] + size * np.arange(maps)[:, None]
    every = np.where(index[:, None] < 0, size * maps, every)
    flat = body.reshape(body.node.inputs[0], -1)
    nothing = body.store(np.zeros(1, body.types[body.node.inputs[0]].dtype.numpy))
    padded = body.add("Concat", flat, nothing, axis=0)
    stacked = body.add(
        "Gather", padded, body.store(every.reshape(layers, shape[0], channels, *image)), axis=0
    )
    body.over("ReduceSum", stacked, [0])
