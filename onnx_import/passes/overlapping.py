"""Col2Im and LpNormalization: blocks added up where they overlap, and vectors of length 1."""

from __future__ import annotations

import math

import numpy as np

from onnx_import.passes.body import Body

_MOST_PLACES = 2**26


def lp_normalization(body: Body) -> None:
    """x over its norm along an axis, and 0 where that is 0."""
    p, axis = body.number("p", 2), body.number("axis", -1)
    rank = len(body.shape(0))
    if p not in (1, 2) or not -rank <= axis < rank:
        raise body.unsupported(f"'p' is {p} and 'axis' is {axis}, of {rank} axes")
    norm = body.over(f"ReduceL{p}", body.node.inputs[0], [axis % rank], keepdims=1)
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
    pixels = np.broadcast_to(pixel, (*block, *steps))[np.broadcast_to(inside, (*block, *steps))]
    sources = np.flatnonzero(np.broadcast_to(inside, (*block, *steps)))
    order = np.argsort(pixels, kind="stable")
    pixels, sources = pixels[order], sources[order]
    starts = np.flatnonzero(np.diff(pixels, prepend=-1))
    layer = np.arange(len(pixels)) - np.repeat(starts, np.diff([*starts, len(pixels)]))
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
